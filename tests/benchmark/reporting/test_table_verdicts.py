"""Tables of verdicts, learning and exposure, on rows with planted effects."""

import dataclasses

import numpy as np
import pytest

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.reporting.tables.as_text import alignment
from benchmark.reporting.tables.specifications import specifications
from benchmark.reporting.tables.verdicts import exposure, learning, secondary, sensitivity, verdicts
from benchmark.rows.frames import to_frame
from benchmark.rows.row import Row

ROW = Row(
    study="two", arm="B", seed=0, step=100, total_steps=100, metric="FD-Net@4k", value=12.5,
    level=None, error=None, direction="lower", metric_version=1, n_generated=4000,
    n_reference=512, weights="ema0.99", sampler="ddim", sampler_steps=50, sampling_seed=0,
    full_range=True, stage="", samples=None, dataset="avatars", manifest="abc", config_hash="c0",
    git="g", versions={}, device="cpu", host="h", threads=1, train_seconds=1.5, time="t",
)  # fmt: skip
EFFECT = {"B": 0.0, "C": -0.3, "density*": 0.0, "A/A": 0.0}


def study(seeds=8, effect=EFFECT):
    """Arms whose log distance falls along the steps and ends ``effect`` apart from B's."""
    noise = np.random.default_rng(0).normal(scale=0.01, size=(8, len(effect)))
    rows = []
    for seed in range(seeds):
        for k, (arm, shift) in enumerate(effect.items()):
            for step in (25, 50, 75, 100):
                value = float(np.exp(5 - step / 100 + shift + noise[seed, k]))
                rows.append(dataclasses.replace(ROW, arm=arm, seed=seed, step=step, value=value))
            levels = [
                (low / 20 + 0.05, 1.0 + 0.5 * (arm == "C") * (low >= 10)) for low in range(20)
            ]
            rows += [
                dataclasses.replace(ROW, arm=arm, seed=seed, step=0, metric="exposure", stage="s",
                                    level=level, value=value, direction="none", n_generated=0,
                                    n_reference=0, weights="", sampler="", sampler_steps=0)
                for level, value in levels
            ]  # fmt: skip
    return to_frame(rows)


@pytest.fixture(scope="module")
def frame():
    return study()


def lines(tables):
    return {(table.title, line[0]): line[1:] for table in tables for line in table.body}


def test_verdicts_come_by_kind_with_interval_and_reason(frame):
    tables, numbers = verdicts(StudyAnalysis(frame))
    assert [table.title for table in tables] == [
        "Hypotheses", "What the effects are made of", "Claims that arms are better",
        "Checks of the instrument",
    ]  # fmt: skip
    found = lines(tables)
    contrast, effect, interval, held_out, seeds, p, holm, flip, verdict, needed, worth = found[
        "Hypotheses", "Benefit"
    ]
    assert (contrast, seeds, verdict, needed) == ("C − B", "8", "supported", "–")
    assert held_out == "–"
    # exp(−.3) − 1 is −26 %; no sign flip of 8 seeds has p under 2/2^8.
    assert effect.startswith("−2") and effect.endswith(" %") and interval.count("%") == 2
    assert (p, flip) == ("< .001", ".008") and holm.startswith("< .")
    assert worth.endswith(" % of steps")
    equal = found["Checks of the instrument", "Other draws change nothing"]
    assert equal[8] in ("equal", "undecided")
    assert any(note.startswith("Benefit (C − B): supported. ") for note in tables[0].notes)
    assert not any("Smoke" in note for table in tables for note in table.notes)
    assert set(numbers["verdict"]) >= {"supported"} and "why" in numbers
    # Words are set left, numbers right.
    assert alignment(tables[0])[0] == "l"


def test_exchanged_arms_exchange_the_verdict():
    swapped = EFFECT | {"B": EFFECT["C"], "C": EFFECT["B"]}
    found = lines(verdicts(StudyAnalysis(study(effect=swapped)))[0])
    assert found["Hypotheses", "Benefit"][8] == "refuted"


