"""Verdicts on made-up studies whose answer is known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from made_up_row import ROW

from benchmark.analysis.answer import headline
from benchmark.analysis.endpoint import missing_cells, primary_endpoint
from benchmark.analysis.findings import HELD_OUT
from benchmark.analysis.learning import baseline_curve, learning, worth_in_steps
from benchmark.analysis.log_ratios import digits_for, percent
from benchmark.analysis.mask_check import mask_effects
from benchmark.analysis.power import seeds_needed
from benchmark.analysis.scales import USUAL_SCALE
from benchmark.analysis.statistics import sign_flip
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.analysis.verdict_words import listed
from benchmark.rows.frames import to_frame
from benchmark.rows.metric_names import EPS_MSE, SUMMARIES
from benchmark.study.hypotheses import Hypothesis
from benchmark.study.terms import Terms
from mindiffusion.errors import UserError

STEPS = (50, 100, 200, 320, 400)
# Log ratios of the last distance to B's; B itself falls by exp(-.002 · step).
EFFECTS = {"B": 0.0, "C": -0.10, "density*": -0.02, "S": 0.0, "CS": -0.10, "A/A": 0.0}
LENGTHS = {"B-80%": 320}


def change(**fields):
    return dataclasses.replace(ROW, **fields)


def mask_rows(arm, seed, relative):
    """ε-MSE and what lifting the mask does at two levels, of which only .9 is trained at 100."""
    rows = [
        change(arm=arm, seed=seed, step=step, metric=metric, value=value, n_generated=0,
               sampler="", sampler_steps=0, full_range=False)
        for step, metric, value in ((0, "t_min", 0.8), (0, "t_max", 1.0), (100, "t_min", 0.0),
                                    (100, "t_max", 1.0))
    ]  # fmt: skip
    for level, effect in ((0.1, 5.0), (0.9, relative)):
        cell = {"arm": arm, "seed": seed, "step": 100, "level": level, "n_generated": 0}
        values = {EPS_MSE: 0.2, "mask-effect": 0.2 * effect}
        rows += [
            change(**cell, metric=metric, value=value, full_range=False)
            for metric, value in values.items()
        ]
    return rows


def study(effects=EFFECTS, seeds=8, noise=0.01, mask=0.05, draw=0, milestones=STEPS):
    """Rows of a study: curves with 256 images, the last milestone with 2048 and two samplings."""
    rng = np.random.default_rng(draw)
    rows = []
    for seed in range(seeds):
        block = 0.2 * rng.normal()
        for arm, effect in effects.items():
            end = 4.0 + block + effect + noise * rng.normal()
            total = LENGTHS.get(arm, 400)
            cell = {"arm": arm, "seed": seed, "total_steps": total}
            for step in milestones:
                value = float(np.exp(end - 0.002 * (step - 400)))
                hollow = arm == "C" and step < 200
                if step <= total:
                    rows.append(change(**cell, step=step, metric="FD-Net@256", n_generated=256,
                                       value=value + 30.0, full_range=not hollow))  # fmt: skip
            last = end - 0.002 * (total - 400)
            rows += [change(**cell, step=total, value=float(np.exp(last + shift)), sampling_seed=k)
                     for k, shift in enumerate((-0.003, 0.003))]  # fmt: skip
            rows += [change(**cell, step=total, metric=metric, value=float(np.exp(end / 50)),
                            n_generated=0) for metric in SUMMARIES]  # fmt: skip
            if arm in ("S", "CS"):
                rows += mask_rows(arm, seed, mask)
    return to_frame(rows)


def learning_of(rows):
    study = StudyAnalysis(rows)
    return learning(rows, study.endpoint, study.curve)


def answer(rows, *others):
    """The answer of a study that has the rows' cells and some others, (arm, seed)."""
    measured = {*zip(rows["arm"], rows["seed"], strict=True)}
    cells = [{"arm": arm, "seed": seed} for arm, seed in (*measured, *others)]
    return headline(StudyAnalysis(rows, index={"cells": cells if others else []}))


@pytest.fixture(scope="module")
def frame():
    return study()


@pytest.fixture(scope="module")
def found(frame):
    return {finding.key: finding for finding in StudyAnalysis(frame).findings}


# --- the endpoint ---


def test_endpoint_is_the_distance_with_most_images_at_the_last_step(frame):
    endpoint = primary_endpoint(frame)
    assert endpoint.metric == "FD-Net@2048"
    assert endpoint.condition["n_generated"] == 2048
    assert (endpoint.sampling_seeds, endpoint.is_smoke) == ((0, 1), False)
    assert endpoint.declared == "prereg-0123" and endpoint.is_declared
    assert endpoint.values.shape == (8, 6)
    rows = frame[(frame["metric"] == "FD-Net@2048") & (frame["arm"] == "C") & (frame["seed"] == 3)]
    assert endpoint.values.loc[3, "C"] == pytest.approx(np.log(rows["value"]).mean())


