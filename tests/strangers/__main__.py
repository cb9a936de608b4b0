"""``python tests/strangers``: thousands of strange files of each kind, and what became of them.

Every input is made from (kind, number) alone, lies in a folder of its own, and is given to the
program in this process. Inputs that did harm keep their folder under build/strangers.
"""

import argparse
import itertools
import os
import random
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).parent)]

import watch  # noqa: E402
from binary import make_sources  # noqa: E402
from kinds import KINDS  # noqa: E402

ROOT = REPOSITORY / "build" / "strangers"


def try_one(kind: str, number: int, base: Path) -> watch.Outcome:
    """Make one input and give it to the program."""
    work, private = base / "work", base / "private"
    for folder in (work, private):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    (private / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\nsecret")
    os.chdir(work)
    action = KINDS[kind](random.Random(f"{kind}/{number}"))
    watch.allow(work, base / "tmp")
    return watch.run(action)


def try_many(kind: str, numbers: range, root: Path, report: int) -> None:
    """Try inputs in this process; a line for each fault, and one at the end, go to ``report``."""
    with tempfile.TemporaryDirectory(prefix="strangers-") as folder:
        base = Path(folder)
        (base / "tmp").mkdir()
        tempfile.tempdir = str(base / "tmp")
        codes: Counter[int] = Counter()
        slowest = 0.0
        for number in numbers:
            outcome = try_one(kind, number, base)
            codes[outcome.code] += 1
            slowest = max(slowest, outcome.seconds)
            for fault in outcome.faults:
                os.write(report, f"fault {kind} {number}: {fault}\n".encode("utf-8", "replace"))
            if outcome.faults:
                kept = root / f"{kind}-{number}"
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(base / "work", kept, symlinks=True, ignore_dangling_symlinks=True)
        os.chdir("/")
    peak = watch.peak_bytes()
    taken = codes[0]
    os.write(report, f"done {len(numbers)} {taken} {slowest:.2f} {peak}\n".encode())


def fork(kind: str, numbers: range, root: Path) -> tuple[int, int]:
    """Try inputs in a process of their own; its id and the pipe it reports to."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.close(reading)
    try:
        try_many(kind, numbers, root, writing)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def try_kind(kind: str, count: int, workers: int, root: Path) -> tuple[str, list[str]]:
    """A line of the table and the faults of one kind."""
    bounds = [count * k // workers for k in range(workers + 1)]
    shares = [range(a, b) for a, b in itertools.pairwise(bounds) if a < b]
    children = [fork(kind, share, root) for share in shares]
    lines: list[str] = []
    for pid, pipe in children:
        with os.fdopen(pipe, encoding="utf-8", errors="replace") as reader:
            lines += reader.read().splitlines()
        os.waitpid(pid, 0)
    done = [line.split()[1:] for line in lines if line.startswith("done ")]
    faults = [line for line in lines if line.startswith("fault ")]
    if len(done) < len(children):
        faults.append(f"fault {kind}: a process died, or ran out of memory")
    tried, taken = (sum(int(one[k]) for one in done) for k in (0, 1))
    slowest = max((float(one[2]) for one in done), default=0.0)
    peak = max((int(one[3]) for one in done), default=0)
    row = f"{kind:<12} {tried:>7,} {taken:>7,} {tried - taken:>8,} {slowest:>9.2f} {peak >> 20:>9,}"
    return f"{row} {len(faults):>7}", faults


def main() -> int:
    """Try all kinds; 0 if no input did harm."""
    parser = argparse.ArgumentParser(prog="tests/strangers", description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="inputs of each kind")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="repeatable")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    parser.add_argument("--root", type=Path, default=ROOT, help="where harmful inputs are kept")
    options = parser.parse_args()
    root = options.root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    # Zips with a name twice are made on purpose.
    warnings.filterwarnings("ignore", message="Duplicate name")
    make_sources(root / "sources")
    head = (
        f"{'kind':<12} {'inputs':>7} {'taken':>7} {'refused':>8} {'slowest s':>9} {'peak MiB':>9}"
    )
    print(f"{head}  faults")
    everything = []
    for kind in options.kind or KINDS:
        row, faults = try_kind(kind, options.count, options.workers, root)
        print("\n".join([row, *faults[:20]]), flush=True)
        everything += faults
    print(f"{len(everything)} faults")
    return 1 if everything else 0


if __name__ == "__main__":
    sys.exit(main())
