"""Augmentation that does not leak: training images are changed, and the network is told how.

Six geometric changes, each with a chance of its own, and nine numbers that say what was done. A
sampler tells the network nothing, which is the same as nine zeros: images as they are. So pictures
that were turned or cut off teach the network, but it does not draw any.

Source: Karras et al. 2022 (2206.00364), appendix F.2; its resampling by a wavelet's filters is that
of Karras et al. 2020 (2006.06676, appendix B). Outside a picture are its mirror images, without
end; in the public code it is grey where a second mirror image would begin.
"""

import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mindiffusion.noise import Stream, normals, uniforms
from mindiffusion.process import Forward

LABELS = (
    "x-flip", "y-flip", "scale", "cos(rotation) - 1", "sin(rotation)",
    "stretch * cos(direction)", "stretch * sin(direction)", "x-shift", "y-shift",
)  # fmt: skip
"""What the numbers are that a network is told, in the order of the public code, as its weights know
them. A stretch along a direction and a squeeze along the opposite one have the same numbers."""
NUM_LABELS = len(LABELS)

_X_FLIP_TIMES = 1e8
"""Factor on the chance: where anything is changed at all, every other image is mirrored."""
_ZOOM_STD = 0.2
"""Of log2 of the scale, and of the stretch."""
_SHIFT_STD = 0.125
"""Of a shift, in sides of the image."""
_SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
"""Low-pass filter of the least asymmetric orthonormal wavelet with six vanishing moments
(Daubechies 1992, "Ten Lectures on Wavelets", section 8.1); of its squares the sum is 1."""
_CENTRE = 5
"""Its tap that lies on a pixel: the nearest to its mean place, 5.1."""
_REACH = len(_SYM6) // 2
"""How far the filter reaches beyond an image, in halves of pixels."""


@dataclass(frozen=True, eq=False)
class Augmentation:
    """How the images of a batch are changed: first flipped, then moved. All on the CPU.

    Attributes:
        flip_x: (B,) bool, which are mirrored left to right.
        flip_y: (B,) bool, which are mirrored top to bottom.
        origin: (B, 2, 3) float64, where in the flipped image a place (x, y, 1) of the changed one
            comes from. Places are counted from the centre, in sides; y points down.
        labels: (B, 9) float64, what the network is told; in the order of ``LABELS``.
    """

    flip_x: Tensor
    flip_y: Tensor
    origin: Tensor
    labels: Tensor

    @property
    def is_moved(self) -> Tensor:
        """(B,) bool, which images are more than flipped."""
        return (self.labels[:, 2:] != 0).any(1)


def draw_augmentation(
    probability: float, seed: int, position: Tensor, step: int, variant: int = 0
) -> Augmentation:
    """Draw how images are changed.

    A higher probability keeps every change of a lower one.

    Args:
        probability: chance of each change, in [0, 1]; half of it for the flip upside down. Where it
            is above 0, half of the images are mirrored.
        seed: the run's seed.
        position: (B,) int64 positions in the global batch, on the CPU.
        step: training step.
        variant: as in ``noise.random_bits``.
    """
    key = (position, step)
    u = uniforms(seed, Stream.AUGMENT, *key, 9, variant).double()
    n = normals(seed, Stream.AUGMENT_SIZE, *key, (4,), variant).double()
    is_on = u < probability
    is_aslant = u[:, 8] < 0.5
    return composed(
        u[:, 0] < 0.5 * min(_X_FLIP_TIMES * probability, 1.0),
        u[:, 1] < 0.5 * probability,
        torch.where(is_on[:, 2], n[:, 0], 0.0),
        torch.where(is_on[:, 3], _angle(u[:, 6]), 0.0),
        torch.where(is_on[:, 4], n[:, 1], 0.0),
        torch.where(is_aslant, _angle(u[:, 7]), 0.0),
        torch.where(is_on[:, 5:6], n[:, 2:], 0.0),
    )


def composed(
    flip_x: Tensor,
    flip_y: Tensor,
    scale: Tensor,
    turn: Tensor,
    stretch: Tensor,
    direction: Tensor,
    shift: Tensor,
) -> Augmentation:
    """The changes one after the other, as the images see them.

    Args:
        flip_x: (B,) bool, mirrored left to right.
        flip_y: (B,) bool, mirrored top to bottom.
        scale: (B,), larger by 2^(0.2·scale).
        turn: (B,), turned counter-clockwise by an angle in radians.
        stretch: (B,), longer by 2^(0.2·stretch) along ``direction``, and shorter so across it.
        direction: (B,), an angle in radians, counter-clockwise from the x-axis.
        shift: (B, 2), moved right and down by so many eighths of the side.
    """
    labels = (
        flip_x.double(), flip_y.double(), scale, turn.cos() - 1.0, turn.sin(),
        stretch * direction.cos(), stretch * direction.sin(), *shift.unbind(1),
    )  # fmt: skip
    # Places go the way back, so the last change comes first to them.
    back = _zoom(-scale, -scale) @ _rotation(turn)
    back = back @ _rotation(-direction) @ _zoom(-stretch, stretch) @ _rotation(direction)
    origin = torch.cat((back, -_SHIFT_STD * back @ shift[:, :, None]), dim=2)
    return Augmentation(flip_x, flip_y, origin, torch.stack(labels, dim=1))


