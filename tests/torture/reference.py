"""The undisturbed results that every tormented folder is compared with, made once."""

import json
import shutil
from pathlib import Path

import victim
from faults import TORCHRUN, watch_saving
from full_disk import Disk
from rounds import DATA_FOLDERS, Reference, load_reference
from victim import FILE, REPRODUCE, TRAIN, End, Process


def make_reference(root: Path, kinds: set[str]) -> Reference:
    """What undisturbed victims give, from an earlier session where there is one.

    Args:
        root: folder of this product's reference.
        kinds: kinds of faults to come; what they do not need is not made.
    """
    needed = {"fork"}
    needed |= {"command"} if any(kind.startswith("command") for kind in kinds) else set()
    needed |= {"ranks"} if any(kind.endswith("rank") for kind in kinds) else set()
    needed |= {"preparation"} if "prepare" in kinds else set()
    known = load_reference(root)
    if known is not None and needed <= known.seconds.keys():
        return known
    shutil.rmtree(root, ignore_errors=True)
    seconds = {}
    for name in sorted(needed, key=["fork", "command", "preparation", "ranks"].index):
        folder = root / name
        folder.mkdir(parents=True)
        (folder / FILE).write_text(victim.STUDY)
        if name in ("command", "ranks"):
            for part in DATA_FOLDERS:
                shutil.copytree(root / "fork" / part, folder / part)
        end = _start(name, folder).end()
        if end.code:
            raise SystemExit(f"error: the undisturbed {name} failed:\n{end.errors}")
        seconds[name] = end.seconds
    seconds["fork"], events, accesses = _measure(root)
    reference = Reference(root, seconds, events, accesses)
    reference.save()
    return reference


def _start(name: str, folder: Path) -> Process:
    if name == "fork":
        return victim.start_fork(folder, victim.study)
    if name == "preparation":
        return victim.start_fork(folder, victim.preparation)
    words = REPRODUCE if name == "command" else (*TORCHRUN, *TRAIN)
    return victim.start_command(folder, words)


def _measure(root: Path) -> tuple[float, int, int]:
    """Seconds, saving events and disk accesses of the study with its data prepared."""
    folder = root / "measured"
    folder.mkdir()
    (folder / FILE).write_text(victim.STUDY)
    for part in DATA_FOLDERS:
        shutil.copytree(root / "fork" / part, folder / part)
    counts = folder / "counts.json"

    def counted() -> int:
        disk, events = Disk("full", 0), 0

        def count(number: int, place: str) -> None:
            nonlocal events
            events = number

        disk.install()
        watch_saving(count)
        code = victim.study()
        counts.write_text(json.dumps([events, disk.count]))
        return code

    end: End = victim.start_fork(folder, counted).end()
    if end.code:
        raise SystemExit(f"error: the undisturbed study failed:\n{end.errors}")
    events, accesses = json.loads(counts.read_text())
    shutil.rmtree(folder)
    return end.seconds, events, accesses
