"""A walk over what is left of a study: which tasks can be started now, whoever runs them."""

from collections.abc import Collection, Iterable, Sequence

from benchmark.cells.progress import is_done
from benchmark.cells.tasks import CellKey, Graph, Task, doable, graph_of, key_of, left_of
from benchmark.study.study import Study
from mindiffusion.config.run import RunConfig


class Walk:
    """Goes from the tasks that need nothing to those that need them; starts each task once.

    Args:
        study: the study.
        goals: tasks that are wanted; what they need comes with them.

    Attributes:
        left: what is not done.
        runs: the study's runs, by cell.
    """

    def __init__(self, study: Study, goals: Iterable[Task]) -> None:
        self.study = study
        self.runs: dict[CellKey, RunConfig] = {key_of(run): run for run in study.runs}
        self.left: Graph = left_of(graph_of(study), goals, self._is_done)
        self._started: set[Task] = set()

    def ready(self, groups: Sequence[Collection[CellKey]]) -> list[tuple[Task, ...]]:
        """What can be started now: the tasks of each group of cells, for groups that have any."""
        return [tasks for tasks in doable(self.left, groups, self._started) if tasks]

    def start(self, tasks: Iterable[Task]) -> None:
        """Note that somebody does these tasks: they are not started once more."""
        self._started |= set(tasks)

    def look(self, tasks: Collection[Task]) -> None:
        """Look which of these tasks are done by now."""
        self.left = left_of(
            self.left, self.left, lambda task: task in tasks and self._is_done(task)
        )

    def _is_done(self, task: Task) -> bool:
        return is_done(self.study, self.runs[task.cell], task)
