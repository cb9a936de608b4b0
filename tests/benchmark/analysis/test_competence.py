"""The gate on planted networks: which it lets pass, which it holds back, and what it says."""

import dataclasses
import json
import math

import numpy as np
import pytest
from made_up_row import ROW

from benchmark.__main__ import main
from benchmark.analysis.answer import (
    NOT_LEARNED,
    baseline_line,
    headline,
    reservations,
)
from benchmark.analysis.competence import competence
from benchmark.analysis.study_analysis import StudyAnalysis, analyse
from benchmark.analysis.verdict_words import baseline_text
from benchmark.reporting.tables.verdicts import competence as table
from benchmark.rows.file import append_rows, read_rows
from benchmark.rows.frames import to_frame
from benchmark.study.terms import Gate, Terms, terms_of
from plots.build import drawn as figures

LEVELS = (np.arange(20) + 0.5) / 20
# A linear schedule's ᾱ, and the spectrum of 32-px pictures that falls as natural ones' does.
ALPHA_BAR = np.exp(-10 * LEVELS**2 - 0.02 * LEVELS)
SIGMA2 = (1 - ALPHA_BAR) / ALPHA_BAR
VARIANCES = 150 / np.arange(1, 3073) ** 1.2
MEAN = VARIANCES.mean() / SIGMA2
LINEAR = (VARIANCES[:, None] / (VARIANCES[:, None] + SIGMA2)).mean(0)


def profile_rows(ratio, step=400, seed=0, arm="B"):
    """Profiles of one milestone: the network's ε-MSE is ``ratio`` times the linear denoiser's."""
    kind = {"arm": arm, "seed": seed, "step": step, "n_generated": 0, "sampler": ""}
    values = {
        ("eps-MSE", "ema0.99"): LINEAR * ratio,
        ("eps-MSE", "raw"): LINEAR * 50,
        ("eps-MSE-linear", ""): LINEAR,
        ("eps-MSE-mean", ""): MEAN,
    }
    return [
        dataclasses.replace(ROW, **kind, metric=metric, weights=weights, level=level, value=value)
        for (metric, weights), column in values.items()
        for level, value in zip(LEVELS.tolist(), column.tolist(), strict=True)
    ]


def learned(ratio, **changes):
    return competence(to_frame(profile_rows(np.broadcast_to(ratio, 20), **changes)))


def high_noise(value, other, begin=0.5):
    return np.where(begin < LEVELS, value, other)


MEAN_AT_LAST_THREE = high_noise(1.01 * MEAN / LINEAR, 0.7, LEVELS[-4])


@pytest.mark.parametrize(
    ("name", "ratio", "passes"),
    [
        ("good at low noise, all but linear at high noise", high_noise(1.005, 0.7), True),
        ("better by a little everywhere", 0.95, True),
        ("good at a third of the levels, linear at the others", high_noise(1.005, 0.6, 0.35), True),
        ("the linear denoiser itself", 1.0, False),
        ("the linear denoiser with errors of 2 %", 1 + 0.02 * (-1) ** np.arange(20), False),
        ("a hair better at most levels, lost at high noise", high_noise(3.0, 0.99, 0.6), False),
        ("as good as the mean picture", MEAN / LINEAR, False),
        ("good at most levels, behind the mean picture at three", MEAN_AT_LAST_THREE, False),
        ("stalled at high noise, as the first CPU study", 2.6 * 1.4 ** np.arange(20), False),
    ],
)  # fmt: skip
def test_gate_lets_pass_who_has_learned_and_holds_back_who_has_not(name, ratio, passes):
    assert learned(ratio).passed(Gate()) is passes, name


def test_the_mean_picture_holds_back_whom_the_linear_denoiser_lets_pass():
    found = learned(MEAN_AT_LAST_THREE)
    assert found.oracle_ratio < Gate().oracle_ratio and found.below_mean == 0.85


def test_half_of_the_levels_would_let_a_lost_network_pass():
    """Why the gate takes a geometric mean and not a count of levels."""
    lost = learned(high_noise(3.0, 0.99, 0.6))
    assert lost.below_oracle == 0.6 and lost.oracle_ratio > 1.5
    good = learned(high_noise(1.005, 0.6, 0.35))
    assert good.below_oracle < 0.5 and good.oracle_ratio < 0.9


