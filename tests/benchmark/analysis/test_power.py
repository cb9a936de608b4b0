import numpy as np
import pytest
from scipy import stats

from benchmark.analysis.power import minimum_detectable_effect, power, seeds_needed

# Three hypotheses, by Holm's strictest level.
ALPHA = 0.05 / 3


@pytest.mark.parametrize(("effect", "seeds"), [(1, 14), (1.5, 8), (2, 6), (3, 5)])
def test_seeds_needed_are_those_of_methods(effect, seeds):
    assert seeds_needed(effect, 1.0, ALPHA) == seeds
    assert seeds_needed(-0.01 * effect, 0.01, ALPHA) == seeds


def test_power_is_the_share_of_simulated_tests_that_succeed():
    rng = np.random.default_rng(0)
    p = stats.ttest_1samp(rng.normal(1.2, 1, size=(20_000, 6)), 0, axis=1).pvalue
    assert power(1.2, 1.0, 6, alpha=0.05) == pytest.approx(np.mean(p < 0.05), abs=0.01)


def test_power_grows_with_seeds_and_effect():
    assert (np.diff(power(0.8, 1.0, np.arange(2, 60), ALPHA)) > 0).all()
    assert power(2.0, 1.0, 5, ALPHA) > power(1.0, 1.0, 5, ALPHA)


@pytest.mark.parametrize("n", [2, 3, 8, 50])
def test_minimum_detectable_effect_has_the_power_it_says(n):
    effect = minimum_detectable_effect(0.02, n, ALPHA)
    assert power(effect, 0.02, n, ALPHA) == pytest.approx(0.8, abs=1e-6)


def test_seeds_needed_gives_up_on_effects_near_zero():
    assert seeds_needed(0.001, 1.0, ALPHA) is None
    assert seeds_needed(0.5, 0.0, ALPHA) == 2


def test_two_seeds_see_what_is_enormous_beside_its_spread():
    assert seeds_needed(300.0, 1e-300, ALPHA) == 2
