"""A milestone scored, part by part, and the row that proves each of them.

Everything is drawn by image index from the sampling seed, so a milestone scores the same whoever
scores it, and all arms of a seed meet the same noise.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from benchmark.evaluation.milestone.attribute_rows import emergence_rows
from benchmark.evaluation.milestone.milestone import Milestone, OnProgress
from benchmark.evaluation.milestone.parts import Part
from benchmark.evaluation.milestone.profile_rows import profile_rows
from benchmark.evaluation.milestone.proof import check_finisher, proof
from benchmark.evaluation.milestone.sample_rows import sample_rows
from benchmark.evaluation.milestone.stage_pictures import stage_pictures
from benchmark.evaluation.milestone.stitched_rows import key_of_finisher, stitched_rows
from benchmark.evaluation.milestone.yardstick import Yardstick
from benchmark.rows.row import Row
from benchmark.study.metric_catalogue import metrics_needing
from mindiffusion.runtime import check_runtime
from mindiffusion.sampling import config_of, model_of


def score_milestone(
    milestone: Milestone,
    yardstick: Yardstick,
    part: Part = "own",
    finisher: Mapping[str, Any] | None = None,
    on_progress: OnProgress = lambda what, fraction: None,
) -> list[Row]:
    """Score one part of a milestone; also writes its strip of sample images.

    Args:
        milestone: the milestone.
        yardstick: feature nets, references, data.
        part: which part.
        finisher: loaded weights file of the frozen finisher, for the part "stitched".
        on_progress: told how far the scoring is.
    """
    runtime = milestone.runtime
    check_runtime(runtime, local_ranks=1)
    torch.set_num_threads(runtime.threads)
    key = ""
    if part == "own":
        rows = list(_own_rows(milestone, yardstick, on_progress))
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
    if metrics_needing("samples") & set(metrics):
        on_progress("sampling", 0.3)
        yield from sample_rows(milestone, yardstick, on_progress)
