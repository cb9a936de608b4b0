"""A milestone scored, part by part, and the row that proves each of them.

Everything is drawn by image index from the sampling seed, so a milestone scores the same whoever
scores it, and all arms of a seed meet the same noise.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmark.evaluation.milestone.attribute_rows import emergence_rows
from benchmark.evaluation.milestone.milestone import METRIC_VERSION, Milestone, OnProgress
from benchmark.evaluation.milestone.parts import Part
from benchmark.evaluation.milestone.profile_rows import profile_rows
from benchmark.evaluation.milestone.sample_rows import sample_rows
from benchmark.evaluation.milestone.stitched_rows import check_finisher, stitched_rows
from benchmark.evaluation.milestone.yardstick import Yardstick, choose_feature_net
from benchmark.rows.known_rows import PROOF
from benchmark.rows.row import Row
from benchmark.study.metric_catalogue import metrics_needing
from benchmark.study.study import EvaluationConfig
from mindiffusion.config.run import RunConfig, config_hash
from mindiffusion.files import sha256_of_file, sha256_of_json
from mindiffusion.runtime import check_runtime
from mindiffusion.sampling import config_of, model_of, primary_weights


def proof(evaluation: EvaluationConfig, part: Part, finisher: str = "") -> str:
    """Metric of the row that is written last and proves all others of a part.

    It names what the part depends on: with another setting, say one metric more, or other weights
    of a feature net, the part is scored again.

    Args:
        evaluation: the settings.
        part: which part.
        finisher: names the finisher of stitched samples and its config.
    """
    chosen = [choose_feature_net(name) for name in evaluation.feature_nets]
    nets = [(name, _sha256_of_weights(path)) for name, path in chosen]
    settings = asdict(evaluation) | {"feature_nets": nets, "version": METRIC_VERSION}
    if part == "own":
        for name in ("finisher", "stitch_levels", "strip"):
            del settings[name]
        settings["metrics"] = sorted(set(evaluation.metrics) - {"stitched"})
    else:
        names = ("num_reference", "stitch_levels", "version")
        settings = {name: settings[name] for name in names}
        settings |= {"num_generated": evaluation.curve_size}
        settings |= {"feature_nets": nets[:1], "finisher": finisher}
    return f"{PROOF}{part}/{sha256_of_json(settings)[:12]}"


@functools.lru_cache(maxsize=8)
def _sha256_of_weights(path: Path) -> str:
    return sha256_of_file(path)


def finisher_key(config: RunConfig, step: int) -> str:
    """What tells one finisher from another: arm, seed, step and config."""
    return f"{config.arm}/{config.seed}@{step} {config_hash(config)}"


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
        key = finisher_key(config_of(finisher), int(finisher["step"]))
    return [*rows, milestone.row(proof(milestone.evaluation, part, key), float(len(rows)))]


def _own_rows(milestone: Milestone, yardstick: Yardstick, on_progress: OnProgress) -> Iterator[Row]:
    metrics = milestone.evaluation.metrics
    model = model_of(milestone.content, primary_weights(milestone.config), yardstick.device)
    yield from milestone.stage_rows()
    if "profile" in metrics:
        on_progress("held-out error", 0.0)
        yield from profile_rows(milestone, model, yardstick)
    if "emergence" in metrics:
        on_progress("attributes", 0.2)
        yield from emergence_rows(milestone, model, yardstick)
    if metrics_needing("samples") & set(metrics):
        on_progress("sampling", 0.3)
        yield from sample_rows(milestone, yardstick, on_progress)
