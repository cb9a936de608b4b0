"""The training log, ``metrics.jsonl``."""

import json
import math
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
            kept = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
            write_text(path, "".join(f"{line}\n" for line in kept))

    def write(self, entry: dict[str, Any]) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(entry) + "\n")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
