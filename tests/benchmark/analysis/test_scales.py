"""Planted studies whose primary metric crosses 0, or of which more is better."""

import math

import numpy as np
import pandas as pd
import pytest
from test_findings import change

from benchmark.analysis.agreement import over_milestones
from benchmark.analysis.answer import headline
from benchmark.analysis.findings import HELD_OUT
from benchmark.analysis.learning import learning
from benchmark.analysis.scales import SIGN_ALONE, USUAL_SCALE, PlainScale, scale_of
from benchmark.analysis.sensitivity import sensitivity
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame
from benchmark.study.hypotheses import Hypothesis
from benchmark.study.measure import PrimaryMetric, allowed_scales
from benchmark.study.terms import Terms
from mindiffusion.errors import UserError

MARGIN = 0.02
KERNEL, PRECISION = "KD-Net", "precision-Net"
KINDS = {KERNEL: ("lower", 0.001), PRECISION: ("higher", 0.6)}
"""Which way is better, and where B ends: next to 0, so that values lie on both sides of it."""
# By how many smallest effects each arm is better than B at its end.
GAINS = {"B": 0.0, "good": 5.0, "bad": -5.0, "same": 0.0, "unsure": 1.0, "torn": 5.0}
SPREAD = {"unsure": 1.5}


def planted(metric, gains=GAINS, seeds=8):
    """Rows of a study: B gains 20 smallest effects over its 400 steps, evenly."""
    direction, end = KINDS[metric]
    sign = 1 if direction == "higher" else -1
    rng, rows = np.random.default_rng(0), []
    for seed in range(seeds):
        block = 2 * rng.normal()
        for arm, gain in gains.items():
            own = block + gain + SPREAD.get(arm, 0.1) * rng.normal()
            total = 320 if arm == "B-80%" else 400
            cell = {"arm": arm, "seed": seed, "total_steps": total, "direction": direction}
            for step in (80, 160, 240, 320, 400):
                value = end + sign * MARGIN * (own - 20 * (1 - step / 400))
                if step <= total:
                    rows.append(change(**cell, step=step, metric=f"{metric}@2048", value=value))
            error = 0.05 * (1.2 if arm == "torn" else 1) * math.exp(0.001 * rng.normal())
            cell |= {"direction": "lower", "n_generated": 0, "step": total}
            rows.append(change(**cell, metric=HELD_OUT, value=error))
    return to_frame(rows)


def terms_of(metric, *hypotheses, scale="plain", smallest_effect=MARGIN):
    asked = hypotheses or tuple(Hypothesis(arm, f"{arm} - B") for arm in GAINS if arm != "B")
    return Terms(
        endpoint=PrimaryMetric(metric, scale), hypotheses=asked, smallest_effect=smallest_effect
    )


def study_of(metric, *hypotheses, **planting):
    return StudyAnalysis(planted(metric, **planting), terms_of(metric, *hypotheses))


@pytest.fixture(scope="module", params=list(KINDS))
def metric(request):
    return request.param


@pytest.fixture(scope="module")
def study(metric):
    return study_of(metric)


@pytest.fixture(scope="module")
def found(study):
    return {one.key: one for one in study.findings}


def test_planted_effects_get_their_verdicts_in_both_directions(study, found):
    values = planted(study.terms.endpoint.metric)["value"]
    assert study.terms.endpoint.metric == PRECISION or (values.min() < 0 < values.max())
    assert {arm: found[arm].verdict for arm in GAINS if arm != "B"} == {
        "good": "supported", "bad": "refuted", "same": "equal", "unsure": "undecided",
        "torn": "mixed",
    }  # fmt: skip


def test_a_change_is_shown_in_the_metrics_own_direction_and_unit(metric, study, found):
    sign = {KERNEL: -1, PRECISION: 1}[metric]
    for arm in ("good", "bad", "same"):
        own = study.scale.turned(found[arm].estimate)
        assert own == pytest.approx(sign * MARGIN * GAINS[arm], abs=0.15 * MARGIN), arm
    worse, better = ("−", "+") if metric == PRECISION else ("+", "−")
    assert study.scale.change(found["good"].estimate).startswith(f"{better}0.")
    assert study.scale.change(found["bad"].estimate).startswith(f"{worse}0.")
    low, high = (float(end.replace("−", "-")) for end in
                 study.scale.span(found["good"].low, found["good"].high).split(" to "))  # fmt: skip
    assert low < high and min(abs(low), abs(high)) > 4 * MARGIN


def test_reasons_name_sides_and_the_smallest_effect_in_the_own_unit(metric, found):
    side = "below" if metric == PRECISION else "above"
    assert f"lies {side} zero, against the claim" in found["bad"].why
    assert "beyond the smallest effect of 0.02." in found["good"].why
    assert "within the smallest effect of 0.02 on both sides" in found["same"].why
    assert "the smallest effect of 0.02; about " in found["unsure"].why
    noun, sign = ("score (higher is better)", "+") if metric == PRECISION else ("distance", "−")
    assert f"the {noun} {sign}0.1" in found["torn"].why
    assert "the held-out ε-MSE +19.9" in found["torn"].why
    assert not any("%" in found[arm].why.split("90 %")[-1] for arm in ("good", "bad", "same"))


