"""From kept weights to images: image k is the same for any number of ranks and restarts.

Images are drawn in chunks of fixed size, aligned to the image index; the last chunk is drawn whole
and cut. Noise is keyed by (sampling seed, image index, level), so a chunk depends on nothing else.

bf16 moves pixels a little: docs/design.md, "Sampler", has the measured bound.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mindiffusion.build import (
    IMAGE_CHANNELS,
    build_parameterization,
    build_process,
    expected_tensors,
)
from mindiffusion.chain import refuse_other_chain
from mindiffusion.config.run import RunConfig, SamplerConfig, check, ema_name
from mindiffusion.ddim import ddim_sample
from mindiffusion.ddpm import DDPM
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.files import atomic_write
from mindiffusion.kept_statistics import statistics_of
from mindiffusion.outside.weights import check_tensors, named_tensors
from mindiffusion.runtime import SamplerRuntime, chunk_size
from mindiffusion.stitching import Stitched
from mindiffusion.unet import NaiveUnet


def to_uint8(images: Tensor) -> np.ndarray:
    """Images (B, C, H, W) in [-1, 1] as (B, H, W, C) uint8: clamp, scale, round to nearest.

    Raises:
        UserError: an image is not finite.
    """
    if not bool(images.isfinite().all()):
        raise UserError("the sampler gave images that are not finite; the weights have diverged.")
    scaled = images.clamp(-1.0, 1.0) * 127.5 + 127.5
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def config_of(content: Mapping[str, Any]) -> RunConfig:
    """The run's config inside a checkpoint.

    Raises:
        UserError: a bad config, one whose process lacks its statistics, or one whose network is not
            that of the checkpoint's weights: it is known before that network takes any memory.
    """
    config: RunConfig = check(RunConfig, content["config"], "checkpoint")
    for kept in content.get("weights", {}).values():
        check_tensors(named_tensors(kept, "checkpoint"), expected_tensors(config), "checkpoint")
    statistics_of(content, config)
    return config


def process_of(content: Mapping[str, Any], weights: str, device: torch.device) -> DDPM:
    """The process around one set of a milestone's weights, ready to sample.

    Args:
        content: a loaded milestone file.
        weights: "raw" or an average such as "ema0.995".
        device: where to put it.

    Raises:
        UserError: the file has no such weights, or they are not of its config's network.
    """
    config = config_of(content)
    kept = kept_weights(content, weights)
    process = build_process(config, statistics_of(content, config))
    process.eps_model.load_state_dict(kept)
    return _ready(process, device)


def kept_weights(content: Mapping[str, Any], weights: str) -> dict[str, Tensor]:
    """One set of a milestone's weights, without the prefixes of wrapped networks.

    Args:
        content: a loaded milestone file.
        weights: "raw" or an average such as "ema0.995".

    Raises:
        UserError: the file has no such weights.
    """
    kept = content.get("weights")
    if kept is None:
        raise UserError("this is a state to resume from; give a milestone's weights-<step>.pt.")
    if weights not in kept:
        raise UserError(f"no weights {weights!r} in this checkpoint.{did_you_mean(weights, kept)}")
    return named_tensors(kept[weights], "checkpoint")


def _ready(process: DDPM, device: torch.device) -> DDPM:
    process.eps_model.to(memory_format=torch.channels_last)
    return process.to(device).eval().requires_grad_(False)


class SamplingNetwork(nn.Module):
    """A network that predicts in the sampler's precision, compiled once for all its weights.

    Args:
        network: in eval mode, on its device.
        runtime: the sampler's. In bf16 the network's ends stay in float32.
    """

    def __init__(self, network: NaiveUnet, runtime: SamplerRuntime) -> None:
        super().__init__()
        self.network = network
        self._use_bf16 = network.exact_ends = runtime.precision == "bf16"
        if runtime.compile:
            network.compile()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """As the network's."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._use_bf16):
            return self.network(x, t)


def sampling_process(
    config: RunConfig, runtime: SamplerRuntime, device: torch.device | str
) -> DDPM:
    """A process to sample many milestones with, one after the other: see ``load_weights``.

    Args:
        config: a run; its milestones, and those of runs of the same network, fit.
        runtime: how it samples.
        device: where.
    """
    process = _ready(build_process(config), torch.device(device))
    network = process.eps_model
    assert isinstance(network, NaiveUnet)
    process.eps_model = SamplingNetwork(network, runtime)
    return process