def test_measures_of_a_profile_are_those_of_their_definitions():
    found = learned(high_noise(2.0, 0.5))
    assert found.oracle_ratio == pytest.approx(1.0)
    assert found.below_oracle == 0.5
    assert found.gain == pytest.approx((MEAN - found.error) / (MEAN - LINEAR))
    # The mean picture's error is the images' spread over σ²: the way is read off it exactly.
    log_sigma = 0.5 * np.log(SIGMA2)
    edges = np.concatenate([log_sigma[:1], (log_sigma[1:] + log_sigma[:-1]) / 2, log_sigma[-1:]])
    way = np.diff(edges) / (log_sigma[-1] - log_sigma[0])
    assert found.path == pytest.approx(way)
    assert found.below_oracle_on_path == pytest.approx(way[LEVELS < 0.5].sum())
    assert math.isnan(found.slope) and found.seeds == 1


def test_slope_is_of_the_last_tenth_of_the_steps():
    rows = profile_rows(np.full(20, 2.0), step=320) + profile_rows(np.full(20, 1.0), step=400)
    found = competence(to_frame(rows))
    # Half of the way from 320 to 400 lies in the last tenth.
    assert found.slope == pytest.approx(-np.log(2) / 2)
    assert (found.step, found.oracle_ratio) == (400, pytest.approx(1.0))


def test_mean_over_seeds_counts_and_other_arms_do_not():
    rows = profile_rows(np.full(20, 0.5)) + profile_rows(np.full(20, 1.5), seed=1)
    rows += profile_rows(np.full(20, 9.0), arm="C")
    found = competence(to_frame(rows))
    assert (found.seeds, found.oracle_ratio) == (2, pytest.approx(1.0))


@pytest.mark.parametrize("missing", ["eps-MSE", "eps-MSE-linear", "eps-MSE-mean"])
def test_without_a_profile_or_what_to_hold_it_against_nothing_is_said(missing):
    rows = [row for row in profile_rows(np.ones(20)) if row.metric != missing]
    assert competence(to_frame(rows)) is None


def test_errors_of_zero_and_levels_of_one_denoiser_alone_are_left_out():
    rows = [
        dataclasses.replace(row, value=0.0)
        if row.metric == "eps-MSE" and row.level == LEVELS[0]
        else row
        for row in profile_rows(np.full(20, 0.9))
        if not (row.metric == "eps-MSE-mean" and row.level == LEVELS[3])
    ]
    found = competence(to_frame(rows))
    assert len(found.level) == 18 and found.oracle_ratio == pytest.approx(0.9)


def study(ratio, seeds=4, effect=-0.2):
    """Distances of B, C and A/A beside B's profile."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        rows += profile_rows(np.broadcast_to(ratio, 20), seed=seed)
        for arm, shift in {"B": 0.0, "C": effect, "A/A": 0.0}.items():
            value = float(np.exp(4 + shift + 0.005 * rng.normal()))
            rows.append(dataclasses.replace(ROW, arm=arm, seed=seed, value=value))
    return to_frame(rows)


def test_verdicts_come_from_networks_that_have_learned():
    young, old = study(11.6), study(0.9)
    held = {finding.key: finding for finding in StudyAnalysis(young).findings}
    free = {finding.key: finding for finding in StudyAnalysis(old).findings}
    assert held["H2"].verdict == held["C-B"].verdict == "not answered"
    assert free["H2"].verdict == "supported"
    # Numbers stay; checks of the instrument are about the instrument.
    assert held["H2"].estimate == free["H2"].estimate and held["H2"].seeds_needed is None
    assert held["A/A"] == free["A/A"] and held["A/A"].passed
    text = headline(StudyAnalysis(young))
    assert text.startswith("Not answered. The networks have not learned enough for the question: ")
    assert "11.6 times" in text and "at 1 of 20 levels (18 are asked)" in text
    assert "18.2 % below B's" in text and "4 seeds" in text


def test_study_may_declare_another_gate():
    rows = study(1.5)
    assert {f.key: f.verdict for f in StudyAnalysis(rows).findings}["H2"] == "not answered"
    terms = Terms(gate=Gate(oracle_ratio=2.0, below_mean=0.5))
    assert {f.key: f.verdict for f in StudyAnalysis(rows, terms).findings}["H2"] == "supported"


def test_without_profiles_verdicts_stand_unguarded():
    rows = study(11.6)
    rows = rows[~rows["metric"].str.startswith("eps-MSE")]
    assert {f.key: f.verdict for f in StudyAnalysis(rows).findings}["H2"] == "supported"


# --- where a reader meets the gate ---

INDEX = {
    "study": "demo",
    "cells": [
        {"arm": arm, "seed": seed, "run": f"{arm}/seed{seed}", "milestones": [400]}
        for arm in "BC"
        for seed in range(4)
    ],
}


@pytest.fixture
def folder(tmp_path):
    """A function: ratio and index → a study's folder."""

    def make(ratio, **index):
        frame = study(ratio).astype(object)
        rows = frame.where(frame.notna(), None).to_dict("records")
        append_rows(tmp_path / "rows.jsonl", [dataclasses.replace(ROW, **row) for row in rows])
        (tmp_path / "study.json").write_text(json.dumps(INDEX | index))
        return tmp_path

    return make


