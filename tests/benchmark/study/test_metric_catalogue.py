"""What is known of metrics: one entry each."""

from benchmark.reporting.tables.build import TABLES
from benchmark.study.metric_catalogue import (
    CATALOGUE,
    METRICS,
    metrics_needing,
    metrics_of_every_seed,
    rows_shown_in,
)


def test_every_metric_has_one_entry_whose_table_there_is():
    assert len(set(METRICS)) == len(METRICS)
    assert {entry.table for entry in CATALOGUE} <= {"", *(entry.name for entry in TABLES)}
    starts = [start for entry in CATALOGUE for start in entry.rows]
    assert len(set(starts)) == len(starts)


def test_metrics_are_found_by_what_they_need():
    assert metrics_needing("held-out") == {"profile", "emergence"}
    assert metrics_needing("samples") == {"fd", "kd", "prdc", "is", "memorisation", "attributes"}
    assert metrics_of_every_seed() == {"fd", "kd"}
    assert rows_shown_in("quality") == (
        "precision", "recall", "density", "coverage", "IS", "memorised", "stitched-", "rejected",
        "attribute/",
    )  # fmt: skip
