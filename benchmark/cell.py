"""One run of a study, in a process of its own: train, and score each milestone as it is reached.

Progress goes to stdout as JSON lines. If nobody reads them any more, the parent is dead and the
cell ends too: no orphan goes on computing.
"""

import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.evaluation.keep import Keeper
from benchmark.evaluation.milestone import Milestone
from benchmark.evaluation.scores import (
    Part,
    finisher_key,
    parts_of,
    proof,
    score_milestone,
)
from benchmark.evaluation.yardstick import Yardstick, make_yardstick
from benchmark.known_rows import known_rows
from benchmark.rows import ROWS_FILE
from benchmark.study import Study
from mindiffusion.data.prepared import PreparedData
from mindiffusion.data.store import num_train_images, prepared_data
from mindiffusion.errors import UserError
from mindiffusion.files import exclusive_lock
from mindiffusion.sampling import sampler_steps
from mindiffusion.training import checkpoint
from mindiffusion.training.config import RunConfig, config_hash
from mindiffusion.training.distributed import Ranks
from mindiffusion.training.loop import Hooks
from mindiffusion.training.plan import Plan, resolve_plan
from mindiffusion.training.run import LOCK_WAIT_SECONDS, run
from mindiffusion.training.signals import Interrupted
from mindiffusion.training.trainer import Trainer


def title(config: RunConfig) -> str:
    """How a cell is called on screen, such as "CS/0"."""
    return f"{config.arm}/{config.seed}"


def study_proofs(study: Study) -> dict[Part, str]:
    """The parts that a study's milestones are scored in, and the row that proves each."""
    finisher = study.finisher
    key = "" if finisher is None else finisher_key(finisher, _last_step(finisher))
    return {part: proof(study.evaluation, part, key) for part in parts_of(study.evaluation)}


def finisher_path(study: Study) -> Path | None:
    """Weights file that finishes stitched samples; None without such a run."""
    config = study.finisher
    if config is None:
        return None
    return checkpoint.weights_path(config.run_dir, _last_step(config))


def _last_step(config: RunConfig) -> int:
    return resolve_plan(config, num_train_images(config.data)).total_steps


def scored_steps(study: Study, config: RunConfig, part: Part | None = None) -> set[int]:
    """Milestones of a run that have all rows of a part, or of all parts."""
    wanted = [name for one, name in study_proofs(study).items() if part in (None, one)]
    run_key = (config.arm, config.seed, config_hash(config))
    proofs = known_rows(study.folder / ROWS_FILE).read_on().scored.get(run_key, {})
    return set.intersection(*(proofs.get(name, set()) for name in wanted))


def is_unfinished(study: Study, config: RunConfig, part: Part | None = None) -> bool:
    """Whether a run has milestones that are not scored, in one part or in any."""
    milestones = resolve_plan(config, num_train_images(config.data)).milestones
    return not scored_steps(study, config, part) >= set(milestones)


def refuse_stale_rows(study: Study, config: RunConfig, manifest_id: str | None = None) -> None:
    """Refuse, before anything is trained, to mix this run with rows of other settings or data.

    Args:
        study: the study.
        config: one of its runs.
        manifest_id: of its data; None: they are not prepared yet, so only settings are compared.

    Raises:
        UserError: the study's rows have this arm and seed with another config or manifest.
    """
    path = study.folder / ROWS_FILE
    found = known_rows(path).read_on().made_with.get((config.arm, config.seed), set())
    own = config_hash(config)
    for hash_of_rows, manifest in sorted(found):
        if hash_of_rows == own and manifest_id in (None, manifest):
            continue
        raise UserError(
            f"{path} has rows of arm {config.arm!r}, seed {config.seed} with another config or "
            f"other data (config {hash_of_rows}, data {manifest}); choose another --output, "
            f"or delete the folder {study.folder}."
        )


@dataclass(frozen=True)
class Work:
    """Work of one run in forward passes of one image, for progress and time left.

    Attributes:
        step: one training step (backward counts as two forward passes).
        milestone: scoring one milestone.
        end: what the last milestone takes beyond that.
    """

    step: float
    milestone: float
    end: float = 0.0

    def total(self, whole: Plan) -> float:
        """Work of the whole run."""
        scoring = self.milestone * len(whole.milestones) + self.end
        return self.step * whole.total_steps + scoring


