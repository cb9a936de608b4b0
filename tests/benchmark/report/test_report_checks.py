import dataclasses

import pytest

from benchmark.endpoint import missing_cells, primary_endpoint
from benchmark.report.checks import instrument_checks
from benchmark.results import to_frame
from benchmark.verdicts import findings


def checks_of(rows):
    frame = to_frame(rows)
    endpoint, found = primary_endpoint(frame), findings(frame)
    absent = {} if endpoint is None else missing_cells(frame, endpoint, {})
    return {check.name: check for check in instrument_checks(frame, endpoint, found, absent)}


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
        "Enough images": "passed",
        "Sampling repeated": "passed",
        "Complete": "passed",
        "Declared beforehand": "failed",
        "Only trained noise levels count": "passed",
    }


def test_found_holds_the_numbers(whole):
    assert whole["The mask acts (S)"].found.startswith("+5.00 % at t / n_T = 0.25, step 200")
    assert whole["Only trained noise levels count"].found.startswith("16 milestones")
    assert whole["Complete"].found == "64 cells, all there."


def test_a_declared_study_says_which_declaration(planted):
    rows = [dataclasses.replace(row, declared="prereg-ab12") for row in planted(("B", "C"), [0, 1])]
    check = checks_of(rows)["Declared beforehand"]
    assert (check.state, check.found) == ("passed", "Declaration prereg-ab12.")


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
    assert checks["Enough images"].state == "failed"


def test_a_mask_that_does_nothing_fails(planted):
    rows = [
        dataclasses.replace(row, value=row.value / 100) if row.metric == "mask-effect" else row
        for row in planted(("B", "S"), [0])
    ]
    assert checks_of(rows)["The mask acts (S)"].state == "failed"


def test_missing_cells_make_a_study_incomplete(planted):
    check = checks_of([*planted(("B",), [0, 1]), *planted(("C",), [1])])["Complete"]
    assert (check.state, check.found) == ("failed", "Not measured: C (seed 0).")


def test_without_an_endpoint_only_what_can_be_said_is_said(planted):
    rows = [row for row in planted(("B", "S"), [0]) if row.step < 1000]
    assert "Enough images" not in checks_of(rows)
