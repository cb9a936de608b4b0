"""What is tormented: a tiny study with masks and regrowth, started as a fork or as a command.

Starting Python and torch takes seconds, so most faults hit a fork of this process, which has all
imported and no thread of its own. What runs in it is what the command runs, cell after cell.

``tests/warm_python`` does not fork for it, for two reasons. It takes command lines, but a victim is
a function with a fault that is armed in its memory. And its forks are children of another process,
but a victim must be our own child, so that its end is seen at once and nothing outlives a kill.
The imports are not shared either: those of ``warm_python`` hold Triton, which reports leaks when
this process ends.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmark.study.study import Study
    from mindiffusion.config.run import RunConfig

REPOSITORY = Path(__file__).resolve().parents[2]
SHIM = Path(__file__).resolve().parent / "shim"
FILE = "torture.yaml"
STUDY_FOLDER = Path("results/torture")
STUDY = """
seeds: [0]
arms:
  cs: {extends: [arms/cs]}
  low:
    extends: [arms/b]
    arm: low-first
    training: {milestones: ["100%"]}
    curriculum:
      - {name: low, weight: 1, density: {t_max: 0.5}}
      - {name: all, weight: 1}
run:
  extends: [runs/celeba_32]
  data: {dataset: avatars, num_train: 256, num_held_out: 32}
  model: {n_feat: 8, probe_batches: 2, probe_batch_size: 8}
  training:
    epochs: null
    steps: 16
    global_batch: 8
    lr: 1e-3
    ema_decays: [0.9]
    milestones: ["50%", "100%"]
    checkpoint_every: 3
    log_every: 4
    device: cpu
    precision: fp32
    compile: "off"
    threads: 1
  sampler: {steps: 3, chunk: 8}
evaluation:
  num_generated: 8
  num_reference: 64
  feature_nets: [effnet-lite0-64]
  profile_images: 8
  profile_levels: 4
  strip: 4
"""
REPRODUCE = ("-m", "benchmark", "reproduce", FILE)
PREPARE = ("prepare", FILE, "--set", "data.num_train=1800")
TRAIN = (
    "-m", "benchmark", "train", "celeba_cs_32", "--output", "run",
    *(word for setting in (
        "samples=null", "data.dataset=avatars", "data.num_train=256", "data.num_held_out=32",
        "model.n_feat=8", "model.probe_batches=2", "model.probe_batch_size=8",
        "training.epochs=null", "training.steps=240", "training.global_batch=8",
        "training.ema_decays=[0.9]", "training.milestones=[120,240]",
        "training.checkpoint_every=20", "training.log_every=10", "training.device=cpu",
        "training.precision=fp32", "training.compile=off", "training.threads=1",
        "training.timeout_seconds=15", "sampler.steps=2", "sampler.grid=4", "sampler.chunk=4",
    ) for word in ("--set", setting)),
)  # fmt: skip
LIMIT_SECONDS = 300.0
"""No run takes that long: one that does hangs."""
LIVING: "set[Process]" = set()
"""Started and not ended, to be killed when the torture itself is stopped."""


@dataclass(frozen=True)
class End:
    """How a process ended.

    Attributes:
        code: exit status; negative: the signal that killed it; None: it hung and was killed.
        errors: its stderr.
        seconds: how long it lived.
    """

    code: int | None
    errors: str
    seconds: float

    @property
    def last_line(self) -> str:
        """The last line on stderr."""
        lines = self.errors.strip().splitlines()
        return lines[-1] if lines else ""


class Process:
    """A started victim with all its processes.

    Args:
        pid: its first process, the leader of a session of its own.
        errors: where its stderr goes.
        mark: word in the environment of all its processes; torchrun gives ranks a session each.
    """

    def __init__(self, pid: int, errors: Path, mark: str | None = None) -> None:
        self.pid = pid
        self._mark = mark
        self._errors = errors
        self._started = time.monotonic()
        self._end: End | None = None
        LIVING.add(self)

    def members(self) -> list[int]:
        """All processes of the victim that run."""
        return [
            pid
            for pid, session in _processes()
            if session == self.pid or (self._mark and self._mark in words_of(pid))
        ]

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to every process of the victim."""
        own = [] if self._end else [self.pid]  # a fork may have no session yet
        for pid in {*self.members(), *own}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait(self, seconds: float = LIMIT_SECONDS) -> End | None:
        """Wait for the end; None if it has not come in time."""
        give_up = time.monotonic() + seconds
        while self._end is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                text = self._errors.read_text(encoding="utf-8", errors="replace")
                self._end = End(code, text, time.monotonic() - self._started)
                LIVING.discard(self)
            elif time.monotonic() >= give_up:
                return None
            else:
                time.sleep(0.005)
        return self._end

    def end(self) -> End:
        """Wait for the end; a victim that hangs is killed and has no exit status."""
        done = self.wait()
        if done is None:
            self.kill()
            killed = self.wait()
            assert killed is not None
            return End(None, killed.errors, killed.seconds)
        self.kill()  # what outlived its leader
        return done


