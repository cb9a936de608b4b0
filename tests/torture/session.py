"""Tortures training and studies on Linux and counts what is lost: ``make torture``.

Every fault hits a tiny study (or a run on two ranks, or a preparation) that is then run on by the
same command and must end with the bits of one that was left alone. Rounds that are done stand in
build/torture/journal.jsonl and are not done again; what failed keeps its folder.
"""

import argparse
import fcntl
import hashlib
import json
import math
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import victim
from faults import KINDS
from reference import make_reference
from rounds import Reference, Round
from victim import REPOSITORY

ROOT = REPOSITORY / "build" / "torture"
MIX = {
    "kill": (8, 80), "save": (12, 108), "stop": (6, 30), "full": (6, 30), "flip": (1, 36),
    "cut": (1, 20), "prepare": (5, 20), "command-kill": (5, 30), "command-stop": (4, 16),
    "command-full": (4, 12), "dead-rank": (1, 6), "hung-rank": (1, 3),
}  # fmt: skip
"""Kind → (faults a round, share of the whole)."""


def product_id() -> str:
    """A short hash of the product's files: what is known of other code counts for nothing."""
    digest = hashlib.sha256()
    for package in ("mindiffusion", "benchmark", "plots", "tests/torture"):
        for path in sorted((REPOSITORY / package).rglob("*")):
            if path.suffix in (".py", ".yaml"):
                digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


class Journal:
    """Finished rounds, a JSON line each; several processes append to it."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self._path = path
        self._about = about

    def entries(self) -> list[dict[str, Any]]:
        """Rounds of this product and seed."""
        if not self._path.exists():
            return []
        entries = [json.loads(line) for line in self._path.read_text().splitlines()]
        return [entry for entry in entries if self._about.items() <= entry.items()]

    def append(self, entry: dict[str, Any]) -> None:
        """Write one round down."""
        with self._path.open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            handle.write(json.dumps(self._about | entry) + "\n")


def quotas(count: int, kinds: list[str]) -> dict[str, int]:
    """Faults of each kind, ``count`` or a few more together, every kind at least once."""
    whole = sum(MIX[kind][1] for kind in kinds)
    return {kind: max(1, math.ceil(count * MIX[kind][1] / whole)) for kind in kinds}


def do_round(name: str, kind: str, count: int, seed: int, reference: Reference) -> dict[str, Any]:
    """One round; its folder stays only if something is amiss."""
    folder = ROOT / "rounds" / name
    round_ = Round(folder, reference, random.Random(f"{seed}/{name}"))
    started = time.monotonic()
    try:
        KINDS[kind](round_, count)
    except Exception:
        round_.verdict.lost.append(f"the harness failed: {traceback.format_exc()[-600:]}")
    faults = [asdict(fault) for fault in round_.faults]
    if not (round_.verdict.lost or round_.verdict.wrong):
        shutil.rmtree(folder, ignore_errors=True)
    verdict = {"lost": round_.verdict.lost, "wrong": round_.verdict.wrong}
    took = round(time.monotonic() - started, 1)
    return {"round": name, "kind": kind, "faults": faults, **verdict, "seconds": took}


def stop_victims(number: int, frame: object) -> None:
    """Handles SIGTERM and SIGINT in a process of ours: no victim outlives its torturer."""
    for process in list(victim.LIVING):
        process.kill()
    os._exit(128 + number)


@dataclass(frozen=True)
class Session:
    """What the workers share.

    Attributes:
        wanted: faults of each kind.
        seed: of all that is random.
        reference: the undisturbed results.
        journal: of finished rounds.
        workers: how many share the work.
    """

    wanted: dict[str, int]
    seed: int
    reference: Reference
    journal: Journal
    workers: int

    def work(self, worker: int) -> None:
        """Do one worker's rounds: of each kind as many as its share of the faults needs."""
        known = {entry["round"]: entry for entry in self.journal.entries()}
        for kind, whole in self.wanted.items():
            share = whole // self.workers + (worker < whole % self.workers)
            done, number = 0, worker
            # A victim may end before its fault comes: more rounds than that hit nothing at all.
            last = self.workers * (2 * share + 4)
            while done < share and number < last:
                name = f"{kind}-{self.seed}-{number:04d}"
                entry = known.get(name)
                if entry is None:
                    count = min(MIX[kind][0], share - done)
                    entry = do_round(name, kind, count, self.seed, self.reference)
                    self.journal.append(entry)
                    show(entry)
                done += len(entry["faults"])
                number += self.workers


def show(entry: dict[str, Any]) -> None:
    """One line a round, and a line for each thing amiss."""
    amiss = [*entry["lost"], *entry["wrong"]]
    state = "AMISS" if amiss else "fine"
    print(f"{entry['round']:<24} {len(entry['faults']):>3} faults {entry['seconds']:>6} s  {state}")
    for line in amiss:
        print(f"    {line}")
    sys.stdout.flush()


def summary(entries: list[dict[str, Any]]) -> tuple[str, bool]:
    """The table and the closing line; whether all is well."""
    lines = [f"{'kind':<14} {'faults':>6} {'lost':>5} {'wrong':>5}  phases hit"]
    total = Counter[str]()
    for kind in KINDS:
        mine = [entry for entry in entries if entry["kind"] == kind]
        if not mine:
            continue
        faults = [fault for entry in mine for fault in entry["faults"]]
        bad = {key: sum(bool(entry[key]) for entry in mine) for key in ("lost", "wrong")}
        total.update({"faults": len(faults), **bad})
        phases = Counter(fault["phase"] for fault in faults).most_common()
        named = [fault["named"] for fault in faults if fault["named"] is not None]
        told = f"; named {sum(named)} of {len(named)}" if named else ""
        shown = ", ".join(f"{phase} {n}" for phase, n in phases)
        lines.append(
            f"{kind:<14} {len(faults):>6} {bad['lost']:>5} {bad['wrong']:>5}  {shown}{told}"
        )
    lines.append(f"{total['faults']} faults, {total['lost']} lost, {total['wrong']} wrong")
    return "\n".join(lines), not (total["lost"] or total["wrong"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/torture", description=__doc__)
    parser.add_argument("--count", type=int, default=340, help="faults in all, at least")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="repeatable")
    parser.add_argument("--workers", type=int, default=2, help="rounds done at a time")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of journal and rounds")
    options = parser.parse_args()
    globals()["ROOT"] = options.root.resolve()
    wanted = quotas(options.count, options.kind or list(KINDS))
    size = {"count": options.count, "workers": options.workers}
    about = {"seed": options.seed, **size, "product": product_id()}
    ROOT.mkdir(parents=True, exist_ok=True)
    journal = Journal(ROOT / "journal.jsonl", about)
    victim.warm_up()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop_victims)
    reference = make_reference(ROOT / f"reference-{about['product']}", set(wanted))
    session = Session(wanted, options.seed, reference, journal, options.workers)
    has_worked = run_workers(session.work, options.workers)
    text, is_well = summary(journal.entries())
    print(text)
    return 0 if is_well and has_worked else 1


def run_workers(action: Callable[[int], None], count: int) -> bool:
    """Run ``action`` in forks of this process; whether all ended well. They end with it."""
    children = []
    for worker in range(count):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            action(worker)
            os._exit(0)
        children.append(pid)

    def stop(number: int, frame: object) -> None:
        for pid in children:
            os.kill(pid, number)
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return not any([os.waitpid(pid, 0)[1] for pid in children])