def test_endpoint_takes_each_arms_own_last_step():
    endpoint = primary_endpoint(study({"B": 0.0, "C": 0.0, "B-80%": 0.0}, seeds=2))
    assert endpoint.step_rule == "each arm's last step, 400; B-80%: 320"
    assert not endpoint.values.isna().any(axis=None)


def test_endpoint_leaves_out_unfinished_and_hollow_cells(frame):
    is_cell = (frame["seed"] == 2) & (frame["metric"] == "FD-Net@2048")
    rows = frame.copy()
    rows.loc[is_cell & (rows["arm"] == "C"), "full_range"] = False
    rows.loc[is_cell & (rows["arm"] == "S"), "total_steps"] = 500
    values = primary_endpoint(rows).values
    assert values.isna().stack().pipe(lambda x: set(x[x].index)) == {(2, "C"), (2, "S")}
    assert primary_endpoint(frame[frame["step"] < 300]) is None
    assert StudyAnalysis(frame[frame["step"] < 300]).findings == ()


def test_a_cell_with_fewer_sampling_seeds_is_left_out_and_changes_no_other(frame):
    rows = frame[~((frame["arm"] == "C") & (frame["seed"] == 0) & (frame["sampling_seed"] == 1))]
    whole, endpoint = primary_endpoint(frame), primary_endpoint(rows)
    assert endpoint.sampling_seeds == (0, 1)
    assert np.isnan(endpoint.values.loc[0, "C"])
    pd.testing.assert_frame_equal(endpoint.values.drop(columns="C"), whole.values.drop(columns="C"))
    assert endpoint.values["C"].drop(0).equals(whole.values["C"].drop(0))
    (said,) = endpoint.left_out
    assert said.startswith("FD-Net@2048 of C (seed 0) is left out: ")
    assert missing_cells(rows, endpoint, {}) == {"C": [0]}


def test_sampling_seeds_that_cells_share_in_part_count_where_a_majority_has_them(frame):
    # Half of the cells have 0 and 1, half 0 and 2: all have 0.
    odd = frame["seed"] % 2 == 1
    rows = frame.assign(
        sampling_seed=frame["sampling_seed"].mask(odd & (frame["sampling_seed"] == 1), 2)
    )
    endpoint = primary_endpoint(rows)
    assert endpoint.sampling_seeds == (0,) and endpoint.values.notna().all(axis=None)
    # None is shared by most: those of the most common one stay together.
    rows = frame.assign(sampling_seed=frame["sampling_seed"] + 2 * frame["seed"].clip(upper=5))
    endpoint = primary_endpoint(rows)
    assert endpoint.sampling_seeds == (10, 11) and set(endpoint.values.index) == {5, 6, 7}


def test_sampling_seeds_that_half_of_the_cells_lack_do_not_count_and_it_is_said(frame):
    rows = frame[(frame["sampling_seed"] == 0) | (frame["seed"] == 0)]
    endpoint = primary_endpoint(rows)
    assert endpoint.sampling_seeds == (0,)
    assert endpoint.values.notna().all(axis=None) and not missing_cells(rows, endpoint, {})
    cell = rows[(rows["metric"] == "FD-Net@2048") & (rows["arm"] == "C") & (rows["seed"] == 0)]
    first = cell.loc[cell["sampling_seed"] == 0, "value"].item()
    assert endpoint.values.loc[0, "C"] == pytest.approx(np.log(first), rel=1e-12)
    (said,) = endpoint.left_out
    assert said.startswith("Further sampling seeds (1) of ") and "do not count" in said


def test_endpoint_of_rows_of_two_declarations_is_exploratory(frame):
    rows = frame.copy()
    rows.loc[rows["arm"] == "C", "declared"] = "exploratory"
    assert primary_endpoint(rows).declared == "exploratory"
    assert not any(finding.declared for finding in StudyAnalysis(rows).findings)


def test_endpoint_prefers_the_net_that_everybody_has(frame):
    one, other = (
        frame.assign(metric=frame["metric"].str.replace("FD-Net", name))
        for name in ("FD-Another", "FD-EffNet-Lite0-32px")
    )
    both = pd.concat([one, other])
    assert primary_endpoint(both).metric == "FD-EffNet-Lite0-32px@2048"


