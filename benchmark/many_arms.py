"""The largest of many t statistics that share a control, by quadrature instead of random points.

With k differences to one control, T_i = (Z_i − Z_0) / (√2 S): given Z_0 and S they are independent,
so that a probability of all is an integral over two numbers, however many there are.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr

_NODES = 128
_WIDEST = 9.0
"""Standard deviations beyond which a normal has less than 1e-18."""


def tail_of_largest(t: float, k: int, df: int) -> float:
    """P(max |T| > t) of k Student t's with correlation ½, good to 1e-5.

    Args:
        t: bound, ≥ 0.
        k: how many, ≥ 1.
        df: degrees of freedom of their common scale, ≥ 1.

    Source: Dunnett (1955), eq. 6; nodes by Gauss and Legendre.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    centre = _WIDEST * nodes
    density = _WIDEST * weights * stats.norm.pdf(centre)
    share = (nodes + 1) / 2
    scale = np.sqrt(stats.chi2.ppf(share, df) / df)
    bound = np.sqrt(2) * min(t, 1e9) * scale[:, None]
    inside: NDArray[np.float64] = ndtr(centre + bound) - ndtr(centre - bound)
    # 1 − inside^k, without losing what is small.
    outside = -np.expm1(k * np.log(np.clip(inside, 1e-300, 1.0)))
    return float(weights / 2 @ (outside @ density))
