import dataclasses
import math

import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from benchmark.analysis.over_seeds import over_seeds
from benchmark.analysis.scales import USUAL_SCALE
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import distance_rows, to_frame
from benchmark.study.measure import PrimaryMetric
from benchmark.study.terms import Terms
from plots.end_points import end_points
from plots.figures import fid_vs_steps
from plots.style import arm_styles

CURVE = "FD-EffNet-Lite0-64px@512"
pytestmark = pytest.mark.usefixtures("paper")


def draw(frame):
    ax, rows = Figure().subplots(), distance_rows(frame)
    assert fid_vs_steps.fid_vs_steps(rows, arm_styles(rows), ax) is ax
    return ax


def lines_of(ax, arm):
    """The arm's line, and its hollow points: after all lines come two kinds of points an arm."""
    lines = ax.get_lines()
    arms = [line.get_label() for line in lines if not line.get_label().startswith("_")]
    index = arms.index(arm)
    return lines[index], lines[len(arms) + 2 * index + 1]


def note_of(figure):
    return figure.get_supxlabel()


def test_lines_are_the_means_of_the_arms(make):
    frame = to_frame(make.rows(seeds=(0, 1, 2)))
    ax = draw(frame)
    summary = over_seeds(distance_rows(frame))
    for arm in ("B", "C", "CS", "CR"):
        own = summary[summary["arm"] == arm]
        line, _ = lines_of(ax, arm)
        assert line.get_xdata().tolist() == own["step"].tolist()
        assert line.get_ydata().tolist() == own["mean"].tolist()


def test_points_without_training_on_all_noise_levels_are_hollow(make):
    ax = draw(to_frame(make.rows()))
    for arm, steps in (("B", []), ("C", [281, 563])):
        line, hollow = lines_of(ax, arm)
        assert hollow.get_xdata().tolist() == steps
        assert same_color(hollow.get_markerfacecolor(), "white")
        assert same_color(line.get_markerfacecolor(), line.get_color())


@pytest.mark.parametrize(("seeds", "shaded"), [((0,), 0), ((0, 1, 2), 12)])
def test_interval_is_shaded_at_full_range_points_of_several_seeds(make, seeds, shaded):
    frame = to_frame(make.rows(seeds=seeds, arms=("C",)))
    ax = draw(frame)
    (band,) = ax.collections
    summary = over_seeds(distance_rows(frame)).query("full_range")
    vertices = [v for path in band.get_paths() for v in path.vertices]
    if not shaded:
        assert vertices == []
        return
    assert min(x for x, _ in vertices) == summary["step"].min()
    assert max(y for _, y in vertices) == pytest.approx(
        (summary["mean"] + summary["half_width"]).max()
    )


def test_axis_is_logarithmic_only_when_the_span_needs_it(make):
    small = [make.row(step=step, value=value) for step, value in ((500, 39.0), (1500, 10.0))]
    wide = [make.row(step=step, value=value) for step, value in ((500, 41.0), (1500, 10.0))]
    assert draw(to_frame(small)).get_yscale() == "linear"
    assert draw(to_frame(wide)).get_yscale() == "log"


def test_a_wide_interval_does_not_pull_the_log_axis_down(make):
    rows = [
        make.row(seed=seed, step=step, value=value * (1 + seed))
        for seed in (0, 1)
        for step, value in ((500, 400.0), (1500, 10.0))
    ]
    ax = draw(to_frame(rows))
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] > 5


def test_boundaries_are_those_of_the_first_staged_arm(make):
    arm, steps = fid_vs_steps.stage_boundaries(to_frame(make.rows()))
    assert (arm, steps) == ("C", [94, 281, 563, 938])
    assert fid_vs_steps.stage_boundaries(to_frame(make.rows(arms=("B",)))) == ("", [])


def test_labels_name_metric_n_weights_seeds_and_smoke(make):
    figure = fid_vs_steps.figure(StudyAnalysis(to_frame(make.rows())))
    label = figure.axes[0].get_ylabel()
    assert label == "FD-EffNet-Lite0-64px@256\nema0.995 weights"
    note = note_of(figure)
    for part in (
        "n=1 seed",
        "hollow: not all noise levels trained yet",
        "stages of C",
        "smoke: n < 2048",
        "exploratory",
        "ddim-eta1/chunk64, 50 steps",
    ):
        assert part in note
    several = note_of(fid_vs_steps.figure(StudyAnalysis(to_frame(make.rows(seeds=(0, 1, 2))))))
    assert "n=3 seeds" in several


