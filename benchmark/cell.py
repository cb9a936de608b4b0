"""One run of a study, in a process of its own: train to the end, then score what is not scored.

Progress goes to stdout as JSON lines. If nobody reads them any more, the parent is dead and the
cell ends too: no orphan goes on computing.
"""

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmark.evaluation.keep import append_new
from benchmark.evaluation.milestone import Milestone
from benchmark.evaluation.scores import Part, finisher_key, parts_of, proof, score_milestone
from benchmark.evaluation.yardstick import make_yardstick
from benchmark.results import ROWS_FILE, read_rows
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
    rows = read_rows(study.folder / ROWS_FILE)
    mine = [row for row in rows if (row.arm, row.seed, row.config_hash) == run_key]
    return set.intersection(*({row.step for row in mine if row.metric == name} for name in wanted))


def refuse_stale_rows(study: Study, config: RunConfig, manifest_id: str) -> None:
    """Refuse, before anything is trained, to mix this run with rows of other settings or data.

    Raises:
        UserError: the study's rows have this arm and seed with another config or manifest.
    """
    path = study.folder / ROWS_FILE
    expected = (config_hash(config), manifest_id)
    for row in read_rows(path):
        same_cell = (row.arm, row.seed) == (config.arm, config.seed)
        if same_cell and (row.config_hash, row.manifest) != expected:
            raise UserError(
                f"{path} has rows of arm {row.arm!r}, seed {row.seed} with another config or other "
                f"data (config {row.config_hash}, data {row.manifest}); choose another --output, "
                f"or delete the folder {study.folder}."
            )


@dataclass(frozen=True)
class Work:
    """Work of one run in forward passes of one image, for progress and time left.

    Attributes:
        step: one training step (backward counts as two forward passes).
        milestone: scoring one milestone.
    """

    step: float
    milestone: float

    def total(self, whole: Plan) -> float:
        """Work of the whole run."""
        return self.step * whole.total_steps + self.milestone * len(whole.milestones)


def work_of(study: Study, config: RunConfig) -> Work:
    """Work of a run, counted from its config."""
    evaluation = study.evaluation
    # Two sets of weights on held-out and on training images.
    profiles = 4 * evaluation.profile_levels * evaluation.profile_images
    draws = 1 + 2 * len(evaluation.stitch_levels) * ("stitched" in evaluation.metrics)
    samples = evaluation.num_generated * sampler_steps(config) * draws
    return Work(step=3.0 * config.training.global_batch, milestone=float(samples + profiles))


def report(done: float, what: str) -> None:
    """Tell the parent how much of the work is done; end if it is gone."""
    try:
        print(json.dumps({"done": done, "what": what}), flush=True)
    except BrokenPipeError:
        # Nothing more can be said, and stdout must not be flushed again at exit.
        sys.stdout = None
        raise Interrupted(15) from None


def run_cell(study: Study, config: RunConfig, side_by_side: int) -> int:
    """Train and score one run of a study, from wherever it is. Returns the exit code.

    Args:
        study: the study.
        config: one of its runs.
        side_by_side: cells that run on this machine at once, this one among them.
    """
    data = prepared_data(config.data, show_progress=False)
    try:
        device = _train(study, config, data, side_by_side)
        _score(study, config, data, device)
    except Interrupted as stop:
        return 128 + stop.signal_number
    return 0


def _train(study: Study, config: RunConfig, data: PreparedData, side_by_side: int) -> str:
    """Bring the run to its last step; returns the kind of device that it is settled on."""
    work = work_of(study, config)

    def hooks(trainer: Trainer) -> Hooks:
        report(work.step * trainer.step, "training")
        return Hooks(on_step=lambda done, total: report(work.step * done, "training"))

    ranks = Ranks(runs_on_machine=side_by_side)
    return run(config, data.train, data.manifest_id, ranks, hooks).runtime.device


def _score(study: Study, config: RunConfig, data: PreparedData, device: str) -> None:
    """Score what is not scored; a signal may end this anywhere, only whole parts count."""
    plan = resolve_plan(config, len(data.train))
    work = work_of(study, config)
    path = finisher_path(study)
    has_finisher = path is not None and path.exists()
    parts = [part for part in parts_of(study.evaluation) if part == "own" or has_finisher]
    missing = {part: set(plan.milestones) - scored_steps(study, config, part) for part in parts}
    base = work.step * plan.total_steps
    if any(missing.values()):
        with exclusive_lock(config.run_dir / ".lock", wait_seconds=LOCK_WAIT_SECONDS):
            yardstick = make_yardstick(study.evaluation, data, device)
            finisher = checkpoint.load(path) if path is not None and "stitched" in parts else None
            for number, step in enumerate(plan.milestones):
                wanted = [part for part in parts if step in missing[part]]
                if not wanted:
                    continue
                content = checkpoint.load(checkpoint.weights_path(config.run_dir, step))
                milestone = Milestone(
                    study, config, plan, data.manifest_id, content, config.run_dir
                )
                for k, part in enumerate(wanted):
                    share = work.milestone / len(wanted)
                    before = base + number * work.milestone + k * share
                    progress = partial(_report_scoring, before, share)
                    rows = score_milestone(milestone, yardstick, part, finisher, progress)
                    append_new(study.folder / ROWS_FILE, rows)
    report(work.total(plan), "done")


def _report_scoring(before: float, share: float, what: str, fraction: float) -> None:
    report(before + fraction * share, what)
