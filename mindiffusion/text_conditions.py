"""Captions as a network's condition: one number for each image, as with classes.

A batch's condition is int64 (B,): numbers of captions in the table ``Captions.texts``, or
``classes.NOT_TOLD`` where a caption was dropped. Who knows the table turns numbers into tokens.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mindiffusion.data.captions import Captions, ImageCaptions
from mindiffusion.noise import Stream, uniforms


class CaptionDraw:
    """Draws one caption of each image, keyed like every draw.

    Args:
        captions: of the images of a split.
        device: where the numbers go.
    """

    def __init__(self, captions: ImageCaptions, device: torch.device) -> None:
        self._starts = torch.from_numpy(captions.starts).to(device)
        self._numbers = torch.from_numpy(captions.numbers).to(device)

    def __call__(
        self, images: Tensor, seed: int, position: Tensor, step: int | Tensor, variant: int = 0
    ) -> Tensor:
        """One caption of each image, all of an image's equally likely: (B,) int64.

        Args:
            images: (B,) int64, indices into the split, on the device.
            seed: the run's.
            position: (B,) int64 in the global batch, on the device.
            step: of the run; as of ``noise.random_bits``.
            variant: as of ``noise.random_bits``.
        """
        first = self._starts[images]
        count = self._starts[images + 1] - first
        u = uniforms(seed, Stream.CAPTION, position, step, 1, variant)[:, 0]
        # In float64 u·count is exact and below count, so no draw leaves its image.
        return self._numbers[first + (u.double() * count).long()]


def prompt_conditions(captions: Captions) -> Callable[[Tensor], Tensor]:
    """What drawn images are to show when they are scored: image k shows prompt k modulo M.

    Returns:
        Image indices (B,) int64 → numbers of captions (B,) int64, on their device.
    """
    return in_turn(captions.prompts.tolist())


def in_turn(numbers: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Image k shows the caption ``numbers[k]``, and from their end on again the first.

    Args:
        numbers: of captions, one or more.
    """
    table = torch.tensor(numbers, dtype=torch.int64)
    return lambda index: table.to(index.device)[index % len(table)]


def a_caption_a_row(count: int, columns: int) -> Callable[[Tensor], Tensor]:
    """Captions of a picture: each row shows one of the first ``count``, all of them in turn."""
    return lambda index: index // columns % count
