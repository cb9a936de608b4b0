import time

import numpy as np
import pytest
from scipy import stats

from benchmark.many_arms import tail_of_largest
from benchmark.statistics import MOST_BY_POINTS, dunnett, fit_blocks


@pytest.mark.parametrize(("k", "df"), [(1, 3), (4, 12), (12, 13)])
@pytest.mark.parametrize("t", [0.5, 2.0, 3.0])
def test_nodes_agree_with_random_points(k, df, t):
    correlation, bound = 0.5 * np.eye(k) + 0.5, np.full(k, t)
    inside = stats.multivariate_t.cdf(
        bound, shape=correlation, df=df, lower_limit=-bound, random_state=0
    )
    assert tail_of_largest(t, k, df) == pytest.approx(1 - inside, abs=1e-3)


def test_a_hundred_arms_take_no_minutes():
    start = time.perf_counter()
    values = np.random.default_rng(0).normal(size=(100, 2))
    values[1] += 50
    found = dunnett(fit_blocks(values), 0, np.random.default_rng(0))
    assert len(found.p) == 99 > MOST_BY_POINTS
    assert found.p[0] < 1e-6 < found.p[1:].min() and (found.low < found.estimate).all()
    assert time.perf_counter() - start < 60
