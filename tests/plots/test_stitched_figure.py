import dataclasses

import numpy as np
import pytest
from matplotlib.colors import same_color

from benchmark.analysis.over_seeds import over_seeds
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame
from plots.build import drawable
from plots.figures.stitched import figure, stitched_rows

pytestmark = pytest.mark.usefixtures("paper")
TAUS = (0.1, 0.2, 0.4, 0.6, 0.8)
NET = "FD-EffNet-Lite0-64px@256"


def rows_of(make, arms=("B", "C", "CS", "CR"), seeds=(0,), steps=(281, 1500), net=NET):
    rows = []
    for arm in arms:
        rank = ("B", "C", "CS", "CR").index(arm)
        for seed in seeds:
            for step in steps:
                for tau in TAUS:
                    late = 60 + 4 * rank * (1 - tau) + 90 * (1500 - step) / 1500 * (1 - tau) + seed
                    early = 60 + 3 * rank * tau + 200 * (1500 - step) / 1500 * tau + seed
                    for kind, value in (("above", late), ("below", early)):
                        full = arm == "B" or step == 1500 or (kind == "above" and tau >= 0.6)
                        rows.append(
                            make.row(arm=arm, seed=seed, step=step, level=tau, value=value,
                                     metric=f"stitched-{kind}/{net}", full_range=full)
                        )  # fmt: skip
    return rows


def test_rows_are_of_fid_where_there_is_one(make):
    both = rows_of(make) + rows_of(make, net="FID@256")
    assert set(stitched_rows(to_frame(both))["metric"]) == {
        "stitched-above/FID@256", "stitched-below/FID@256"
    }  # fmt: skip
    plain = [*rows_of(make), make.row()]
    metrics = set(stitched_rows(to_frame(plain))["metric"])
    assert metrics == {f"stitched-above/{NET}", f"stitched-below/{NET}"}


def test_panels_are_the_arm_above_and_below(make):
    frame = to_frame(rows_of(make, seeds=(0, 1, 2)))
    axes = figure(frame).axes
    assert [ax.get_ylabel() for ax in axes] == [
        f"{NET}\narm above τ, finisher below", f"{NET}\nfinisher above τ, arm below"
    ]  # fmt: skip
    for ax, kind in zip(axes, ("above", "below"), strict=True):
        rows = frame[(frame["metric"] == f"stitched-{kind}/{NET}") & (frame["arm"] == "CS")]
        wanted = over_seeds(rows, ("step", "level"))
        lines = [
            line
            for line in ax.get_lines()
            if same_color(line.get_color(), "#D55E00") and len(line.get_xdata()) == len(TAUS)
        ]
        dots = [line for line in lines if line.get_linestyle() == "None"]
        early, late = (line for line in lines if line not in dots)
        for line, step in ((early, 281), (late, 1500)):
            points = wanted[wanted["step"] == step]
            np.testing.assert_allclose(line.get_ydata(), points["mean"])
            assert np.asarray(line.get_xdata()).tolist() == list(TAUS)
        assert same_color(dots[-1].get_markerfacecolor(), "#D55E00")


@pytest.mark.parametrize("steps", [(281,), (281, 1500)])
def test_points_where_the_arm_is_untrained_are_hollow(make, steps):
    above, below = figure(to_frame(rows_of(make, arms=("B", "C"), steps=steps))).axes
    for ax, taus in ((above, [0.1, 0.2, 0.4]), (below, list(TAUS))):
        hollow = [
            line
            for line in ax.get_lines()
            if same_color(line.get_markerfacecolor(), "white") and len(line.get_xdata())
        ]
        assert [np.asarray(line.get_xdata()).tolist() for line in hollow] == [taus]


def test_note_names_sampler_smoke_and_steps(make):
    note = figure(to_frame(rows_of(make))).get_supxlabel()
    for part in (
        "step 1500, light: earlier ones", "ddim-eta1/chunk64, 50 steps", "smoke: n < 2048",
        "n=1 seed", "hollow",
        "exploratory",
    ):  # fmt: skip
        assert part in note
    many = [dataclasses.replace(row, n_generated=10_000) for row in rows_of(make, steps=(1500,))]
    note = figure(to_frame(many)).get_supxlabel()
    assert "smoke" not in note and "light" not in note


def test_at_a_single_level_arms_lie_along_y_at_their_last_step(make):
    rows = [row for row in rows_of(make, seeds=(0, 1, 2)) if row.level == 0.4]
    frame = to_frame(rows)
    result = figure(frame)
    assert [ax.get_xlabel() for ax in result.axes] == [
        f"{NET}\narm above τ, finisher below", f"{NET}\nfinisher above τ, arm below"
    ]  # fmt: skip
    for ax, kind in zip(result.axes, ("above", "below"), strict=True):
        assert [label.get_text() for label in ax.get_yticklabels()] == ["B", "C", "CS", "CR"]
        last = frame[(frame["metric"] == f"stitched-{kind}/{NET}") & (frame["step"] == 1500)]
        wanted = over_seeds(last, ("arm",))["mean"]
        means = [bar.lines[0].get_xdata()[0] for bar in ax.containers]
        assert sorted(means) == pytest.approx(sorted(wanted))
    note = result.get_supxlabel()
    assert "τ = 0.4" in note and "each arm's last step" in note and "n=3 seeds" in note


def test_build_draws_it_where_there_are_such_rows(make):
    assert set(drawable(StudyAnalysis(to_frame(rows_of(make))))) == {"stitched"}
