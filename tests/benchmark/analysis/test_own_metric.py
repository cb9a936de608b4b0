"""Hypotheses that are judged by a metric of their own, beside those about the endpoint."""

import dataclasses

import numpy as np
import pytest
from made_up_row import ROW

from benchmark.analysis.answer import headline
from benchmark.analysis.findings import HELD_OUT
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.reporting.page.effects import claim_groups
from benchmark.reporting.page.overview import cautions
from benchmark.reporting.tables.verdicts import verdicts
from benchmark.rows.frames import to_frame
from benchmark.rows.metric_names import HIGH_ERROR, LOW_EXCESS, NEURONS
from benchmark.study.hypotheses import Hypothesis
from benchmark.study.measure import PrimaryMetric
from benchmark.study.terms import Terms
from plots.figures import forest

MIXED = f"{NEURONS}mixed-share"
IMAGES, COVERAGE = "FD-Net", "coverage-Net"
TERMS = Terms(
    endpoint=PrimaryMetric(LOW_EXCESS),
    smallest_effect=0.1,
    hypotheses=(
        Hypothesis("T1", "C - B"),
        Hypothesis("T2", "C - B", metric=MIXED, scale="plain", smallest_effect=0.02),
        Hypothesis("T3", "C - density*"),
        Hypothesis("T5", "C - B", "equal", metric=HIGH_ERROR, smallest_effect=0.03),
    ),
)
# By arm: excess at low noise, share of mixed neurons, error at high noise.
ARMS = {"B": (1.0, 0.5, 0.8), "C": (0.5, 0.2, 0.8), "density*": (0.9, 0.4, 0.8)}


def rows(arms=ARMS, metrics=(LOW_EXCESS, MIXED, HIGH_ERROR), seeds=8):
    draws = np.random.default_rng(0)
    return [
        dataclasses.replace(ROW, arm=arm, seed=seed, metric=metric, weights="raw", sampler="",
                            value=value * float(np.exp(0.01 * draws.normal())), n_generated=0)
        for seed in range(seeds)
        for arm, values in arms.items()
        for metric, value in zip((LOW_EXCESS, MIXED, HIGH_ERROR), values, strict=True)
        if metric in metrics
    ]  # fmt: skip


def study(arms=ARMS, terms=TERMS, **options):
    return StudyAnalysis(to_frame(rows(arms, **options)), terms)


def verdicts_of(analysis):
    return {one.key: one.verdict for one in analysis.findings if one.group == "hypothesis"}


def test_each_hypothesis_is_judged_by_its_own_metric():
    found = {one.key: one for one in study().findings}
    assert [one.key for one in study().findings][:4] == ["T1", "T2", "T3", "T5"]
    assert verdicts_of(study()) == dict.fromkeys(("T1", "T2", "T3"), "supported") | {"T5": "equal"}
    assert found["T1"].estimate == pytest.approx(np.log(0.5), abs=0.02)
    assert found["T2"].estimate == pytest.approx(-0.3, abs=0.01)
    assert (found["T2"].scale.smallest, found["T5"].scale.smallest) == ("0.02", "3 %")


def test_swapped_labels_swap_the_verdicts():
    swapped = {"C": ARMS["B"], "B": ARMS["C"], "density*": ARMS["density*"]}
    found = verdicts_of(study(swapped))
    # What claims that nothing differs does not care for labels.
    assert found == dict.fromkeys(("T1", "T2", "T3"), "refuted") | {"T5": "equal"}


def test_one_correction_holds_for_all_hypotheses_by_whatever_metric():
    alone = study(terms=dataclasses.replace(TERMS, hypotheses=TERMS.hypotheses[1:2]))
    (other,) = [one for one in alone.findings if one.group == "hypothesis"]
    own = next(one for one in study().findings if one.key == "T2")
    assert own.p == pytest.approx(other.p) and own.p_holm > other.p_holm == other.p
    assert study().alpha == 0.05 / 4


