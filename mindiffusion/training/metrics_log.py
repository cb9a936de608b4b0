"""The training log, ``metrics.jsonl``."""

import contextlib
import json
from pathlib import Path
from typing import Any

from mindiffusion.files import write_text


class MetricsLog:
    """``metrics.jsonl``: a line every so many steps; lines past a resumed step are dropped.

    Args:
        path: the file.
        step: step the run goes on from.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        if path.exists():
            kept = [entry for entry in read_metrics(path) if entry["step"] <= step]
            write_text(path, "".join(f"{json.dumps(entry)}\n" for entry in kept))

    def write(self, entry: dict[str, Any]) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(entry) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Entries of a log; a line that a killed process left cut is passed over."""
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and "step" in entry:
                entries.append(entry)
    return entries