def test_a_metric_and_its_complement_are_judged_alike():
    """Precision, and the share that it misses, of which less is better: the same study."""
    frame = planted(PRECISION)
    is_own = frame["metric"].str.startswith(PRECISION)
    missed = frame.assign(
        metric=frame["metric"].mask(is_own, f"{KERNEL}@2048"),
        direction="lower",
        value=frame["value"].mask(is_own, 1 - frame["value"]),
    )
    first = StudyAnalysis(frame, terms_of(PRECISION))
    second = StudyAnalysis(missed, terms_of(KERNEL))
    numbers = ("estimate", "low", "high", "p", "p_holm", "p_sign_flip", "steps_equivalent")
    for one, other in zip(first.findings, second.findings, strict=True):
        assert (one.key, one.verdict, one.seeds_needed) == (
            other.key, other.verdict, other.seeds_needed,
        )  # fmt: skip
        for name in numbers:
            values = [np.nan if getattr(f, name) is None else getattr(f, name)
                      for f in (one, other)]  # fmt: skip
            assert values[0] == pytest.approx(values[1], rel=1e-6, abs=1e-12, nan_ok=True), name
    tables = [learning(s.frame, s.endpoint, s.curve).drop(columns="arm") for s in (first, second)]
    pd.testing.assert_frame_equal(*tables)
    pd.testing.assert_frame_equal(*(sensitivity(s.endpoint, s.alpha) for s in (first, second)))
    agreement = [over_milestones(s.frame, s.endpoint) for s in (first, second)]
    assert agreement[0] == pytest.approx(agreement[1])


def test_exchanged_arms_exchange_the_verdict(metric):
    frame = planted(metric)
    swapped = frame.assign(arm=frame["arm"].replace({"B": "good", "good": "B"}))
    found = {one.key: one for one in StudyAnalysis(swapped, terms_of(metric)).findings}
    assert found["good"].verdict == "refuted"


@pytest.mark.parametrize(
    ("expected", "verdicts"),
    [("better", ("supported", "refuted")), ("worse", ("refuted", "supported"))],
)
def test_a_hypothesis_says_better_and_worse_of_the_metrics_own_direction(
    metric, expected, verdicts
):
    asked = [Hypothesis(arm, f"{arm} - B", expected) for arm in ("good", "bad")]
    study = study_of(metric, *asked)
    assert tuple(one.verdict for one in study.findings[:2]) == verdicts


def test_the_instruments_checks_pass_and_fail_as_planted(metric):
    gains = {"B": 0.0, "A/A": 0.0, "B-80%": 0.0, "B-half": 3.0}
    study = study_of(metric, Hypothesis("H", "B-half - B"), gains=gains)
    found = {one.key: one for one in study.findings if one.group == "check"}
    # Four fifths of the steps lack four smallest effects.
    assert found["A/A"].passed and found["B-80%"].passed and found["B-half"].passed is False
    assert found["B-80%"].steps_equivalent == pytest.approx(0.2, abs=0.02)
    assert headline(study).startswith("The instrument fails its own check (B-half − B)")
    apart = study_of(metric, Hypothesis("H", "A/A - B"), gains={"B": 0.0, "A/A": -3.0})
    (check,) = (one for one in apart.findings if one.group == "check")
    assert check.passed is False and "so the arms differ" in check.why


def test_the_answer_says_by_how_much_and_which_way_is_better():
    text = headline(study_of(PRECISION, Hypothesis("H", "good - B"), gains={"B": 0, "good": 5}))
    assert text.startswith("Yes: the precision-Net@2048 of good ends 0.10")
    assert " above B's (higher is better, 95 % interval +0.0" in text and "n = 8 seeds" in text
    text = headline(study_of(KERNEL, Hypothesis("H", "good - B"), gains={"B": 0, "good": 5}))
    assert text.startswith("Yes: the KD-Net@2048 of good ends 0.10")
    assert " below B's (95 % interval −0.1" in text and "higher" not in text


def test_a_sure_sign_and_an_unsure_size_are_told_in_the_own_direction():
    for metric, word in ((PRECISION, "Higher"), (KERNEL, "Lower")):
        study = study_of(metric, Hypothesis("H", "good - B"), gains={"B": 0, "good": 1.1}, seeds=4)
        assert headline(study).startswith(f"{word}, but perhaps by less than the 0.02 that matter")


def test_one_seed_decides_nothing_in_the_own_unit(metric):
    study = study_of(metric, seeds=1)
    sign = "+" if metric == PRECISION else "−"
    assert f"One training seed ({sign}0." in study.findings[0].why
    assert all(one.verdict == "undecided" for one in study.findings)


