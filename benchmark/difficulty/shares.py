"""Nets shared out over processes, as many as the machine runs side by side.

A process trains its share one net after the other: a net takes seconds, and so does the start of a
process. All intervals cost the same, so shares are fixed beforehand.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from benchmark.cells.children import start_child, tell_parent
from benchmark.cells.counted import Counted, side_by_side
from benchmark.cells.slots import device_slots
from benchmark.difficulty.nets import train_nets
from benchmark.difficulty.setting import Net, Setting
from mindiffusion.config.plan import resolve_plan
from mindiffusion.data.prepared import PreparedData
from mindiffusion.data.record import Record
from mindiffusion.data.store import hand_over, prepared_data, take_over
from mindiffusion.files import write_text
from mindiffusion.outside.documents import read_json
from mindiffusion.training.signals import Interrupted


class _Share(BaseModel):
    """What a process is told.

    Attributes:
        setting: the difficulty run.
        data: the prepared data that it must use.
        nets: those that it trains.
        side_by_side: how many processes there are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    setting: Setting
    data: tuple[Record, ...]
    nets: Annotated[tuple[Net, ...], Field(min_length=1)]
    side_by_side: Annotated[int, Field(ge=1, le=100_000)]


def do_share(document: Path) -> int:
    """Train what a document says; returns the exit code.

    Lines on stdout say how many steps are done. If nobody reads them any more, the parent is dead
    and this process ends too.

    Raises:
        UserError: the document is damaged.
    """
    told = read_json(document, _Share, "give the command again, which writes it anew.")
    take_over(told.data)
    data = prepared_data(told.setting.run.data, show_progress=False)
    try:
        train_nets(told.setting, told.nets, data, told.side_by_side, _report)
    except Interrupted as stop:
        return 128 + stop.signal_number
    return 0


def _report(steps: int) -> None:
    tell_parent(str(steps))


def train_side_by_side(setting: Setting, nets: Sequence[Net], data: PreparedData) -> None:
    """Train nets in as many processes as the machine has places for.

    Args:
        setting: the difficulty run.
        nets: those that are not done.
        data: the prepared data.

    Raises:
        UserError: a process failed; the others were asked to save their states.
        Terminated: a process was stopped; likewise.
    """
    if not nets:
        return
    slots = device_slots([setting.run])[: len(nets)]
    records = hand_over({setting.run.data: data})
    steps = resolve_plan(setting.run, len(data.train)).total_steps
    with _bar(steps * len(nets)) as bar, side_by_side() as running:
        for number, gpu in enumerate(slots):
            own = tuple(nets[number :: len(slots)])
            share = _Share(setting=setting, data=records, nets=own, side_by_side=len(slots))
            running.append(_start(share, number, gpu, bar))


def _bar(total: int) -> "tqdm[Any]":
    is_watched = sys.stderr.isatty()
    return tqdm(
        total=total, desc="steps of nets", dynamic_ncols=True, mininterval=0.5 if is_watched else 30
    )


def _start(share: _Share, number: int, gpu: str | None, bar: "tqdm[Any]") -> Counted:
    """Start a process; what it is told lies beside its log and stays there."""
    folder = Path(share.setting.folder) / "processes"
    document, log = folder / f"share-{number}.json", folder / f"share-{number}.log"
    write_text(document, share.model_dump_json() + "\n")
    child = start_child("benchmark.difficulty", document, log, gpu, {})
    return Counted(child, log, "a process of the nets", bar)
