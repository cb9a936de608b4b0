"""Is a tormented work folder what an undisturbed one is? Says what is lost and what is wrong.

Lost: a file, a row or a log line that is not there. Wrong: one that is there and differs, stands
there twice, or should not be there, such as a killed writer's temporary file.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmark.rows.lines import Decoder
from benchmark.rows.row import fields_of
from mindiffusion.training.watch import VOLATILE

ROW_CLOCK = ("time", "host", "train_seconds", "git")
UNCOMPARED = (".log", ".lock")
"""Endings of files whose content is no result."""


@dataclass
class Verdict:
    """What is amiss, in lines that name a file."""

    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def compare_lines(self, name: str, found: Iterable[str], expected: Iterable[str]) -> None:
        """Two files' lines, whatever their order."""
        have, want = Counter(found), Counter(expected)
        missing, surplus = want - have, have - want
        if missing and not surplus:
            self.lost.append(f"{name}: {missing.total()} lines, first {next(iter(missing))[:200]}")
        elif surplus:
            self.wrong.append(f"{name}: {surplus.total()} lines, first {next(iter(surplus))[:200]}")


def difference(a: Any, b: Any, path: str = "") -> str | None:
    """Where two nested states differ in type, shape or bits; None if nowhere."""
    if type(a) is not type(b):
        return f"{path} is {type(a).__name__}, not {type(b).__name__}"
    if isinstance(a, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and _bytes(a) == _bytes(b)
        return None if same else path
    if isinstance(a, dict):
        if list(a) != list(b):
            return f"{path}: keys {list(a)}, not {list(b)}"
        a, b = list(a.items()), list(b.items())
        pairs = ((f"{path}.{key}", x, y) for (key, x), (_, y) in zip(a, b, strict=True))
    elif isinstance(a, list | tuple):
        if len(a) != len(b):
            return f"{path}: {len(a)} entries, not {len(b)}"
        pairs = ((f"{path}[{i}]", x, y) for i, (x, y) in enumerate(zip(a, b, strict=True)))
    else:
        return None if a == b or (a != a and b != b) else f"{path}: {a!r}, not {b!r}"
    return next((found for place, x, y in pairs if (found := difference(x, y, place))), None)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def _stripped(content: Mapping[str, Any], clock: Iterable[str]) -> str:
    return json.dumps({k: v for k, v in content.items() if k not in clock}, sort_keys=True)


def row_lines(path: Path) -> list[str]:
    """Rows but for clock and host; one that stands there twice is there twice."""
    decoder, lines = Decoder(path), enumerate(path.read_bytes().splitlines(), 1)
    rows = (row for number, line in lines for row in decoder.rows_of(number, line))
    return [_stripped(fields_of(row), ROW_CLOCK) for row in rows]


def log_lines(path: Path) -> list[str]:
    """Lines of a metrics.jsonl but for clocks."""
    return [_stripped(json.loads(line), VOLATILE) for line in path.read_text().splitlines()]


def compare_tensors(verdict: Verdict, name: str, found: Path, expected: Path) -> None:
    """Two files of torch but for the clock, bit by bit."""
    states = []
    for path in (found, expected):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # any: the file is broken in whatever way
            verdict.wrong.append(f"{name} cannot be loaded: {str(error).splitlines()[0]}")
            return
        content.pop("train_seconds", None)
        if "log" in content:  # of a state: the log's lines so far, with their clocks
            content["log"] = [
                _stripped(json.loads(x), VOLATILE) for x in content["log"].splitlines()
            ]
        states.append(content)
    differs = difference(states[0], states[1])
    if differs:
        verdict.wrong.append(f"{name} differs at {differs}")


def compare_log(verdict: Verdict, name: str, found: Path, expected: Path) -> None:
    """Two training logs; their order counts."""
    have, want = log_lines(found), log_lines(expected)
    verdict.compare_lines(name, have, want)
    if sorted(have) == sorted(want) and have != want:
        verdict.wrong.append(f"{name}: its lines are in another order")


def compare_bytes(verdict: Verdict, name: str, found: Path, expected: Path) -> None:
    """Two files of any kind."""
    if found.read_bytes() != expected.read_bytes():
        verdict.wrong.append(f"{name} differs")


def _comparison(path: Path) -> Callable[[Verdict, str, Path, Path], None] | None:
    """How a file of a run or study is compared; None if its content is no result of its own."""
    if path.name == "rows.jsonl":
        return lambda v, name, a, b: v.compare_lines(name, row_lines(a), row_lines(b))
    if path.name == "metrics.jsonl":
        return compare_log
    if path.suffix == ".pt":
        return compare_tensors
    if path.stem == "training_cost":
        return None  # of seconds
    if path.suffix == ".json" and "-" in path.stem:
        return None  # a seal: it holds for a file with a clock in it
    return compare_bytes


def _files(root: Path) -> set[Path]:
    """Files whose content is a result, relative to their folder."""
    names = {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
    return {n for n in names if n.suffix not in UNCOMPARED and "tensorboard" not in n.parts}


def compare(found: Path, expected: Path, spare: Path | None = None) -> Verdict:
    """Compare two folders, file by file.

    Args:
        found: the tormented one.
        expected: the undisturbed one.
        spare: a file that need not be right, relative to the folders.
    """
    verdict = Verdict()
    names = [_files(found), _files(expected)]
    verdict.lost += [f"{name} is missing" for name in sorted(names[1] - names[0])]
    verdict.wrong += [f"{name} should not be there" for name in sorted(names[0] - names[1])]
    for name in sorted(names[0] & names[1]):
        how = _comparison(name)
        if how is not None and name != spare:
            how(verdict, str(name), found / name, expected / name)
    return verdict


def stray_files(folder: Path) -> list[str]:
    """Temporary files of killed writers, anywhere below a folder."""
    named = (p.relative_to(folder) for p in folder.rglob(".*") if p.is_file())
    return sorted(str(name) for name in named if not name.name.endswith(".lock"))
