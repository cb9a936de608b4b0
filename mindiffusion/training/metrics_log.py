"""What a run says of itself while it trains: ``metrics.jsonl`` and TensorBoard events beside it."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mindiffusion.files import write_text
from mindiffusion.outside.documents import MOST_NAME, read_json_lines
from mindiffusion.outside.paths import open_to_change
from mindiffusion.printable import is_printable

METRICS_FILE = "metrics.jsonl"
EVENTS_FOLDER = "tensorboard"
MOST_LOG_BYTES = 1 << 30
_MOST = 1e300
_log = logging.getLogger(__name__)


class MetricsLog:
    """``metrics.jsonl``: a line every so many steps; lines past a resumed step are dropped.

    Each line's numbers also go, as TensorBoard events, into ``tensorboard/`` beside the file.

    Args:
        path: the file.
        step: step the run goes on from.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self._events = Events(path.parent / EVENTS_FOLDER, step)
        if path.exists():
            lines = read_json_lines(path, MOST_LOG_BYTES)
            kept = [entry for entry in lines if _has_step(entry) and entry["step"] <= step]
            write_text(path, "".join(f"{json.dumps(entry)}\n" for entry in kept))

    def write(self, entry: dict[str, Any]) -> None:
        """Append one line and its events."""
        descriptor = open_to_change(self._path, os.O_WRONLY | os.O_APPEND)
        with os.fdopen(descriptor, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(entry) + "\n")
        self._events.write(entry)

    def close(self) -> None:
        """End the stream of events; nothing that was written depends on it."""
        self._events.close()


class Events:
    """TensorBoard events of one run: a stream that is only ever added to.

    Nothing is imported or opened before the first entry. A resumed run opens a file of its own,
    which tells readers to forget events past the step it goes on from. Training never ends for
    the events' sake: what goes wrong with them is said once, and no more are written.

    Args:
        folder: where the events go.
        step: step the run goes on from.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._folder = folder
        self._step = step
        self._writer: Any = None
        self._is_given_up = False

    def write(self, entry: Mapping[str, Any]) -> None:
        """Write an entry's numbers at its step, out to the file."""
        if self._is_given_up:
            return
        try:
            if self._writer is None:
                from torch.utils.tensorboard import SummaryWriter

                self._writer = SummaryWriter(str(self._folder), purge_step=self._step + 1)
            for name, value in scalars(entry):
                self._writer.add_scalar(name, value, entry["step"])
            self._writer.flush()
        except (ModuleNotFoundError, OSError) as error:
            self._is_given_up = True
            _log.warning("no TensorBoard events are written from step %s: %s", entry["step"], error)

    def close(self) -> None:
        """Close the file, if one was opened."""
        if self._writer is not None and not self._is_given_up:
            self._writer.close()


def scalars(entry: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Names and values of an entry's numbers; a list's members are name/q1, name/q2 and so on."""
    for name, value in entry.items():
        members = {name: value}
        if isinstance(value, list):
            members = {f"{name}/q{number}": member for number, member in enumerate(value, 1)}
        for label, number in members.items():
            if isinstance(number, int | float) and label != "step":
                yield label, float(number)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Entries of a log; a line that a killed process left cut is passed over.

    Every entry has a ``step``; all its numbers are finite, and its texts can be shown.

    Raises:
        UserError: no file, or too large.
        OSError: there is none, or it can't be read.
    """
    lines = read_json_lines(path, MOST_LOG_BYTES)
    return [entry for entry in lines if _has_step(entry) and _can_be_shown(entry)]


def _has_step(entry: Mapping[str, Any]) -> bool:
    step = entry.get("step")
    return isinstance(step, int) and 0 <= step <= 2**53


def _can_be_shown(entry: Mapping[str, Any]) -> bool:
    lists = (value if isinstance(value, list) else [value] for value in entry.values())
    return all(_is_plain(member) for members in lists for member in members)


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= MOST_NAME and is_printable(value)
    # Comparing tells: a number that is not one is never smaller, and a huge integer is no float.
    return value is None or (isinstance(value, int | float) and abs(value) <= _MOST)
