"""Latents of a run's training images: encoded once for all runs on them, then mapped from disk."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from mindiffusion.config.codec import CodecConfig, VAEConfig
from mindiffusion.data.codec import PIXELS
from mindiffusion.data.latents import (
    Blocks,
    LatentKey,
    TrainingLatents,
    open_latents,
    usual_scale,
    write_latents,
)
from mindiffusion.data.spec import DataConfig
from mindiffusion.data.training_data import TrainingData
from mindiffusion.files import exclusive_lock
from mindiffusion.latent_codec import at_once
from mindiffusion.places import data_root
from mindiffusion.vae import VAE, open_vae, vae_sha256
from mindiffusion.writable import check_room


def with_latents(
    data: TrainingData,
    codec: CodecConfig,
    spec: DataConfig,
    device: torch.device | str,
    *,
    show_progress: bool,
) -> TrainingData:
    """Training data with the latents that a network sees; as they are where it sees pixels.

    Of several processes that want the same latents, one encodes and the others wait.

    Args:
        data: the training images.
        codec: what the network sees of them.
        spec: what they are, and whether they are mirrored at random.
        device: where they are encoded if they are not yet.
        show_progress: of that, on stderr.

    Raises:
        UserError: the autoencoder is not there or does not fit, the disk has no room, or latents
            that are all the same.
        OSError: a file can't be read or written.
    """
    if not isinstance(codec, VAEConfig) or data.latents is not None:
        return data
    key, root = _key(data, codec, spec), data_root()
    moments = open_latents(key, root)
    if moments is None:
        lock = root / f".{key.folder(root).name}.lock"
        with exclusive_lock(lock, wait_seconds=math.inf):
            moments = open_latents(key, root)
            if moments is None:
                vae = open_vae(codec, torch.device(device))
                moments = _encoded(key, root, vae, data.images, show_progress)
    own = moments[: len(data)]
    scale = usual_scale(own) if codec.scale == "auto" else codec.scale
    return replace(data, latents=TrainingLatents(moments, len(data), key.vae, scale))


def _key(data: TrainingData, codec: VAEConfig, spec: DataConfig) -> LatentKey:
    return LatentKey(
        manifest=data.manifest_id,
        vae=vae_sha256(codec),
        num_images=len(data),
        shape=list(codec.shape(spec.size)),
        is_mirrored=spec.horizontal_flip,
    )


def _encoded(
    key: LatentKey, root: Path, vae: VAE, images: NDArray[np.uint8], show_progress: bool
) -> NDArray[np.float16]:
    """Encode all images, keep their moments and open them."""
    check_room(
        root, key.nbytes, "latents", "free some, or give MINDIFFUSION_DATA a folder on another."
    )
    bar: tqdm[Any] = tqdm(
        total=key.rows[0], unit="image", desc="latents", file=sys.stderr, disable=not show_progress
    )
    with bar:
        write_latents(key, root, lambda: _blocks(key, vae, images, bar))
    moments = open_latents(key, root)
    assert moments is not None
    return moments


def _blocks(key: LatentKey, vae: VAE, images: NDArray[np.uint8], bar: "tqdm[Any]") -> Blocks:
    """Moments of all images, then of all mirrored ones where those are wanted too."""
    size, device = at_once(images.shape[1]), next(vae.network.parameters()).device
    for is_mirrored in (False, True)[: 1 + key.is_mirrored]:
        for start in range(0, len(images), size):
            block = np.array(images[start : start + size])
            pixels = torch.from_numpy(block[:, :, ::-1].copy() if is_mirrored else block)
            found = vae.moments(PIXELS.inputs(pixels.to(device), torch.float32))
            bar.update(len(block))
            yield found.cpu().numpy()