@pytest.mark.parametrize("terms", [Terms(), Terms(num_generated=4096)])
@pytest.mark.parametrize("metric", ["FD-Net@4096", "FID@4096", "FD-EffNet-Lite0-64px@4096"])
def test_one_cell_measured_otherwise_changes_nothing_and_is_told(frame, found, metric, terms):
    """By more images, another net, an FID: even where the study's file asks for it since."""
    one = (frame["metric"] == "FD-Net@2048") & (frame["arm"] == "B") & (frame["seed"] == 0)
    rows = pd.concat([frame, frame[one].assign(metric=metric, n_generated=4096)])
    assert StudyAnalysis(rows, terms).findings == tuple(found.values())
    assert primary_endpoint(rows, terms).left_out == (
        f"{metric} of B (seed 0) is left out, since the cells are compared by FD-Net@2048.",
    )
    assert primary_endpoint(frame).left_out == ()


def test_declared_number_of_images_comes_before_a_larger_one(frame):
    assert primary_endpoint(frame, Terms(num_generated=256)).metric == "FD-Net@256"
    assert primary_endpoint(frame, Terms(num_generated=50_000)).metric == "FD-Net@2048"


def test_held_out_error_scored_again_for_one_cell_changes_nothing(frame):
    rows = with_held_out(frame, {"C": -0.02})
    one = (rows["metric"] == HELD_OUT) & (rows["arm"] == "B") & (rows["seed"] == 0)
    more = pd.concat([rows, rows[one].assign(n_reference=32, value=0.5)])
    assert StudyAnalysis(more).findings == StudyAnalysis(rows).findings


def test_endpoint_refuses_a_distance_without_a_logarithm(frame):
    rows = frame.copy()
    rows.loc[(rows["metric"] == "FD-Net@2048") & (rows["arm"] == "C"), "value"] = 0.0
    with pytest.raises(UserError, match=r"arm 'C' has 0; .* measure it again") as caught:
        primary_endpoint(rows)
    assert "\n" not in str(caught.value)


# --- findings ---


def test_planted_effects_get_their_verdicts(found):
    assert {key: finding.verdict for key, finding in found.items()} == {
        "H1": "supported", "H2": "supported", "H3": "equal", "density*-B": "equal",
        "S-B": "equal", "C-B": "supported", "CS-B": "supported", "CS-C": "equal", "A/A": "equal",
    }  # fmt: skip
    assert found["H1"].estimate == pytest.approx(-0.08, abs=0.012)
    assert found["H2"].low < -0.10 < found["H2"].high
    assert found["H2"].scale == USUAL_SCALE
    assert all(finding.seeds == 8 for finding in found.values())


def test_hypotheses_alone_are_declared_and_their_contrasts_adjusted(frame, found):
    for finding in found.values():
        # C-B is H2 by another name.
        is_hypothesis = finding.group == "hypothesis" or finding.key == "C-B"
        assert finding.declared == is_hypothesis
        assert (finding.p_holm is not None) == is_hypothesis
    ps = {key: found[key].p for key in ("H1", "H2", "H3")}
    assert ps["H1"] < ps["H2"] < ps["H3"]
    assert found["H1"].p_holm == pytest.approx(3 * ps["H1"], rel=1e-9)
    assert found["H2"].p_holm == pytest.approx(2 * ps["H2"], rel=1e-9)
    assert found["H2"].p_sign_flip == 0.0078125
    differences = np.diff(primary_endpoint(frame).values[["B", "A/A"]].to_numpy(), axis=1)
    assert found["A/A"].p_sign_flip == sign_flip(differences.ravel()) > 0.01


def test_swapping_two_arms_labels_turns_the_verdict_round(frame, found):
    swapped = frame.assign(arm=frame["arm"].replace({"B": "C", "C": "B"}))
    other = {finding.key: finding for finding in StudyAnalysis(swapped).findings}
    assert other["H2"].verdict == "refuted" and found["H2"].verdict == "supported"
    assert other["H2"].estimate == pytest.approx(-found["H2"].estimate)
    assert (other["H2"].low, other["H2"].high) == pytest.approx(
        (-found["H2"].high, -found["H2"].low)
    )
    before, after = answer(frame), answer(swapped)
    # What is called B is no longer equal to A/A, so the instrument's check tells.
    assert before.startswith("Yes: ") and after.startswith("The instrument fails its own check")
    unchecked = swapped[swapped["arm"] != "A/A"]
    after = answer(unchecked)
    assert after.startswith("No: ")


