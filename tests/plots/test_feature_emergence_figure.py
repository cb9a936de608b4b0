import dataclasses
import math

import numpy as np
import pytest

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame
from plots.build import drawable
from plots.figures.feature_emergence import by_amplitude, figure, gain_rows

pytestmark = pytest.mark.usefixtures("paper")

AMPLITUDES = {"hair": 0.2, "clothingColor": 0.19, "eyes": 0.17, "mouth": 0.09, "nose": 0.012}
STEPS = (281, 975, 1500)


def gain(arm, seed, step, attribute, level):
    """Coarse attributes gain at high noise and early; the staged arms a little more of both."""
    rank = ("B", "C", "CS", "CR").index(arm)
    amplitude = AMPLITUDES[attribute]
    centre = 0.25 + 1.8 * amplitude
    learned = 1 - math.exp(-step * (amplitude + 0.02) * (1 + 0.15 * rank) / 60)
    jitter = 0.01 * np.random.default_rng((seed, rank, step)).standard_normal()
    return 0.3 * learned * math.exp(-(((level - centre) / 0.15) ** 2)) + jitter


def emergence_rows(make, arms=("B", "C", "CS", "CR"), seeds=(0,), attributes=tuple(AMPLITUDES)):
    held_out = {"n_generated": 0, "n_reference": 512, "sampler": "", "sampler_steps": 0}
    rows = []
    for arm in arms:
        for seed in seeds:
            for step in STEPS:
                cell = {"arm": arm, "seed": seed, "step": step, **held_out,
                        "full_range": arm == "B" or step > 938}  # fmt: skip
                for name in attributes:
                    rows.append(make.row(**cell, metric=f"amplitude/{name}", error=0.01,
                                         value=AMPLITUDES[name], direction="none"))  # fmt: skip
                    for index in range(10):
                        level = (index + 0.5) / 10
                        rows.append(make.row(**cell, metric=f"emergence/{name}", level=level,
                                             error=0.02, direction="higher",
                                             value=gain(arm, seed, step, name, level)))  # fmt: skip
    return rows


def test_attributes_are_ordered_by_amplitude_alone(make):
    rows = emergence_rows(make)
    assert list(by_amplitude(to_frame(rows), AMPLITUDES)) == list(AMPLITUDES)
    worse = [
        dataclasses.replace(row, value=-row.value) if row.metric == "emergence/hair" else row
        for row in rows
    ]
    assert list(by_amplitude(to_frame(worse), AMPLITUDES)) == list(AMPLITUDES)


def test_attributes_without_amplitude_come_last_by_name(make):
    rows = [
        row for row in emergence_rows(make)
        if row.metric not in ("amplitude/hair", "amplitude/eyes")
    ]  # fmt: skip
    assert list(by_amplitude(to_frame(rows), AMPLITUDES)) == [
        "clothingColor",
        "mouth",
        "nose",
        "eyes",
        "hair",
    ]
    assert "last those without" in figure(to_frame(rows)).get_supxlabel()


def test_gains_are_of_the_ema(make):
    rows = emergence_rows(make)
    rows += [dataclasses.replace(row, weights="raw") for row in rows]
    gains = gain_rows(to_frame(rows))
    assert set(gains["weights"]) == {"ema0.995"}
    assert set(gains["attribute"]) == set(AMPLITUDES)


def test_upper_panels_show_the_last_milestone_by_level(make):
    axes = figure(to_frame(emergence_rows(make, seeds=(0, 1)))).axes
    names = list(AMPLITUDES)
    titles = [ax.get_title(loc="left") for ax in axes[: len(names)]]
    assert titles[0] == "hair (.20)" and titles[-1] == "nose (.012)"
    line = next(line for line in axes[1].get_lines() if line.get_label() == "C")
    expected = [
        np.mean([gain("C", seed, 1500, names[1], (i + 0.5) / 10) for seed in (0, 1)])
        for i in range(10)
    ]
    assert np.allclose(line.get_ydata(), expected, rtol=1e-12)


def mean_gain(arm, step, attribute):
    return np.mean([gain(arm, 0, step, attribute, (i + 0.5) / 10) for i in range(10)])


def points(ax):
    """(x, y, is hollow) of the markers of a lower panel, from left to right."""
    lines = [line for line in ax.get_lines() if line.get_marker() in "os^D"]
    found = [
        (x, y, line.get_markerfacecolor() == "white")
        for line in lines
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]
    return sorted(found)


def test_lower_panels_show_mean_gains_by_milestone(make):
    axes = figure(to_frame(emergence_rows(make))).axes[len(AMPLITUDES) :]
    gains = axes[::2]
    assert [ax.get_ylabel() for ax in gains] == ["step 281", "step 975", "step 1,500"]
    first = points(gains[0])
    assert len(first) == 4 * len(AMPLITUDES)
    assert first[0][1] == pytest.approx(mean_gain("B", 281, "hair"), rel=1e-12)
    # B is trained on all levels from the start, the staged arms are not yet.
    assert [hollow for _, _, hollow in first[:4]] == [False, True, True, True]
    assert not any(hollow for _, _, hollow in points(gains[2]))
    labels = [tick.get_text() for tick in gains[-1].get_xticklabels()]
    assert labels == list(AMPLITUDES)


def test_lower_right_panels_show_the_difference_to_the_baseline(make):
    axes = figure(to_frame(emergence_rows(make))).axes[len(AMPLITUDES) :]
    first = points(axes[1])
    assert len(first) == 3 * len(AMPLITUDES)
    expected = mean_gain("C", 281, "hair") - mean_gain("B", 281, "hair")
    assert first[0][1] == pytest.approx(expected, rel=1e-9)


def test_without_a_baseline_there_is_no_difference(make):
    axes = figure(to_frame(emergence_rows(make, arms=("C", "CS")))).axes
    assert len(axes) == len(AMPLITUDES) + len(STEPS)


def test_note_names_step_images_seeds_and_hollow_points(make):
    note = figure(to_frame(emergence_rows(make, seeds=(0, 1)))).get_supxlabel()
    for part in ("step 1,500", "ema0.995 weights", "512 held-out images", "n=2 seeds", "hollow"):
        assert part in note


def test_build_draws_it_where_there_are_such_rows(make):
    assert set(drawable(StudyAnalysis(to_frame(emergence_rows(make, arms=("B",)))))) == {
        "feature_emergence"
    }
