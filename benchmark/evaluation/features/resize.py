"""Bicubic resizing of whole batches on their device, equal to PIL's on float images.

PIL resizes along one axis, then along the other, and each is a product with a fixed matrix: Keys'
cubic (a = −1/2) stretched by the scale when images shrink, so that it also filters, cut at the
image's edge, and every row divided by its sum. clean-fid's ``clean`` resizer is PIL's, a channel
at a time, followed by a clip to 0–255 and with no rounding to integers; so is this one.

Sources: Keys 1981, "Cubic convolution interpolation for digital image processing"; Parmar, Zhang
and Zhu 2022, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation".
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_A = -0.5
_SUPPORT = 2.0
_MAX_GREY = 255.0
_CPU_BLOCK = 40
"""Output pixels whose weights are one product on a CPU: fewer zeros than in the whole matrix."""
_IN_CACHE = 2**20
"""Numbers of the output made at a time on a CPU: they are clipped while still in its cache."""

_SMALL_IMAGE = 3 * 128**2
"""Numbers of an image up to which one thread resizes: see ``_fitting_threads``."""


class _Block(NamedTuple):
    """Some output pixels of an axis, the input pixels they depend on, and the weights between."""

    new: slice
    old: slice
    weights: Tensor


def resize(images: Tensor, side: int, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    """Resize to ``side`` × ``side`` pixels, clip to 0–255, and map to a net's range of values.

    Args:
        images: (B, H, W, 3) uint8, all of one size, on any device.
        side: height and width of the result, ≥ 1.
        shift: grey level that becomes 0.
        scale: grey levels that become 1, > 0.

    Returns:
        (B, 3, side, side) float32: (grey − shift) / scale, in the default memory format.
    """
    with _fitting_threads(images):
        count, height, width, channels = images.shape
        ordered = images.permute(0, 3, 1, 2)
        planes = ordered.to(torch.float32, memory_format=torch.contiguous_format)
        # Weights sum to 1, so the few numbers of a small image can be mapped before it grows.
        planes = planes.sub_(shift).div_(scale)
        if (height, width) == (side, side):
            return planes
        block = side if images.is_cuda else min(side, _CPU_BLOCK)
        across = _blocks(width, side, block, images.device)
        down = _blocks(height, side, block, images.device)
        resized = torch.empty(count, channels, side, side, device=images.device)
        low, high = -shift / scale, (_MAX_GREY - shift) / scale
        at_once = count if images.is_cuda else max(1, _IN_CACHE // (channels * side**2))
        for start in range(0, count, at_once):
            part = resized[start : start + at_once]
            _resize_planes(planes[start : start + at_once].flatten(0, 1), across, down, part)
            part.clamp_(low, high)
        return resized


@contextlib.contextmanager
def _fitting_threads(images: Tensor) -> Iterator[None]:
    """One thread for small images: two would wait for each other at every product.

    That is worst where other threads decode the next images on the same cores.
    """
    threads = torch.get_num_threads()
    if not images.is_cuda and images[0:1].numel() <= _SMALL_IMAGE:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _resize_planes(
    planes: Tensor, across: list[_Block], down: list[_Block], resized: Tensor
) -> None:
    """Resize planes (P, H, W) into ``resized``, which has P · side · side numbers."""
    count, height, width = planes.shape
    side = resized.shape[-1]
    rows, wide = planes.view(-1, width), planes.new_empty(count * height, side)
    for block in across:
        torch.mm(rows[:, block.old], block.weights.T, out=wide[:, block.new])
    wide, target = wide.view(count, height, side), resized.view(count, side, side)
    for block in down:
        weights = block.weights.expand(count, -1, -1)
        torch.bmm(weights, wide[:, block.old], out=target[:, block.new])


@functools.lru_cache(maxsize=64)
def _blocks(old: int, new: int, block: int, device: torch.device) -> list[_Block]:
    weights = bicubic_weights(old, new)
    blocks = []
    for start in range(0, new, block):
        rows = weights[start : start + block]
        used = np.flatnonzero(rows.any(axis=0))
        window = slice(int(used[0]), int(used[-1]) + 1)
        part = torch.from_numpy(rows[:, window].copy()).to(device, torch.float32)
        blocks.append(_Block(slice(start, start + len(rows)), window, part))
    return blocks


def bicubic_weights(old: int, new: int) -> NDArray[np.float64]:
    """The matrix (new, old) that resizes one axis from ``old`` to ``new`` pixels; rows sum to 1."""
    scale = old / new
    stretch = max(scale, 1.0)
    centres = (np.arange(new)[:, None] + 0.5) * scale
    reach = _SUPPORT * stretch
    pixels = np.arange(old)[None, :]
    # PIL takes whole pixels from (centre ± reach), each bound rounded to an integer.
    inside = (pixels >= np.floor(centres - reach + 0.5)) & (
        pixels < np.floor(centres + reach + 0.5)
    )
    weights = np.where(inside, _keys((pixels + 0.5 - centres) / stretch), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def _keys(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel, zero beyond ±2."""
    x = np.abs(x)
    near = ((_A + 2) * x - (_A + 3)) * x**2 + 1
    far = _A * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < _SUPPORT, far, 0.0))
