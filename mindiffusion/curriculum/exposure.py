"""Exposure: how much a time density trains each noise level, relative to training all alike."""

import numpy as np

from mindiffusion.curriculum.noise_time import NoiseTimeDensity

NUM_BINS = 20


def relative_exposure(
    density: NoiseTimeDensity, num_levels: int | None
) -> list[tuple[float, float]]:
    """Upper edge of each bin of noise time with the density there relative to uniform.

    Args:
        density: of a stage.
        num_levels: of the process, see ``NoiseTimeDensity.share_up_to``.
    """
    edges = np.arange(NUM_BINS + 1) / NUM_BINS
    # A bin without a level would show differences of the sum's rounding, of 1e-16.
    values = np.round(np.diff(density.share_up_to(edges, num_levels)) * NUM_BINS, 9)
    return list(zip(np.round(edges[1:], 9).tolist(), values.tolist(), strict=True))