def test_speed_of_learning_is_read_off_a_curve_that_may_rise_or_cross_zero(study):
    table = learning(study.frame, study.endpoint, study.curve).set_index("arm")
    assert study.endpoint.values["B"].notna().all() and len(study.curve[0]) == 5
    # Five of twenty smallest effects are a quarter of the way.
    assert table.loc["good", "steps_to_reach"] == pytest.approx(300, abs=15)
    assert table.loc["bad", "steps_equivalent"] == pytest.approx(0.75, abs=0.05)
    assert table.loc["good", "area"] == pytest.approx(-5 * MARGIN, abs=0.2 * MARGIN)


# --- scales ---


def test_a_ratio_needs_values_above_0_of_which_less_is_better():
    assert allowed_scales("lower", is_positive=True) == ("ratio", "plain")
    assert allowed_scales("lower", is_positive=False) == ("plain",)
    assert allowed_scales("higher", is_positive=True) == ("plain",)
    assert allowed_scales("none", is_positive=True) == ()


@pytest.mark.parametrize(
    ("scale", "direction", "said"),
    [
        ("ratio", "higher", "of which more is better, and endpoint.scale is ratio; write endpoint"),
        ("ratio", "none", "of which neither more nor less is better"),
        ("plain", "none", "name another metric in the study's file."),
    ],
)
def test_rows_that_a_scale_cannot_compare_are_refused_in_one_line(scale, direction, said):
    frame = planted(PRECISION, seeds=2).assign(direction=direction)
    with pytest.raises(UserError) as error:
        scale_of(terms_of(PRECISION, scale=scale), frame)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_rows_that_disagree_about_the_direction_are_refused_in_one_line():
    frame = planted(PRECISION, seeds=2)
    frame.loc[(frame["arm"] == "good") & (frame["seed"] == 1), "direction"] = "lower"
    with pytest.raises(UserError, match=r"several directions .*\(higher, lower\)") as error:
        scale_of(terms_of(PRECISION), frame[frame["metric"] != HELD_OUT])
    assert "\n" not in str(error.value)


def test_a_value_of_0_has_no_ratio():
    frame = planted(KERNEL, seeds=2)
    with pytest.raises(UserError, match="ratios need values above 0"):
        StudyAnalysis(frame, terms_of(KERNEL, scale="ratio", smallest_effect=0.03)).findings  # noqa: B018


@pytest.mark.parametrize(
    ("smallest", "change", "shown"),
    [
        (0.02, -0.0312, "+0.031"), (0.02, 0.0312, "−0.031"), (0.02, 0.0001, "0.000"),
        (0.0005, -0.00123, "+0.00123"), (5.0, -12.34, "+12.3"), (40.0, 120.4, "−120"),
        (0.02, -1e69, "+1.00e+69"), (0.02, math.nan, "–"),
    ],
)  # fmt: skip
def test_a_plain_change_has_two_digits_of_the_smallest_effect(smallest, change, shown):
    assert PlainScale(smallest, more_is_better=True).change(change) == shown


def test_ratios_read_in_percent_whatever_the_page_rounds_to():
    assert USUAL_SCALE.change(math.log(0.95)) == "−5.0 %"
    assert USUAL_SCALE.change(math.log(0.95), lambda ratio: f"{ratio:.2f}") == "-0.05"
    assert USUAL_SCALE.span(math.log(0.9), math.log(1.1)) == "−10.0 % to +10.0 %"
    assert (USUAL_SCALE.smallest, SIGN_ALONE.margin) == ("3 %", 0.0)


@pytest.mark.parametrize("reach", [1e-9, 0.013, 0.7, 3.0, 4e5])
@pytest.mark.parametrize("more_is_better", [False, True])
def test_ticks_of_a_plain_scale_are_few_round_and_in_the_own_direction(reach, more_is_better):
    ticks = PlainScale(reach / 10, more_is_better).ticks(-reach, 0.6 * reach)
    assert 2 <= len(ticks) <= 5 and len(set(ticks.values())) == len(ticks)
    for place, label in ticks.items():
        assert -reach <= place <= 0.6 * reach
        own = -place if more_is_better else place
        assert float(label.replace("−", "-")) == pytest.approx(own, abs=1e-6 * reach)


def test_a_claimed_size_is_in_the_unit_of_a_plain_metric():
    half, twice = (
        study_of(PRECISION, Hypothesis("H", "good - B", at_least=size), gains={"B": 0, "good": 5})
        for size in (2.5 * MARGIN, 10 * MARGIN)
    )
    found = [one.findings[0] for one in (half, twice)]
    assert [one.verdict for one in found] == ["supported", "refuted"]
    assert f"claimed +{2.5 * MARGIN:.3f}" in found[0].why