def augmented(images: Tensor, augmentation: Augmentation) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, H) changed so, and what the network is told of it, (B, 9).

    Images that are not moved keep their values. Of others a filter may lead a little out of the
    images' range, as in the public code. Both are on the images' device and in their dtype.
    """
    labels = _sent(augmentation.labels.to(images.dtype), images.device)
    for which, axis in ((augmentation.flip_x, 3), (augmentation.flip_y, 2)):
        is_flipped = _sent(which, images.device)[:, None, None, None]
        images = torch.where(is_flipped, images.flip(axis), images)
    moved = augmentation.is_moved.nonzero()[:, 0]
    if not len(moved):
        return images, labels
    at = _sent(moved, images.device)
    return images.index_put((at,), _moved(images[at], augmentation.origin[moved])), labels


def told_changes(network: Forward, labels: Tensor | None) -> Forward:
    """A network that is told how its images were changed, (B, 9); None: the network as it is.

    So a network that knows no augmentation can be asked where there is none.
    """
    return network if labels is None else functools.partial(network, augment_labels=labels)


def _angle(u: Tensor) -> Tensor:
    """Uniforms in [0, 1) as angles in [-π, π)."""
    return (2.0 * u - 1.0) * math.pi


def _rotation(angle: Tensor) -> Tensor:
    """(B, 2, 2); with y down, places turn clockwise."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((cos, -sin, sin, cos), dim=1).view(-1, 2, 2)


def _zoom(x: Tensor, y: Tensor) -> Tensor:
    """(B, 2, 2); both axes become longer by 2^(0.2·x) and 2^(0.2·y)."""
    # Not by exp2: in float64 its last bit depends on how many numbers it is given at once.
    return torch.diag_embed(torch.exp(_ZOOM_STD * math.log(2.0) * torch.stack((x, y), dim=1)))


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device, without waiting for it."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def _moved(images: Tensor, origin: Tensor) -> Tensor:
    """Images (B, C, H, H), doubled, looked up at the places that they come from, and halved.

    Products with fixed matrices and no convolutions: a GPU rounds the inputs of those to 10 bits.

    Args:
        images: to be moved.
        origin: as of ``Augmentation``.
    """
    side = images.shape[-1]
    double, halve = _filters(side, images.dtype, images.device)
    wide = double @ images @ double.mT
    # Both grids count from -1 to 1: over the doubled image, which shows three sides less two
    # pixels, and over the one before it is halved, which the filter needs a little wider.
    span, reach = 3 * (side - 1), side - 1 + _REACH
    scale = torch.tensor([reach / span, reach / span, 2.0 * side / span], dtype=origin.dtype)
    theta = _sent((origin * scale).to(images.dtype), images.device)
    shape = [*images.shape[:2], halve.shape[1], halve.shape[1]]
    grid = F.affine_grid(theta, shape, align_corners=True)
    found = F.grid_sample(wide, grid, padding_mode="reflection", align_corners=True)
    return halve @ found @ halve.mT


@functools.lru_cache(maxsize=4)
def _filters(side: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The matrices that double an axis and halve it again; one after the other changes nothing.

    The first, (6·side − 5, side), gives values at every half pixel of three images side by side:
    the image and its mirror images, which share its outermost pixels. The second, (side,
    2·side + 2·_REACH − 1), takes those of the image and ``_REACH`` more on both sides.
    """
    taps = torch.tensor(_SYM6, dtype=torch.float64)
    place = torch.arange(-2 * (side - 1), 4 * (side - 1) + 1)[:, None]
    twice = place + _CENTRE - torch.arange(len(taps))
    double = torch.zeros(len(place), side, dtype=torch.float64)
    row, tap = (twice % 2 == 0).nonzero(as_tuple=True)
    pixel = twice[row, tap] // 2 % (2 * (side - 1))
    pixel = torch.minimum(pixel, 2 * (side - 1) - pixel)
    double.index_put_((row, pixel), math.sqrt(2.0) * taps[tap], accumulate=True)
    halve = torch.zeros(side, 2 * (side - 1) + 2 * _REACH + 1, dtype=torch.float64)
    for pixel_number in range(side):
        first = 2 * pixel_number + _REACH - _CENTRE
        halve[pixel_number, first : first + len(taps)] = math.sqrt(0.5) * taps
    return double.to(device, dtype), halve.to(device, dtype)
