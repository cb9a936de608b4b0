import dataclasses
import itertools

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame
from benchmark.study.terms import terms_of
from plots.figures.specifications import MOST_WAYS, figure, has_rows, panel

pytestmark = pytest.mark.usefixtures("paper")


@pytest.fixture(scope="module")
def study(wide):
    return StudyAnalysis(wide)


def test_every_way_has_its_line_at_its_estimate_and_interval(study):
    ways = [one for one in study.specifications if one.key == "H2"]
    assert len(ways) > 2
    axes = panel(ways, study.scale, Figure().subplots())
    points = [line for line in axes.get_lines() if len(line.get_xdata()) == 1]
    assert [line.get_xdata()[0] for line in points] == [one.estimate for one in ways]
    assert [line.get_ydata()[0] for line in points] == list(range(len(ways)))
    # The primary endpoint is told apart by shape and colour, and has the zone alone.
    shapes = [line.get_marker() for line in points]
    assert shapes == ["D", *["o"] * (len(ways) - 1)]
    (zone,) = axes.collections
    assert zone.get_datalim(axes.transData).y1 < 1


def test_panels_are_the_tested_hypotheses(study):
    drawn = figure(study)
    contrasts = {one.contrast for one in study.specifications}
    titles = {ax.get_title().rpartition(" (")[0] for ax in drawn.axes}
    assert titles == contrasts and contrasts


def test_a_way_that_lacks_an_arm_leaves_its_line_open(study):
    """KD was not measured for density*: no value there, and no error."""
    first = study.specifications[0]
    ways = [first, dataclasses.replace(first, way="x", estimate=float("nan"), seeds=0), first]
    axes = panel(ways, study.scale, Figure().subplots())
    points = [line for line in axes.get_lines() if len(line.get_xdata()) == 1]
    assert [line.get_ydata()[0] for line in points] == [0, 2]


def test_one_way_has_no_figure(make):
    rows = [
        make.row(arm=arm, seed=seed, value=value + seed)
        for seed in range(3)
        for arm, value in (("B", 100.0), ("C", 90.0))
    ]
    one = StudyAnalysis(to_frame(rows))
    assert one.specifications and not has_rows(one)


def test_lines_stay_beside_their_labels_where_a_way_lacks_an_arm(make):
    """A net without B says nothing of C − B, and its line stays open there."""
    rows = [
        make.row(arm=arm, seed=seed, value=value + seed, metric=metric)
        for metric, arms in (
            ("FD-Net@256", ("B", "C", "density*")),
            ("FD-Aaa@256", ("C", "density*")),
            ("FD-Zzz@256", ("B", "C", "density*")),
        )
        for arm, value in (("B", 100.0), ("C", 90.0), ("density*", 95.0))
        if arm in arms
        for seed in range(3)
    ]
    drawn = figure(StudyAnalysis(to_frame(rows)))
    labels = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert labels == ["FD-Net@256", "FD-Aaa@256", "FD-Zzz@256"]
    places = {
        ax.get_title(): [
            line.get_ydata()[0] for line in ax.get_lines() if len(line.get_xdata()) == 1
        ]
        for ax in drawn.axes
    }
    assert places == {"C − density* (H1)": [0, 1, 2], "C − B (H2)": [0, 2]}


def test_a_figure_says_how_many_ways_it_leaves_out(make):
    rows = [
        make.row(arm=arm, seed=seed, value=value + seed, metric=f"FD-Net{k:02}@256")
        for k in range(MOST_WAYS + 2)
        for arm, value in (("B", 100.0), ("C", 90.0))
        for seed in range(2)
    ]
    drawn = figure(StudyAnalysis(to_frame(rows)))
    said = " ".join(text.get_text() for text in drawn.findobj(Text))
    assert f"{MOST_WAYS} of {MOST_WAYS + 2} ways shown" in said


def test_names_of_ticks_do_not_touch_where_four_panels_share_a_page(make):
    """An interval from -11 % to +40 % has three ticks, and no room for all their names."""
    ratios = {
        "B": (1, 1, 1, 1),
        "C": (0.94, 1.06, 1.2, 1.3),
        "CS": (1, 1.1, 1.2, 1),
        "CR": (1, 1, 1.1, 1),
    }
    rows = [
        make.row(arm=arm, seed=seed, value=100 * ratio, metric=metric)
        for arm, of_seeds in ratios.items()
        for seed, ratio in enumerate(of_seeds)
        for metric in ("FD-EffNet-Lite0-224px@256", "KD-EffNet-Lite0-224px@1024, 50 steps")
    ]
    contrasts = ("C - B", "CS - B", "CR - B", "CS - C")
    hypotheses = [
        {"name": f"H{number}", "contrast": contrast, "title": "t", "question": "q"}
        for number, contrast in enumerate(contrasts, 1)
    ]
    drawn = figure(StudyAnalysis(to_frame(rows), terms_of({"hypotheses": hypotheses})))
    drawn.draw_without_rendering()
    assert len(drawn.axes) == len(contrasts)
    ticks = [len(ax.get_xticks()) for ax in drawn.axes]
    assert max(ticks) > 2
    for ax in drawn.axes:
        named = [label for label in ax.get_xticklabels() if label.get_visible()]
        boxes = [label.get_window_extent() for label in named]
        assert len(named) > 1 or len(ax.get_xticks()) == 1
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))