def load_weights(process: DDPM, content: Mapping[str, Any], weights: str) -> None:
    """Copy a milestone's weights into a ``sampling_process``; nothing is compiled anew.

    They are read as their own config says, with their own statistics. Arguments and errors as for
    ``kept_weights``; also refuses weights of another network, or of other noise levels.
    """
    network = process.eps_model
    assert isinstance(network, SamplingNetwork)
    kept = kept_weights(content, weights)
    check_tensors(kept, network.network.state_dict(), "checkpoint")
    config = config_of(content)
    refuse_other_chain(process.chain, config.process.chain)
    parameterization = build_parameterization(config.process, statistics_of(content, config))
    process.parameterization = parameterization.to(process.beta.device)
    network.network.load_state_dict(kept)


def primary_weights(config: RunConfig) -> str:
    """Name of the declared primary average."""
    return ema_name(config.training.ema_decays[0])


def sampler_name(sampler: SamplerConfig, runtime: SamplerRuntime) -> str:
    """How images are drawn, as results name it: "ddim-eta1/chunk512/bf16"."""
    name = "ddpm" if sampler.name == "ddpm" else f"ddim-eta{sampler.eta:g}"
    return f"{name}/chunk{runtime.chunk}/{runtime.precision}"


def sampler_steps(config: RunConfig) -> int:
    """Network calls per image."""
    return config.process.n_T if config.sampler.name == "ddpm" else config.sampler.steps


@torch.inference_mode()
def sample_chunk(
    process: DDPM,
    sampler: SamplerConfig,
    number: int,
    side: int,
    on_step: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """Images number · chunk … (number + 1) · chunk − 1, (chunk, side, side, 3) uint8.

    Args:
        process: network and process.
        sampler: how to sample.
        number: which chunk, from 0.
        side: pixels.
        on_step: called before every network call; may raise to leave.
    """
    size = (IMAGE_CHANNELS, side, side)
    device = process.beta.device
    chunk = chunk_size(sampler, side, device.type)
    first = number * chunk
    if sampler.name == "ddpm":
        images = process.sample(
            chunk, size, device, seed=sampler.seed, first_index=first, on_step=on_step
        )
        return to_uint8(images)
    index = torch.arange(first, first + chunk, device=device)
    images = ddim_sample(
        process.predictor,
        process.alpha_bar,
        index,
        size,
        num_steps=sampler.steps,
        eta=sampler.eta,
        clip=sampler.clip,
        seed=sampler.seed,
        on_step=on_step,
    )
    return to_uint8(images)


def sample_images(
    process: DDPM,
    sampler: SamplerConfig,
    count: int,
    side: int,
    on_chunk: Callable[[int], None] = lambda done: None,
    on_step: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """Images 0 … count − 1, (count, side, side, 3) uint8.

    Args:
        process: network and process.
        sampler: how to sample.
        count: number of images.
        side: pixels.
        on_chunk: called with the number of images done after every chunk.
        on_step: called before every network call; may raise to leave.
    """
    size = chunk_size(sampler, side, process.beta.device.type)
    chunks = []
    for number in range(-(-count // size)):
        chunks.append(sample_chunk(process, sampler, number, side, on_step))
        on_chunk(min(count, (number + 1) * size))
    return np.concatenate(chunks)[:count]


def stitched_process(process_above: DDPM, process_below: DDPM, tau: float) -> DDPM:
    """A process to sample from: one network denoises from pure noise down to τ, another goes on.

    Noise is keyed as always, so with one network on both sides the images are its own.

    Args:
        process_above: its network predicts at t > τ, read by its own parameterization.
        process_below: its network predicts at t ≤ τ, likewise.
        tau: τ in [0, 1] as t / n_T.

    Raises:
        UserError: τ outside [0, 1], or processes with other noise levels.
    """
    chain = process_above.chain
    refuse_other_chain(chain, process_below.chain)
    network = Stitched(process_above.predictor, process_below.predictor, tau, chain.n_T)
    return DDPM(network, chain.betas, chain.n_T).to(process_above.beta.device)


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