def _processes() -> list[tuple[int, int]]:
    """(process, session) of everything that runs and is not a zombie."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The command's name stands in parentheses and may hold spaces.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    found.append((int(entry.name), int(fields[3])))
    return found


def words_of(pid: int) -> str:
    """A process's command line and environment, "" if it is gone."""
    with contextlib.suppress(OSError):
        files = (Path(f"/proc/{pid}/cmdline"), Path(f"/proc/{pid}/environ"))
        return " ".join(file.read_bytes().replace(b"\0", b" ").decode() for file in files)
    return ""


def start_command(folder: Path, words: Sequence[str], **environment: str) -> Process:
    """Start ``python words…`` in a work folder."""
    paths = os.pathsep.join((str(SHIM), str(REPOSITORY)))
    mark = f"victim-{uuid.uuid4()}"
    changes = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "TORTURE_MARK": mark} | environment
    errors = folder / "errors.log"
    with errors.open("w") as handle, (folder / "output.log").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env=dict(os.environ) | changes,
            stdout=output,
            stderr=handle,
            start_new_session=True,
            # Whoever runs us in the background has SIGINT ignored; that would be inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    process.returncode = 0  # waited for by Process, not by subprocess
    return Process(process.pid, errors, mark)


def start_fork(
    folder: Path, action: Callable[[], int], arm: Callable[[], object] = lambda: None
) -> Process:
    """Run ``action`` in a fork of this process, in a work folder, after ``arm``."""
    errors = folder / "errors.log"
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return Process(pid, errors)
    code = 70
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        os.chdir(folder)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, name in ((1, "output.log"), (2, "errors.log")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        arm()
        code = action()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def study() -> int:
    """What the study's command does, cell after cell in this process; then the tables."""
    from benchmark.__main__ import main
    from benchmark.cells.__main__ import main as follow
    from benchmark.study.study import load_study
    from mindiffusion.errors import guarded

    of_file = load_study(FILE)
    for run in of_file.runs:
        document = run.run_dir / "cell.json"
        code = guarded(partial(_assign, of_file, run, document)) or follow([str(document)])
        if code:
            return code
    return main(["tables", str(STUDY_FOLDER)])


def _assign(study: "Study", run: "RunConfig", document: Path) -> int:
    """Write what the process of a cell is told."""
    from benchmark.cells.assignment import Assignment, write_assignment
    from benchmark.cells.tasks import graph_of, key_of

    tasks = tuple(task for task in graph_of(study) if task.cell == key_of(run))
    write_assignment(document, Assignment(study=study, data=(), tasks=tasks, side_by_side=1))
    return 0


def preparation() -> int:
    """What the preparation's command does."""
    from benchmark.__main__ import main

    return main(list(PREPARE))


def warm_up() -> None:
    """Import all that a victim needs, so that forks start at once; leaves no thread behind."""
    import cleanfid.resize
    import dicebear
    import resvg_py
    import scipy.stats
    import timm
    import torch
    import torch.utils.tensorboard
    import torchvision

    import benchmark.cells.cell
    import benchmark.evaluation.milestone.score
    import benchmark.reporting.tables.build  # noqa: F401

    torch.set_num_threads(1)
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads: a fork of this process would hang"
    assert all((cleanfid.resize, dicebear, resvg_py, scipy.stats, timm, torchvision))
