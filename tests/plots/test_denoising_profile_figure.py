import dataclasses
import math

import numpy as np
import pytest

from benchmark.rows.frames import to_frame
from plots.figures.denoising_profile import figure, last_profile, ratio_to_baseline

pytestmark = pytest.mark.usefixtures("paper")


def test_profile_is_of_the_last_milestone_and_the_ema(make):
    rows = make.rows()
    rows += [dataclasses.replace(row, weights="raw") for row in rows if row.metric == "eps-MSE"]
    profile = last_profile(to_frame(rows))
    assert set(profile["step"]) == {1500}
    assert set(profile["weights"]) == {"ema0.995"}
    assert len(profile) == 4 * 20


def test_ratio_pairs_arms_with_the_baseline_of_their_own_seed(make):
    values = {("B", 0): 2.0, ("B", 1): 4.0, ("C", 0): 3.0, ("C", 1): 4.0, ("C", 2): 9.0}
    rows = [
        make.row(arm=arm, seed=seed, metric="eps-MSE", level=0.5, value=value)
        for (arm, seed), value in values.items()
    ]
    ratio = ratio_to_baseline(to_frame(rows))
    found = {(row.arm, row.seed): math.exp(row.value) for row in ratio.itertuples()}
    assert found == pytest.approx({("C", 0): 1.5, ("C", 1): 1.0})


def test_figure_draws_profiles_and_ratios_of_all_arms(make):
    frame = to_frame(make.rows())
    upper, lower = figure(frame).axes
    assert [line.get_label() for line in upper.get_lines()] == ["B", "C", "CS", "CR"]
    baseline, other = (np.asarray(line.get_ydata()) for line in upper.get_lines()[:2])
    ratio = next(line for line in lower.get_lines() if line.get_label() == "C").get_ydata()
    assert np.allclose(np.exp(ratio), other / baseline, rtol=1e-12)
    assert upper.get_yscale() == "log"
    assert lower.get_ylabel() == "against B"


def test_without_a_baseline_there_is_no_ratio(make):
    assert len(figure(to_frame(make.rows(arms=("C", "CS")))).axes) == 1


def test_note_names_step_images_and_seeds(make):
    note = figure(to_frame(make.rows(seeds=(0, 1)))).get_supxlabel()
    for part in ("step 1,500", "ema0.995 weights", "512 held-out images", "n=2 seeds"):
        assert part in note


def test_a_shorter_run_is_compared_at_its_own_end(wide):
    ratio = ratio_to_baseline(last_profile(wide))
    short = ratio[ratio["arm"] == "B-80%"]
    assert len(short) == 8 * 10
    lowest = short[short["level"] == 0.05]["value"].mean()
    # Planted: 6 % at no noise, falling to none at pure noise.
    assert lowest == pytest.approx(0.06 * 0.95, abs=0.01)
