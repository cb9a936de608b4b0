"""Hypotheses that a study's file declares: read, refused, kept, and covered by its fingerprint."""

import json
import re

import pytest

from benchmark.study.declaration import fingerprint
from benchmark.study.hypotheses import USUAL_HYPOTHESES, Hypothesis, contrast_weights
from benchmark.study.index import INDEX_FILE, read_index
from benchmark.study.study import load_study
from benchmark.study.terms import Terms, terms_of, written_terms
from mindiffusion.errors import UserError

STUDY = """
seeds: [0, 1]
arms:
  b: {extends: [arms/b]}
  c: {extends: [arms/c]}
  own arm: {extends: [arms/c], training: {lr: 1.0e-3}, arm: my arm}
run:
  data: {dataset: avatars, num_train: 256, num_held_out: 32}
  model: {n_feat: 16}
  training: {steps: 64, global_batch: 8, milestones: ["100%"]}
"""
DECLARED = """
hypotheses:
  - {name: main, contrast: '"my arm" - B', title: Main, question: Does it help?}
  - {name: same, contrast: C − "my arm", expected: equal}
endpoint: {metric: eps-MSE/ELBO}
smallest_effect: 0.05
"""


@pytest.fixture
def load(tmp_path):
    """A function: content of a study file → the study."""

    def make(content, **options):
        path = tmp_path / "mine.yaml"
        path.write_text(content)
        return load_study(str(path), **options)

    return make


@pytest.mark.parametrize(
    ("contrast", "weights", "shown"),
    [
        ("C - B", {"C": 1, "B": -1}, "C − B"),
        ("(CS − C) - (S - B)", {"CS": 1, "C": -1, "S": -1, "B": 1}, "(CS − C) − (S − B)"),
        ("A/A - B-80%", {"A/A": 1, "B-80%": -1}, "A/A − B-80%"),
        ('"my (1) arm" - B', {"my (1) arm": 1, "B": -1}, "my (1) arm − B"),
        ("(C + CS) - (B + S)", {"C": 1, "CS": 1, "B": -1, "S": -1}, "(C + CS) − (B + S)"),
        ("(C - (B - S)) - S", {"C": 1, "B": -1}, "C − B"),
        ("(C - S) - (B - S)", {"C": 1, "B": -1}, "C − B"),
    ],
)
def test_a_contrast_is_read_as_weights_of_arms(contrast, weights, shown):
    hypothesis = Hypothesis("H", contrast)
    assert dict(hypothesis.weights) == weights and hypothesis.shown_contrast == shown


@pytest.mark.parametrize(
    ("contrast", "said"),
    [
        ("", "ends too early"),
        ("C", "must add up to 0"),
        ("C - C", "must add up to 0"),
        ("C + B", "must add up to 0"),
        ("C B", "has 'B' where a sign must stand"),
        ("C - - B", "has '-' where an arm must stand"),
        ("C -", "ends too early"),
        ("(C - B", "ends too early"),
        ("C - B)", "closes a parenthesis that is not open"),
        ('C - "B', "without its partner"),
        ("C-B", "must add up to 0"),
        ("C - B\x07", "cannot be shown"),
        ("C - B + B - " * 9999 + "B", "over 100000 characters"),
    ],
)
def test_a_contrast_that_cannot_be_read_is_refused_and_says_how_to_write_one(contrast, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        contrast_weights(contrast)
    with pytest.raises(ValueError, match=r"hypothesis 'H7': the contrast .*such as C - B"):
        Hypothesis("H7", contrast)


def test_a_study_without_hypotheses_of_its_own_has_the_usual_ones(load):
    assert load(STUDY).terms == Terms(num_generated=10_000)
    assert load(STUDY).terms.hypotheses == USUAL_HYPOTHESES
    assert load(STUDY + "hypotheses: []\n").terms.hypotheses == ()


def test_a_study_declares_its_own(load):
    terms = load(STUDY + DECLARED).terms
    assert [one.name for one in terms.hypotheses] == ["main", "same"]
    assert dict(terms.hypotheses[0].weights) == {"my arm": 1, "B": -1}
    assert terms.endpoint.metric == "eps-MSE/ELBO" and terms.smallest_effect == 0.05
    other = load(STUDY + DECLARED, overrides=["smallest_effect=0.1"]).terms
    assert other.smallest_effect == 0.1


def test_a_study_may_ask_for_the_joint_effect_of_a_mask_at_another_place(load):
    masked = "  s: {extends: [arms/s_down1]}\n  cs: {extends: [arms/cs_down1]}\nrun:"
    asked = "hypotheses: [{name: H3, contrast: (CS-down1 - C) - (S-down1 - B)}]\n"
    study = load(STUDY.replace("run:", masked) + asked)
    (joint,) = study.terms.hypotheses
    assert dict(joint.weights) == {"CS-down1": 1, "C": -1, "S-down1": -1, "B": 1}
    assert {run.model.placement for run in study.runs if "down1" in run.arm} == {"down1"}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("[{name: H1, contrast: D - B}]", "hypothesis 'H1' is about 'D', no arm of this study."),
        ("[{name: H1, contrast: C minus B}]", "hypothesis 'H1': the contrast 'C minus B' has"),
        (
            "[{name: H1, contrast: C - B}, {name: H1, contrast: B - C}]",
            "two hypotheses are called 'H1'",
        ),
        ("[{name: '', contrast: C - B}]", "hypotheses.0.name"),
        ("[{name: H1, contrast: C - B, at_least: 0}]", "hypotheses.0.at_least"),
        ("[{name: H1, contrast: C - B, at_least: 0.03}]", "more than the smallest effect, 0.03"),
        ("[{name: H1, contrast: C - B, at_least: 1}]", "below 1, for no metric falls by all"),
        (
            "[{name: H1, contrast: C - B, expected: equal, at_least: 0.2}]",
            "expects equal arms and an effect of at least 0.2",
        ),
        ("[{name: H1}]", "key 'hypotheses.0.contrast' is missing"),
        ("[{name: H1, contrast: C - B, expected: lower}]", "hypotheses.0.expected"),
        ("[{name: H1, contrast: C - B, sign: 1}]", "unknown key 'hypotheses.0.sign'"),
        ("7", "key 'hypotheses' is 7"),
        (
            f"[{{name: H1, contrast: {'C - B + ' * 300} C - B}}]",
            "the contrast of hypothesis 'H1' has 2406 characters; write at most 2000.",
        ),
    ],
)
def test_a_mistake_in_a_hypothesis_is_one_line_when_the_study_is_read(load, declared, said):
    with pytest.raises(UserError) as error:
        load(STUDY + f"hypotheses: {declared}\n")
    text = str(error.value)
    assert said in text and "mine.yaml" in text and "\n" not in text


