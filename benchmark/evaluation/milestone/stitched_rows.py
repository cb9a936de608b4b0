"""Rows of stitched samples: the arm's network on one side of a level, a finisher on the other.

The finisher is one frozen network for all arms, so what differs comes from the arm's own side of
τ: where quality arises, and how good an arm is that knows only part of the levels so far.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmark.evaluation.metrics.frechet import frechet_distance, merge_moments
from benchmark.evaluation.milestone.milestone import Milestone, OnProgress
from benchmark.evaluation.milestone.proof import finisher_key
from benchmark.evaluation.milestone.sample_rows import draw_into, features_of
from benchmark.evaluation.milestone.yardstick import Yardstick, image_store
from benchmark.rows.metric_names import metric_label
from benchmark.rows.row import Row
from mindiffusion.curriculum.stages import trained_on_all_levels
from mindiffusion.process import stitched
from mindiffusion.sampling import (
    config_of,
    load_weights,
    primary_weights,
    usual_weights,
)

SIDES = ("above", "below")


def finisher_name(finisher: Mapping[str, Any]) -> str:
    """Arm, seed and step of a loaded finisher, as rows name it: "B/0@1200"."""
    config = config_of(finisher)
    return f"{config.arm}/{config.seed}@{finisher['step']}"


def key_of_finisher(finisher: Mapping[str, Any]) -> str:
    """``finisher_key`` of a loaded finisher, and its weights where they are no primary average."""
    config = config_of(finisher)
    key, weights = finisher_key(config, int(finisher["step"])), usual_weights(finisher, config)
    return key if weights == primary_weights(config) else f"{key} {weights}"


def stitched_rows(
    milestone: Milestone,
    yardstick: Yardstick,
    finisher: Mapping[str, Any],
    on_progress: OnProgress,
) -> Iterator[Row]:
    """Distance of samples drawn by the milestone above τ and the finisher below, and the reverse.

    ``level`` is τ. A value is full-range once the arm has been trained on all levels on its side.

    Args:
        milestone: the milestone.
        yardstick: feature nets and references; the primary net alone is used.
        finisher: the loaded milestone file of the finisher.
        on_progress: told how far the scoring is.
    """
    config, evaluation = milestone.config, milestone.evaluation
    texts, network = yardstick.texts, yardstick.sampling_network(config)
    own = load_weights(network, milestone.content, milestone.weights, texts)
    other = config_of(finisher)
    weights = usual_weights(finisher, other)
    network = yardstick.sampling_network(other, role="finisher")
    theirs = load_weights(network, finisher, weights, texts)
    parts = [(side, tau) for tau in evaluation.stitch_levels for side in SIDES]
    net = yardstick.nets[0]
    for number, (side, tau) in enumerate(parts):
        on_progress(f"stitched at {tau:g}", number / len(parts))
        pair = (own, theirs) if side == "above" else (theirs, own)
        n = evaluation.curve_size
        images = image_store(n, config.data.size)
        draw_into(
            images,
            stitched(*pair, tau),
            own.process,
            milestone.codec,
            config,
            yardstick.ranks,
            conditions=yardstick.conditions(config),
        )
        found = features_of(net.extractor, images, keep=False, ranks=yardstick.ranks)
        value = frechet_distance(
            merge_moments(found.groups), net.reference.moments, net.reference.root
        )
        low, high = (tau, 1.0) if side == "above" else (0.0, tau)
        fields = milestone.sampler_fields()
        fields["weights"] += f" with {weights} of {finisher_name(finisher)}"
        yield milestone.row(
            metric_label(f"stitched-{side}/{net.extractor.net.frechet_name}", n),
            value,
            level=tau,
            n_generated=n,
            n_reference=net.reference.n,
            direction="lower",
            full_range=trained_on_all_levels(milestone.stages, milestone.step, low, high),
            **fields,
        )