def test_a_hypothesis_of_another_metric_decides_no_claim_about_the_endpoint():
    """``C beats B`` claims of the endpoint what T1 does, and T2 of another metric."""
    terms = dataclasses.replace(TERMS, hypotheses=TERMS.hypotheses[1:2])
    claim = next(one for one in study(terms=terms).findings if one.title == "C beats B")
    assert claim.p_holm is None and claim.scale.smallest == "10 %"


def test_tables_say_by_which_metric_and_in_which_unit():
    tables, numbers = verdicts(study())
    titles = [table.title for table in tables]
    assert titles[:3] == [
        "Hypotheses", f"Hypotheses about {MIXED}", f"Hypotheses about {HIGH_ERROR}",
    ]  # fmt: skip
    assert "changes of the error in percent" in tables[0].caption
    assert "changes of the share in its own unit" in tables[1].caption
    assert "sampling seed" not in tables[0].caption
    assert len(numbers) == len(study().findings)


def test_the_page_says_what_other_metrics_are_judged_by():
    groups = claim_groups(study())
    about = [group.about for group in groups if group.title == "The hypotheses"]
    assert about[0] == "" and MIXED in about[1] and "0.02" in about[1] and HIGH_ERROR in about[2]


def test_the_answer_names_the_metric_of_its_hypothesis():
    assert "excess-MSE/low of C ends 49.5 % below" in headline(study())
    terms = dataclasses.replace(TERMS, hypotheses=TERMS.hypotheses[1:2])
    assert f"{MIXED} of C ends 0.3" in headline(study(terms=terms))


def test_a_hypothesis_whose_metric_has_no_rows_is_listed_as_not_tested():
    lacking = study(metrics=(LOW_EXCESS, HIGH_ERROR))
    assert verdicts_of(lacking) == verdicts_of(study()) | {"T2": "not tested"}
    found = next(one for one in lacking.findings if one.key == "T2")
    assert MIXED in found.why and found.p is None and found.seeds == 0
    assert any(MIXED in text and "T2" in text for text in cautions(lacking))
    table = next(one for one in verdicts(lacking)[0] if one.title == f"Hypotheses about {MIXED}")
    assert "not tested" in table.body[0]
    groups = claim_groups(lacking)
    assert any(MIXED in one.about and "nothing is tested" in one.about for one in groups)
    forest.figure(lacking).canvas.draw()


def test_a_hypothesis_whose_metric_lacks_an_arm_is_listed_as_not_tested():
    kept = [one for one in rows() if (one.arm, one.metric) != ("C", MIXED)]
    assert verdicts_of(StudyAnalysis(to_frame(kept), TERMS))["T2"] == "not tested"


@pytest.mark.parametrize(("metric", "expected"), [(IMAGES, "mixed"), (COVERAGE, "supported")])
def test_the_held_out_error_contradicts_other_metrics_only_where_they_are_distances(
    metric, expected
):
    """C is better than B by either metric, and has the larger held-out error."""
    own = {"B": 0.5, "C": 0.4} if metric == IMAGES else {"B": 0.4, "C": 0.5}
    direction = "lower" if metric == IMAGES else "higher"
    made = [dataclasses.replace(one, metric=f"{metric}@2048", n_generated=2048, sampler="ddim",
                                value=one.value * own[one.arm], direction=direction)
            for one in rows({arm: (1.0, 1.0, 1.0) for arm in own}, (LOW_EXCESS,))]  # fmt: skip
    made += [dataclasses.replace(one, metric=HELD_OUT)
             for one in rows({"B": (0.1,) * 3, "C": (0.2,) * 3}, (LOW_EXCESS,))]  # fmt: skip
    asked = Hypothesis("T", "C - B", metric=metric, scale="plain", smallest_effect=0.01)
    terms = Terms(endpoint=PrimaryMetric(HELD_OUT), hypotheses=(asked,))
    assert verdicts_of(StudyAnalysis(to_frame(made), terms)) == {"T": expected}


def test_rows_of_some_arms_keep_what_follows_from_all():
    part = study().with_rows_of(["B", "C"])
    assert [one.key for one in part.findings_about(part)][:2] == ["T1", "T3"]
