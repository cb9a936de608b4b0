"""One run of a study, in a process of its own: train, and score each milestone as it is reached.

Progress goes to stdout as JSON lines. If nobody reads them any more, the parent is dead and the
cell ends too: no orphan goes on computing.
"""

import functools
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmark.cells.children import tell_parent
from benchmark.cells.kept_weights import delete_scored, weights_to_score
from benchmark.cells.progress import last_weights, scored_steps, work_of
from benchmark.cells.tasks import Task, baseline_of, key_of
from benchmark.evaluation.milestone.cka_rows import Compared, Role
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.parts import Part
from benchmark.evaluation.milestone.score import score_milestone
from benchmark.evaluation.milestone.yardstick import Yardstick, make_yardstick
from benchmark.rows.file import ROWS_FILE
from benchmark.rows.keeper import Keeper
from benchmark.study.study import Study
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.run import RunConfig
from mindiffusion.data.prepared import PreparedData
from mindiffusion.data.store import prepared_data
from mindiffusion.files import exclusive_lock
from mindiffusion.training import checkpoint
from mindiffusion.training.loop import Hooks
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.run_folder import LOCK_WAIT_SECONDS, run
from mindiffusion.training.signals import Interrupted, raise_if_stopped
from mindiffusion.training.trainer import Trainer


def report(done: float, what: str) -> None:
    """Tell the parent how much of the work is done; end if it is gone."""
    tell_parent(json.dumps({"done": done, "what": what}))


class Scorer:
    """Scores the milestones of one run as they are reached.

    Args:
        study: the study.
        config: the run.
        parts: what is scored of each milestone.
        data: its prepared data.
        device: the kind of device that the run is settled on.
    """

    def __init__(
        self,
        study: Study,
        config: RunConfig,
        parts: Sequence[Part],
        data: PreparedData,
        device: str,
    ) -> None:
        self.study = study
        self.config = config
        self.data = data
        self.plan = resolve_plan(config, len(data.train))
        self.work = work_of(study, config)
        self._parts = parts
        self._device = device
        self._finisher_path = None if study.finisher is None else last_weights(study.finisher)
        self._keeper = Keeper(study.folder / ROWS_FILE, config.arm, config.seed)

    @functools.cached_property
    def _yardstick(self) -> Yardstick:
        return make_yardstick(self.study.evaluation, self.data, self._device)

    @functools.cached_property
    def _finisher(self) -> dict[str, Any]:
        assert self._finisher_path is not None
        return checkpoint.load(self._finisher_path)

    def work_before(self, step: int) -> float:
        """Work of training so far and of scoring all milestones before it."""
        return self.work.step * step + self.work.milestone * sum(
            milestone < step for milestone in self.plan.milestones
        )

    def score_up_to(self, step: int) -> None:
        """Score what is not scored of the milestones up to ``step``.

        A signal may end this anywhere; only whole parts count.
        """
        # A finisher's own samples are stitched once its last weights are there.
        has_finisher = self._finisher_path is not None and self._finisher_path.exists()
        can_be = {"own": True, "stitched": has_finisher, "cka": self._has_all_milestones()}
        parts = [part for part in self._parts if can_be[part]]
        scored = {p: scored_steps(self.study, self.config, p) for p in parts}
        for milestone in self.plan.milestones:
            wanted = [part for part in parts if milestone not in scored[part]]
            if milestone <= step and wanted:
                self._score(milestone, step, wanted)
        delete_scored(self.study, self.config, self.plan)

    def _has_all_milestones(self) -> bool:
        """Whether the milestones that layers are compared with are there: its own, and B's."""
        return all(last_weights(run).exists() for run in self._compared_runs.values())

    @functools.cached_property
    def _compared_runs(self) -> dict[Role, RunConfig]:
        """The run itself, and plain training with its seed where the study has it."""
        baseline = baseline_of(self.study, self.config)
        own: dict[Role, RunConfig] = {"own": self.config}
        return own if baseline is None else own | {"other": baseline}

    @functools.cached_property
    def _all_compared(self) -> tuple[Compared, ...]:
        """Every milestone of these runs: one object each, for its features are computed once."""
        return tuple(
            Compared(role, step, partial(checkpoint.load, weights_to_score(run, step)))
            for role, run in self._compared_runs.items()
            for step in resolve_plan(run, len(self.data.train)).milestones
        )

    def _compared_with(self, step: int) -> tuple[Compared, ...]:
        """Its own milestones before this one, and all of plain training."""
        return tuple(one for one in self._all_compared if one.role == "other" or one.step < step)

    def _score(self, step: int, trained: int, parts: Sequence[Part]) -> None:
        content = checkpoint.load(weights_to_score(self.config, step))
        milestone = Milestone(
            self.study, self.config, self.plan, self.data.manifest_id, content, self.config.run_dir
        )
        for number, part in enumerate(parts):
            share = self.work.milestone / len(parts)
            before = self.work.step * (trained - step) + self.work_before(step) + number * share
            progress = partial(_report_scoring, before, share)
            finisher = self._finisher if part == "stitched" else None
            others = self._compared_with(step) if part == "cka" else ()
            rows = score_milestone(milestone, self._yardstick, part, finisher, progress, others)
            self._keeper.add(rows)


def _report_scoring(before: float, share: float, what: str, fraction: float) -> None:
    report(before + fraction * share, what)
    # Within the training's loop signals are only collected, and its state is saved already.
    raise_if_stopped()


def run_cell(study: Study, tasks: Sequence[Task], side_by_side: int) -> int:
    """Do tasks of one cell of a study, from wherever it is. Returns the exit code.

    Args:
        study: the study.
        tasks: of one cell; before anything is scored, its run is brought to its last step.
        side_by_side: cells that run on this machine at once, this one among them.
    """
    config = next(run for run in study.runs if key_of(run) == tasks[0].cell)
    parts = [task.what for task in tasks if task.what != "train"]
    data = prepared_data(config.data, show_progress=False)
    try:
        scorer = _train(study, config, parts, data, side_by_side)
        with exclusive_lock(config.run_dir / ".lock", wait_seconds=LOCK_WAIT_SECONDS):
            scorer.score_up_to(scorer.plan.total_steps)
    except Interrupted as stop:
        return 128 + stop.signal_number
    report(scorer.work.total(scorer.plan), "done")
    return 0


def _train(
    study: Study,
    config: RunConfig,
    parts: Sequence[Part],
    data: PreparedData,
    side_by_side: int,
) -> Scorer:
    """Bring the run to its last step, scoring each milestone as it is reached.

    A milestone that was reached but not scored when the run was stopped is scored with the next
    one. Scoring it first would make the compiler see the sampler's batches before the training's,
    and compile the training otherwise than in a run that was never stopped.
    """
    scorers: list[Scorer] = []

    def hooks(trainer: Trainer) -> Hooks:
        scorer = Scorer(study, config, parts, data, trainer.runtime.device)
        scorers.append(scorer)
        report(scorer.work_before(trainer.step), "training")
        return Hooks(
            on_step=lambda done, total: report(scorer.work_before(done), "training"),
            on_milestone=lambda step, path: scorer.score_up_to(step),
        )

    training = data.training_for(config.data.labels)
    run(config, training, Ranks(runs_on_machine=side_by_side), hooks)
    return scorers[0]
