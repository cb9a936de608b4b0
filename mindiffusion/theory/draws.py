"""What runs are trained on: samples, uniforms and noise, drawn once for all arms of a seed.

Arms of one seed and noise stream share everything, as in the house's trainer: they differ in the
noise times that a density makes of the same uniforms. Draws of several steps are made at once,
which small ones need: a draw is some hundred operations, however few numbers it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mindiffusion.noise import Stream, normals, uniforms
from mindiffusion.theory.setting import TheoryRun
from mindiffusion.theory.two_features import Features, codes, features_of
from mindiffusion.training.batches import image_indices

_MOST_NUMBERS = 2**19
"""Of noise in one block: 2 MB in float32, which a core's own cache holds."""


@dataclass(frozen=True, eq=False)
class Block:
    """Draws of K steps for U pairs of seed and noise stream, in the runs' float type.

    Attributes:
        x: (U, K, B, D), clean samples.
        noise: (U, K, B, D), standard normal.
        u: (U, K, B) float32, uniforms behind the noise times.
    """

    x: Tensor
    noise: Tensor
    u: Tensor


class Draws:
    """Draws for runs with the same data and batch.

    Args:
        runs: of any arms and seeds.
        dtype: of samples and noise.

    Attributes:
        of_run: (R,) int64, which of the U pairs each run has.
        steps_at_once: how many steps' draws make a block.
    """

    def __init__(self, runs: Sequence[TheoryRun], dtype: torch.dtype) -> None:
        pairs = sorted({(run.seed, run.noise_stream) for run in runs})
        place = {pair: number for number, pair in enumerate(pairs)}
        self.of_run = torch.tensor([place[run.seed, run.noise_stream] for run in runs])
        self._data = runs[0].data
        self._batch = runs[0].training.global_batch
        self._dtype = dtype
        self._pairs = pairs
        self._seeds = torch.tensor([seed for seed, _ in pairs])
        self._variants = torch.tensor([variant for _, variant in pairs])
        numbers = len(pairs) * self._batch * self._data.ambient_dim
        self.steps_at_once = max(1, min(64, _MOST_NUMBERS // numbers))
        self._features = features_of(self._data, [seed for seed, _ in pairs])
        self._fixed = self._fixed_samples() if self._data.num_train else None

    @property
    def features(self) -> Features:
        """Those of the pairs' seeds."""
        return self._features

    def block(
        self,
        first: int,
        count: int,
        streams: tuple[Stream, Stream] = (Stream.TIME, Stream.NOISE),
        size: int | None = None,
    ) -> Block:
        """Draws of steps ``first`` … ``first + count − 1``.

        Args:
            first: a step.
            count: K.
            streams: what uniforms and noise are keyed by; samples are those of the steps.
            size: how many positions of each batch, from its start; None: all.
        """
        size = size or self._batch
        shape = (len(self._pairs), count, size)
        seed = self._seeds[:, None, None].expand(shape).flatten()
        variant = self._variants[:, None, None].expand(shape).flatten()
        step = torch.arange(first, first + count)[:, None].expand(shape).flatten()
        index = torch.arange(size).expand(shape).flatten()
        key = (index, step)
        u = uniforms(seed, streams[0], *key, 1, variant).view(shape)
        dim = self._data.ambient_dim
        noise = normals(seed, streams[1], *key, (dim,), variant).to(self._dtype)
        if self._fixed is not None:
            x = self._visited(first, count, size)
        else:
            z = codes(self._data, seed, Stream.FEATURE_SAMPLES, *key, variant)
            x = self._features.samples(z.to(self._dtype).view(*shape, -1))
        return Block(x, noise.view(*shape, dim), u)

    def _fixed_samples(self) -> Tensor:
        """The samples of a limited set, (U, num_train, D): those of a seed, whatever its stream."""
        count = self._data.num_train or 0
        shape = (len(self._pairs), count)
        seed = self._seeds[:, None].expand(shape).flatten()
        z = codes(self._data, seed, Stream.FIXED_SAMPLES, torch.arange(count).repeat(shape[0]), 0)
        return self._features.samples(z.to(self._dtype).view(*shape, -1))

    def _visited(self, first: int, count: int, size: int) -> Tensor:
        """The samples of a limited set that steps visit, in keyed epochs: (U, K, size, D)."""
        assert self._fixed is not None
        visited = []
        for samples, (seed, variant) in zip(self._fixed, self._pairs, strict=True):
            steps = [
                image_indices(seed, step, self._batch, len(samples), variant)[:size]
                for step in range(first, first + count)
            ]
            visited.append(samples[torch.stack(steps)])
        return torch.stack(visited)
