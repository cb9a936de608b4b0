import dataclasses
import math

import pytest
from matplotlib.figure import Figure

from benchmark.analysis.scales import USUAL_SCALE
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame
from plots.figures.forest import MOST_LINES, comparisons, figure, forest, has_rows, interval_text

pytestmark = pytest.mark.usefixtures("paper")


@pytest.fixture(scope="module")
def found(wide):
    return comparisons(StudyAnalysis(wide).findings)


@pytest.fixture(scope="module")
def axes(found):
    return forest(found, USUAL_SCALE, Figure().subplots())


def test_every_finding_has_its_line_at_its_estimate_and_interval(found, axes):
    points = [line for line in axes.get_lines() if len(line.get_xdata()) == 1]
    assert [line.get_xdata()[0] for line in points] == [finding.estimate for finding in found]
    bars = [line for line in axes.get_lines() if line.get_solid_capstyle() == "butt"]
    ends = [tuple(line.get_xdata()) for line in bars if len(line.get_xdata()) == 2]
    assert [(f.low, f.high) for f in found] == ends
    heights = [line.get_ydata()[0] for line in points]
    assert heights == sorted(heights)


def test_words_name_contrast_effect_seeds_and_verdict(found, axes):
    words = [text.get_text() for text in axes.texts]
    for finding in found:
        start = words.index(f"{finding.title}:  {finding.contrast}")
        assert words[start + 1 : start + 4] == [
            interval_text(finding), str(finding.seeds), finding.verdict,
        ]  # fmt: skip
    assert [word for word in words if word.startswith(("Hypo", "Where", "Claims", "Instr"))] == [
        "Hypotheses", "Where it comes from", "Claims, arm by arm", "Instrument checks",
    ]  # fmt: skip


def test_a_contrast_has_one_line_and_checks_say_what_they_claim(found, axes):
    contrasts = [finding.contrast for finding in found]
    assert len(set(contrasts)) == len(contrasts) and "C − B" in contrasts
    words = [text.get_text() for text in axes.texts]
    # The distance rises, and that is what the words say.
    place = words.index("Fewer steps are worse:  B-80% − B")
    assert words[place + 1].startswith("+") and words[place + 3] == "supported"


def test_what_is_not_tested_has_a_line_without_numbers(make):
    # No row says what the mask of CS does.
    stages = {"arm": "CS", "metric": "active_channels", "n_generated": 0, "stage": "a"}
    rows = [make.row(arm=arm, value=100.0 + k) for k, arm in enumerate(("B", "C", "CS"))]
    rows += [make.row(**stages, step=step, value=value) for step, value in ((0, 13.0), (9, 64.0))]
    drawn = figure(StudyAnalysis(to_frame(rows)))
    words = [text.get_text() for text in drawn.axes[0].texts]
    place = words.index("CS beats B:  CS − B")
    assert words[place + 1 : place + 4] == ["–", "1", "not tested"]
    assert len([line for line in drawn.axes[0].get_lines() if len(line.get_xdata()) == 1]) == 1
    assert "not tested: a mask does nothing" in drawn.get_supxlabel()
    assert not has_rows(StudyAnalysis(to_frame([row for row in rows if row.arm != "C"])))


def test_names_of_wide_letters_leave_room_for_the_axes(make):
    rows = [make.row(arm=arm, value=50.0) for arm in ("B", "W" * 24)]
    drawn = figure(StudyAnalysis(to_frame(rows)))
    drawn.draw_without_rendering()
    assert drawn.axes[0].get_position().width > 0.1


def test_interval_reads_in_percent(found):
    numbers = {"estimate": math.log(0.95), "low": math.log(0.9), "high": math.log(1.005)}
    finding = dataclasses.replace(found[0], **numbers)
    assert interval_text(finding) == "−5.0 % [−10.0, +0.5]"
    alone = dataclasses.replace(finding, low=math.nan, high=math.nan)
    assert interval_text(alone) == "−5.0 %"


def test_one_seed_is_said_to_decide_nothing(make):
    drawn = figure(StudyAnalysis(to_frame([make.row(value=100.0), make.row(arm="C", value=90.0)])))
    assert "n=1 seed, no interval" in drawn.get_supxlabel().replace("\n", " ")
    assert {"−10.0 %", "undecided"} <= {text.get_text() for text in drawn.axes[0].texts}


def test_arms_that_were_not_measured_at_their_end_have_no_forest(make):
    rows = [make.row(arm=arm, step=750) for arm in ("B", "C")]
    assert not has_rows(StudyAnalysis(to_frame(rows)))
    assert not has_rows(StudyAnalysis(to_frame([make.row()])))


def test_an_interval_beyond_the_axis_ends_in_arrows_and_its_numbers_say_so(found):
    wide = dataclasses.replace(found[0], estimate=1.8, low=-20.0, high=24.0)
    ax = forest([wide, found[1]], USUAL_SCALE, Figure().subplots())
    arrows = [line for line in ax.get_lines() if line.get_marker() in ("<", ">")]
    assert [line.get_xdata()[0] for line in arrows] == list(ax.get_xlim())
    assert len({line.get_ydata()[0] for line in arrows}) == 1
    assert interval_text(wide) == "+505.0 % [−100.0, >9999]"


def test_very_many_comparisons_fill_a_page_and_no_more(make):
    arms = [f"arm{k:03}" for k in range(90)]
    rows = [make.row(arm=arm, value=50.0 + k) for k, arm in enumerate(("B", *arms))]
    drawn = figure(StudyAnalysis(to_frame(rows)))
    assert drawn.get_figheight() < 11
    assert f"{MOST_LINES} of 90 comparisons shown" in drawn.texts[-1].get_text().replace("\n", " ")