def test_order_of_rows_changes_nothing(frame, found):
    mixed = frame.sample(frac=1, random_state=1)
    assert StudyAnalysis(mixed).findings == tuple(found.values())
    pd.testing.assert_frame_equal(learning_of(mixed), learning_of(frame))


def last_values(logs, arms):
    """Rows of the last step alone, with these (seeds, arms) log distances."""
    return to_frame(
        change(arm=arm, seed=seed, value=float(np.exp(value)))
        for seed, row in enumerate(logs)
        for arm, value in zip(arms, row, strict=True)
    )


def test_equal_arms_are_found_different_as_rarely_as_promised():
    rng = np.random.default_rng(0)
    outcomes = []
    for _ in range(30):
        logs = 4 + 0.05 * rng.normal(size=(4, 2)) + rng.normal(size=(4, 1))
        outcomes += [
            finding.verdict for finding in StudyAnalysis(last_values(logs, ("B", "A/A"))).findings
        ]
    assert len(outcomes) == 30
    assert sum(outcome in ("equal", "undecided") for outcome in outcomes) >= 26


def test_checks_pass_by_the_sign_of_a_handicap_and_by_equal_arms_being_equal():
    rows = study({"B": 0.0, "A/A": 0.0, "B-80%": 0.0, "B-half": -0.2}, seeds=4)
    found = {finding.key: finding for finding in StudyAnalysis(rows).findings}
    assert found["A/A"].passed and found["B-80%"].passed
    assert found["B-80%"].verdict == "supported"
    assert found["B-half"].passed is False and found["B-half"].verdict == "refuted"
    different = StudyAnalysis(study({"B": 0.0, "A/A": -0.2}, seeds=4)).findings[0]
    assert different.passed is False and "so the arms differ" in different.why
    assert found["B-80%"].steps_equivalent == pytest.approx(0.2, abs=0.02)


def test_no_other_arm_moves_a_contrast(frame, found):
    """Arms that scatter, lie apart or lack seeds are another claim's business."""
    other = frame[frame["arm"] == "B"].assign(arm="CR")
    other["value"] *= np.random.default_rng(0).uniform(0.5, 2, len(other))
    other = other[other["seed"] != 3]
    beside = {finding.key: finding for finding in StudyAnalysis(pd.concat([frame, other])).findings}
    for key in set(found) - {"H1", "H2", "H3", "C-B"}:
        assert beside[key] == found[key], key
    assert (beside["H2"].low, beside["H2"].high) == (found["H2"].low, found["H2"].high)


def test_mask_that_does_nothing_tests_nothing():
    found = {finding.key: finding for finding in StudyAnalysis(study(seeds=2, mask=0.004)).findings}
    for key in ("H3", "CS-C", "S-B", "CS-B"):
        assert found[key].verdict == "not tested" and np.isnan(found[key].estimate)
        assert "0.4 %" in found[key].why
        assert found[key].p_holm is None
    assert found["H2"].verdict != "not tested"
    # Holm counts the two hypotheses that were tested.
    assert found["H2"].p_holm == pytest.approx(2 * min(found["H1"].p, found["H2"].p))


def test_mask_whose_lifting_lowers_the_error_acts_too():
    effect = mask_effects(study({"B": 0.0, "S": 0.0}, seeds=1, mask=-0.05))["S"]
    assert effect.relative == pytest.approx(-0.05) and effect.passed


def test_mask_effect_is_read_at_trained_noise_levels_only(frame):
    effect = mask_effects(frame)["CS"]
    assert (effect.relative, effect.level) == pytest.approx((0.05, 0.9))
    assert (effect.step, effect.seeds, effect.passed) == (100, 8, True)
    no_stages = frame[~frame["metric"].isin(["t_min", "t_max"])]
    assert mask_effects(no_stages) == {}
    joint = next(f for f in StudyAnalysis(no_stages).findings if f.key == "H3")
    assert joint.verdict == "not tested" and "No row says" in joint.why


def test_an_arm_whose_later_units_do_nothing_tests_no_mask(frame):
    asked = frame.assign(metric=frame["metric"].replace("mask-effect", "birth-effect"))
    assert mask_effects(asked)["CS"].relative == pytest.approx(0.05)
    idle = asked.assign(
        value=asked["value"].where(asked["metric"] != "birth-effect", asked["value"] / 100)
    )
    joint = next(f for f in StudyAnalysis(idle).findings if f.key == "H3")
    assert joint.verdict == "not tested"
    assert joint.why.startswith("Switching off the later units of CS changes its ε-MSE by 0.05 %")


