"""Figures of the two-feature theory, from rows whose picture is known."""

import numpy as np
import pytest

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame
from benchmark.rows.metric_names import EXCESS, LOW_EXCESS, NEURONS, SIMILARITY
from benchmark.study.measure import PrimaryMetric
from benchmark.study.terms import Terms
from plots.build import drawable
from plots.figures import excess_profile, exponents, neurons, similarity

pytestmark = pytest.mark.usefixtures("paper")
ARMS = ("B", "S", "R", "C", "CS", "CR", "density*", "anti*", "A/A")
COSINES = np.array([[0.1, 0.9], [0.0, 0.0], [0.8, 0.2], [0.95, 0.0]])


@pytest.fixture
def of_theory(make):
    """A function: fields → a row of the theory."""

    def row(**fields):
        return make.row(n_generated=0, sampler="", weights="raw", samples=None, **fields)

    return row


def panels(figure):
    return [ax for ax in figure.axes if ax.axison]


def test_excess_is_of_the_last_milestone_above_a_line_at_0(of_theory):
    rows = [
        of_theory(arm=arm, seed=seed, step=step, metric=EXCESS, level=level, value=value + seed / 9)
        for arm in ARMS
        for seed in (0, 1)
        for step, value in ((750, 5.0), (1500, 0.5))
        for level in (0.2, 0.8)
    ]
    figure = excess_profile.figure(to_frame(rows))
    factorial, controls, _ = panels(figure)
    assert controls.get_legend().get_title().get_text() == "controls of C"
    lines = [line for line in factorial.get_lines() if len(line.get_xdata()) == 2]
    heights = {tuple(np.round(line.get_ydata(), 3)) for line in lines}
    # 0 of the best denoiser, and .5 + the mean of the seeds' shares.
    assert (0, 0) in heights and (0.556, 0.556) in heights
    assert not any(max(height) > 1 for height in heights)


def test_shares_are_in_percent_and_of_at_most_six_arms(of_theory):
    rows = [
        of_theory(arm=arm, step=step, metric=metric, value=share)
        for arm in ARMS
        for metric, share in zip(
            neurons.PANELS, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), strict=True
        )
        for step in (750, 1500)
    ]
    figure = neurons.figure(to_frame(rows))
    shown = panels(figure)
    assert [ax.texts[0].get_text() for ax in shown] == list(neurons.PANELS.values())
    heights = [{round(y, 6) for line in ax.get_lines() for y in line.get_ydata()} for ax in shown]
    assert heights == [{10.0 * place} for place in range(1, 9)]
    assert len(shown[0].get_legend().get_texts()) == 6
    assert "6 of 9 arms shown" in figure.get_supxlabel()


def test_neurons_stand_by_the_feature_that_they_read_and_those_that_are_off_last(of_theory):
    rows = [
        of_theory(metric=f"{SIMILARITY}M{group}-000", level=(place + 0.5) / 4, value=value)
        for place, pair in enumerate(COSINES)
        for group, value in zip((1, 2), pair, strict=True)
    ]
    frame = to_frame(rows)
    assert similarity.matrix_of(frame).tolist() == COSINES[[3, 2, 0, 1]].tolist()
    ax, bar = similarity.figure(frame).axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["M₁", "M₂"]
    assert bar.get_ylabel() == "cosine"


def test_a_setting_that_is_swept_has_a_panel_with_both_axes_logarithmic(of_theory):
    points = [
        {"value": x, "arms": {"B": f"B width={x:g}"}, "made": ["B"]} for x in (8.0, 16.0, 32.0)
    ]
    rows = [
        of_theory(arm=point["arms"]["B"], seed=seed, metric=LOW_EXCESS, value=1 / point["value"])
        for point in points
        for seed in (0, 1)
    ]
    frame = to_frame([*rows, of_theory(metric=LOW_EXCESS, value=1.0)])
    sweeps = [{"setting": "model.width", "points": points}]
    terms = Terms(endpoint=PrimaryMetric(LOW_EXCESS))
    middle = frame[frame["arm"] == "B"].reset_index(drop=True)
    study = StudyAnalysis(middle, terms, {"sweeps": sweeps}, swept=frame)
    assert "exponents" in drawable(study) and "exponents" not in drawable(StudyAnalysis(middle))
    (ax,) = panels(exponents.figure(study))
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_xlabel()) == ("log", "log", "model.width")
    assert ax.get_lines()[0].get_ydata() == pytest.approx([1 / 8, 1 / 16, 1 / 32])


def test_other_studies_have_none_of_them(make):
    drawn = set(drawable(StudyAnalysis(to_frame([make.row()]))))
    assert not drawn & {"excess_profile", "neurons", "similarity", "exponents"}
    assert not to_frame([make.row()])["metric"].str.startswith(NEURONS).any()
