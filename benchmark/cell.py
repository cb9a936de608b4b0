"""One run of a study, in a process of its own: train to the end, then score what is not scored.

Progress goes to stdout as JSON lines. If nobody reads them any more, the parent is dead and the
cell ends too: no orphan goes on computing.
"""

import json
import sys
from dataclasses import dataclass
from functools import partial

from benchmark.evaluate import (
    METRIC_VERSION,
    choose_feature_net,
    make_yardstick,
    score_milestone,
)
from benchmark.features import FEATURE_NETS
from benchmark.results import (
    EPS_MSE,
    ROWS_FILE,
    Row,
    append_rows,
    key,
    metric_label,
    read_rows,
)
from benchmark.study import Study
from mindiffusion.data.prepared import PreparedData
from mindiffusion.data.store import prepared_data
from mindiffusion.errors import UserError
from mindiffusion.files import exclusive_lock
from mindiffusion.sampling import sampler_steps
from mindiffusion.training.config import RunConfig, config_hash
from mindiffusion.training.distributed import Ranks
from mindiffusion.training.loop import Hooks
from mindiffusion.training.plan import Plan, resolve_plan
from mindiffusion.training.run import LOCK_WAIT_SECONDS, run
from mindiffusion.training.signals import Interrupted
from mindiffusion.training.trainer import Trainer


def scored_steps(study: Study, config: RunConfig) -> set[int]:
    """Milestones of a run that have all their rows.

    A milestone's distance row is the last of its rows, so it proves them all.
    """
    evaluation = study.evaluation
    net = FEATURE_NETS[choose_feature_net(evaluation.feature_net)[0]]
    metric = metric_label(net.frechet_name, evaluation.num_generated)
    wanted = (metric, METRIC_VERSION, evaluation.num_reference)
    run_key = (config.arm, config.seed, config_hash(config))
    rows = read_rows(study.folder / ROWS_FILE)
    mine = [row for row in rows if (row.arm, row.seed, row.config_hash) == run_key]
    profiled = {
        row.step
        for row in mine
        if row.metric == EPS_MSE and row.n_reference == evaluation.profile_images
    }
    return profiled & {
        row.step for row in mine if (row.metric, row.metric_version, row.n_reference) == wanted
    }


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
    profiles = 2 * evaluation.profile_levels * evaluation.profile_images
    return Work(
        step=3.0 * config.training.global_batch,
        milestone=float(evaluation.num_generated * sampler_steps(config) + profiles),
    )


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
    """Score what is not scored; a signal may end this anywhere, only whole milestones count."""
    whole = resolve_plan(config, len(data.train))
    work = work_of(study, config)
    done = scored_steps(study, config)
    base = work.step * whole.total_steps
    if done >= set(whole.milestones):
        report(work.total(whole), "done")
        return
    with exclusive_lock(config.run_dir / ".lock", wait_seconds=LOCK_WAIT_SECONDS):
        yardstick = make_yardstick(study.evaluation, data, device)
        for number, step in enumerate(whole.milestones):
            if step in done:
                continue
            progress = partial(_report_scoring, base + number * work.milestone, work)
            rows = score_milestone(study, config, step, yardstick, progress)
            _append_new(study, rows)
    report(work.total(whole), "done")


def _append_new(study: Study, rows: list[Row]) -> None:
    """Append the rows that are not there yet (a cut write, or another metric, left some)."""
    path = study.folder / ROWS_FILE
    known = {key(row) for row in read_rows(path)}
    append_rows(path, [row for row in rows if key(row) not in known])


def _report_scoring(base: float, work: Work, what: str, fraction: float) -> None:
    report(base + fraction * work.milestone, what)
