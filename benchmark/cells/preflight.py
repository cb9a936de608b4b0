"""What can be known of a study before its first step; dry runs and real starts ask the same."""

from collections.abc import Sequence

from benchmark.cells.progress import is_unfinished, refuse_stale_rows
from benchmark.cells.tasks import graph_of
from benchmark.evaluation.features_of.layers import layers_of
from benchmark.evaluation.milestone.class_scores import check_per_class
from benchmark.evaluation.milestone.primary import check_primary_metrics, deciding_metrics
from benchmark.evaluation.milestone.proof import check_finisher
from benchmark.evaluation.milestone.text_rows import check_text_metrics
from benchmark.rows.provenance import git_revision, is_committed
from benchmark.study.metric_catalogue import metrics_needing
from benchmark.study.study import Study, check_counts
from benchmark.study.variants import check_variants_of
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.run import RunConfig
from mindiffusion.data.store import num_classes, num_images
from mindiffusion.errors import UserError
from mindiffusion.kept_classes import check_interval
from mindiffusion.outside.paths import refuse_links
from mindiffusion.training.preflight import check_room_for, check_run, check_sampler, notes
from mindiffusion.training.run_folder import refuse_other_config
from mindiffusion.writable import try_folder

_SEEDS = 2**32
UNCOMMITTED = (
    "the code has changes that no commit has, or lies in no repository: rows will say so, and the "
    "study's answer stays provisional; commit first where it is to count."
)


def check_study(study: Study, runs: Sequence[RunConfig]) -> list[str]:
    """Refuse a study that could not come to its end; writes nothing.

    All its runs are looked at, for tables are made of the rows of all; what is in the way of
    training, for those alone that are to be trained.

    Args:
        study: the study.
        runs: those of its runs that are to be done.

    Returns:
        What to know beforehand, a line each.

    Raises:
        UserError: a mistake in a run or in how it is scored, a primary metric that is not
            measured, a run that follows one without a last milestone, a finisher that cannot finish
            a run's samples, tasks that wait for each other, rows or runs of other settings, a link
            in the folder, or no room on the disk.
        OSError: a folder that can't be written to.
    """
    refuse_links(study.folder)
    graph_of(study)
    _check_leaders(study)
    if study.terms.names_metrics:
        check_primary_metrics(study.terms, deciding_metrics(study.evaluation))
    said: dict[str, None] = {}
    for config in study.runs:
        num_train, num_held_out = num_images(config.data)
        check_run(config, num_train, num_classes=num_classes(config.data))
        check_counts(study.evaluation, num_train, num_held_out, f"dataset {config.data.dataset}")
        check_per_class(study.evaluation, config)
        check_text_metrics(study.evaluation, config)
        layers_of(config, study.evaluation.features.layers)
        _check_milestones_stay(study, config)
        _check_seeds(study, config)
        _check_variants(study, config)
        if "stitched" in study.evaluation.metrics and study.finisher is not None:
            check_finisher(config, study.finisher)
        refuse_stale_rows(study, config)
        said |= dict.fromkeys(notes(config, num_train))
    pending = [config for config in runs if is_unfinished(study, config)]
    if pending and not is_committed(git_revision()):
        said[UNCOMMITTED] = None
    try_folder(study.folder)
    for config in pending:
        refuse_other_config(config)
    for data in dict.fromkeys(config.data for config in pending):
        same = [config for config in pending if config.data == data]
        # Parts that wait for a finisher may be scored after all milestones are trained.
        are_scored = "stitched" not in study.evaluation.metrics
        check_room_for(same, num_images(data)[0], study.folder, are_scored=are_scored)
    return list(said)


def _check_variants(study: Study, config: RunConfig) -> None:
    variants = study.evaluation.variants
    check_variants_of(config, variants, "evaluation.variants")
    if not any(variant.of(config).sampler.is_guided for variant in variants):
        check_interval(config)
    for variant in variants:
        try:
            check_sampler(variant.of(config))
        except UserError as error:
            raise UserError(f"evaluation.variants, {variant.name!r}: {error}") from None


def _check_milestones_stay(study: Study, config: RunConfig) -> None:
    """Refuse to compare the layers of milestones whose weights would be deleted before."""
    needing = sorted(metrics_needing("milestones") & set(study.evaluation.metrics))
    if needing and config.training.keep_scored == "last":
        raise UserError(
            f"evaluation.metrics has {needing[0]}, which compares milestones, but "
            f"training.keep_scored of arm {config.arm!r} is last, which deletes them; give "
            f"training.keep_scored=all, or metrics without {needing[0]}."
        )


def _check_leaders(study: Study) -> None:
    """Refuse a leader that would not keep, with its last weights, when its stages began."""
    by_folder = {config.run_dir: config for config in study.runs}
    for config in study.runs:
        if config.followed_dir is None:
            continue
        leader = by_folder[config.followed_dir]
        plan = resolve_plan(leader, num_images(leader.data)[0])
        if plan.total_steps not in plan.milestones:
            raise UserError(
                f"arm {config.arm} follows the stages of {leader.arm}, whose last step "
                f"({plan.total_steps}) is none of its training.milestones; add '100%' to them."
            )


def _check_seeds(study: Study, config: RunConfig) -> None:
    sets, seed = study.evaluation.num_sampling_seeds, config.sampler.seed
    if seed + sets > _SEEDS:
        raise UserError(
            f"evaluation.num_sampling_seeds is {sets} from sampler.seed {seed} on, and seeds end "
            f"at {_SEEDS - 1}; give a smaller sampler.seed."
        )