def test_verdicts_before_all_cells_are_measured_say_so(frame):
    cells = [{"arm": arm, "seed": seed} for arm in EFFECT for seed in range(9)]
    tables, _ = verdicts(StudyAnalysis(frame, index={"cells": cells}))
    said = f"; exploratory, interim: {len(EFFECT)} cells are not measured yet. "
    assert all(said in table.caption for table in tables)
    assert not any("interim" in table.caption for table in verdicts(StudyAnalysis(frame))[0])


def test_one_seed_decides_nothing_and_shows_no_interval():
    tables, _ = verdicts(StudyAnalysis(study(seeds=1)))
    for line in lines(tables).values():
        assert line[2] == "–" and line[5:8] == ("–", "–", "–") and line[8] == "undecided"


def test_a_study_without_a_finished_arm_has_no_verdicts(frame):
    young = frame[frame["step"] < 100]
    assert verdicts(StudyAnalysis(young))[0] == [] and learning(StudyAnalysis(young))[0] == []
    assert secondary(StudyAnalysis(young))[0] == []


def test_learning_is_told_in_areas_steps_and_worth(frame):
    (table,), numbers = learning(StudyAnalysis(frame))
    found = {line[0]: line[1:] for line in table.body}
    assert found["B"][:2] == ("8", "0.000 ± 0.000")
    seeds, area, reached, step, worth = found["C"]
    assert area.startswith("-0.") and reached == "8 of 8"
    assert 50 < float(step.split(" ± ")[0]) < 100
    # Below B's last distance: beyond what B's own curve can tell.
    assert (seeds, worth) == ("8", "–")
    assert len(numbers) == len(EFFECT)


def test_exposure_is_told_in_fifths(frame):
    (table,), numbers = exposure(frame)
    fifths = ("0–0.2", "0.2–0.4", "0.4–0.6", "0.6–0.8", "0.8–1")
    assert table.header == ("arm", *fifths, "order (nats)")
    found = {line[0]: line[1:] for line in table.body}
    assert found["B"] == (*["1.000"] * 5, "0.000")
    assert found["C"] == ("1.000", "1.000", "1.250", "1.500", "1.500", "0.000")
    assert numbers["0.8–1"].tolist().count(1.5) == 1
    assert exposure(frame[frame["metric"] != "exposure"])[0] == []


def test_sensitivity_says_what_the_seeds_can_see(frame):
    ((table,), numbers) = sensitivity(StudyAnalysis(frame))
    arm, seeds, mean, _, spread, correlation, smallest, below = table.body[0]
    assert (arm, seeds) == ("C", "8") and below == "1.00"
    change = numbers.set_index("arm").loc["C"]
    assert mean.startswith("−2") and float(mean.strip("− %")) == pytest.approx(
        -100 * np.expm1(change["mean"]), abs=0.06
    )
    # Spreads have no sign; noise that is independent makes pairs of no use.
    assert spread[0].isdigit() and smallest[0].isdigit()
    assert abs(float(correlation.replace("−", "-"))) < 0.9
    few = sensitivity(StudyAnalysis(study(seeds=1)))[0][0].body[0]
    assert few[3:] == ("–", "–", "–", "–", "–")


def test_specifications_have_a_line_for_each_way_and_say_how_many_agree(frame):
    (table,), numbers = specifications(StudyAnalysis(frame))
    assert table.header == ("measured by", "C − density* (H1)", "C − B (H2)")
    assert [line[0] for line in table.body] == [
        "FD-Net@4k", "25 % of the steps, FD-Net@4k", "50 % of the steps, FD-Net@4k",
        "75 % of the steps, FD-Net@4k",
    ]  # fmt: skip
    assert all(cell.startswith("−2") and " to " in cell for line in table.body for cell in line[1:])
    assert table.notes[1] == (
        "C − B: 3 of 3 other ways have the sign of the primary one; 0 have an interval that lies "
        "wholly on the other side of 0."
    )
    assert len(numbers) == 8 and set(numbers["seeds"]) == {8}


def test_one_way_to_measure_has_no_table_of_ways(frame):
    last = frame[frame["step"].isin([0, 100])]
    assert specifications(StudyAnalysis(last))[0] == []