def test_unlike_numbers_get_panels_of_their_own(make):
    rows = make.rows(arms=("B",))
    rows += [dataclasses.replace(row, weights="raw") for row in rows if row.metric.startswith("FD")]
    figure = fid_vs_steps.figure(StudyAnalysis(to_frame(rows)))
    assert [ax.get_ylabel().split("\n")[1] for ax in figure.axes] == [
        "ema0.995 weights",
        "raw weights",
    ]


def test_unlike_samplers_are_named_on_their_panels(make):
    rows = [make.row(), make.row(sampler_steps=250)]
    figure = fid_vs_steps.figure(StudyAnalysis(to_frame(rows)))
    assert [ax.get_ylabel().split(", ")[-1] for ax in figure.axes] == ["50 steps", "250 steps"]
    assert "50 steps" not in note_of(figure)


def test_an_error_on_the_plain_scale_is_drawn_itself_and_speaks_of_no_images(make):
    kind = {"metric": "eps-MSE/L_simple", "n_generated": 0, "sampler": "", "sampler_steps": 0}
    cells = [(arm, step) for arm in ("B", "C") for step in (750, 1500)]
    rows = [make.row(arm=arm, step=step, value=0.1 + step / 1e5, **kind) for arm, step in cells]
    rows += [make.row(arm=arm, step=step, value=90.0) for arm, step in cells]
    endpoint = PrimaryMetric("eps-MSE/L_simple", "plain")
    study = StudyAnalysis(to_frame(rows), Terms(endpoint=endpoint, smallest_effect=0.01))
    figure = fid_vs_steps.figure(study)
    assert figure.axes[0].get_ylabel().startswith("eps-MSE/L_simple")
    assert "smoke" not in note_of(figure) and "0 steps" not in note_of(figure)
    assert "grey: ±0.01" in note_of(figure)


def test_ratios_are_to_the_baseline_of_the_same_seed_and_full_range(make):
    values = {("B", 0): 100.0, ("B", 1): 50.0, ("C", 0): 90.0, ("C", 1): 55.0}
    rows = [make.row(arm=arm, seed=seed, value=value) for (arm, seed), value in values.items()]
    rows += [make.row(step=750, value=200.0), make.row(arm="C", step=750, full_range=False)]
    ratios = fid_vs_steps.full_range_changes(to_frame(rows), USUAL_SCALE)
    found = {row.seed: math.exp(row.value) for row in ratios.itertuples()}
    assert found == pytest.approx({0: 0.9, 1: 1.1})


def test_ratio_panel_shows_the_last_intervals_and_the_zone_around_no_change(wide):
    ratios = fid_vs_steps.full_range_changes(wide[wide["metric"] == CURVE], USUAL_SCALE)
    ax = Figure().subplots()
    fid_vs_steps.change_vs_steps(ratios, USUAL_SCALE, arm_styles(wide), ax)
    low, high = fid_vs_steps.change_limits(ratios, USUAL_SCALE)
    summary = over_seeds(ratios[ratios["step"] == 1500], ("arm",)).set_index("arm")
    assert low < summary["mean"]["CS"] - summary["half_width"]["CS"]
    assert high > math.log(1.03)
    (line,) = [
        line for line in ax.get_lines() if line.get_color() == arm_styles(wide)["CS"]["color"]
    ]
    assert line.get_ydata()[-1] == pytest.approx(summary["mean"]["CS"])


def test_distance_of_the_end_alone_becomes_points_of_every_seed(wide):
    rows = wide[wide["metric"] == "FD-EffNet-Lite0-64px@2048"]
    ax = end_points(rows, Figure().subplots())
    assert [label.get_text() for label in ax.get_yticklabels()] == list(arm_styles(rows))
    seeds = rows[rows["arm"] == "B-80%"].groupby("seed")["value"].mean()
    points = ax.collections[len(arm_styles(rows)) - 1].get_offsets()
    assert sorted(points[:, 0]) == pytest.approx(sorted(seeds))
    (mean,) = ax.containers[-1][0].get_xdata()
    assert mean == pytest.approx(seeds.mean())


def test_many_arms_are_drawn_by_family_and_the_end_below(wide):
    figure = fid_vs_steps.figure(StudyAnalysis(wide))
    titles = [ax.get_legend().get_title().get_text() for ax in figure.axes if ax.get_legend()]
    assert titles == ["factorial", "controls of C", "instrument checks"]
    assert figure.axes[-1].get_xlabel() == "FD-EffNet-Lite0-64px@2048 at each arm's last step"
    note = figure.get_supxlabel().replace("\n", " ")
    assert f"smoke: n < 2048 images ({CURVE})" in note
    assert "curves and changes: 512 images; lowest panel: 2,048" in note


def test_enough_images_are_no_smoke(make):
    rows = [make.row(metric="FID@10k", n_generated=10_000)]
    assert "smoke" not in note_of(fid_vs_steps.figure(StudyAnalysis(to_frame(rows))))
