"""What proves that a part of a milestone is scored, and what a finisher must be for that."""

import functools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmark.evaluation.features.clip import clip_folder, clip_sha256
from benchmark.evaluation.features.nets import choose_feature_net
from benchmark.evaluation.milestone.parts import Part
from benchmark.rows.known_rows import PROOF
from benchmark.study.study import EvaluationConfig
from mindiffusion.config.run import RunConfig, config_hash
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_file, sha256_of_json
from mindiffusion.outside.documents import shown_value

METRIC_VERSION = 2


def proof(
    evaluation: EvaluationConfig, part: Part, finisher: str = "", sets: Sequence[str] = ()
) -> str:
    """Metric of the row that is written last and proves all others of a part.

    It names what the part depends on: with another setting, say one metric more, or other weights
    of a feature net, the part is scored again.

    Args:
        evaluation: the settings.
        part: which part.
        finisher: names the finisher of stitched samples and its config, or the runs outside a
            study that layers are compared with.
        sets: the weights that are scored, where they are not those of a run's own file.
    """
    chosen = [choose_feature_net(name) for name in evaluation.feature_nets]
    nets = [(name, _sha256_of_weights(path)) for name, path in chosen]
    settings = evaluation.settings | {"feature_nets": nets, "version": METRIC_VERSION}
    if part == "own":
        for name in ("finisher", "stitch_levels", "strip"):
            del settings[name]
        settings["metrics"] = sorted(set(evaluation.metrics) - {"stitched", "cka"})
        if "clip" in evaluation.metrics:
            settings["clip"] = clip_sha256(clip_folder())
    elif part == "cka":
        settings = {"features": asdict(evaluation.features), "version": METRIC_VERSION}
        settings |= {"others": finisher}
    else:
        names = ("num_reference", "stitch_levels", "version")
        settings = {name: settings[name] for name in names}
        settings |= {"num_generated": evaluation.curve_size}
        settings |= {"feature_nets": nets[:1], "finisher": finisher}
    if sets:
        settings |= {"weights": list(sets)}
    return f"{PROOF}{part}/{sha256_of_json(settings)[:12]}"


@functools.lru_cache(maxsize=8)
def _sha256_of_weights(path: Path) -> str:
    return sha256_of_file(path)


def finisher_key(config: RunConfig, step: int) -> str:
    """What tells one finisher from another: arm, seed, step and config."""
    return f"{config.arm}/{config.seed}@{step} {config_hash(config)}"


def check_finisher(config: RunConfig, finisher: RunConfig) -> None:
    """Refuse a finisher of other data, classes or noise; each may be trained and read in its way.

    Args:
        config: the run.
        finisher: the run whose network finishes its samples.

    Raises:
        UserError: it cannot go on where the run's network stops.
    """
    _check_codec(config, finisher)
    ours, theirs = ((c.data.dataset, c.data.size, c.process.noise) for c in (config, finisher))
    if config.data.labels != finisher.data.labels:
        raise UserError(
            f"the finisher {finisher.arm}/{finisher.seed} is told {finisher.data.labels or 'no'} "
            f"labels, the run {config.arm}/{config.seed} {config.data.labels or 'none'}; stitched "
            "samples need one label for both, so give another finisher, or metrics without "
            "stitched."
        )
    if ours != theirs:
        ours_text, theirs_text = (
            f"{shown_value(name)} at {size} pixels, {noise}" for name, size, noise in (ours, theirs)
        )
        raise UserError(
            f"the finisher {finisher.arm}/{finisher.seed} is of {theirs_text}, the run "
            f"{config.arm}/{config.seed} of {ours_text}; stitched samples need one data set and "
            "the same noise levels, so give another finisher, or metrics without stitched."
        )
    if (config.data.captions, config.model.text is None) != (
        finisher.data.captions,
        finisher.model.text is None,
    ):
        raise UserError(
            f"one of the finisher {finisher.arm}/{finisher.seed} and the run {config.arm}/"
            f"{config.seed} reads captions that the other does not; stitched samples need the same "
            "for both, so give another finisher, or metrics without stitched."
        )
    _check_classes(config, finisher)


def _check_codec(config: RunConfig, finisher: RunConfig) -> None:
    """Refuse a finisher whose network sees something else."""
    if config.codec != finisher.codec:
        raise UserError(
            f"the finisher {finisher.arm}/{finisher.seed} has another codec than the run "
            f"{config.arm}/{config.seed}; stitched samples need one for both, so give another "
            "finisher, or metrics without stitched."
        )


def _check_classes(config: RunConfig, finisher: RunConfig) -> None:
    """Refuse a finisher that cannot be told, or guided, as the run's network is."""
    known, theirs = config.model.num_classes, finisher.model.num_classes
    if known != theirs:
        raise UserError(
            f"the finisher {finisher.arm}/{finisher.seed} knows {theirs or 'no'} classes, the run "
            f"{config.arm}/{config.seed} {known or 'none'}; stitched samples need the same classes "
            "for both, so give another finisher, or metrics without stitched."
        )
    if config.sampler.is_guided and not finisher.training.label_drop:
        raise UserError(
            f"sampler.guidance is {config.sampler.guidance:g}, but the finisher {finisher.arm}/"
            f"{finisher.seed} was trained with training.label_drop 0 and has not learned to draw "
            "without a class; give sampler.guidance=1, another finisher, or metrics without "
            "stitched."
        )
