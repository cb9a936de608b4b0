"""A milestone scored, part by part, and the row that proves each of them.

Everything is drawn by image index from the sampling seed, so a milestone scores the same whoever
scores it, and all arms of a seed meet the same noise.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from benchmark.evaluation.milestone.ablation_rows import ABLATION_METRICS, ablation_rows
from benchmark.evaluation.milestone.attribute_rows import amplitude_rows, emergence_rows
from benchmark.evaluation.milestone.cka_rows import Compared, cka_rows
from benchmark.evaluation.milestone.faithful_rows import real_rows
from benchmark.evaluation.milestone.jacobian_rows import jacobian_rows
from benchmark.evaluation.milestone.layer_rows import LAYER_METRICS, layer_rows
from benchmark.evaluation.milestone.milestone import Milestone, OnProgress
from benchmark.evaluation.milestone.parts import Part
from benchmark.evaluation.milestone.profile_rows import profile_rows
from benchmark.evaluation.milestone.proof import check_finisher, proof
from benchmark.evaluation.milestone.sample_rows import sample_rows
from benchmark.evaluation.milestone.stage_pictures import stage_pictures
from benchmark.evaluation.milestone.stitched_rows import key_of_finisher, stitched_rows
from benchmark.evaluation.milestone.text_rows import real_clip_rows
from benchmark.evaluation.milestone.yardstick import Yardstick
from benchmark.rows.row import Row
from benchmark.study.metric_catalogue import metrics_needing
from mindiffusion.process import Model
from mindiffusion.runtime import check_runtime
from mindiffusion.sampling import config_of, model_of


def score_milestone(
    milestone: Milestone,
    yardstick: Yardstick,
    part: Part = "own",
    finisher: Mapping[str, Any] | None = None,
    on_progress: OnProgress = lambda what, fraction: None,
    others: Sequence[Compared] = (),
    key: str = "",
) -> list[Row]:
    """Score one part of a milestone; also writes its strip of sample images.

    Args:
        milestone: the milestone.
        yardstick: feature nets, references, data.
        part: which part.
        finisher: loaded weights file of the frozen finisher, for the part "stitched".
        on_progress: told how far the scoring is.
        others: milestones that layers are compared with, for the part "cka".
        key: names those of them that are outside a study, for the row that proves the part.
    """
    runtime = milestone.runtime
    check_runtime(runtime, local_ranks=1)
    torch.set_num_threads(runtime.threads)
    if part == "own":
        rows = list(_own_rows(milestone, yardstick, on_progress))
    elif part == "cka":
        rows = list(cka_rows(milestone, yardstick, others, on_progress))
    else:
        assert finisher is not None
        check_finisher(milestone.config, config_of(finisher))
        rows = list(stitched_rows(milestone, yardstick, finisher, on_progress))
        key = key_of_finisher(finisher)
    proved = proof(milestone.evaluation, part, key, milestone.odd_sets)
    return [*rows, milestone.row(proved, float(len(rows)))]


def _own_rows(milestone: Milestone, yardstick: Yardstick, on_progress: OnProgress) -> Iterator[Row]:
    metrics = milestone.evaluation.metrics
    model = model_of(milestone.content, milestone.weights, yardstick.device, yardstick.texts)
    yield from milestone.stage_rows()
    yield from stage_pictures(milestone, yardstick)
    if "profile" in metrics:
        on_progress("held-out error", 0.0)
        yield from profile_rows(milestone, model, yardstick)
    if "emergence" in metrics:
        on_progress("attributes", 0.2)
        yield from emergence_rows(milestone, model, yardstick)
    if {"emergence", "ablation_attributes"} & set(metrics):
        yield from amplitude_rows(milestone)
    if "faithfulness" in metrics:
        yield from real_rows(milestone, yardstick)
    if "clip" in metrics:
        yield from real_clip_rows(milestone, yardstick)
    yield from _network_rows(milestone, model, yardstick, on_progress)
    if metrics_needing("samples") & set(metrics):
        on_progress("sampling", 0.3)
        yield from sample_rows(milestone, yardstick, on_progress)


def _network_rows(
    milestone: Milestone, model: Model, yardstick: Yardstick, on_progress: OnProgress
) -> Iterator[Row]:
    """What the network itself is like: its layers, its Jacobian, what its channels carry."""
    metrics = set(milestone.evaluation.metrics)
    if LAYER_METRICS & metrics:
        on_progress("layers", 0.22)
        yield from layer_rows(milestone, model, yardstick)
    if "jacobian" in metrics:
        on_progress("Jacobians", 0.24)
        yield from jacobian_rows(milestone, model, yardstick)
    if ABLATION_METRICS & metrics and milestone.step == milestone.plan.total_steps:
        on_progress("channels switched off", 0.27)
        yield from ablation_rows(milestone, model, yardstick)
