"""From a density's own clock to the levels of a process, once, when a run is planned."""

from dataclasses import replace

import numpy as np

from mindiffusion.curriculum.density import (
    Average,
    Beta,
    Histogram,
    IndexDensity,
    Levels,
    LogSigmaNormal,
    SimpleDensity,
    TimeDensity,
    Window,
)


def to_index_clock(density: TimeDensity, beta1: float, beta2: float, n_T: int) -> IndexDensity:
    """The density over the levels of a linear schedule; one on the index clock stays as it is.

    A draw of ln σ trains the level whose ln σ is nearest: level t takes what lies between the
    midpoints to its neighbours, and the first and last one their tails too.

    Args:
        density: on any clock.
        beta1: β at t = 0, see ``schedules.linear_tables``.
        beta2: β at t = n_T.
        n_T: number of levels.
    """
    if isinstance(density, Average):
        shares = density.shares
        return Average(
            tuple(replace(s, density=_simple(s.density, beta1, beta2, n_T)) for s in shares)
        )
    return _simple(density, beta1, beta2, n_T)


def _simple(
    density: SimpleDensity, beta1: float, beta2: float, n_T: int
) -> Window | Histogram | Beta | Levels:
    if not isinstance(density, LogSigmaNormal):
        return density
    # Here, so that densities on the index clock never wait for torch.
    from mindiffusion.schedules import linear_tables

    alpha_bar = linear_tables(beta1, beta2, n_T).alpha_bar[1:].numpy()
    log_sigma = 0.5 * np.log((1.0 - alpha_bar) / alpha_bar)
    below = density.cdf((log_sigma[1:] + log_sigma[:-1]) / 2)
    return Levels(tuple(np.diff(below, prepend=0.0, append=1.0).tolist()))
