"""One milestone scored: from kept weights to rows.

Everything is drawn by image index from the sampling seed, so a milestone scores the same whoever
scores it, and all arms of a seed meet the same noise.
"""

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.features import (
    FEATURE_NETS,
    FeatureExtractor,
    find_inception,
    load_feature_net,
    reference_features,
)
from benchmark.metrics.denoising import ProfileResult, denoising_profile, profile_levels
from benchmark.metrics.frechet import (
    FloatArray,
    Moments,
    covariance_root,
    frechet_distance,
    moments,
)
from benchmark.metrics.kid import kid_full
from benchmark.metrics.roughness import corner_roughness
from benchmark.provenance import git_revision, host, now, versions
from benchmark.results import EPS_MSE, Row, metric_label
from benchmark.study import EvaluationConfig, Study
from mindiffusion.curriculum.stages import stage_at, trained_on_all_levels
from mindiffusion.data.prepared import PreparedData
from mindiffusion.ddpm import DDPM
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.networks import IMAGE_CHANNELS, build_network
from mindiffusion.noise import Stream, normals
from mindiffusion.sampling import (
    primary_weights,
    process_of,
    sample_images,
    sampler_steps,
    save_png,
    tile,
)
from mindiffusion.sparsity import group_norm_summary, weight_movement
from mindiffusion.training import checkpoint
from mindiffusion.training.config import RunConfig, config_hash
from mindiffusion.training.plan import Plan, resolve_plan
from mindiffusion.training.runtime import Runtime, check_runtime

CACHE = Path(".cache")
METRIC_VERSION = 1
_PROFILE_BATCH = 64
OnProgress = Callable[[str, float], None]
"""Called with what is going on and the fraction of this milestone's scoring that is done."""


@dataclass(frozen=True)
class Yardstick:
    """What milestones are measured with; made once, used for all.

    Attributes:
        extractor: the feature net.
        reference: (num_reference, D) float64 features of training images.
        data: the prepared data.
    """

    extractor: FeatureExtractor
    reference: np.ndarray
    data: PreparedData

    @functools.cached_property
    def gaussian(self) -> tuple[Moments, FloatArray]:
        """Moments of the reference and the root of their covariance, for all milestones."""
        fitted = moments(self.reference)
        return fitted, covariance_root(fitted)


def choose_feature_net(name: str) -> tuple[str, Path | None]:
    """Resolve "auto" and find Inception's weights file.

    Raises:
        UserError: an unknown net, or Inception without its file.
    """
    given = os.environ.get("INCEPTION_PATH") or None
    if name == "auto":
        try:
            return "inception", find_inception(given, CACHE)
        except UserError:
            if given:
                raise
            return "effnet-lite0-224", None
    if name not in FEATURE_NETS:
        raise UserError(f"unknown feature net {name!r}.{did_you_mean(name, FEATURE_NETS)}")
    return name, find_inception(given, CACHE) if FEATURE_NETS[name].needs_weights_file else None


def make_yardstick(evaluation: EvaluationConfig, data: PreparedData, device: str) -> Yardstick:
    """Load the feature net and the reference features (cached on disk).

    Raises:
        UserError: fewer training images than ``num_reference``.
    """
    if evaluation.num_reference > len(data.train):
        raise UserError(
            f"evaluation.num_reference is {evaluation.num_reference}, but the data has "
            f"{len(data.train)} training images; ask for at most that many."
        )
    if evaluation.profile_images > len(data.held_out):
        raise UserError(
            f"evaluation.profile_images is {evaluation.profile_images}, but the data has "
            f"{len(data.held_out)} held-out images; ask for at most that many."
        )
    name, weights = choose_feature_net(evaluation.feature_net)
    extractor = load_feature_net(name, weights, device)
    reference = reference_features(
        extractor, data.train, evaluation.num_reference, CACHE, f"{data.manifest_id}-train"
    )
    return Yardstick(extractor, reference, data)


