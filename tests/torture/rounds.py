"""A round of torture: a work folder, the faults done to it, and what came of them."""

import json
import random
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import victim
from verdict import Verdict, compare, stray_files
from victim import FILE, REPRODUCE, STUDY_FOLDER, End, Process

DATA_FOLDERS = ("data", ".cache")


@dataclass(frozen=True)
class Fault:
    """One fault as it went in.

    Attributes:
        what: what was done.
        phase: what the victim was at.
        code: its exit status.
        seconds: how long the victim lived, or took to stop when asked to.
        named: whether a message named the damaged file; None where none was damaged.
    """

    what: str
    phase: str
    code: int | None
    seconds: float
    named: bool | None = None


@dataclass(frozen=True)
class Reference:
    """Undisturbed results, and what they took.

    Attributes:
        root: folder with a work folder for each way to start a victim.
        seconds: how long each took, by its name.
        events: calls and returns inside the modules that save, in the study as a fork.
        accesses: openings, writes and syncs of files in it.
    """

    root: Path
    seconds: dict[str, float]
    events: int
    accesses: int

    def folder(self, name: str) -> Path:
        """The work folder of the study as a "fork" or "command", or of "ranks", "preparation"."""
        return self.root / name

    def save(self) -> None:
        """Keep it for the next session."""
        content = asdict(self) | {"root": str(self.root)}
        (self.root / "reference.json").write_text(json.dumps(content))


def load_reference(root: Path) -> Reference | None:
    """The reference of an earlier session, if it is whole."""
    path = root / "reference.json"
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text())
    return Reference(**content | {"root": root})


@dataclass
class Round:
    """A work folder under torture.

    Attributes:
        folder: the work folder.
        reference: the undisturbed results.
        rng: draws everything of this round.
        faults: what was done so far.
        verdict: what is amiss so far.
    """

    folder: Path
    reference: Reference
    rng: random.Random
    faults: list[Fault] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)

    @property
    def study(self) -> Path:
        """The study's folder."""
        return self.folder / STUDY_FOLDER

    def make_folder(self, *, with_data: bool = True) -> None:
        """A fresh work folder, with prepared data and caches of its own."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / FILE).write_text(victim.STUDY)
        for name in DATA_FOLDERS if with_data else ():
            shutil.copytree(self.reference.folder("fork") / name, self.folder / name)

    def fork(self, arm: Callable[[], object] = lambda: None) -> Process:
        """Start the study as a fork."""
        return victim.start_fork(self.folder, victim.study, arm)

    def command(self, words: Sequence[str] = REPRODUCE, **environment: str) -> Process:
        """Start a command as users type it."""
        return victim.start_command(self.folder, words, **environment)

    def note(
        self,
        what: str,
        phase: str,
        end: End,
        seconds: float | None = None,
        named: bool | None = None,
    ) -> None:
        """Write a fault down."""
        took = round(end.seconds if seconds is None else seconds, 2)
        self.faults.append(Fault(what, phase, end.code, took, named))

    def expect(self, end: End, *codes: int) -> None:
        """A victim must end with one of these exit statuses, and never with a traceback."""
        where = f"after fault {len(self.faults)}"
        if end.code not in codes:
            self.verdict.lost.append(
                f"{where}: exit status {end.code}: {end.errors.strip()[-400:]}"
            )
        elif "Traceback" in _without_events(end.errors):
            self.verdict.lost.append(f"{where}: {end.errors.strip()[-400:]}")
        elif end.code == 2 and not re.match(r"error: \S", end.last_line):
            self.verdict.lost.append(f"{where}: the last line is no error: {end.last_line[:300]}")

    def finish(self, start: Callable[[], Process], name: str = "fork") -> None:
        """Run the study to its end without a fault and compare it with the undisturbed one."""
        self.expect(start().end(), 0)
        self.judge(name)

    def judge(self, name: str, spare: Path | None = None) -> None:
        """Compare the study with the undisturbed one of that name."""
        expected = self.reference.folder(name) / STUDY_FOLDER
        if not self.study.is_dir():
            self.verdict.lost.append(f"{STUDY_FOLDER} is missing")
            return
        found = compare(self.study, expected, spare)
        self.verdict.lost += found.lost
        self.verdict.wrong += found.wrong
        self.verdict.wrong += [f"stray file {name}" for name in stray_files(self.folder)]

    def told(self) -> str:
        """What a fork was at: where it died, else what it last told of its work."""
        errors = (self.folder / "errors.log").read_text(errors="replace")
        died = re.findall(r"torture: died in (\S+)", errors)
        output = (self.folder / "output.log").read_text(errors="replace")
        told = re.findall(r'"what": "([^"]+)"', output)
        return (died or told or ["start"])[-1]

    def reached(self) -> str:
        """How far a study is, by its files."""
        runs = sorted(path.parent for path in self.study.rglob("config.json"))
        if any(list(run.glob(".*.pt.*")) for run in runs):
            return "saving"
        if not runs:
            return "start"
        last = runs[-1]
        milestones = len(list(last.glob("weights-*.json")))
        return ("training", "training, first milestone done", "scoring")[min(milestones, 2)]


def _without_events(errors: str) -> str:
    """Messages but for those of TensorBoard's own thread, which training does without."""
    thread = r"Exception in thread .*?(?=^no TensorBoard events|\Z)"
    return re.sub(thread, "", errors, flags=re.DOTALL | re.MULTILINE)


SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
