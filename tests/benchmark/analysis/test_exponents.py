"""Exponents of power laws that are known."""

import dataclasses

import numpy as np
import pytest
from made_up_row import ROW

from benchmark.analysis.exponents import SweptValues, exponents, slopes, swept_values
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.reporting.tables.exponents import exponents as table_of
from benchmark.rows.frames import to_frame
from benchmark.rows.metric_names import LOW_EXCESS
from benchmark.study.measure import PrimaryMetric
from benchmark.study.terms import Terms

X = (10.0, 100.0, 1000.0)
POWERS = {"B": 0.0, "C": -1.0}


def name_of(arm, x):
    return arm if x == X[1] else f"{arm} steps={x:g}"


SWEEPS = [
    {
        "setting": "training.steps",
        "points": [
            {"value": x, "arms": {arm: name_of(arm, x) for arm in POWERS},
             "made": [] if x == X[1] else list(POWERS)}
            for x in X
        ],
    }
]  # fmt: skip


def frame(seeds=6, spread=0.01):
    draws = np.random.default_rng(1)
    return to_frame(
        dataclasses.replace(ROW, arm=name_of(arm, x), seed=seed, metric=LOW_EXCESS, n_generated=0,
                            value=float(x**power * np.exp(spread * draws.normal())))
        for seed in range(seeds)
        for arm, power in POWERS.items()
        for x in X
    )  # fmt: skip


def found():
    return {
        (one.setting, one.arm): one for one in exponents(swept_values(frame(), SWEEPS, LOW_EXCESS))
    }


def test_slopes_of_exact_power_laws():
    x = np.array([1.0, 3.0, 20.0])
    y = np.stack([5 * x**-0.5, x**2])
    assert slopes(x, y) == pytest.approx([-0.5, 2.0], abs=1e-12)


def test_a_constant_error_is_told_from_one_that_falls():
    b, c, difference = (found()["training.steps", arm] for arm in ("B", "C", "C − B"))
    assert (b.growth, c.growth, difference.growth) == ("constant", "falls", "falls")
    assert b.low < 0 < b.high and c.low < -1 < c.high
    assert difference.estimate == pytest.approx(c.estimate - b.estimate)
    assert (c.seeds, c.points) == (6, 3)


def test_seeds_without_all_points_and_values_of_0_are_left_out():
    rows = frame()
    rows.loc[(rows["seed"] == 0) & (rows["arm"] == "B steps=10"), "value"] = 0.0
    (of_b,) = [one for one in swept_values(rows, SWEEPS, LOW_EXCESS) if one.arm == "B"]
    assert len(of_b.y) == 5


def test_two_points_are_no_power_law():
    rows = frame()
    rows = rows[rows["arm"] != "C steps=10"]
    assert [one.arm for one in swept_values(rows, SWEEPS, LOW_EXCESS)] == ["B"]


def power_law(arm, seeds, x=X, shift=0.0):
    """Each seed's exponent is a hundredth of the seed's number, and ``shift``."""
    powers = np.array(seeds) / 100 + shift
    return SweptValues("training.steps", arm, seeds, np.array(x), np.array(x) ** powers[:, None])


def test_a_difference_is_taken_within_seeds():
    found = exponents([power_law("B", (0, 40, 80)), power_law("C", (40, 80, 120), shift=0.3)])
    (difference,) = [one for one in found if one.arm == "C − B"]
    assert difference.estimate == pytest.approx(0.3) and difference.seeds == 2


@pytest.mark.parametrize(("seeds", "x"), [((3, 4), X), ((1, 2), (10.0, 100.0, 2000.0))])
def test_arms_without_common_seeds_or_with_other_points_have_no_difference(seeds, x):
    found = exponents([power_law("B", (1, 2)), power_law("C", seeds, x)])
    assert [one.arm for one in found] == ["B", "C"]


@pytest.mark.parametrize(
    ("shift", "growth"),
    [(-0.09, "undecided"), (0.09, "undecided"), (-0.2, "falls"), (0.2, "rises")],
)
def test_a_small_exponent_is_no_growth_though_its_sign_is_sure(shift, growth):
    # The interval is ±.025: around .09 it lies on one side of 0, and not within ±.1.
    (found,) = exponents([power_law("B", (-3, -2, -1, 1, 2, 3), shift=shift)])
    assert (found.low > 0 or found.high < 0) and found.growth == growth


def test_the_table_names_setting_and_growth():
    middle = frame()
    study = StudyAnalysis(
        middle[middle["arm"].isin(POWERS)].reset_index(drop=True),
        Terms(endpoint=PrimaryMetric(LOW_EXCESS)), {"sweeps": SWEEPS}, swept=middle,
    )  # fmt: skip
    (table,), numbers = table_of(study)
    assert [line[-1] for line in table.body] == [
        "does not change", "falls", "below",
    ]  # fmt: skip
    assert list(numbers["arm"]) == ["B", "C", "C − B"]
    assert table_of(dataclasses.replace(study, swept=None))[0] == []
