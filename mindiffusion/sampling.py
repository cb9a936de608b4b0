"""From kept weights to images: image k is the same for any number of ranks and restarts.

Images are drawn in chunks of fixed size, aligned to the image index; the last chunk is drawn whole
and cut. Noise is keyed by (sampling seed, image index, level), so a chunk depends on nothing else.

bf16 moves pixels a little: docs/design.md, "Sampling's arithmetic", has the measured bound.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mindiffusion.build import build_codec, build_network, build_process, expected_tensors
from mindiffusion.config.run import RunConfig, ema_name, from_kept
from mindiffusion.config.sampler import SamplerConfig
from mindiffusion.data.codec import Codec
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.files import atomic_write
from mindiffusion.kept_latents import latents_of
from mindiffusion.kept_statistics import statistics_of
from mindiffusion.kept_text import read_texts
from mindiffusion.network import Network
from mindiffusion.noise import sample_noise
from mindiffusion.outside.weights import check_tensors, named_tensors
from mindiffusion.process import Denoiser, Model, Process, given, guided
from mindiffusion.runtime import SamplerRuntime, chunk_size
from mindiffusion.samplers.catalogue import Start, draw

Conditions = Callable[[Tensor], Tensor]
"""Image indices (B,) int64 → what these images are to show, one entry for each, on their device."""


def config_of(content: Mapping[str, Any]) -> RunConfig:
    """The run's config inside a checkpoint.

    Raises:
        UserError: a bad config, one whose process lacks its statistics, or one whose network is not
            that of the checkpoint's weights: it is known before that network takes any memory.
    """
    config = from_kept(content["config"], "checkpoint")
    for kept in content.get("weights", {}).values():
        check_tensors(named_tensors(kept, "checkpoint"), expected_tensors(config), "checkpoint")
    statistics_of(content, config)
    return config


def codec_of(content: Mapping[str, Any], config: RunConfig) -> Codec:
    """How images become inputs of a milestone's network, and its samples become images.

    Args:
        content: a loaded milestone file.
        config: the one inside it, perhaps with another sampler.

    Raises:
        UserError: the network sees latents, and nothing says how they were scaled.
    """
    return build_codec(config, latents_of(content, config))


def model_of(
    content: Mapping[str, Any],
    weights: str,
    device: torch.device,
    texts: Sequence[str] | None = None,
) -> Model:
    """The network of one set of a milestone's weights, and how it is read; ready to sample.

    Args:
        content: a loaded milestone file.
        weights: "raw" or an average such as "ema0.995".
        device: where to put it.
        texts: of a network that reads text what the conditions are numbers of; None: the prompts
            that the file keeps.

    Raises:
        UserError: the file has no such weights, or they are not of its config's network.
    """
    config = config_of(content)
    network = build_network(config)
    network.load_state_dict(kept_weights(content, weights))
    _ready(network, device)
    read_texts(network, content, config, texts)
    process = build_process(config, statistics_of(content, config))
    return Model(network, process.to(device))


def kept_weights(content: Mapping[str, Any], weights: str) -> dict[str, Tensor]:
    """One set of a milestone's weights, without the prefixes of wrapped networks.

    Args:
        content: a loaded milestone file.
        weights: "raw" or an average such as "ema0.995".

    Raises:
        UserError: the file has no such weights.
    """
    kept = _sets(content)
    if weights not in kept:
        raise UserError(f"no weights {weights!r} in this checkpoint.{did_you_mean(weights, kept)}")
    return named_tensors(kept[weights], "checkpoint")


def usual_weights(content: Mapping[str, Any], config: RunConfig) -> str:
    """The weights that are drawn from and scored where none are named.

    Args:
        content: a loaded milestone file, or what was exported of one.
        config: the one inside it.

    Returns:
        The primary average; where a file holds one set of another name, that one.

    Raises:
        UserError: the file holds a state to resume from.
    """
    kept = _sets(content)
    return next(iter(kept)) if len(kept) == 1 else primary_weights(config)


def _sets(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """A milestone's sets of weights by name."""
    kept: Mapping[str, Any] | None = content.get("weights")
    if kept is None:
        raise UserError("this is a state to resume from; give a milestone's weights-<step>.pt.")
    return kept


def _ready(network: nn.Module, device: torch.device | str) -> nn.Module:
    network.to(memory_format=torch.channels_last)
    return network.to(device).eval().requires_grad_(False)


