"""One milestone of one run, and the rows that its numbers become."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.evaluation.milestone.proof import METRIC_VERSION
from benchmark.rows.metric_names import EXPOSURE
from benchmark.rows.provenance import git_revision, host, now, versions
from benchmark.rows.row import Row
from benchmark.study.declaration import declaration
from benchmark.study.study import EvaluationConfig, Study
from benchmark.study.variants import Variant
from mindiffusion.config.plan import Plan
from mindiffusion.config.run import RunConfig, check, config_hash
from mindiffusion.curriculum.exposure import relative_exposure
from mindiffusion.curriculum.stages import Stage, stage_at, trained_on_all_levels
from mindiffusion.data.codec import Codec
from mindiffusion.kept_latents import latents_of
from mindiffusion.outside.paths import MOST_PATH
from mindiffusion.printable import printable
from mindiffusion.runtime import Runtime, resolve_sampler
from mindiffusion.sampling import (
    codec_of,
    primary_weights,
    sampler_name,
    sampler_steps,
    usual_weights,
)

_OF_STAGES = ("active_channels", "penalty_lambda", "saliency_split_half_correlation")
"""What rows take over from the log of stages, where the network reported it."""
CODEC = "codec"
"""In a row's versions: the autoencoder and the scale of the latents that the network sees."""
OnProgress = Callable[[str, float], None]
"""Called with what is going on and the fraction of this milestone's scoring that is done."""


@dataclass(frozen=True)
class Milestone:
    """One milestone of one run and what its rows have in common.

    Attributes:
        study: the study.
        config: the run.
        plan: its steps and milestones.
        manifest: the data's manifest id.
        content: the loaded milestone file.
        folder: where pictures of its samples go; in the study's folder.
    """

    study: Study
    config: RunConfig
    plan: Plan
    manifest: str
    content: dict[str, Any]
    folder: Path

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.content["step"])

    @functools.cached_property
    def weights(self) -> str:
        """The weights that are scored: the primary average, where its file has more than one."""
        return usual_weights(self.content, self.config)

    @property
    def has_pictures(self) -> bool:
        """Whether its samples are shown: those of other sets would overwrite the average's."""
        return self.weights == primary_weights(self.config)

    @property
    def odd_sets(self) -> tuple[str, ...]:
        """The sets of weights that its numbers are of, where a run's own file would give others."""
        usual, own = (primary_weights(self.config), "raw"), self.weights
        kept = self.content["weights"]
        sets = (own, *(name for name in usual if name in kept and name != own))
        return () if sets == usual else sets

    @functools.cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that it was trained in, with their first steps; as its file says."""
        return self.plan.begun(self.content)

    @functools.cached_property
    def codec(self) -> Codec:
        """How images become inputs of its network, and its samples become images."""
        return codec_of(self.content, self.config)

    @functools.cached_property
    def versions(self) -> dict[str, str]:
        """What its rows were made with: packages and, where the network sees latents, which."""
        known = latents_of(self.content, self.config)
        return versions() | ({} if known is None else {CODEC: known.words})

    @property
    def evaluation(self) -> EvaluationConfig:
        """How it is scored."""
        return self.study.evaluation

    @functools.cached_property
    def declared(self) -> str:
        """Whether the study was declared before it was run, and where."""
        return declaration(self.study)

    @functools.cached_property
    def runtime(self) -> Runtime:
        """What it was trained with."""
        runtime: Runtime = check(Runtime, self.content["runtime"], "checkpoint")
        return runtime

    @functools.cached_property
    def _config_hash(self) -> str:
        return config_hash(self.config)

    def row(self, metric: str, value: float, **fields: Any) -> Row:
        """A row of this milestone; ``fields`` replace what rows have by default."""
        runtime = self.runtime
        stages = self.stages
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
            full_range=trained_on_all_levels(stages, self.step, self.config.process.lowest_time),
            stage=stage_at(stages, self.step - 1).config.name,
            samples=None,
            # A folder may have a name that rows can't hold as it is.
            dataset=printable(self.config.data.dataset, MOST_PATH),
            manifest=self.manifest,
            config_hash=self._config_hash,
            git=git_revision(),
            versions=self.versions,
            device=_device_name(runtime),
            host=host(),
            threads=runtime.threads,
            train_seconds=round(float(self.content["train_seconds"]), 3),
            time=now(),
            declared=self.declared,
        )
        return replace(base, **fields)

    def relative(self, picture: Path) -> str:
        """A picture's path as rows name it: relative to the study's folder."""
        return picture.relative_to(self.study.folder).as_posix()

    @functools.cached_property
    def new_stages(self) -> tuple[tuple[Stage, dict[str, Any]], ...]:
        """The stages begun since the milestone before, each with what the log says of its begin."""
        before = [step for step in self.plan.milestones if step < self.step]
        first = before[-1] if before else 0
        return tuple(
            (stage_at(self.stages, entry["step"]), entry)
            for entry in self.content["stage_log"]
            if first <= entry["step"] < self.step
        )

    def stage_rows(self) -> Iterator[Row]:
        """What is trained when: rows of the stages begun since the milestone before."""
        for stage, entry in self.new_stages:
            lows, highs = zip(*stage.density.intervals, strict=True)
            numbers = {"t_min": min(lows), "t_max": max(highs)}
            numbers |= {name: entry.get(name) for name in _OF_STAGES}
            for name, value in numbers.items():
                if value is not None and np.isfinite(value):
                    yield self.row(name, float(value), step=stage.start, stage=stage.config.name)
            for level, value in relative_exposure(stage.density, self.config.process.num_levels):
                place = {"step": stage.start, "stage": stage.config.name, "level": level}
                yield self.row(EXPOSURE, value, **place)

    def sampler_fields(self, variant: Variant | None = None) -> dict[str, Any]:
        """How this milestone's images were drawn: as its config says, or by a variant of that."""
        config = self.config if variant is None else variant.of(self.config)
        runtime = resolve_sampler(config, str(self.content["runtime"]["device"]))
        weights = None if variant is None else variant.weights
        return {
            "weights": weights or self.weights,
            "sampler": sampler_name(config.sampler, runtime),
            "sampler_steps": sampler_steps(config),
        }


def _device_name(runtime: Runtime) -> str:
    """What computed, and how, such as "cpu, fp32, eager"."""
    name = torch.cuda.get_device_name() if runtime.device == "cuda" else runtime.device
    return f"{name}, {runtime.precision}, {'compiled' if runtime.compile else 'eager'}"
