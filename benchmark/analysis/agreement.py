"""Do the distance and the held-out error say the same? Rank correlations of the two.

A distance is of pictures, a held-out ε-MSE of predictions: a young network may improve in one and
not in the other, and then neither alone is an answer.
"""

import numpy as np
import pandas as pd
from scipy import stats

from benchmark.analysis.endpoint import Endpoint
from benchmark.analysis.findings import HELD_OUT
from benchmark.analysis.learning import curve_rows

AGREEMENT = 0.7
"""Rank correlation from which the two are said to agree."""
FEWEST = 5
"""Points below which a rank correlation says nothing."""
_POINT = ["arm", "seed", "step"]


def over_milestones(frame: pd.DataFrame, endpoint: Endpoint) -> tuple[float, int] | None:
    """Spearman's rank correlation over all milestones of all cells, and their number.

    Milestones before an arm has trained on all noise levels are out.

    Args:
        frame: the frame of a study's rows.
        endpoint: its primary metric, made of images.

    Returns:
        None with fewer than ``FEWEST`` points, or without any spread.
    """
    distance = curve_rows(frame, endpoint)
    error = frame[frame["metric"] == HELD_OUT]
    error = error[error["weights"] == endpoint.condition["weights"]]
    means = [part[part["full_range"]].groupby(_POINT)["value"].mean() for part in (distance, error)]
    both = [endpoint.scale.turned(means[0]), means[1]]
    return _correlation(pd.concat(both, axis=1, join="inner").to_numpy())


def over_cells(endpoint: Endpoint, held_out: Endpoint) -> tuple[float, int] | None:
    """The same of two measures over the cells at their last step; result as above."""
    both = [part.stack() for part in (endpoint.values, held_out.values)]
    return _correlation(pd.concat(both, axis=1, join="inner").dropna().to_numpy())


def _correlation(points: np.ndarray) -> tuple[float, int] | None:
    if len(points) < FEWEST or (points == points[0]).all(axis=0).any():
        return None
    return float(stats.spearmanr(points).statistic), len(points)
