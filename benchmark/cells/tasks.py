"""What is to be done for a study's cells, and what must be done before it.

Training a cell is a task, and so is scoring each part of its milestones. A graph says what each
task needs. Whoever runs cells, on this machine or over a cluster, walks the same graph. Never
imports torch.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, with_config

from benchmark.evaluation.milestone.parts import Part, parts_of
from benchmark.study.arm_names import BASELINE
from benchmark.study.study import Study
from mindiffusion.config.run import RunConfig
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import Name

What = Literal["train", Part]
CellKey = tuple[str, int]
"""Arm and training seed."""
_CALLED = {
    "train": "the training",
    "own": "the scores",
    "stitched": "the stitched samples",
    "cka": "the comparison of layers",
}


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True)
class Task:
    """One thing that is to be done for one cell.

    Attributes:
        what: "train", or the part of the cell's milestones that is scored.
        arm: the cell's arm.
        seed: its training seed.
    """

    what: What
    arm: Name
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    @property
    def cell(self) -> CellKey:
        """The cell."""
        return self.arm, self.seed

    def __str__(self) -> str:
        """How messages call it."""
        return f"{_CALLED[self.what]} of {self.arm}/{self.seed}"


Graph = Mapping[Task, Collection[Task]]
"""Each task with the tasks that it needs. A task stands behind all that it needs."""


def key_of(run: RunConfig) -> CellKey:
    """The cell that a run belongs to."""
    return run.arm, run.seed


def graph_of(study: Study) -> Graph:
    """All tasks of a study, with what they need.

    A cell's milestones are scored from its own training. Stitched samples also need the finisher's,
    and comparisons of layers that of the baseline with the same seed. A run that follows another
    one's stages is trained after it.

    Raises:
        UserError: a need that is no task of the study, or tasks that wait for each other.
    """
    needs: dict[Task, tuple[Task, ...]] = {}
    trainings = {run.run_dir: Task("train", *key_of(run)) for run in study.runs}
    for run in study.runs:
        training = Task("train", *key_of(run))
        needs[training] = () if run.followed_dir is None else (trainings[run.followed_dir],)
        for part in parts_of(study.evaluation):
            needs[Task(part, *key_of(run))] = (training,)
            if part == "stitched" and study.finisher is not None:
                needs[Task(part, *key_of(run))] += (Task("train", *key_of(study.finisher)),)
            baseline = baseline_of(study, run)
            if part == "cka" and baseline is not None:
                needs[Task(part, *key_of(run))] += (Task("train", *key_of(baseline)),)
    return in_order(needs)


def baseline_of(study: Study, run: RunConfig) -> RunConfig | None:
    """The study's plain training with the seed of a run, whose layers it is compared with."""
    wanted = (BASELINE, run.seed)
    return next((one for one in study.runs if key_of(one) == wanted), None)


def in_order(needs: Graph) -> Graph:
    """The same graph, each task behind all that it needs.

    Raises:
        UserError: a need that is not among the tasks, or tasks that wait for each other.
    """
    for task, wanted in needs.items():
        for one in wanted:
            if one not in needs:
                raise UserError(
                    f"{one} is not in the study, but must come before {task}; add that arm and "
                    "that seed, or take out what needs it."
                )
    try:
        return {task: needs[task] for task in TopologicalSorter(needs).static_order()}
    except CycleError as circle:
        # graphlib names each task before the one that needs it.
        waits = ", which waits for ".join(map(str, reversed(circle.args[1])))
        raise UserError(f"{waits}: none of them can be done first; take out one need.") from None


def left_of(graph: Graph, goals: Iterable[Task], is_done: Callable[[Task], bool]) -> Graph:
    """What has to be done for some tasks: those that are not done, and all that these need.

    Args:
        graph: all tasks.
        goals: those that are wanted.
        is_done: asked once for each task that matters.

    Returns:
        The tasks that are not done, each with those of its needs that are not done.
    """
    is_open: dict[Task, bool] = {}
    waiting = list(goals)
    while waiting:
        task = waiting.pop()
        if task not in is_open:
            is_open[task] = not is_done(task)
            waiting += graph[task] if is_open[task] else ()
    return {
        task: tuple(one for one in needs if is_open[one])
        for task, needs in graph.items()
        if is_open.get(task)
    }


def doable(
    left: Graph, groups: Sequence[Collection[CellKey]], tried: Collection[Task] = ()
) -> list[tuple[Task, ...]]:
    """The tasks that could be started now, if each group of cells is one process or one job.

    A task can be done if nothing that it needs is left, or if the same group does that before it.

    Args:
        left: what is left to do.
        groups: cells that are done together; no cell is in two groups.
        tried: tasks that are not to be started.

    Returns:
        The tasks of each group; none where all of them wait for others.
    """
    group_of = {cell: number for number, cells in enumerate(groups) for cell in cells}
    found: list[dict[Task, None]] = [{} for _ in groups]
    for task, needs in left.items():
        number = group_of.get(task.cell)
        if number is None or task in tried:
            continue
        if all(one in found[number] for one in needs):
            found[number][task] = None
    return [tuple(tasks) for tasks in found]