def work_of(study: Study, config: RunConfig) -> Work:
    """Work of a run, counted from its config."""
    evaluation = study.evaluation
    # Two sets of weights on held-out and on training images.
    profiles = 4 * evaluation.profile_levels * evaluation.profile_images
    draws = 1 + 2 * len(evaluation.stitch_levels) * ("stitched" in evaluation.metrics)
    samples = evaluation.curve_size * sampler_steps(config) * draws
    all_sets = evaluation.num_generated * evaluation.num_sampling_seeds
    return Work(
        step=3.0 * config.training.global_batch,
        milestone=float(samples + profiles),
        end=float((all_sets - evaluation.curve_size) * sampler_steps(config)),
    )


def report(done: float, what: str) -> None:
    """Tell the parent how much of the work is done; end if it is gone."""
    try:
        print(json.dumps({"done": done, "what": what}), flush=True)
    except BrokenPipeError:
        # Nothing more can be said, and stdout must not be flushed again at exit.
        sys.stdout = None
        raise Interrupted(15) from None


class Scorer:
    """Scores the milestones of one run as they are reached.

    Args:
        study: the study.
        config: the run.
        data: its prepared data.
        device: the kind of device that the run is settled on.
    """

    def __init__(self, study: Study, config: RunConfig, data: PreparedData, device: str) -> None:
        self.study = study
        self.config = config
        self.data = data
        self.plan = resolve_plan(config, len(data.train))
        self.work = work_of(study, config)
        self._device = device
        self._finisher_path = finisher_path(study)
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
        has_finisher = self._finisher_path is not None and self._finisher_path.exists()
        parts = [p for p in parts_of(self.study.evaluation) if p == "own" or has_finisher]
        scored = {p: scored_steps(self.study, self.config, p) for p in parts}
        for milestone in self.plan.milestones:
            wanted = [part for part in parts if milestone not in scored[part]]
            if milestone <= step and wanted:
                self._score(milestone, step, wanted)

    def _score(self, step: int, trained: int, parts: Sequence[Part]) -> None:
        content = checkpoint.load(checkpoint.weights_path(self.config.run_dir, step))
        milestone = Milestone(
            self.study, self.config, self.plan, self.data.manifest_id, content, self.config.run_dir
        )
        for number, part in enumerate(parts):
            share = self.work.milestone / len(parts)
            before = self.work.step * (trained - step) + self.work_before(step) + number * share
            progress = partial(_report_scoring, before, share)
            finisher = self._finisher if part == "stitched" else None
            rows = score_milestone(milestone, self._yardstick, part, finisher, progress)
            self._keeper.add(rows)


def _report_scoring(before: float, share: float, what: str, fraction: float) -> None:
    report(before + fraction * share, what)


def run_cell(study: Study, config: RunConfig, side_by_side: int) -> int:
    """Train and score one run of a study, from wherever it is. Returns the exit code.

    Args:
        study: the study.
        config: one of its runs.
        side_by_side: cells that run on this machine at once, this one among them.
    """
    data = prepared_data(config.data, show_progress=False)
    try:
        scorer = _train(study, config, data, side_by_side)
        with exclusive_lock(config.run_dir / ".lock", wait_seconds=LOCK_WAIT_SECONDS):
            scorer.score_up_to(scorer.plan.total_steps)
    except Interrupted as stop:
        return 128 + stop.signal_number
    report(scorer.work.total(scorer.plan), "done")
    return 0


def _train(study: Study, config: RunConfig, data: PreparedData, side_by_side: int) -> Scorer:
    """Bring the run to its last step, scoring each milestone as it is reached.

    A milestone that was reached but not scored when the run was stopped is scored with the next
    one. Scoring it first would make the compiler see the sampler's batches before the training's,
    and compile the training otherwise than in a run that was never stopped.
    """
    scorers: list[Scorer] = []

    def hooks(trainer: Trainer) -> Hooks:
        scorer = Scorer(study, config, data, trainer.runtime.device)
        scorers.append(scorer)
        report(scorer.work_before(trainer.step), "training")
        return Hooks(
            on_step=lambda done, total: report(scorer.work_before(done), "training"),
            on_milestone=lambda step, path: scorer.score_up_to(step),
        )

    run(config, data.train, data.manifest_id, Ranks(runs_on_machine=side_by_side), hooks)
    return scorers[0]
