import dataclasses

import pytest

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.reporting.page.checks import evidence, instrument_checks
from benchmark.rows.frames import to_frame


def checks_of(rows):
    study = StudyAnalysis(to_frame(rows))
    return {check.name: check for check in [*instrument_checks(study), *evidence(study)]}


@pytest.fixture(scope="module")
def whole(planted):
    return checks_of(planted())


def test_a_sound_instrument_passes(whole):
    states = {name: check.state for name, check in whole.items()}
    assert states == {
        "Same arm, other draws (A/A)": "passed",
        "Fewer steps (B-80%)": "passed",
        "Narrower network (B-half)": "not run",
        "The mask acts (CS)": "passed",
        "The mask acts (S)": "passed",
        "Only trained noise levels count": "passed",
        "The networks have learned enough": "not run",
        "Enough images": "met",
        "Sampling repeated": "met",
        "Complete": "met",
        "Declared beforehand": "not met",
        "Measured by committed code": "met",
    }


def test_found_holds_the_numbers(whole):
    assert whole["The mask acts (S)"].found.startswith("+5.00 % at noise time 0.25, step 200")
    assert whole["Only trained noise levels count"].found.startswith("16 milestones")
    assert whole["Complete"].found == "64 cells, all there."


def test_a_declared_study_says_which_declaration(planted):
    rows = [dataclasses.replace(row, declared="prereg-ab12") for row in planted(("B", "C"), [0, 1])]
    check = checks_of(rows)["Declared beforehand"]
    assert (check.state, check.found) == ("met", "Declaration prereg-ab12.")


def test_an_instrument_with_the_wrong_sign_fails(planted):
    swap = {"B": "B-80%", "B-80%": "B"}
    rows = [
        dataclasses.replace(row, arm=swap[row.arm]) for row in planted(("B", "B-80%"), range(6))
    ]
    assert checks_of(rows)["Fewer steps (B-80%)"].state == "failed"


def test_one_seed_cannot_tell(planted):
    checks = checks_of(planted(("B", "A/A", "B-80%"), [0], "FD-EffNet-Lite0-64px@1024"))
    assert checks["Same arm, other draws (A/A)"].state == "cannot tell"
    assert checks["Fewer steps (B-80%)"].state == "cannot tell"
    assert checks["Enough images"].state == "not met"


def test_a_mask_that_does_nothing_fails(planted):
    rows = [
        dataclasses.replace(row, value=row.value / 100) if row.metric == "mask-effect" else row
        for row in planted(("B", "S"), [0])
    ]
    assert checks_of(rows)["The mask acts (S)"].state == "failed"


def test_missing_cells_make_a_study_incomplete(planted):
    check = checks_of([*planted(("B",), [0, 1]), *planted(("C",), [1])])["Complete"]
    assert (check.state, check.found) == ("not met", "Not measured: C (seed 0).")


def test_without_an_endpoint_only_what_can_be_said_is_said(planted):
    rows = [row for row in planted(("B", "S"), [0]) if row.step < 1000]
    assert "Enough images" not in checks_of(rows)


def test_cells_of_uncommitted_code_are_counted(planted):
    rows = [
        dataclasses.replace(row, git="0123456789ab-dirty") if row.arm == "C" else row
        for row in planted(("B", "C"), [0, 1])
    ]
    check = checks_of(rows)["Measured by committed code"]
    assert check.state == "not met" and "2 of 4 cells" in check.found


def profiles(arm, seed, step, factor):
    """ε-MSE beside the two denoisers without a network, and its mean over all levels."""
    kind = {"arm": arm, "seed": seed, "step": step, "n_generated": 0, "sampler": ""}
    values = [("eps-MSE", 0.1 * factor), ("eps-MSE-linear", 0.1), ("eps-MSE-mean", 0.2)]
    return [
        (dict(kind, metric=metric, level=level), value)
        for metric, value in values
        for level in (0.25, 0.75)
    ] + [(dict(kind, metric="eps-MSE/L_simple"), 0.1 * factor)]


@pytest.mark.parametrize(("factor", "state"), [(0.9, "met"), (1.5, "not met")])
def test_what_the_baseline_has_learned_is_asked_for(planted, factor, state):
    rows = planted(("B", "C"), range(3))
    first = next(row for row in rows if row.metric.startswith("FD-"))
    for seed in range(3):
        for arm, more in (("B", 1.0), ("C", 0.9)):
            rows += [
                dataclasses.replace(first, **fields, value=value * (1 + seed / 100))
                for fields, value in profiles(arm, seed, first.total_steps, factor * more)
            ]
    checks = checks_of(rows)
    assert checks["The networks have learned enough"].state == state
    agree = checks["Distance and held-out error agree"]
    assert (agree.state, agree.found) == ("met", ".89 over 6 milestones; .89 over 6 cells.")
