"""Held-out errors of one net, as rows, at each of its milestones.

All nets of a seed, its milestones and predictors meet the same noisy images. Another seed has other
images, while there are enough, and other noise.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.difficulty.setting import HELD_OUT, JOINT, LEVELS, Net, Setting
from benchmark.evaluation.metrics.denoising import denoising_profiles
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.profile_rows import noise_source
from benchmark.rows.metric_names import EPS_MSE
from benchmark.rows.row import Row
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion.build import build_codec, build_network, build_process
from mindiffusion.config.plan import Plan, resolve_plan
from mindiffusion.data.prepared import PreparedData
from mindiffusion.noise import Stream, permutation
from mindiffusion.process import Denoiser, Level, Model
from mindiffusion.runtime import resolve_runtime
from mindiffusion.sampling import model_of
from mindiffusion.training.trainer import statistics_for

_BATCH = 64
_HELD_OUT_ORDER = 4
"""Variant of the draws that choose held-out images."""


def part_of_seed(setting: Setting, seed: int, size: int, count: int, variant: int) -> Tensor:
    """Which images a seed takes: no two seeds share any while there are enough.

    Args:
        setting: the difficulty run.
        seed: training seed.
        size: how many images there are.
        count: how many it takes, at most ``size``.
        variant: of the draws.

    Returns:
        (count,) int64 numbers of images, in a drawn order.
    """
    order, part = divmod(seed, size // count)
    drawn = permutation(setting.run.sampler.seed, order, size, variant, Stream.EVALUATION_NOISE)
    return drawn[part * count : (part + 1) * count]


class Scoring:
    """What the errors of one net are measured with.

    Args:
        setting: the difficulty run.
        net: the net.
        data: its prepared data, with two held-out images or more.
    """

    def __init__(self, setting: Setting, net: Net, data: PreparedData) -> None:
        self.setting = setting
        self.net = net
        self.data = data
        self.config = setting.config_of(net)
        self.plan: Plan = resolve_plan(self.config, len(data.train))

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """All noise levels of the grid, rising."""
        return build_process(self.config).grid(LEVELS * self.setting.num_intervals)

    @property
    def num_held_out(self) -> int:
        """Held-out images behind an error."""
        return min(HELD_OUT, len(self.data.held_out))

    @cached_property
    def _images(self) -> Tensor:
        images, count = self.data.held_out, self.num_held_out
        chosen = part_of_seed(self.setting, self.net.seed, len(images), count, _HELD_OUT_ORDER)
        held_out = torch.from_numpy(images[chosen.numpy()])
        return build_codec(self.config).inputs(held_out, torch.float32)

    def errors(
        self, metrics: Mapping[str, Denoiser], row: "RowOf", device: torch.device
    ) -> Iterator[Row]:
        """Rows of the held-out ε-error at the net's noise levels.

        Args:
            metrics: by the metric of their rows, denoisers on the device.
            row: makes a row.
            device: where the denoisers are.
        """
        numbers = self.setting.level_numbers(self.net)
        noise = noise_source(self.config, device)
        found = denoising_profiles(
            metrics,
            self._images.to(device),
            [self.levels[number] for number in numbers],
            _BATCH,
            # By its place in the whole grid, so that interval nets and the joint one are paired.
            lambda place, index: noise(numbers[place], index),
        )
        for metric, profile in found.items():
            columns = (profile.levels, profile.mse, profile.standard_error)
            for level, value, error in zip(*columns, strict=True):
                yield row(metric, float(value), level=level, error=float(error))

    def milestone_rows(self, content: dict[str, Any]) -> list[Row]:
        """Rows of a milestone's raw weights: averages of weights lag behind."""
        device = torch.device(content["runtime"]["device"])
        model = model_of(content, "raw", device)
        row = RowOf(self, content, direction="lower", n_reference=self.num_held_out, weights="raw")
        return list(self.errors({EPS_MSE: model}, row, device))

    def untrained_rows(self) -> list[Row]:
        """The same before the first step."""
        statistics = statistics_for(self.config, self.data.training)
        network = build_network(self.config).eval().requires_grad_(False)
        model = Model(network, build_process(self.config, statistics))
        row = RowOf.of_data(
            self, direction="lower", n_reference=self.num_held_out, weights="raw", arm=JOINT
        )
        return list(self.errors({EPS_MSE: model}, row, torch.device("cpu")))

    def are_complete(self, rows: Sequence[Row], step: int) -> bool:
        """Whether a net's rows have the error at all of its levels after a step."""
        times = {self.levels[number].time for number in self.setting.level_numbers(self.net)}
        arm, seed = self.config.arm, self.config.seed
        return times <= {
            row.level
            for row in rows
            if row.metric == EPS_MSE and (row.arm, row.seed, row.step) == (arm, seed, step)
        }


class RowOf:
    """Makes rows of one milestone.

    Args:
        scoring: of which net.
        content: the loaded milestone file.
        fields: what its rows have in common.
    """

    def __init__(self, scoring: Scoring, content: dict[str, Any], **fields: Any) -> None:
        folder = Path(scoring.setting.folder)
        study = Study(folder.name, folder, (scoring.config,), EvaluationConfig())
        self._fields = fields
        self._milestone = Milestone(
            study, scoring.config, scoring.plan, scoring.data.manifest_id, content, folder
        )

    @classmethod
    def of_data(cls, scoring: Scoring, **fields: Any) -> "RowOf":
        """Makes rows of what no training has touched: they have step 0."""
        runtime = resolve_runtime(scoring.config, 1)
        content = {
            "step": scoring.plan.total_steps,
            "runtime": asdict(runtime),
            "train_seconds": 0.0,
        }
        return cls(scoring, content, **{"step": 0, "stage": ""} | fields)

    def __call__(self, metric: str, value: float, **fields: Any) -> Row:
        """A row."""
        return self._milestone.row(metric, value, **self._fields | fields)
