"""The answer as the screen, the paper and the report give it: of a folder."""

import json
import re
import shutil

import pytest
from remade import paper_of, report_of
from test_findings import change, study

from benchmark.analysis.answer import QUESTION, headline, interim_note, question
from benchmark.analysis.study_analysis import StudyAnalysis, analyse
from benchmark.rows.file import append_rows
from benchmark.study.hypotheses import Hypothesis
from benchmark.study.measure import PrimaryMetric
from benchmark.study.terms import Terms


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study of B and C whose index has a third seed of C, which nobody has run."""
    path = tmp_path_factory.mktemp("interim")
    frame = study({"B": 0.0, "C": -0.2}, seeds=2)
    frame = frame.astype(object).where(frame.notna(), None)
    append_rows(path / "rows.jsonl", [change(**row) for row in frame.to_dict("records")])
    measured = [(arm, seed) for arm in "BC" for seed in range(2)]
    cells = [
        {"arm": arm, "seed": seed, "run": f"{arm}/seed{seed}", "milestones": []}
        for arm, seed in (*measured, ("C", 2))
    ]
    index = {"study": "two", "cells": cells, "evaluation": {"metrics": ["fd"]}}
    (path / "study.json").write_text(json.dumps(index))
    return path


def test_screen_paper_and_report_say_that_a_cell_is_missing(folder):
    note = interim_note({"C": [2]})
    assert note == "interim: 1 cell is not measured yet" and note in headline(analyse(folder))
    main = next(path for path in paper_of(folder) if path.name == "main.tex")
    assert note in main.read_text()
    assert note in report_of(folder).read_text()


def test_a_cell_that_ended_without_all_noise_levels_is_measured(folder, tmp_path):
    """It enters no verdict, but nothing more is to come from it."""
    rows = [
        change(arm=arm, seed=seed, full_range=(arm, seed) != ("C", 1))
        for arm in "BC"
        for seed in range(2)
    ]
    append_rows(tmp_path / "rows.jsonl", rows)
    assert "interim" not in headline(analyse(tmp_path))


OWN = {"B": 0.0, "mine": -0.2, "mine-density*": -0.02}


TOTAL = r"Yes: the FD-Net@2048 of mine ends 1\d\.\d % below B's"
ORDER = r"Yes: mine − mine-density\* of the FD-Net@2048 is −1\d\.\d % \("


@pytest.mark.parametrize(
    ("contrasts", "said"),
    [
        (["mine - mine-density*", "mine - B"], TOTAL),
        (["mine - mine-density*"], ORDER),
        ([], TOTAL),
    ],
)
def test_the_answer_is_about_the_hypotheses_that_the_study_declares(contrasts, said):
    own = tuple(Hypothesis(f"H{k}", contrast) for k, contrast in enumerate(contrasts))
    text = headline(StudyAnalysis(study(OWN), Terms(hypotheses=own)))
    assert re.match(said, text)
    assert ("; its early order of noise levels helps (−1" in text) == (said == TOTAL)


def test_an_order_that_is_claimed_to_hurt_is_not_said_to_help():
    own = (Hypothesis("H", "mine - mine-density*", "worse"), Hypothesis("T", "mine - B"))
    text = headline(StudyAnalysis(study(OWN), Terms(hypotheses=own)))
    assert text.startswith("Yes: ") and "early order" not in text


def test_holm_counts_the_hypotheses_that_the_study_declares():
    """One test alone is adjusted by nothing, and seeds are planned for its whole level."""
    rows = study(OWN, seeds=3)
    alone = StudyAnalysis(rows, Terms(hypotheses=(Hypothesis("H", "mine - B"),)))
    both = StudyAnalysis(
        rows,
        Terms(hypotheses=(Hypothesis("H", "mine - B"), Hypothesis("K", "mine - mine-density*"))),
    )
    (first, *_), (second, *_) = alone.findings, both.findings
    assert first.p == second.p == first.p_holm < second.p_holm
    assert (alone.alpha, both.alpha) == (0.05, 0.025)


def test_a_larger_smallest_effect_takes_a_larger_effect():
    terms = Terms(hypotheses=(Hypothesis("H", "mine - B"),), smallest_effect=0.5)
    finding = StudyAnalysis(study(OWN), terms).findings[0]
    assert finding.verdict == "equal" and "smallest effect of 50 %" in finding.why


@pytest.mark.parametrize(
    ("expected", "effect", "said"),
    [
        ("worse", 0.2, "Supported: mine − B is worse: "),
        ("worse", -0.2, "Refuted: mine − B is worse: "),
        ("worse", 0.0, "No difference that matters, against the claim: mine − B is worse: "),
        ("equal", 0.0, "Supported: mine − B is equal: "),
        ("equal", -0.2, "Refuted: mine − B is equal: "),
    ],
)
def test_a_claim_that_is_not_better_is_answered_by_its_verdict_and_asked_as_it_is(
    expected, effect, said
):
    own = (Hypothesis("H", "mine - B", expected),)
    analysis = StudyAnalysis(study({"B": 0.0, "mine": effect}), Terms(hypotheses=own))
    assert headline(analysis).startswith(said)
    assert question(analysis) == f"Is mine − B {expected}?"


def test_the_question_of_the_usual_hypotheses_is_that_of_the_project():
    assert question(StudyAnalysis(study({"B": 0.0, "C": -0.2}, seeds=2))) == QUESTION


def test_a_primary_metric_without_rows_is_named():
    terms = Terms(endpoint=PrimaryMetric("FD-EffNet-Lite0-64px"))
    text = headline(StudyAnalysis(study({"B": 0.0, "C": -0.2}, seeds=2), terms))
    assert text.startswith("No row has the study's primary metric, FD-EffNet-Lite0-64px, of an arm")


@pytest.mark.parametrize(
    ("declared", "is_declared"), [("prereg-0123", True), (None, True), ("exploratory", False)]
)
def test_rows_are_declared_under_the_terms_that_were_declared_alone(
    folder, tmp_path, declared, is_declared, caplog
):
    """Whoever changes hypotheses, endpoint or smallest effect after the run has another study."""
    index = json.loads((folder / "study.json").read_text())
    index |= {} if declared is None else {"declared": declared}
    (tmp_path / "study.json").write_text(json.dumps(index))
    shutil.copy(folder / "rows.jsonl", tmp_path)
    analysis = analyse(tmp_path)
    assert analysis.endpoint.is_declared == is_declared
    assert ("exploratory" in headline(analysis)) == (not is_declared)
    assert bool(caplog.messages) == (not is_declared)
    if not is_declared:
        assert "rows were declared as prereg-0123, but the study is exploratory" in caplog.text
