import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from benchmark.analysis.endpoint import primary_endpoint
from benchmark.analysis.scales import USUAL_SCALE
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame
from plots.figures.order_exposure import (
    DODGE,
    effects,
    figure,
    has_rows,
    interaction,
    taken_apart,
    without_blocks,
)
from plots.style import arm_style

pytestmark = pytest.mark.usefixtures("paper")


def test_what_the_arms_of_a_seed_share_is_taken_out():
    shared = np.array([0.0, 3.0, -7.0])
    own = {"B": 0.0, "density*": -0.05, "C": -0.08, "C-flat": 0.01}
    values = pd.DataFrame({arm: 5 + effect + shared for arm, effect in own.items()})
    left = without_blocks(values.assign(other=9.0), "C")
    assert list(left.columns) == ["B", "C-flat", "density*", "C"]
    for arm, effect in own.items():
        assert left[arm].tolist() == pytest.approx([effect] * 3)


def test_a_seed_without_one_of_the_arms_is_left_out():
    values = pd.DataFrame({"B": [1.0, 1.2], "density*": [0.9, 1.1], "C": [0.8, math.nan]})
    assert without_blocks(values, "C")["C"].tolist() == pytest.approx([-0.2])


def test_lines_join_the_arms_with_and_without_the_order(wide):
    values = without_blocks(primary_endpoint(wide).values, "C")
    ax = Figure().subplots()
    interaction(values, "C", USUAL_SCALE, ax)
    handles, labels = ax.get_legend_handles_labels()
    assert labels == ["no early order", "the curriculum's order"]
    colours = [arm_style(arm, [arm])["color"] for arm in ("B", "C")]
    assert all(same_color(h.get_color(), c) for h, c in zip(handles, colours, strict=True))
    plain, ordered = (
        next(x for x in ax.get_lines() if len(x.get_ydata()) and same_color(x.get_color(), colour))
        for colour in colours
    )
    means = values.mean()
    assert plain.get_ydata() == pytest.approx([means["B"], means["density*"]])
    assert ordered.get_ydata() == pytest.approx([means["C-flat"], means["C"]])
    assert means["B"] == pytest.approx(0)
    assert {text.get_text() for text in ax.texts} == {"B", "density*", "C-flat", "C"}


def test_every_seed_stands_at_the_mean_of_its_arm(wide):
    values = without_blocks(primary_endpoint(wide).values, "C")
    ax = interaction(values, "C", USUAL_SCALE, Figure().subplots())
    points = sorted(tuple(at) for strip in ax.collections for at in strip.get_offsets().tolist())
    places = {"B": -DODGE / 2, "C-flat": DODGE / 2, "density*": 1 - DODGE / 2, "C": 1 + DODGE / 2}
    expected = sorted((x, value) for arm, x in places.items() for value in values[arm])
    assert np.array(points) == pytest.approx(np.array(expected))
    centres = [x for line in ax.get_lines() if line.get_marker() in "os" for x in line.get_xdata()]
    assert sorted(centres) == pytest.approx(sorted(places.values()))


def test_effects_are_those_of_the_findings(wide):
    found = {finding.contrast: finding for finding in StudyAnalysis(wide).findings}
    ax = effects(found, "C", USUAL_SCALE, Figure().subplots())
    drawn = [bar[0].get_xdata()[0] for bar in ax.containers]
    names = ("C − B", "C − density*", "density* − B", "C-flat − B")
    assert drawn == pytest.approx([found[name].estimate for name in names])
    assert drawn[0] == pytest.approx(drawn[1] + drawn[2])


def test_with_static_the_total_comes_apart_into_three(wide):
    static = wide[wide["arm"] == "density*"].assign(arm="static")
    is_distance = static["metric"].str.startswith(("FID", "FD-"))
    static.loc[is_distance, "value"] *= 1.1
    found = {
        finding.contrast: finding for finding in StudyAnalysis(pd.concat([wide, static])).findings
    }
    ax = effects(found, "C", USUAL_SCALE, Figure().subplots())
    drawn = [bar[0].get_xdata()[0] for bar in ax.containers]
    labels = [label.get_text().split("\n")[0] for label in ax.get_yticklabels()]
    assert labels == ["total", "exposure", "early order", "last stage", "order alone"]
    assert drawn[0] == pytest.approx(sum(drawn[1:4]))
    assert drawn[3] == pytest.approx(-math.log(1.1))


def test_needs_all_of_plain_training_control_and_curriculum(make, wide):
    rows = [make.row(arm=arm) for arm in ("B", "C")]
    assert not has_rows(StudyAnalysis(to_frame(rows)))
    assert has_rows(StudyAnalysis(to_frame([*rows, make.row(arm="density*")])))


def test_an_arm_of_ones_own_is_taken_apart_as_c_is(make):
    cells = [(arm, seed) for arm in ("B", "mine", "mine-density*") for seed in range(3)]
    study = StudyAnalysis(to_frame([make.row(arm=arm, seed=seed) for arm, seed in cells]))
    assert taken_apart(study.endpoint.values.columns) == "mine" and has_rows(study)
    left, right = figure(study).axes
    assert {text.get_text() for text in left.texts} == {"B", "mine", "mine-density*"}
    labels = [label.get_text().split("\n") for label in right.get_yticklabels()]
    assert ["early order", "mine − mine-density*"] in labels