PLAIN = "endpoint: {metric: precision-Inception, scale: plain}\n"


def test_a_study_declares_its_scale_and_an_effect_in_the_metrics_own_unit(load, tmp_path):
    terms = load(STUDY + PLAIN + "smallest_effect: 2.5\n").terms
    assert (terms.endpoint.scale, terms.smallest_effect) == ("plain", 2.5)
    assert load(STUDY).terms.endpoint.scale == "ratio"
    evaluation = {"num_generated": terms.num_generated}
    assert terms_of(read_index(write(tmp_path, **written_terms(terms), evaluation=evaluation))) == (
        terms
    )


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (PLAIN, "smallest_effect is missing; on the plain scale of precision-Inception declare a"),
        (PLAIN + "smallest_effect: 0", "smallest_effect is 0; on the plain scale give a differ"),
        (PLAIN + "smallest_effect: -1", "is -1; on the plain scale give a difference in the metr"),
        ("endpoint: {metric: FID, scale: log}", "'ratio' or 'plain'"),
        ("endpoint: {scale: plain}", "endpoint.scale is plain, but endpoint.metric names no"),
        ("smallest_effect: 2.5", "is 2.5; on the ratio scale give a share of the metric, from 1e-"),
    ],
)
def test_a_mistake_about_the_scale_is_one_line(load, declared, said):
    with pytest.raises(UserError) as error:
        load(f"{STUDY}{declared}\n")
    text = str(error.value)
    assert said in text and "mine.yaml" in text and "\n" not in text


def test_the_fingerprint_covers_a_scale_that_is_declared_alone(load):
    metric = "endpoint: {metric: FID}\nsmallest_effect: 0.01\n"
    ratio, plain = (metric.replace("FID", f"FID, scale: {name}") for name in ("ratio", "plain"))
    first, same, other = (fingerprint(load(STUDY + text)) for text in (metric, ratio, plain))
    assert first == same != other
    # As it was before there were scales.
    assert written_terms(load(STUDY + metric).terms)["endpoint"] == {"metric": "FID"}


@pytest.mark.parametrize("effect", ["0", "1.0e-15", "-0.1", "1.5", "x", ".nan"])
def test_a_smallest_effect_that_is_none_is_one_line(load, effect):
    with pytest.raises(UserError, match=r"mine\.yaml: .*smallest_effect"):
        load(STUDY + f"smallest_effect: {effect}\n")


def test_the_fingerprint_covers_what_is_declared_and_holds_where_nothing_is(load):
    plain = fingerprint(load(STUDY))
    assert fingerprint(load(STUDY + "smallest_effect: 0.03\n")) == plain
    lines = DECLARED.strip().splitlines()
    parts = ["\n".join(lines[:3]), lines[3], lines[4], "hypotheses: []"]
    found = {fingerprint(load(f"{STUDY}{part}\n")) for part in parts}
    assert len(found | {plain}) == len(parts) + 1