class SamplingNetwork(nn.Module):
    """A network that predicts in the sampler's precision, compiled once for all its weights.

    Args:
        network: in eval mode, on its device.
        runtime: the sampler's. In bf16 the network's ends stay in float32.
    """

    def __init__(self, network: Network, runtime: SamplerRuntime) -> None:
        super().__init__()
        self.network = network
        self._use_bf16 = network.exact_ends = runtime.precision == "bf16"
        if runtime.compile:
            network.compile()

    def forward(self, x: Tensor, told: Tensor, condition: Tensor | None = None) -> Tensor:
        """As the network's."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._use_bf16):
            return given(self.network, condition)(x, told)


def sampling_network(
    config: RunConfig, runtime: SamplerRuntime, device: torch.device | str
) -> SamplingNetwork:
    """A network to sample many milestones with, one after the other: see ``load_weights``.

    Args:
        config: a run; its milestones, and those of runs of the same network, fit.
        runtime: how it samples.
        device: where.
    """
    network = build_network(config)
    _ready(network, device)
    return SamplingNetwork(network, runtime)


def load_weights(
    network: SamplingNetwork,
    content: Mapping[str, Any],
    weights: str,
    texts: Sequence[str] | None = None,
) -> Model:
    """Copy a milestone's weights into a ``sampling_network``; nothing is compiled anew.

    They are read as their own config says, with their own statistics. The network is shared: the
    model of an earlier call has these weights, and reads these texts, too from now on, so use one
    at a time. Arguments and errors as for ``model_of``; also refuses weights of another network.
    """
    kept = kept_weights(content, weights)
    check_tensors(kept, network.network.state_dict(), "checkpoint")
    config = config_of(content)
    network.network.load_state_dict(kept)
    read_texts(network.network, content, config, texts)
    device = next(network.parameters()).device
    return Model(network, build_process(config, statistics_of(content, config)).to(device))


def primary_weights(config: RunConfig) -> str:
    """Name of the declared primary average."""
    return ema_name(config.training.ema_decays[0])


def sampler_name(sampler: SamplerConfig, runtime: SamplerRuntime) -> str:
    """How images are drawn, as results name it: "ddim-eta1/chunk512/bf16"."""
    return f"{sampler.way}/chunk{runtime.chunk}/{runtime.precision}"


def sampler_steps(config: RunConfig) -> int:
    """A sampler's calls per image, as rows count them; guidance makes two of one, see below."""
    kind, levels = config.sampler.kind, config.process.num_levels
    return levels if levels and kind.is_whole_chain else kind.calls(config.sampler.steps)


def network_calls(config: RunConfig) -> int:
    """The most network calls per image: guidance asks twice at a level."""
    return sampler_steps(config) * (2 if config.sampler.guidance not in (0.0, 1.0) else 1)


@torch.inference_mode()
def sample_chunk(
    denoise: Denoiser,
    process: Process,
    codec: Codec,
    sampler: SamplerConfig,
    number: int,
    side: int,
    on_step: Callable[[], object] = lambda: None,
    conditions: Conditions | None = None,
) -> np.ndarray:
    """Images number · chunk … (number + 1) · chunk − 1, (chunk, side, side, 3) uint8.

    Args:
        denoise: what predicts.
        process: whose noise levels are gone through.
        codec: of the run: makes images of what is sampled.
        sampler: how to sample.
        number: which chunk, from 0.
        side: pixels.
        on_step: called before every network call; may raise to leave.
        conditions: what the images are to show; None: the denoiser is told nothing.
    """
    device, shape = process.device, codec.shape(side)
    chunk = chunk_size(sampler, shape[1], device.type)
    index = torch.arange(number * chunk, (number + 1) * chunk, device=device)
    start, noise = sample_noise(sampler.seed, index, shape)
    if not codec.is_bounded:
        sampler = replace(sampler, clip=False)
    if sampler.is_guided:
        denoise = guided(denoise, sampler.guidance, sampler.guidance_interval)
    asked = given(denoise, None if conditions is None else conditions(index))
    return codec.images(draw(asked, process, sampler, Start(start, noise, on_step)))


def sample_images(
    denoise: Denoiser,
    process: Process,
    codec: Codec,
    sampler: SamplerConfig,
    count: int,
    side: int,
    on_chunk: Callable[[int], None] = lambda done: None,
    on_step: Callable[[], object] = lambda: None,
    conditions: Conditions | None = None,
) -> np.ndarray:
    """Images 0 … count − 1, (count, side, side, 3) uint8.

    Args:
        denoise: what predicts.
        process: whose noise levels are gone through.
        codec: of the run: makes images of what is sampled.
        sampler: how to sample.
        count: number of images.
        side: pixels.
        on_chunk: called with the number of images done after every chunk.
        on_step: called before every network call; may raise to leave.
        conditions: what the images are to show; None: the denoiser is told nothing.
    """
    size = chunk_size(sampler, codec.shape(side)[1], process.device.type)
    chunks = []
    for number in range(-(-count // size)):
        chunks.append(
            sample_chunk(denoise, process, codec, sampler, number, side, on_step, conditions)
        )
        on_chunk(min(count, (number + 1) * size))
    return np.concatenate(chunks)[:count]


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (N, H, W, 3) side by side in rows of ``columns``; missing ones are white."""
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * columns, height, width, channels), 255, dtype=np.uint8)
    sheet[:n] = images
    grid = sheet.reshape(rows, columns, height, width, channels)
    return grid.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def save_png(path: Path, image: np.ndarray) -> None:
    """Write one (H, W, 3) uint8 image as PNG, atomically."""
    with atomic_write(path) as handle:
        Image.fromarray(image).save(handle, format="PNG")
