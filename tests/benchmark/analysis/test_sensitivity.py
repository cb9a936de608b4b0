import numpy as np
import pandas as pd
import pytest

from benchmark.analysis.endpoint import Endpoint
from benchmark.analysis.power import power
from benchmark.analysis.scales import USUAL_SCALE
from benchmark.analysis.sensitivity import sensitivity

ALPHA = 0.05 / 3


def endpoint(**columns):
    values = pd.DataFrame(columns)
    rule = "each arm's last step, 400"
    return Endpoint("FD-Net@2048", USUAL_SCALE, {}, rule, values, False, 2, "exploratory")


def test_sensitivity_of_paired_arms_is_seen_in_spread_and_correlation():
    rng = np.random.default_rng(0)
    block = rng.normal(size=8)
    own = {arm: 0.01 * rng.normal(size=8) for arm in ("B", "C")}
    paired, loose = block + own["C"] - 0.3, rng.normal(size=8) - 9
    table = sensitivity(endpoint(B=block + own["B"], C=paired, loose=loose), ALPHA).set_index("arm")
    ratios = own["C"] - own["B"] - 0.3
    assert table.index.tolist() == ["C", "loose"]
    assert table.loc["C", "mean"] == pytest.approx(ratios.mean())
    assert table.loc["C", "sd"] == pytest.approx(ratios.std(ddof=1))
    assert table.loc["C", "interquartile_mean"] == pytest.approx(np.sort(ratios)[2:6].mean())
    assert table.loc["C", "correlation"] > 0.99 > abs(table.loc["loose", "correlation"])
    effect = table.loc["C", "minimum_detectable_effect"]
    assert power(effect, ratios.std(ddof=1), 8, ALPHA) == pytest.approx(0.8, abs=1e-6)
    assert table.loc["loose", "probability_of_improvement"] == 1.0


def test_sensitivity_leaves_open_what_few_seeds_cannot_say():
    few = sensitivity(
        endpoint(B=[1.0, 2.0, 4.0], C=[1.5, np.nan, np.nan], D=[1.0, 2.5, 3.0]), ALPHA
    )
    few = few.set_index("arm")
    assert few["seeds"].tolist() == [1, 3]
    assert few.loc["C"].drop(["seeds", "mean"]).isna().all()
    assert few.loc["D"].isna().tolist() == [False, False, True, False, False, False, True]
    assert sensitivity(endpoint(C=[1.0, 2.0]), ALPHA).empty
