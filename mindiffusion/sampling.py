"""From kept weights to images: image k is the same for any number of ranks and restarts.

Images are drawn in chunks of fixed size, aligned to the image index; the last chunk is drawn whole
and cut. Noise is keyed by (sampling seed, image index, level), so a chunk depends on nothing else.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mindiffusion.ddim import ddim_sample
from mindiffusion.ddpm import DDPM
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.files import atomic_write
from mindiffusion.networks import IMAGE_CHANNELS, build_process
from mindiffusion.training.config import RunConfig, SamplerConfig, check
from mindiffusion.training.ema import ema_name


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
    """The run's config inside a checkpoint."""
    return check(RunConfig, content["config"], "checkpoint")


def process_of(content: Mapping[str, Any], weights: str, device: torch.device) -> DDPM:
    """The process around one set of a milestone's weights, ready to sample.

    Args:
        content: a loaded milestone file.
        weights: "raw" or an average such as "ema0.995".
        device: where to put it.

    Raises:
        UserError: the file has no such weights.
    """
    kept = content.get("weights")
    if kept is None:
        raise UserError("this is a state to resume from; give a milestone's weights-<step>.pt.")
    if weights not in kept:
        raise UserError(f"no weights {weights!r} in this checkpoint.{did_you_mean(weights, kept)}")
    process = build_process(config_of(content))
    process.eps_model.load_state_dict(kept[weights])
    process.eps_model.to(memory_format=torch.channels_last)
    return process.to(device).eval().requires_grad_(False)


def primary_weights(config: RunConfig) -> str:
    """Name of the declared primary average."""
    return ema_name(config.training.ema_decays[0])


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
    first = number * sampler.chunk
    if sampler.name == "ddpm":
        images = process.sample(
            sampler.chunk, size, device, seed=sampler.seed, first_index=first, on_step=on_step
        )
        return to_uint8(images)
    index = torch.arange(first, first + sampler.chunk, device=device)
    images = ddim_sample(
        process.eps_model,
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
    chunks = []
    for number in range(-(-count // sampler.chunk)):
        chunks.append(sample_chunk(process, sampler, number, side, on_step))
        on_chunk(min(count, (number + 1) * sampler.chunk))
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