def score_milestone(
    study: Study,
    config: RunConfig,
    step: int,
    yardstick: Yardstick,
    on_progress: OnProgress,
) -> list[Row]:
    """Score the milestone of one run; also writes its strip of sample images.

    Args:
        study: the study, for names and settings.
        config: the run.
        step: the milestone.
        yardstick: feature net, reference, data.
        on_progress: told how far the scoring is.
    """
    content = checkpoint.load(checkpoint.weights_path(config.run_dir, step))
    runtime = Runtime(**content["runtime"])
    check_runtime(runtime, local_ranks=1)
    torch.set_num_threads(runtime.threads)
    device = torch.device(runtime.device)
    data = yardstick.data
    milestone = Milestone(
        study, config, resolve_plan(config, len(data.train)), data.manifest_id, content
    )
    process = process_of(content, primary_weights(config), device)
    rows = [*milestone.stage_rows()]
    on_progress("held-out error", 0.0)
    primary = _profile(milestone, process, yardstick)
    rows += _profile_rows(milestone, primary, primary_weights(config))
    on_progress("held-out error", 0.1)
    raw = _profile(milestone, process_of(content, "raw", device), yardstick)
    rows += _profile_rows(milestone, raw, "raw")
    rows += _mask_rows(milestone, process, yardstick, primary)
    rows += _norm_rows(milestone, process)
    on_progress("sampling", 0.3)
    rows += _sample_rows(milestone, process, yardstick, on_progress)
    return rows


@dataclass(frozen=True)
class Milestone:
    """One milestone of one run and what its rows have in common.

    Attributes:
        study: the study.
        config: the run.
        plan: its steps, stages and milestones.
        manifest: the data's manifest id.
        content: the loaded milestone file.
    """

    study: Study
    config: RunConfig
    plan: Plan
    manifest: str
    content: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.content["step"])

    def row(self, metric: str, value: float, **fields: Any) -> Row:
        """A row of this milestone; ``fields`` replace what rows have by default."""
        runtime = Runtime(**self.content["runtime"])
        stages = self.plan.stages
        base = Row(
            study=self.study.name,
            arm=self.config.arm,
            seed=self.config.seed,
            step=self.step,
            total_steps=self.plan.total_steps,
            metric=metric,
            value=value,
            level=None,
            error=None,
            direction="none",
            metric_version=METRIC_VERSION,
            n_generated=0,
            n_reference=0,
            weights="",
            sampler="",
            sampler_steps=0,
            sampling_seed=self.config.sampler.seed,
            full_range=trained_on_all_levels(stages, self.step),
            stage=stage_at(stages, self.step - 1).config.name,
            samples=None,
            dataset=self.config.data.dataset,
            manifest=self.manifest,
            config_hash=config_hash(self.config),
            git=git_revision(),
            versions=versions(),
            device=_device_name(runtime),
            host=host(),
            threads=runtime.threads,
            train_seconds=round(float(self.content["train_seconds"]), 3),
            time=now(),
        )
        return replace(base, **fields)

    def stage_rows(self) -> Iterator[Row]:
        """What is trained when: rows of the stages begun since the milestone before."""
        before = [step for step in self.plan.milestones if step < self.step]
        for entry in self.content["stage_log"]:
            if not (before[-1] if before else 0) <= entry["step"] < self.step:
                continue
            stage = stage_at(self.plan.stages, entry["step"])
            density = stage.config.density
            numbers = {
                "t_min": density.t_min,
                "t_max": density.t_max,
                **{k: entry[k] for k in ("active_channels", "penalty_lambda")},
            }
            if entry.get("saliency_split_half_correlation") is not None:
                numbers["saliency_split_half_correlation"] = entry[
                    "saliency_split_half_correlation"
                ]
            for name, value in numbers.items():
                if np.isfinite(value):
                    yield self.row(name, float(value), step=stage.start, stage=stage.config.name)

    def sampler_fields(self) -> dict[str, Any]:
        """How this milestone's images were drawn."""
        sampler = self.config.sampler
        name = "ddpm" if sampler.name == "ddpm" else f"ddim-eta{sampler.eta:g}"
        return {
            "weights": primary_weights(self.config),
            "sampler": f"{name}/chunk{sampler.chunk}",
            "sampler_steps": sampler_steps(self.config),
        }