def test_any_arm_with_a_mask_needs_the_manipulation_check(frame):
    """Of an arm of one's own the mask shows in its stages."""
    own = frame[(frame["arm"] == "C") & ~frame["metric"].isin(["t_min", "t_max"])]
    own = own.assign(arm="mine")
    stages = [
        change(arm="mine", seed=seed, step=step, metric=metric, value=value, stage=f"s{step}",
               n_generated=0, sampler="", sampler_steps=0, full_range=False)
        for seed in range(8)
        for step, channels in ((0, 8.0), (100, 32.0))
        for metric, value in (("t_min", 0.0), ("t_max", 1.0), ("active_channels", channels))
    ]  # fmt: skip
    rows = pd.concat([frame, own, to_frame(stages)])
    found = {finding.key: finding for finding in StudyAnalysis(rows).findings}
    assert found["mine-B"].verdict == "not tested" and "No row says" in found["mine-B"].why
    assert found["H2"].verdict == "supported"


def test_one_seed_decides_nothing_and_says_so():
    rows = study(seeds=1)
    found = StudyAnalysis(rows).findings
    assert {finding.verdict for finding in found} == {"undecided"}
    assert next(finding for finding in found if finding.key == "A/A").passed is None
    for finding in found:
        assert np.isnan([finding.low, finding.high]).all()
        assert finding.p is finding.p_holm is finding.seeds_needed is None
        assert "One training seed" in finding.why
    assert answer(rows).startswith("One training seed decides nothing")


def test_undecided_names_the_seeds_that_would_decide():
    rows = study({"B": 0.0, "C": -0.05}, seeds=4, noise=0.03, draw=3)
    finding = next(f for f in StudyAnalysis(rows).findings if f.key == "C-B")
    assert finding.verdict == "undecided"
    assert finding.seeds_needed > 4
    assert f"about {finding.seeds_needed} seeds would decide" in finding.why
    assert "3 %" in finding.why
    # The estimate must come clear of 3 %.
    ratios = np.diff(primary_endpoint(rows).values.to_numpy(), axis=1)
    gap = abs(abs(ratios.mean()) - USUAL_SCALE.margin)
    assert finding.seeds_needed == seeds_needed(gap, float(ratios.std(ddof=1)), 0.05 / 3)


def test_supported_hypotheses_need_holms_p_too():
    """Three seeds: C − B lies beyond 3 % with p = .031, which is .062 for two hypotheses."""
    logs = 4 + np.array([[0, -0.5, -0.4], [0, -0.6, -0.7], [0, -0.9, -0.8]])
    rows = last_values(logs, ("B", "C", "density*"))
    found = {finding.key: finding for finding in StudyAnalysis(rows).findings}
    assert found["H2"].p == pytest.approx(0.0311, abs=0.0005)
    assert found["H2"].verdict == "undecided" and found["H2"].seeds_needed > 3
    assert found["H2"].why.endswith("among 2 hypotheses its p is 0.062 (Holm), not below 0.05.")
    # The same test under another name has the same answer.
    for name in ("verdict", "why", "p_holm", "estimate", "low", "seeds_needed"):
        assert getattr(found["C-B"], name) == getattr(found["H2"], name), name


def test_missing_cells_cost_only_the_contrasts_they_belong_to(frame, found):
    rows = frame[~((frame["arm"] == "density*") & (frame["seed"] >= 5))]
    other = {finding.key: finding for finding in StudyAnalysis(rows).findings}
    assert other["H1"].seeds == other["density*-B"].seeds == 5
    assert other["H2"].seeds == 8
    assert other["H2"].estimate == pytest.approx(found["H2"].estimate)
    nothing = frame[~((frame["arm"] == "density*") & (frame["seed"] < 8))]
    alone = frame[(frame["arm"] == "density*") & (frame["seed"] == 0)].assign(seed=99)
    disjoint = next(f for f in StudyAnalysis(pd.concat([nothing, alone])).findings if f.key == "H1")
    assert (disjoint.seeds, disjoint.verdict) == (0, "not tested")
    assert disjoint.why == "No training seed has all of C and density* at the last step."


def with_held_out(rows, effects):
    """The same rows with these log ratios to B of the held-out error."""
    rows = rows.copy()
    is_error = rows["metric"] == HELD_OUT
    # A little scatter of the arms that change, so that there is an interval.
    log = rows["arm"].map(effects).fillna(0.0)
    ratio = np.exp(log * (1 + 0.01 * (rows["seed"] % 3 - 1)))
    rows.loc[is_error, "value"] = 0.05 * ratio[is_error]
    return rows