def test_gate_of_the_index_decides_the_answer(folder):
    path = folder(1.5, gate={"oracle_ratio": 2.0, "below_mean": 0.5})
    text = headline(analyse(path))
    assert text.startswith("Yes: ")
    assert "judged by a gate of the study's own, oracle ratio 2 and mean 0.5, where" in text
    assert baseline_line(path).startswith("learned enough for verdicts at step 400 of 400: B's")


def test_an_answer_that_nothing_guards_says_so(folder):
    path = folder(0.9)
    assert "was not measured" not in headline(analyse(path))
    kept = [row for row in read_rows(path / "rows.jsonl") if not row.metric.startswith("eps-MSE")]
    (path / "rows.jsonl").unlink()
    append_rows(path / "rows.jsonl", kept)
    assert "how far B has learned was not measured" in headline(analyse(path))


def test_ratio_beside_the_border_shows_on_which_side_it_lies():
    text = baseline_text(learned(0.98049), Gate())
    assert "is 0.980490 times" in text and not learned(0.98049).passed(Gate())


def test_status_says_how_far_the_baseline_has_come(folder, call):
    code, out, errors = call(main, ["status", str(folder(11.6))])
    assert (code, errors) == (0, "")
    assert out.splitlines()[-1].startswith(
        "learned not enough for verdicts at step 400 of 400: B's held-out ε-MSE is 11.6 times"
    )


def test_what_may_still_be_learned_is_not_enough_yet(folder):
    path = folder(11.6)
    rows = [dataclasses.replace(row, total_steps=800) for row in read_rows(path / "rows.jsonl")]
    (path / "rows.jsonl").unlink()
    append_rows(path / "rows.jsonl", rows)
    assert baseline_line(path).startswith("learned not yet enough for verdicts at step 400 of 800:")


def test_there_is_no_line_before_the_first_profile(tmp_path):
    append_rows(tmp_path / "rows.jsonl", [ROW])
    assert baseline_line(tmp_path) == "" == baseline_line(tmp_path / "nowhere")


@pytest.mark.parametrize("gate", [{"oracle_ratio": 0}, {"below_mean": 2}, {"half": 1}, 7, "x"])
def test_a_gate_that_is_none_is_one_line(folder, call, gate):
    code, out, errors = call(main, ["tables", str(folder(1.0, gate=gate))])
    assert (code, out) == (2, "") and errors.count("\n") == 1 and "study.json" in errors


def test_an_index_of_an_earlier_version_has_the_default_terms():
    assert terms_of({}) == terms_of({"study": "x", "cells": []}) == Terms()
    assert terms_of({"evaluation": {"num_generated": 9}}) == Terms(num_generated=9)


def test_table_gives_every_level_with_its_ratios_and_gain():
    ratio = np.where(np.arange(20) == 19, 900.0, 0.9)
    (made,), numbers = table(StudyAnalysis(to_frame(profile_rows(ratio))))
    assert len(made.body) == 20 and "at step 400, 1 seed: not enough for verdicts" in made.caption
    lowest, highest = made.body[0], made.body[-1]
    assert (lowest[4], highest[4], highest[6]) == ("0.900", "900", "< −99")
    assert numbers["path"].sum() == pytest.approx(1)
    assert table(StudyAnalysis(to_frame([ROW])))[0] == []


def test_figures_seen_alone_say_what_they_are_worth(folder):
    path = folder(11.6)
    held, free = study(11.6), study(0.9)
    assert reservations(StudyAnalysis(free)) == []
    assert reservations(StudyAnalysis(held)) == [NOT_LEARNED]
    assert reservations(StudyAnalysis(held.assign(git="0123456789ab-dirty"))) == [
        NOT_LEARNED, "provisional: 12 of 12 cells were measured by uncommitted code"
    ]  # fmt: skip
    drawn = dict(figures(StudyAnalysis(held, analyse(path).terms)))
    assert {"fid_vs_steps", "forest", "cost_vs_quality"} <= set(drawn)
    for name in ("fid_vs_steps", "forest", "cost_vs_quality"):
        assert NOT_LEARNED in drawn[name].get_supxlabel().replace("\n", " ")
    loose = Terms(gate=Gate(oracle_ratio=20, below_mean=0))
    drawn = dict(figures(StudyAnalysis(held.assign(git="0123456789ab-dirty"), loose)))
    for name in ("fid_vs_steps", "forest", "cost_vs_quality"):
        note = drawn[name].get_supxlabel().replace("\n", " ")
        assert NOT_LEARNED not in note and "judged by a gate of the study's own" in note
        assert "provisional: 12 of 12 cells" in note
