import json
from dataclasses import asdict

import pytest

from benchmark.rows.text_table import text_table
from benchmark.speed.limits import Rates
from benchmark.speed.parts.training import IN_MEMORY, REFERENCE, limit_rows, table_rows
from benchmark.speed.report import Report, measured_row
from benchmark.speed.timing import Measurement
from mindiffusion.step_cost import StepCost


def measured(name, *rates):
    return Measurement(name, rates, first_seconds=1.5)


def test_training_table_of_given_timings():
    timings = [
        measured(REFERENCE, 100.0, 50.0, 100.0),
        measured(IN_MEMORY, 125.0, 50.0, 100.0),
        measured("ours, B", 300.0, 150.0, 310.0),
        measured("ours, C", 285.0, 150.0, 310.0),
    ]
    rows = table_rows(timings, {"ours, B": 0.004, "ours, C": 0.005}, floor=1e-3)
    assert [row["row"] for row in rows] == [one.name for one in timings]
    ours, staged = rows[2], rows[3]
    assert ours["images_per_second"] == {"median": 300.0, "low": 150.0, "high": 310.0}
    assert ours["repeats"] == [300.0, 150.0, 310.0]
    assert ours["over_reference"] == {"median": 3.0, "low": 3.0, "high": 3.1}
    assert ours["over_in_memory"]["median"] == 3.0
    assert staged["over_first_arm"] == {"median": 1.0, "low": 0.95, "high": 1.0}
    assert "over_first_arm" not in rows[0]
    assert ours["percent_of_floor"] == pytest.approx(30.0)
    assert (rows[0]["data_wait"], ours["data_wait"]) == (None, 0.004)


def test_limits_are_rows_of_their_own():
    rows, notes = limit_rows(StepCost(2_000_000, 10**9), Rates(1e9, 1e11, 4e11))
    assert [row["row"] for row in rows] == ["limit: bandwidth", "limit: matrices"]
    assert [row["images_per_second"] for row in rows] == pytest.approx([500.0, 400.0])
    assert "2.0 MB an image" in notes[0]
    assert "float32 0.1 TFLOP/s, bf16 0.4 TFLOP/s" in notes[1]


def test_text_table_aligns_and_leaves_blank_what_a_row_lacks():
    rows = [
        measured_row(measured("a", 100.0, 90.0), {}),
        {"row": "longer name", "images_per_second": 5.25},
    ]
    lines = text_table(rows, {"": "row", "images/s": "images_per_second", "s": "first_seconds"})
    assert lines == [
        "                 images/s     s",
        "a             95 (90–100)   1.5",
        "longer name          5.25",
    ]


def test_report_survives_json(tmp_path):
    row = measured_row(measured("a", 2.0, 4.0), {"base": measured("b", 1.0, 1.0)})
    report = Report("training", {"n_feat": 8}, {"": "row"}, [row], ["a note"])
    report.write(tmp_path / "speed.json")
    assert json.loads((tmp_path / "speed.json").read_text()) == asdict(report)
    assert report.text().splitlines()[-1] == "a note"
    assert {"cpu", "cores", "cpu_bf16", "gpu"} <= set(report.machine)
    assert "torch" in report.made