def test_held_out_error_stands_beside_the_distance(frame):
    found = {
        finding.key: finding
        for finding in StudyAnalysis(with_held_out(frame, {"C": -0.02})).findings
    }
    estimate, low, high = found["H2"].held_out
    assert estimate == pytest.approx(-0.02, abs=1e-3) and low < estimate < high < 0
    assert found["H2"].verdict == "supported"
    without = frame[frame["metric"] != HELD_OUT]
    assert all(np.isnan(finding.held_out).all() for finding in StudyAnalysis(without).findings)


def test_measures_that_point_opposite_ways_give_a_mixed_verdict(frame):
    rows = with_held_out(frame, {"C": 0.2, "A/A": 0.2})
    found = {finding.key: finding for finding in StudyAnalysis(rows).findings}
    assert found["H2"].verdict == found["C-B"].verdict == "mixed"
    assert "opposite ways" in found["H2"].why and "+22.1" in found["H2"].why
    # A check is of the distance alone.
    assert found["A/A"].verdict == "equal"
    assert answer(rows).startswith("Mixed: Two measures")
    unsure = with_held_out(frame, {"C": 0.0})
    assert {f.key: f.verdict for f in StudyAnalysis(unsure).findings}["H2"] == "supported"


def test_rows_of_uncommitted_code_make_an_answer_provisional(frame):
    rows = frame.copy()
    is_end = (rows["metric"] == "FD-Net@2048") & rows["arm"].isin(["B", "C"]) & (rows["seed"] < 3)
    rows.loc[is_end, "git"] = "0123456789ab-dirty"
    assert primary_endpoint(rows).uncommitted == 6
    assert "provisional: 6 of 48 cells were measured by uncommitted code" in answer(rows)
    assert "provisional" not in answer(frame)


def test_secondary_judges_the_sign_alone(frame):
    found = StudyAnalysis(frame).secondary
    assert len(found) == 3 * len(SUMMARIES)
    finding = next(f for f in found if f.key == f"H2 {SUMMARIES[0]}")
    # A tiny effect, 1/50 of the distance's: below 3 %, but its sign is sure.
    assert finding.verdict == "supported" and abs(finding.estimate) < USUAL_SCALE.margin
    assert "only the sign is judged" in finding.why
    assert not finding.declared and finding.p_holm is None


# --- learning ---


def test_learning_reads_speed_off_curves_of_the_same_seed(frame):
    table = learning_of(frame).set_index("arm")
    assert table.loc["B", "area"] == 0 and table.loc["B", "reached"] == 8
    assert table.loc["B", "steps_to_reach"] == pytest.approx(400)
    # Curves with few images carry a bias of 30, which shrinks ratios.
    assert EFFECTS["C"] < table.loc["C", "area"] < -0.02
    assert table.loc["C", "steps_to_reach"] < 400
    assert table.loc["C", "steps_to_reach_half_width"] > 0
    assert table.loc["A/A", "seeds"] == 8 and abs(table.loc["A/A", "area"]) < 0.01


def test_learning_and_curve_leave_hollow_milestones_out(frame):
    rows = frame.copy()
    rows.loc[(rows["arm"] == "C") & ~rows["full_range"], "value"] *= 0.001
    pd.testing.assert_frame_equal(learning_of(rows), learning_of(frame))
    rows.loc[(rows["arm"] == "B") & (rows["step"] == 50), "full_range"] = False
    assert baseline_curve(rows, primary_endpoint(rows))[0].tolist() == list(STEPS[1:])


def test_learning_gives_no_mean_over_the_lucky_seeds_alone():
    rows = study({"B": 0.0, "C": 0.0}, noise=0.05)
    line = learning_of(rows).set_index("arm").loc["C"]
    assert 0 < line["reached"] < 8
    assert np.isnan(line["steps_to_reach"]) and np.isnan(line["steps_equivalent"])


def test_steps_equivalent_of_a_worse_arm_is_the_share_it_wasted():
    rows = study({"B": 0.0, "late": 0.2}, noise=0.0)
    line = learning_of(rows).set_index("arm").loc["late"]
    # B falls by exp(.002 · 100) over its last quarter.
    assert line["steps_equivalent"] == pytest.approx(0.75, abs=0.01)
    assert line["reached"] == 0


def test_learning_without_a_baseline_is_empty(frame):
    assert learning_of(frame[frame["arm"] != "B"]).empty
    assert learning_of(frame[frame["step"] < 300]).empty