FINGERPRINTS = {
    "avatars32": "086ae3e603b1",
    "avatars32-cpu": "44ec6206d362",
    "avatars32-pilot": "143b864e0cf1",
    "celeba32": "f3e34606e490",
    "demo": "bd517839e2dd",
}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_fingerprints_of_our_studies_hold(name):
    """A study that somebody has declared stays declared; change one only with its file."""
    assert fingerprint(load_study(name)) == FINGERPRINTS[name]


def write(folder, **terms):
    cells = [{"arm": "B", "seed": 0, "run": "b/seed0", "milestones": [1]}]
    (folder / INDEX_FILE).write_text(json.dumps({"study": "mine", "cells": cells} | terms))
    return folder


def test_the_index_keeps_the_terms(load, tmp_path):
    terms = load(STUDY + DECLARED).terms
    evaluation = {"num_generated": terms.num_generated}
    folder = write(tmp_path, **written_terms(terms), evaluation=evaluation)
    assert terms_of(read_index(folder)) == terms
    assert terms_of(read_index(write(tmp_path))) == Terms()


@pytest.mark.parametrize(
    "wrong",
    [
        {"hypotheses": [{"name": "H1", "contrast": "C"}]},
        {"hypotheses": [{"name": "H1"}]},
        {"hypotheses": "H1"},
        {"hypotheses": [{"name": f"H{k}", "contrast": "C - B"} for k in range(101)]},
        {"hypotheses": 2 * [{"name": "H1", "contrast": "C - B"}]},
        {"endpoint": {"metric": 7}},
        {"endpoint": {"scale": "odd"}},
        {"endpoint": {"metric": "FID", "scale": "plain"}},
        {"endpoint": {"scale": "plain"}, "smallest_effect": 1.0},
        {"smallest_effect": -1},
        {"hypotheses": [{"name": "H1", "contrast": "C - B + " * 300 + "C - B"}]},
    ],
)
def test_an_index_with_wrong_terms_is_one_line(wrong, tmp_path):
    with pytest.raises(UserError, match=r"study\.json.*the study's command again") as error:
        read_index(write(tmp_path, **wrong))
    assert "\n" not in str(error.value)


def test_arms_of_other_names_keep_their_contrast():
    hypothesis = Hypothesis("H", "(long - B) - (other - B)")
    renamed = hypothesis.renamed({"long": "l (g", "other": "o…r"})
    assert renamed.weights == (("l (g", 1.0), ("o…r", -1.0))
    # Quotes make a contrast longer than a file's may be.
    longest = Hypothesis("H", "B - C + " * 249 + "B - C")
    assert longest.renamed({"long": "other", "B": "B"}) is longest
    assert dict(longest.renamed({"B": "A"}).weights) == {"A": 250.0, "C": -250.0}
    assert dict(hypothesis.renamed({"long": '" "'}).weights) == {"' '": 1.0, "other": -1.0}


OWN = {"name": "T2", "contrast": "C - B", "metric": "KD-Net", "scale": "plain"}


def test_a_metric_of_its_own_is_kept_in_the_index_and_others_write_none():
    own = Hypothesis(**OWN, smallest_effect=0.5)
    terms = Terms(hypotheses=(Hypothesis("T1", "C - B"), own))
    written = written_terms(terms)
    assert set(written["hypotheses"][0]) & {"metric", "scale", "smallest_effect"} == set()
    assert terms_of({**written, "evaluation": {}}) == terms
    first, other = terms.by_measure
    assert [one.name for one in first.hypotheses] == ["T1"]
    assert (other.endpoint.metric, other.smallest_effect, other.hypotheses) == (
        "KD-Net",
        0.5,
        (own,),
    )


def test_a_share_of_the_study_holds_for_ratios_of_other_metrics():
    terms = Terms(smallest_effect=0.07, hypotheses=(Hypothesis("T", "C - B", metric="FD-Net"),))
    assert terms.by_measure[1].smallest_effect == 0.07


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (OWN, "hypothesis 'T2': smallest_effect is missing"),
        (OWN | {"scale": "ratio", "smallest_effect": 3.0}, "'T2': smallest_effect is 3"),
        (OWN | {"smallest_effect": 0.5, "at_least": 0.4}, "more than the smallest effect, 0.5"),
    ],
)  # fmt: skip
def test_a_measure_that_cannot_be_is_refused(fields, said):
    with pytest.raises(UserError) as error:
        Terms(hypotheses=(Hypothesis(**fields),))
    assert said in str(error.value)


def test_a_file_is_told_in_one_line_of_a_scale_without_a_metric(load):
    with pytest.raises(UserError, match="hypothesis 'T' has scale, but no metric of its own"):
        load(STUDY + "hypotheses: [{name: T, contrast: C - B, scale: plain}]\n")
