"""How fast the power of images falls with spatial frequency."""

import math

import numpy as np
from numpy.typing import NDArray

LOWEST = 2
"""Cycles a picture; of fewer the window says more than the images."""
FEWEST_RINGS = 3


def radial_power(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean power at whole frequencies: the images minus their mean, under a Hann window.

    Args:
        images: (n, S, S, 3) uint8, n ≥ 2.

    Returns:
        (S/2,): mean squared modulus of the Fourier coefficients whose frequency rounds to 0, 1 …
        cycles a picture, over images and colours; any unit.
    """
    side = images.shape[1]
    centred = images.astype(np.float64) - images.mean(axis=0)
    window = np.hanning(side + 2)[1:-1]
    power = np.zeros((side, side))
    for image in centred:
        windowed = image * window[:, None, None] * window[None, :, None]
        power += (np.abs(np.fft.fft2(windowed, axes=(0, 1))) ** 2).sum(axis=-1)
    cycles = np.fft.fftfreq(side, 1 / side)
    ring = np.rint(np.hypot(cycles[:, None], cycles[None, :])).astype(int).ravel()
    counts = np.bincount(ring)
    return (np.bincount(ring, weights=power.ravel()) / np.maximum(counts, 1))[: side // 2]


def spectrum_slope(images: NDArray[np.uint8]) -> float:
    """Slope of log power over log frequency, from 2 cycles a picture to the finest; NaN if none.

    Natural photographs have about −2 (Field 1987, "Relations between the statistics of natural
    images and the response properties of cortical cells").

    Args:
        images: (n, S, S, 3) uint8, n ≥ 2.
    """
    power = radial_power(images)[LOWEST:]
    if len(power) < FEWEST_RINGS or not (power > 0).all():
        return math.nan
    frequency = np.arange(LOWEST, LOWEST + len(power))
    return float(np.polyfit(np.log(frequency), np.log(power), 1)[0])
