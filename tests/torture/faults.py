"""The kinds of faults. Each takes a fresh round and how many faults to do to it.

Between two faults nothing is mended: the same command is started again, as a user would.
"""

import contextlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import victim
from full_disk import VARIABLE, Disk
from rounds import SIGNALS, Round
from verdict import compare, compare_bytes, stray_files
from victim import TRAIN, End, Process

KILLED = -signal.SIGKILL
SAVING = {
    "mindiffusion/files.py": (),
    "mindiffusion/training/checkpoint.py": (),
    "mindiffusion/training/resume.py": (),
    "mindiffusion/training/run_folder.py": (),
    "benchmark/rows/file.py": ("append_rows", "_mend_tail", "_write_whole"),
}
"""Modules that save, each with the functions that do (none: all of them)."""
DAMAGED = {
    "state": "results/**/ckpt-*.pt",
    "state's seal": "results/**/ckpt-*.json",
    "weights": "results/**/weights-*.pt",
    "weights' seal": "results/**/weights-*.json",
    "config": "results/**/config.json",
    "log": "results/**/metrics.jsonl",
    "rows": "results/**/rows.jsonl",
    "prepared array": "data/*/*.npy",
    "prepared labels": "data/*/labels.npz",
    "manifest": "data/*/manifest.json",
    "features": ".cache/*.npz",
}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


# -- the study as forks ---------------------------------------------------------------------------


def kill(round_: Round, count: int) -> None:
    """SIGKILL at random moments."""
    round_.make_folder()
    for _ in range(count):
        process = round_.fork()
        if process.wait(round_.rng.uniform(0, 0.4 * round_.reference.seconds["fork"])) is None:
            process.kill()
        _note_death(round_, "SIGKILL", process.end())
    round_.finish(round_.fork)


