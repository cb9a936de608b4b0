import math

import pytest
from matplotlib.figure import Figure

from benchmark.analysis.scales import USUAL_SCALE
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame
from plots.figures.cost_vs_quality import at_the_end, by_seconds, cost_rows, end_costs, figure
from plots.style import arm_styles

pytestmark = pytest.mark.usefixtures("paper")


def test_costs_and_distances_are_against_the_baseline_of_the_same_seed(make):
    # Seconds and distance by arm and seed; a shorter run ends at its own last step.
    cells = {("B", 0): (100, 50.0), ("B", 1): (200, 60.0), ("B-80%", 0): (80, 55.0),
             ("B-80%", 1): (160, 66.0), ("C", 5): (1, 1.0)}  # fmt: skip
    rows = [
        make.row(arm=arm, seed=seed, value=value, train_seconds=float(seconds),
                 step=1200 if "80" in arm else 1500, total_steps=1200 if "80" in arm else 1500)
        for (arm, seed), (seconds, value) in cells.items()
    ]  # fmt: skip
    ends = end_costs(StudyAnalysis(to_frame(rows)))
    assert ends.loc["B", ["cost", "quality"]].tolist() == [0, 0]
    assert ends.loc["B-80%", "cost"] == pytest.approx(math.log(0.8))
    assert ends.loc["B-80%", "quality"] == pytest.approx(math.log(1.1))
    assert ends.loc["B-80%", "seeds"] == 2
    assert "C" not in ends.index


def test_end_has_a_point_an_arm_with_its_interval(wide):
    ends = end_costs(StudyAnalysis(wide))
    ax = at_the_end(ends, USUAL_SCALE, arm_styles(wide), Figure().subplots())
    points = [tuple(float(x[0]) for x in bar[0].get_data()) for bar in ax.containers]
    assert points == [tuple(row) for row in ends[["cost", "quality"]].to_numpy()]
    assert dict(zip(ends.index, points, strict=True))["CS"][0] == pytest.approx(math.log(1.04))


def test_lines_follow_seconds_and_leave_hollow_milestones_out(wide):
    rows = cost_rows(wide)
    ax = by_seconds(rows, arm_styles(rows), Figure().subplots())
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert lines["B"].get_xdata().tolist() == pytest.approx([56.2, 150, 216, 258, 300])
    assert lines["CS"].get_xdata().tolist() == pytest.approx([224.64, 268.32, 312])
    assert set(rows["metric"]) == {"FD-EffNet-Lite0-64px@512"}


def test_without_a_baseline_the_runs_alone_are_drawn(make):
    drawn = figure(StudyAnalysis(to_frame([make.row(arm="C", step=750), make.row(arm="C")])))
    assert len(drawn.axes) == 1
    assert "on cpu" in drawn.get_supxlabel() and "n=1 seed" in drawn.get_supxlabel()
