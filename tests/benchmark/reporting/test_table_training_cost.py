"""What training takes, told from rows and the study's index."""

import dataclasses

import pandas as pd
import pytest
from test_table_arms import ROW, entry

from benchmark.reporting.tables.training_cost import training_cost
from benchmark.rows.frames import to_frame


def runs(arm, seconds, steps=100):
    """Rows of an arm's finished runs, one for each seed, and an earlier one that counts nothing."""
    same = dataclasses.replace(ROW, arm=arm, metric="FID@2048", total_steps=steps, value=9.0)
    return [
        dataclasses.replace(same, seed=seed, step=step, train_seconds=step / steps * took)
        for seed, took in enumerate(seconds)
        for step in (50, steps)
    ]


INDEX = {
    "arms": {
        "B": entry(),
        "CS": entry(),
    },
    "flops_per_image": {"B": 2_000_000_000, "CS": 3_000_000_000},
}


def test_images_operations_and_seconds_of_each_arm():
    frame = to_frame([*runs("B", [10.0, 20.0]), *runs("CS", [20.0, 80.0]), *runs("C", [5.0])])
    (table,), numbers = training_cost(frame, INDEX)
    of = {line[0]: line[1:] for line in table.body}
    assert list(of) == ["B", "C", "CS"]
    assert of["B"] == ("2", "6,400", "2", "0.0128", "15 ± 64", "–")
    # 2 and 4 times as long as B of the same seed: 2.83 times, whatever the seeds' own lengths.
    assert of["CS"] == ("2", "6,400", "3", "0.0192", "50 ± 381", "× 2.83 (2.00 to 4.00)")
    # An arm that the index does not know, with one seed.
    assert of["C"] == ("1", "–", "–", "–", "5", "× 0.50 (0.50 to 0.50)")
    flops = numbers.set_index("arm")["flops"]
    assert flops["CS"] == pytest.approx(6400 * 3e9)


def test_a_study_of_before_has_no_count_and_runs_under_way_are_left_out():
    old = {"arms": {"B": entry()}}
    (table,), _ = training_cost(to_frame(runs("B", [10.0])), old)
    assert table.body[0][2:5] == ("6,400", "–", "–")
    under_way = [row for row in runs("B", [10.0]) if row.step == 50]
    tables, numbers = training_cost(to_frame(under_way), INDEX)
    assert tables == [] and isinstance(numbers, pd.DataFrame)