def save(round_: Round, count: int) -> None:
    """Death while saving: between two calls of what saves, or in the middle of a write."""
    round_.make_folder()
    for _ in range(count):
        if round_.rng.random() < 0.5:
            event = round_.rng.randint(1, max(1, round_.reference.events // 3))
            what, arm = f"SIGKILL at saving event {event}", die_at_event(event)
        else:
            access = round_.rng.randint(1, max(1, round_.reference.accesses // 3))
            what, arm = f"SIGKILL in disk access {access}", Disk("torn", access).install
        _note_death(round_, what, round_.fork(arm).end())
    round_.finish(round_.fork)


def _note_death(round_: Round, what: str, end: End) -> None:
    """Write a kill down, unless the victim had ended before it."""
    if end.code == KILLED:
        round_.note(what, round_.told(), end)
    round_.expect(end, KILLED, 0)


def die_at_event(number: int) -> Callable[[], None]:
    """Arms a fork: SIGKILL at the ``number``-th call or return inside the modules that save."""

    def die(place: str) -> None:
        os.write(2, f"torture: died in {place}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)

    return lambda: watch_saving(lambda count, place: die(place) if count == number else None)


def watch_saving(on_event: Callable[[int, str], object]) -> None:
    """Call ``on_event`` with a count and a place for each call and return in what saves."""
    count = 0
    files = {str(victim.REPOSITORY / name): functions for name, functions in SAVING.items()}

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        code = frame.f_code
        functions = files.get(code.co_filename)
        if functions is not None and (not functions or code.co_name in functions):
            count += 1
            on_event(count, f"{Path(code.co_filename).stem}.{code.co_name}")

    sys.setprofile(profile)


def stop(round_: Round, count: int) -> None:
    """SIGTERM or SIGINT at random moments."""
    round_.make_folder()
    for _ in range(count):
        process = round_.fork()
        delay = round_.rng.uniform(0.05, 0.5 * round_.reference.seconds["fork"])
        _ask_to_stop(round_, process, delay, os.kill)
    round_.finish(round_.fork)


def _ask_to_stop(
    round_: Round, process: Process, delay: float, send: Callable[[int, int], object]
) -> None:
    name = round_.rng.choice(sorted(SIGNALS))
    if process.wait(delay) is None:
        asked = time.monotonic()
        send(process.pid, SIGNALS[name])
        end = process.end()
        round_.note(name, round_.told(), end, seconds=time.monotonic() - asked)
        # Before a handler is there, a signal has its usual effect; a shell shows the same status.
        round_.expect(end, 0, 128 + SIGNALS[name], -SIGNALS[name])


def full(round_: Round, count: int) -> None:
    """A disk that is full, for good or for a moment, from a random access on."""
    round_.make_folder()
    for _ in range(count):
        mode = round_.rng.choice(("full", "full-once"))
        access = round_.rng.randint(1, max(1, round_.reference.accesses // 2))
        end = round_.fork(lambda m=mode, a=access: Disk(m, a).install()).end()
        if "torture: full" in end.errors:
            round_.note(f"{mode} from disk access {access}", round_.told(), end)
        round_.expect(end, 0, 2)
    round_.finish(round_.fork)


# -- damage between two runs ----------------------------------------------------------------------


def flip(round_: Round, count: int) -> None:
    """One bit of a random file flipped between two runs."""
    _damage(round_, count, flip_bit)


def cut(round_: Round, count: int) -> None:
    """A random file cut at a random place between two runs."""
    _damage(round_, count, cut_file)


def flip_bit(path: Path, round_: Round) -> str:
    """Flip a bit; says which."""
    content = bytearray(path.read_bytes())
    offset, bit = round_.rng.randrange(len(content)), round_.rng.randrange(8)
    content[offset] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {offset} flipped"


def cut_file(path: Path, round_: Round) -> str:
    """Cut a file; says where."""
    size = round_.rng.randrange(path.stat().st_size)
    os.truncate(path, size)
    return f"cut to {size} bytes"


def _damage(round_: Round, count: int, harm: Callable[[Path, Round], str]) -> None:
    """Interrupt the study somewhere, damage one file, run on to the end, compare.

    A command may stop at the damage if it names the file and says what to do; that is then done.
    """
    for _ in range(count):
        round_.make_folder()
        process = round_.fork()
        if process.wait(round_.rng.uniform(0.3, 1.0) * round_.reference.seconds["fork"]) is None:
            process.kill()
        process.end()
        found = {kind: _present(round_, glob) for kind, glob in DAMAGED.items()}
        kind = round_.rng.choice([kind for kind, paths in found.items() if paths])
        path = round_.rng.choice(found[kind])
        what = harm(path, round_)
        ends = [round_.fork().end()]
        while ends[-1].code == 2 and len(ends) < 4 and follow_advice(round_.folder, ends[-1]):
            ends.append(round_.fork().end())
        told = "".join(end.errors for end in ends)
        name = str(path.relative_to(round_.folder))
        round_.note(f"{name}: {what}", kind, ends[0], named=path.stem in told)
        for end in ends:
            round_.expect(end, 0, 2)
        round_.expect(ends[-1], 0)
        round_.judge("fork", _spare(path, round_))


def _spare(path: Path, round_: Round) -> Path | None:
    """A rolling state older than the newest: it is read, and found damaged, in need only."""
    states = sorted(path.parent.glob("ckpt-*.pt"))
    return path.relative_to(round_.study) if path in states[:-1] else None


def _present(round_: Round, glob: str) -> list[Path]:
    return sorted(p for p in round_.folder.glob(glob) if p.stat().st_size and p.name[0] != ".")


def follow_advice(folder: Path, end: End) -> bool:
    """Do what the error tells the user to do; False if it tells nothing that can be done."""
    lines = re.search(r"(\S*rows\.jsonl), line (\d+)", end.last_line)
    if lines:
        rows = (folder / lines[1]).read_bytes().split(b"\n")
        (folder / lines[1]).write_bytes(b"".join(x + b"\n" for x in rows[: int(lines[2]) - 1]))
        return True
    data = re.search(r"(data/[^/ ]+).*delete that folder", end.last_line)
    if data:
        shutil.rmtree(folder / data[1])
        return True
    return False


# -- preparation ----------------------------------------------------------------------------------


def prepare(round_: Round, count: int) -> None:
    """Preparation of fresh data killed or stopped, alone or with its workers."""
    round_.make_folder(with_data=False)
    seconds = round_.reference.seconds["preparation"]

    def start() -> Process:
        return victim.start_fork(round_.folder, victim.preparation)

    for _ in range(count):
        process, delay = start(), round_.rng.uniform(0.05, 0.7 * seconds)
        way = round_.rng.choice(("all", "parent", "worker", "stop"))
        if way == "stop":
            _ask_to_stop(round_, process, delay, os.kill)
        elif process.wait(delay) is None:
            workers = [pid for pid in process.members() if pid != process.pid]
            chosen = {"all": process.members(), "parent": [process.pid], "worker": workers[:1]}[way]
            for pid in chosen:
                _kill_one(pid)
            end = process.end()
            round_.note(f"SIGKILL of {way}", "preparation", end)
            round_.expect(end, *((0, 2) if way == "worker" else (KILLED,)))
    round_.expect(start().end(), 0)
    for path in round_.reference.folder("preparation").glob("data/*/*"):
        name = path.relative_to(round_.reference.folder("preparation"))
        if not (round_.folder / name).is_file():
            round_.verdict.lost.append(f"{name} is missing")
        else:
            compare_bytes(round_.verdict, str(name), round_.folder / name, path)
    strays = [*stray_files(round_.folder), *map(str, round_.folder.glob("data/*/parts"))]
    round_.verdict.wrong += [f"stray file {name}" for name in strays]


def _kill_one(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


# -- the study as a command -----------------------------------------------------------------------


def command_kill(round_: Round, count: int) -> None:
    """The command killed as users see it: with all its cells, its parent alone, or one cell."""
    round_.make_folder()
    for _ in range(count):
        process = round_.command()
        way = round_.rng.choice(("all", "all", "parent", "cell"))
        delay = round_.rng.uniform(0.5, 0.8 * round_.reference.seconds["command"])
        if process.wait(delay) is not None:
            break
        cells = [pid for pid in process.members() if "/cell.json" in victim.words_of(pid)]
        if way == "parent":
            _kill_one(process.pid)
            end = process.wait()
            assert end is not None
        else:
            for pid in cells[:1] if way == "cell" else process.members():
                _kill_one(pid)
            end = process.end()
        round_.note(f"SIGKILL of {way}", round_.reached(), end)
        round_.expect(end, *((0, 2) if way == "cell" else (KILLED,)))
    round_.finish(round_.command, "command")


def command_stop(round_: Round, count: int) -> None:
    """The command asked to stop, as a terminal or a scheduler does it."""
    round_.make_folder()
    for _ in range(count):
        for log in round_.study.glob("*/*/cell.log"):
            log.unlink()
        process = round_.command()
        # Python itself, while it starts, answers Ctrl-C with a traceback.
        while not list(round_.study.glob("*/*/cell.log")) and process.wait(0.05) is None:
            pass
        delay = round_.rng.uniform(0.0, 0.8 * round_.reference.seconds["command"])
        _ask_to_stop(round_, process, delay, os.killpg)
    round_.finish(round_.command, "command")


def command_full(round_: Round, count: int) -> None:
    """The command on a disk that is full from a random access of each of its processes on."""
    round_.make_folder()
    for _ in range(count):
        access = round_.rng.randint(1, max(1, round_.reference.accesses // 3))
        end = round_.command(**{VARIABLE: f"full:{access}"}).end()
        if end.code:  # a cell's messages are in its log
            round_.note(f"full from disk access {access}", round_.reached(), end)
        round_.expect(end, 0, 2)
    round_.finish(round_.command, "command")


# -- ranks ----------------------------------------------------------------------------------------


def dead_rank(round_: Round, count: int) -> None:
    """One of two ranks killed; torchrun starts them again, or the same command does."""
    for _ in range(count):
        round_.make_folder()
        restarts = round_.rng.randint(0, 1)
        process = round_.command((*TORCHRUN, f"--max-restarts={restarts}", *TRAIN))
        _kill_one(_rank_under_way(round_, process))
        end = process.end()
        round_.note(f"SIGKILL of a rank, {restarts} restarts", "training", end)
        if restarts and end.code:
            round_.verdict.lost.append(f"not started again: {end.errors.strip()[-400:]}")
        _judge_ranks(round_)


def hung_rank(round_: Round, count: int) -> None:
    """One of two ranks stops without dying: the other names it, all end, the command goes on."""
    for _ in range(count):
        round_.make_folder()
        process = round_.command((*TORCHRUN, *TRAIN))
        os.kill(_rank_under_way(round_, process), signal.SIGSTOP)
        end = process.end()
        round_.note("SIGSTOP of a rank", "training", end)
        if not end.code:
            round_.verdict.lost.append(f"a hung rank: exit status {end.code}")
        # A hung main rank leaves its progress bar open before the line of the other.
        if not re.search(r"error( \(rank \d\))?: .*rank \d.* step \d", end.errors):
            told = end.errors.strip()[-400:]
            round_.verdict.lost.append(f"no line names the hung rank and its phase: {told}")
        _judge_ranks(round_)


def _rank_under_way(round_: Round, process: Process) -> int:
    """Wait for a random amount of training; the process of a random rank."""
    wanted, chosen = round_.rng.randint(1, 18), round_.rng.randint(0, 1)
    log = round_.folder / "run" / "seed0" / "metrics.jsonl"
    while not log.exists() or log.read_bytes().count(b"\n") < wanted:
        end = process.wait(0.02)
        if end is not None:
            raise RuntimeError(f"two ranks ended before their time: {end}")
    (rank,) = [pid for pid in process.members() if f" RANK={chosen} " in victim.words_of(pid)]
    return rank


def _judge_ranks(round_: Round) -> None:
    """Run the same command to its end and compare the run with the undisturbed one."""
    end = round_.command((*TORCHRUN, *TRAIN)).end()
    if end.code:
        round_.verdict.lost.append(f"cannot go on: {end.errors.strip()[-400:]}")
        return
    found = compare(round_.folder / "run", round_.reference.folder("ranks") / "run")
    round_.verdict.lost += found.lost
    round_.verdict.wrong += found.wrong
    round_.verdict.wrong += [f"stray file {name}" for name in stray_files(round_.folder)]


KINDS: dict[str, Callable[[Round, int], None]] = {
    "kill": kill,
    "save": save,
    "stop": stop,
    "full": full,
    "flip": flip,
    "cut": cut,
    "prepare": prepare,
    "command-kill": command_kill,
    "command-stop": command_stop,
    "command-full": command_full,
    "dead-rank": dead_rank,
    "hung-rank": hung_rank,
}
