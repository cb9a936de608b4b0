"""A milestone scored: which parts there are, and the row that proves each of them.

Everything is drawn by image index from the sampling seed, so a milestone scores the same whoever
scores it, and all arms of a seed meet the same noise.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch

from benchmark.evaluation.attributes import emergence_rows
from benchmark.evaluation.milestone import METRIC_VERSION, Milestone
from benchmark.evaluation.profiles import profile_rows
from benchmark.evaluation.samples import sample_rows
from benchmark.evaluation.stitched import stitched_rows
from benchmark.evaluation.yardstick import Yardstick, choose_feature_net
from benchmark.results import Row
from benchmark.study import SAMPLE_METRICS, EvaluationConfig
from mindiffusion.files import sha256_of_json
from mindiffusion.sampling import primary_weights, process_of
from mindiffusion.training import checkpoint
from mindiffusion.training.runtime import Runtime, check_runtime

Part = Literal["own", "stitched"]
OnProgress = Callable[[str, float], None]
"""Called with what is going on and the fraction of this milestone's scoring that is done."""


def parts_of(evaluation: EvaluationConfig) -> tuple[Part, ...]:
    """What a milestone is scored in: by itself, and stitched to a finisher that must be trained."""
    return ("own", "stitched") if "stitched" in evaluation.metrics else ("own",)


def proof(evaluation: EvaluationConfig, part: Part) -> str:
    """Metric of the row that is written last and proves all others of a part.

    It names the settings: with another one, say one metric more, the part is scored again.
    """
    settings = asdict(evaluation) | {
        "nets": [choose_feature_net(name)[0] for name in evaluation.feature_nets],
        "version": METRIC_VERSION,
    }
    return f"scored-{part}/{sha256_of_json(settings)[:12]}"


def score_milestone(
    milestone: Milestone,
    yardstick: Yardstick,
    part: Part = "own",
    finisher: Path | None = None,
    on_progress: OnProgress = lambda what, fraction: None,
) -> list[Row]:
    """Score one part of a milestone; also writes its strip of sample images.

    Args:
        milestone: the milestone.
        yardstick: feature nets, references, data.
        part: which part.
        finisher: weights file of the frozen finisher, for the part "stitched".
        on_progress: told how far the scoring is.
    """
    runtime = Runtime(**milestone.content["runtime"])
    check_runtime(runtime, local_ranks=1)
    torch.set_num_threads(runtime.threads)
    if part == "own":
        rows = list(_own_rows(milestone, yardstick, on_progress))
    else:
        assert finisher is not None
        rows = list(stitched_rows(milestone, yardstick, checkpoint.load(finisher), on_progress))
    return [*rows, milestone.row(proof(milestone.evaluation, part), float(len(rows)))]


def _own_rows(milestone: Milestone, yardstick: Yardstick, on_progress: OnProgress) -> Iterator[Row]:
    metrics = milestone.evaluation.metrics
    process = process_of(milestone.content, primary_weights(milestone.config), yardstick.device)
    yield from milestone.stage_rows()
    if "profile" in metrics:
        on_progress("held-out error", 0.0)
        yield from profile_rows(milestone, process, yardstick)
    if "emergence" in metrics:
        on_progress("attributes", 0.2)
        yield from emergence_rows(milestone, process, yardstick)
    if set(metrics) & set(SAMPLE_METRICS):
        on_progress("sampling", 0.3)
        yield from sample_rows(milestone, yardstick, on_progress)
