"""Latents as what networks see: images through an autoencoder, and samples back to images."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mindiffusion.config.codec import VAEConfig
from mindiffusion.data.codec import PIXELS, check_finite
from mindiffusion.data.latents import drawn
from mindiffusion.errors import UserError
from mindiffusion.kept_latents import KnownLatents
from mindiffusion.noise import Stream, normals
from mindiffusion.vae import VAE, open_vae

_PIXELS_AT_ONCE = 4 * 256 * 256
"""In a pass through an autoencoder, whose maps have some hundred channels at the images' size."""


def at_once(side: int) -> int:
    """Images of this side that go through an autoencoder together: the same on every machine."""
    return max(1, _PIXELS_AT_ONCE // side**2)


class LatentCodec:
    """Networks see scaled latents of an autoencoder. A ``Codec``.

    Args:
        config: where the autoencoder is, and what its latents are.
        known: which autoencoder a run was trained with, and the scale.
    """

    is_bounded = False

    def __init__(self, config: VAEConfig, known: KnownLatents) -> None:
        self.config = config
        self.known = known

    def shape(self, side: int) -> tuple[int, int, int]:
        """Of latents."""
        return self.config.shape(side)

    def inputs(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Uint8 images (B, H, W, 3) as scaled latents (B, C, h, w), in channels-last memory.

        They are drawn, as in training. The draw is keyed by the image's place among these.

        Raises:
            UserError: the autoencoder is not there, or another one.
        """
        vae, size = self._vae(images.device), at_once(images.shape[1])
        parts = [vae.moments(PIXELS.inputs(part, torch.float32)) for part in images.split(size)]
        moments = torch.cat(parts).to(dtype)
        index = torch.arange(len(images), device=images.device)
        shape = tuple(moments.shape[2:])
        noise = normals(0, Stream.EVALUATION_LATENT, index, 0, shape).to(dtype)
        latents = drawn(moments, noise, self.known.scale)
        return latents.contiguous(memory_format=torch.channels_last)

    def pixels(self, inputs: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w) as images (B, 3, H, W), clamped to [-1, 1].

        Raises:
            UserError: the autoencoder is not there, or another one.
        """
        vae, size = self._vae(inputs.device), at_once(inputs.shape[-1] * self.config.factor)
        # Latents came from float32; what is asked in bf16 is made in float32 too.
        latents = inputs.float() / self.known.scale
        decoded = torch.cat([vae.decoded(part) for part in latents.split(size)])
        return PIXELS.pixels(decoded)

    def images(self, inputs: Tensor) -> NDArray[np.uint8]:
        """Scaled latents (B, C, h, w) as images (B, H, W, 3).

        Raises:
            UserError: a value is not finite; the autoencoder is not there, or another one.
        """
        check_finite(inputs)
        return PIXELS.images(self.pixels(inputs))

    def _vae(self, device: torch.device) -> VAE:
        vae = open_vae(self.config, device)
        wanted = self.known.vae
        if wanted is not None and wanted != vae.sha256:
            raise UserError(
                f"the network was trained on latents of the autoencoder {wanted[:12]}, but "
                f"{self.config.path} holds {vae.sha256[:12]}; give the former as codec.path."
            )
        return vae
