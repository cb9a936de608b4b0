import numpy as np
import pytest
from matplotlib.colors import same_color

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame
from plots.build import drawable
from plots.figures.learnable import figure, learnable_rows, relative_to_oracle
from plots.style import arm_style

pytestmark = pytest.mark.usefixtures("paper")
LEVELS = tuple((k + 0.5) / 20 for k in range(20))


def bounds(level):
    """ε-MSE of the mean predictor and of the linear oracle, for a spectrum that falls as 1/k²."""
    alpha_bar = np.exp(-(0.1 * level + 9.95 * level**2))
    spectrum = 40.0 / np.arange(1, 3073) ** 1.2
    signal = alpha_bar * spectrum
    return float(signal.mean() / (1 - alpha_bar)), float((signal / (signal + 1 - alpha_bar)).mean())


def rows_of(make, arms=("B", "C", "CS", "CR"), seeds=(0,), steps=(281, 750, 1500)):
    rows = []
    for arm in arms:
        for seed in seeds:
            for step in steps:
                full = arm == "B" or step > 938
                for level in LEVELS:
                    mean, linear = bounds(level)
                    miss = (0.2 + 40 / step) * (1 + 0.15 * ("B", "C", "CS", "CR").index(arm))
                    wiggle = 1 + 0.03 * np.sin(7 * level + seed)
                    net = (linear * (0.55 + miss) + 4e-3 * miss) * wiggle
                    net = net if full or level > 0.4 else max(net, 0.6 * mean + 0.3)
                    cell = {"arm": arm, "seed": seed, "step": step, "level": level}
                    cell |= {"n_reference": 512, "n_generated": 0, "sampler": ""}
                    rows.append(make.row(**cell, metric="eps-MSE", value=net, full_range=full))
                    for name, value in (("mean", mean), ("linear", linear)):
                        rows.append(
                            make.row(**cell, metric=f"eps-MSE-{name}", value=value, weights="")
                        )
    return rows


def labelled(ax):
    return [line.get_label() for line in ax.get_lines() if not line.get_label().startswith("_")]


def curves_of(ax, colour):
    """Lines of a colour that have a point at every level: earlier milestones, then the last."""
    return [
        np.asarray(line.get_ydata())
        for line in ax.get_lines()
        if same_color(line.get_color(), colour) and len(line.get_xdata()) == len(LEVELS)
    ]


def test_bounds_join_on_images_noise_and_level(make):
    rows = rows_of(make, arms=("B",), steps=(1500,))
    rows += [
        make.row(metric="eps-MSE-linear", level=LEVELS[0], value=99.0, weights="", **other)
        for other in ({"n_reference": 7}, {"n_reference": 512, "sampling_seed": 3})
    ]
    found = learnable_rows(to_frame(rows))
    assert len(found) == len(LEVELS)
    for row in found.itertuples():
        assert (row.mean, row.linear) == pytest.approx(bounds(row.level), rel=1e-12)


def test_rows_are_of_the_average_and_need_their_bounds(make):
    rows = rows_of(make, arms=("B",), steps=(1500,))
    raw = [make.row(metric="eps-MSE", level=LEVELS[3], weights="raw", n_reference=512)]
    assert set(learnable_rows(to_frame(rows + raw))["weights"]) == {"ema0.995"}
    without = [row for row in rows if row.metric != "eps-MSE-linear"]
    assert learnable_rows(to_frame(without)).empty


def test_relative_rows_have_the_oracle_at_one(make):
    rows = learnable_rows(to_frame(rows_of(make, arms=("B",), steps=(1500,))))
    relative = relative_to_oracle(rows)
    assert set(relative["linear"]) == {1.0}
    np.testing.assert_allclose(relative["value"] * rows["linear"], rows["value"])
    np.testing.assert_allclose(relative["mean"] * rows["linear"], rows["mean"])


def test_figure_draws_bounds_last_milestone_and_earlier_ones(make):
    frame = to_frame(rows_of(make))
    upper, lower = figure(frame).axes
    names = ["mean predictor", "linear oracle", "B", "C", "CS", "CR"]
    assert labelled(upper) == labelled(lower) == names
    assert upper.get_yscale() == lower.get_yscale() == "log"
    own = learnable_rows(frame).query("arm == 'C'")
    expected = [part.sort_values("level")["value"] for _, part in own.groupby("step")]
    for found, wanted in zip(curves_of(upper, arm_style("C", "C")["color"]), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_a_study_without_bounds_has_no_such_figure(make):
    rows = rows_of(make, arms=("B",), steps=(1500,))
    assert set(drawable(StudyAnalysis(to_frame(rows)))) == {"denoising_profile", "learnable"}
    without = [row for row in rows if "linear" not in row.metric]
    assert set(drawable(StudyAnalysis(to_frame(without)))) == {"denoising_profile"}


def test_points_of_an_arm_without_all_levels_are_hollow(make):
    upper, _ = figure(to_frame(rows_of(make, arms=("B", "C"), steps=(281, 750)))).axes
    for colour, face in (("#000000", "#000000"), (arm_style("C", "C")["color"], "white")):
        dots = [
            line
            for line in upper.get_lines()
            if same_color(line.get_color(), colour)
            and line.get_linestyle() == "None"
            and len(line.get_xdata())
        ]
        assert dots and all(same_color(line.get_markerfacecolor(), face) for line in dots)


def test_note_names_step_images_seeds_and_hollow_points(make):
    note = figure(to_frame(rows_of(make, arms=("B", "C"), seeds=(0, 1), steps=(281, 750))))
    note = note.get_supxlabel()
    for part in ("step 750", "ema0.995 weights", "512 held-out images", "n=2 seeds", "hollow"):
        assert part in note