def _sample_rows(
    milestone: Milestone, process: DDPM, yardstick: Yardstick, on_progress: OnProgress
) -> Iterator[Row]:
    """Draw images, keep a strip of them, compare their features with the reference's.

    The distance comes last: where it stands in the rows, all other rows of the milestone do.
    """
    config, evaluation = milestone.config, milestone.study.evaluation
    n = evaluation.num_generated
    images = sample_images(
        process,
        config.sampler,
        n,
        config.data.size,
        lambda done: on_progress("sampling", 0.3 + 0.6 * done / n),
    )
    strip = config.run_dir / f"samples-{milestone.step:09d}.png"
    save_png(strip, tile(images[: evaluation.strip], evaluation.strip))
    features = yardstick.extractor(
        images, lambda done: on_progress("features", 0.9 + 0.1 * done / n)
    )
    common = milestone.sampler_fields() | {
        "n_generated": n,
        "direction": "lower",
        "samples": strip.relative_to(milestone.study.folder).as_posix(),
    }
    compared = common | {"n_reference": len(yardstick.reference)}
    net = yardstick.extractor.net
    kernel = kid_full(features, yardstick.reference)
    yield milestone.row(
        metric_label(net.kernel_name, n),
        kernel.value,
        **compared | {"error": kernel.standard_error},
    )
    if config.data.dataset == "avatars":
        # Only avatars are known to have a smooth background in their corners.
        roughness = corner_roughness(images)
        yield milestone.row(
            metric_label("corner-roughness", n),
            float(roughness.mean()),
            **common | {"error": float(roughness.std(ddof=1) / n**0.5)},
        )
    distance = frechet_distance(moments(features), *yardstick.gaussian)
    yield milestone.row(metric_label(net.frechet_name, n), distance, **compared)


def _profile(milestone: Milestone, process: DDPM, yardstick: Yardstick) -> ProfileResult:
    """ε-MSE on held-out images, with noise keyed by (sampling seed, image, level)."""
    evaluation = milestone.study.evaluation
    pixels = np.array(yardstick.data.held_out[: evaluation.profile_images])
    device = process.beta.device
    images = torch.from_numpy(pixels).to(device).float().permute(0, 3, 1, 2) / 127.5 - 1.0
    seed, side = milestone.config.sampler.seed, milestone.config.data.size

    def noise(level_index: int, index: Tensor) -> Tensor:
        shape = (IMAGE_CHANNELS, side, side)
        return normals(seed, Stream.EVALUATION_NOISE, index.to(device), level_index, shape)

    return denoising_profile(
        process.eps_model,
        process.alpha_bar,
        images,
        profile_levels(process.n_T, evaluation.profile_levels),
        process.n_T,
        _PROFILE_BATCH,
        noise,
    )


def _profile_rows(milestone: Milestone, profile: ProfileResult, weights: str) -> Iterator[Row]:
    levels = milestone.config.process.n_T
    n = milestone.study.evaluation.profile_images
    for level, mse, error in zip(profile.levels, profile.mse, profile.standard_error, strict=True):
        yield milestone.row(
            EPS_MSE,
            float(mse),
            level=level / levels,
            error=float(error),
            direction="lower",
            n_reference=n,
            weights=weights,
        )


def _mask_rows(
    milestone: Milestone, process: DDPM, yardstick: Yardstick, under: ProfileResult
) -> Iterator[Row]:
    """The manipulation check: does the mask do anything, and do masked channels stay clean?

    ``mask-effect`` is ε-MSE with the mask lifted minus ε-MSE under it, by noise level;
    ``weight-movement-…`` the relative movement since the start of the weights of channels that
    are on, and of those still masked.
    """
    network: Any = process.eps_model
    mask = getattr(network, "channel_mask", None)
    if mask is None:
        return
    n = milestone.study.evaluation.profile_images
    common: dict[str, Any] = {"weights": primary_weights(milestone.config), "n_reference": n}
    kept = mask.clone()
    mask.fill_(1.0)
    lifted = _profile(milestone, process, yardstick) if bool((kept == 0).any()) else under
    mask.copy_(kept)
    for level, a, b in zip(under.levels, under.mse, lifted.mse, strict=True):
        yield milestone.row("mask-effect", float(b - a), level=level / process.n_T, **common)
    movement = weight_movement(network, build_network(milestone.config), kept.cpu())
    for name, value in movement.items():
        yield milestone.row(f"weight-movement-{name}", value, weights=common["weights"])


def _norm_rows(milestone: Milestone, process: DDPM) -> Iterator[Row]:
    """Group norms of a penalised network: their mean, and the share that fell below 1 %."""
    if not hasattr(process.eps_model, "get_group_l1_penalty"):
        return
    summary = group_norm_summary(process.eps_model, build_network(milestone.config))
    for name, value in summary.items():
        yield milestone.row(name, value, weights=primary_weights(milestone.config))


def _device_name(runtime: Runtime) -> str:
    """What computed, and how, such as "cpu, fp32, eager"."""
    name = torch.cuda.get_device_name() if runtime.device == "cuda" else runtime.device
    return f"{name}, {runtime.precision}, {'compiled' if runtime.compile else 'eager'}"