def test_baseline_curve_is_freed_of_the_bias_of_few_images(frame):
    steps, logs = baseline_curve(frame, primary_endpoint(frame))
    assert steps.tolist() == list(STEPS)
    assert np.diff(logs) == pytest.approx(-0.002 * np.diff(STEPS), rel=0.05)
    assert worth_in_steps(-0.2, (steps, logs)) == pytest.approx(0.25, abs=0.02)
    assert worth_in_steps(0.2, (steps, logs)) == worth_in_steps(-0.2, (steps, logs))
    assert worth_in_steps(2.0, (steps, logs)) is None


# --- words ---


def test_headline_names_interval_seeds_and_order(frame, found):
    text = answer(frame)
    finding = found["H2"]
    assert f"{-100 * np.expm1(finding.estimate):.1f} % below B's" in text
    assert "95 % interval −" in text and "n = 8 seeds" in text
    assert "its early order of noise levels helps" in text
    assert "exploratory" not in text and "smoke" not in text
    assert text.count(".\n") == 0 and text.endswith(").")


def test_headline_of_a_sure_sign_and_an_unsure_size_says_both():
    rows = last_values(4 + np.array([[0, -0.07], [0, -0.05], [0, -0.03], [0, -0.06]]), ("B", "C"))
    text = answer(rows)
    assert text.startswith("Lower, but perhaps by less than the 3 % that matter: ")


def test_headline_of_a_smoke_test_says_so(frame):
    rows = frame[frame["n_generated"] <= 256].assign(declared="exploratory")
    text = answer(rows)
    assert "smoke test" in text and "exploratory" in text


@pytest.mark.parametrize(
    ("images", "error", "declared", "few"),
    [(1024, 0.009, "prereg-0", False), (1023, 0.009, "prereg-0", True),
     (1024, 0.011, "prereg-0", True), (1024, None, "prereg-0", True),
     (1024, 0.009, "exploratory", True), (2048, 0.5, "exploratory", False)],
)  # fmt: skip
def test_a_declared_study_may_have_1024_images_where_each_set_is_exact(
    images, error, declared, few, frame
):
    rows = frame[frame["n_generated"] == 2048].assign(n_generated=images, declared=declared)
    # One set is the least exact one.
    errors = rows["value"] * 0.001
    errors.iloc[3] = np.nan if error is None else rows["value"].iloc[3] * error
    assert primary_endpoint(rows.assign(error=errors)).is_smoke == few


def test_a_study_with_rows_of_two_declarations_is_no_declared_one(frame):
    rows = frame[frame["n_generated"] == 2048].assign(n_generated=1024)
    rows = rows.assign(error=rows["value"] * 0.001)
    assert not primary_endpoint(rows).is_smoke
    other = rows["declared"].where(rows["arm"] != "C", "prereg-4567")
    endpoint = primary_endpoint(rows.assign(declared=other))
    assert endpoint.is_smoke and not endpoint.is_declared


def test_headline_of_a_study_of_ones_own_arm_is_about_it():
    rows = study({"B": 0.0, "mine": -0.1, "mine-density*": 0.0})
    text = answer(rows)
    assert "FD-Net@2048 of mine" in text and "its early order of noise levels helps" in text


@pytest.mark.parametrize("seeds", [1, 3])
def test_headline_of_an_inert_mask_alone_says_that_nothing_was_tested(seeds):
    text = answer(study({"B": 0.0, "CS": -0.2}, seeds=seeds, mask=0.001))
    assert text.startswith("Not tested. CS − B: Lifting the mask of CS changes its ε-MSE by 0.1 %")
    beside = answer(study({"B": 0.0, "CS": -0.2, "CR": -0.2}, seeds=3, mask=0.001))
    assert beside.startswith("Yes: the FD-Net@2048 of CR")


@pytest.mark.parametrize("arms", [["B"], ["C", "density*"], []])
def test_headline_without_a_comparison_says_that_there_is_none(frame, arms):
    rows = frame[frame["arm"].isin(arms)]
    assert answer(rows) == (
        "No arm has been compared with B at its last step, so there is no answer."
    )


def test_percents_are_signed_and_never_minus_zero():
    assert percent(np.log(0.931)) == "−6.9 %"
    assert percent(np.log(1.03)) == "+3.0 %"
    assert percent(-1e-6) == "0.0 %"
    assert percent(np.log(13.345), 2) == "+1234 %"
    assert [digits_for(width) for width in (0.2, 0.02, 0.0002, np.nan)] == [1, 1, 3, 1]
    assert [listed(names) for names in (["A"], ["A", "B"], ["A", "B", "C"])] == [
        "A", "A and B", "A, B and C",
    ]  # fmt: skip


def test_headline_claims_nothing_where_the_instrument_fails_its_check():
    rows = study({"B": 0.0, "C": -0.2, "A/A": 0.3})
    text = answer(rows)
    assert text.startswith("The instrument fails its own check (A/A − B), so no verdict counts")


