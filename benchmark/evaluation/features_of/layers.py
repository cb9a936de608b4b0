"""Features of noisy images at the layers of any network, read by hooks on modules of given names.

A layer's output is maps (B, C, H, W) or tokens (B, L, C). The feature of an image is the mean over
positions, (C,): what is where in the image is lost, and images of any size compare.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.evaluation.metrics.denoising import NoiseSource
from mindiffusion.build import network_without_memory
from mindiffusion.config.run import RunConfig
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.process import Level, Model, add_noise, given

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LayerFeatures:
    """What one layer says of N images at one noise level.

    Attributes:
        pooled: (N, C), means over positions.
        mean_square: (N, C), mean squares over positions.
    """

    pooled: FloatArray
    mean_square: FloatArray


def layers_of(config: RunConfig, asked: Sequence[str]) -> tuple[str, ...]:
    """The layers of a run's network that are looked at.

    Args:
        config: the run.
        asked: names of modules; none: those that the network's config lists.

    Raises:
        UserError: the network has no module of that name.
    """
    if not asked:
        return config.model.layers(config.input_shape[1])
    known = _modules_of(config)
    for name in asked:
        if name not in known:
            raise UserError(
                f"evaluation.features.layers has {name!r}, but the network of arm {config.arm!r} "
                f"({config.model.network}) has no such layer.{_near(name, known, config)}"
            )
    return tuple(asked)


def _near(name: str, known: frozenset[str], config: RunConfig) -> str:
    """A name like the wrong one; where there is none, those that the config lists, not all."""
    near = did_you_mean(name, known)
    listed = config.model.layers(config.input_shape[1])
    return near if near.startswith(" Did") else f" Give some of {', '.join(listed)}."


@functools.lru_cache(maxsize=8)
def _modules_of(config: RunConfig) -> frozenset[str]:
    return frozenset(name for name, _ in network_without_memory(config).named_modules() if name)


def layer_features(
    model: Model,
    layers: Sequence[str],
    images: Tensor,
    level: Level,
    level_index: int,
    batch_size: int,
    noise: NoiseSource,
    condition: Tensor | None = None,
) -> dict[str, LayerFeatures]:
    """Features of noisy images at some layers, all from one pass through the network.

    Args:
        model: with a network in eval mode.
        layers: names of its modules.
        images: (N, C, H, W) float in [-1, 1], on the network's device.
        level: one for all images.
        level_index: its number, for the noise.
        batch_size: images a call; changes the result by rounding at most.
        noise: as for ``denoising_profiles``.
        condition: (N, …), what the network is told of the images; None: nothing.

    Raises:
        UserError: a layer that gives neither maps nor tokens.
    """
    parts: dict[str, list[LayerFeatures]] = {name: [] for name in layers}
    with torch.no_grad(), _watched(model.network, layers) as seen:
        for start in range(0, len(images), batch_size):
            x = images[start : start + batch_size]
            stop = start + len(x)
            eps = noise(level_index, torch.arange(start, stop)).to(x)
            asked = given(model, None if condition is None else condition[start:stop])
            asked(add_noise(x, level, eps), level)
            for name in layers:
                parts[name].append(_pooled(seen.pop(name), name))
    return {name: _joined(found) for name, found in parts.items()}


@contextlib.contextmanager
def _watched(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, object]]:
    """A context in which the last output of each layer is kept by its name."""
    seen: dict[str, object] = {}

    def keep(name: str, module: nn.Module, inputs: object, output: object) -> None:
        seen[name] = output

    with contextlib.ExitStack() as hooks:
        for name in layers:
            module = network.get_submodule(name)
            hook = module.register_forward_hook(functools.partial(keep, name))
            hooks.callback(hook.remove)
        yield seen


def _pooled(output: object, name: str) -> LayerFeatures:
    """Means over the positions of maps (B, C, H, W) or tokens (B, L, C)."""
    if not isinstance(output, Tensor) or output.dim() not in (3, 4):
        raise UserError(
            f"layer {name!r} gives neither maps (B, C, H, W) nor tokens (B, L, C); name another "
            "one in evaluation.features.layers."
        )
    values = output.double()
    by_channel = values.flatten(2) if values.dim() == 4 else values.transpose(1, 2)
    means = (by_channel.mean(2), by_channel.square().mean(2))
    return LayerFeatures(*(part.cpu().numpy() for part in means))


def _joined(parts: Sequence[LayerFeatures]) -> LayerFeatures:
    return LayerFeatures(
        np.concatenate([part.pooled for part in parts]),
        np.concatenate([part.mean_square for part in parts]),
    )


ByLayer = Mapping[str, LayerFeatures]
"""Features of the same images at the same noise level, layer → features."""