def test_an_answer_before_all_cells_are_measured_says_so(frame):
    assert "interim" not in answer(frame)
    text = answer(frame, ("C", 8), ("C", 9), ("B", 8))
    assert "n = 8 seeds, interim: 3 cells are not measured yet, how far B" in text
    assert text.startswith(
        "Not judged yet, as declared, while cells are missing: so far the FD-Net@2048"
    )


def test_an_exploratory_study_has_its_answer_before_all_cells_are_measured(frame):
    text = answer(frame.assign(declared="exploratory"), ("C", 8))
    assert text.startswith("Yes: ") and "interim: 1 cell is not measured yet" in text


# --- hypotheses of a study's own ---


def judged(rows, *hypotheses, **terms):
    """Findings by key of a study with hypotheses of its own."""
    study = StudyAnalysis(rows, Terms(hypotheses=hypotheses, **terms))
    return {finding.key: finding for finding in study.findings}


def test_a_claim_has_the_verdict_of_a_hypothesis_that_claims_the_same_alone(frame):
    worse = judged(frame, Hypothesis("H", "C - B", "worse"))
    assert worse["H"].verdict == "refuted" and worse["C-B"].verdict == "supported"
    assert worse["C-B"].p_holm is None and not worse["C-B"].declared
    pair = judged(frame, Hypothesis("H", "C - B"), Hypothesis("K", "C - B", "worse"))
    assert (pair["H"].verdict, pair["K"].verdict) == ("supported", "refuted")
    same = judged(frame, Hypothesis("H", "(C - B)"), Hypothesis("K", "C - CS"))
    assert same["C-B"].declared and same["C-B"].p_holm == same["H"].p_holm is not None


@pytest.mark.parametrize("expected", ["worse", "equal", "better"])
def test_no_hypothesis_lets_a_check_pass(expected):
    rows = study({"B": 0.0, "A/A": 0.2, "B-half": -0.2}, seeds=4)
    asked = [Hypothesis(arm, f"{arm} - B", expected) for arm in ("A/A", "B-half")]
    found = judged(rows, *asked)
    checks = [finding for finding in found.values() if finding.group == "check"]
    assert [finding.passed for finding in checks] == [False, False]
    assert not any(finding.declared for finding in checks)
    assert all(found[one.name].passed is None for one in asked)


def test_holm_reaches_a_hypothesis_that_expects_no_difference():
    spread = np.array([1, -1, 1, -1, 1, -1])[:, None] * [0, 0.0275, 0.0275, 0.0275]
    rows = last_values(4 + spread, ("B", "C", "P2", "mine"))
    asked = [Hypothesis(arm, f"{arm} - B", "equal") for arm in ("C", "P2", "mine")]
    alone, among = judged(rows, asked[0])["C"], judged(rows, *asked)["C"]
    # The p is that of equivalence: that of a difference is 1.
    assert alone.verdict == "equal" and alone.p == alone.p_holm == pytest.approx(0.03, abs=0.005)
    assert among.verdict == "undecided" and among.p_holm == pytest.approx(3 * among.p)
    assert "among 3 hypotheses its p is 0.092 (Holm)" in among.why


@pytest.mark.parametrize(
    ("size", "verdict", "why"),
    [
        (0.05, "supported", "lies beyond the claimed −5.0 %."),
        (0.22, "refuted", "lies short of the claimed −22.0 %."),
        (1 - np.exp(-0.10), "undecided", "includes the claimed −9.5 %; "),
    ],
)
def test_a_claimed_size_is_judged_as_a_size(frame, size, verdict, why):
    found = judged(frame, Hypothesis("H", "C - B", at_least=float(size)))
    assert found["H"].verdict == verdict and why in found["H"].why
    # It says nothing of the claim without a size.
    assert found["C-B"].verdict == "supported" and not found["C-B"].declared
    plain = judged(frame, Hypothesis("H", "C - B"))["H"]
    assert found["H"].interval == plain.interval and found["H"].p != plain.p


def test_worse_by_a_size_is_a_share_of_the_lower_value():
    rows = study({"B": 0.0, "C": 0.25})  # +28 %
    found = judged(
        rows,
        Hypothesis("20", "C - B", "worse", at_least=0.2),
        Hypothesis("40", "C - B", "worse", at_least=0.4),
        Hypothesis("other", "C - B", at_least=0.2),
    )
    assert [one.verdict for one in found.values()][:3] == ["supported", "refuted", "refuted"]
    assert found["20"].title == "20 (expected: worse), by at least 0.2"
