"""What is known of metrics: one entry each."""

import pytest

from benchmark.reporting.tables.build import TABLES
from benchmark.study.metric_catalogue import (
    CATALOGUE,
    METRICS,
    check_endpoint,
    metrics_needing,
    metrics_of_every_seed,
    rows_shown_in,
)
from mindiffusion.errors import UserError


def test_every_metric_has_one_entry_whose_table_there_is():
    assert len(set(METRICS)) == len(METRICS)
    assert {entry.table for entry in CATALOGUE} <= {"", *(entry.name for entry in TABLES)}
    starts = [start for entry in CATALOGUE for start in entry.rows]
    assert len(set(starts)) == len(starts)


def test_only_rows_of_a_metric_of_which_less_is_better_may_decide():
    for entry in CATALOGUE:
        assert not entry.endpoints or entry.direction == "lower"
        assert all(one.startswith(entry.rows) for one in entry.endpoints)


def test_metrics_are_found_by_what_they_need():
    assert metrics_needing("held-out") == {"profile", "emergence"}
    assert metrics_needing("samples") == {"fd", "kd", "prdc", "is", "memorisation", "attributes"}
    assert metrics_of_every_seed() == {"fd", "kd"}
    assert rows_shown_in("quality") == (
        "precision", "recall", "density", "coverage", "IS", "memorised", "stitched-", "rejected",
        "attribute/",
    )  # fmt: skip


@pytest.mark.parametrize("metric", ["", "FID", "KD-EffNet-Lite0-64px", "eps-MSE/L_simple"])
def test_a_distance_or_an_error_may_decide(metric):
    check_endpoint(metric, ("profile", "fd", "kd"), "mine.yaml")


@pytest.mark.parametrize(
    ("metric", "measured"),
    [("KID", ("fd",)), ("precision-x", METRICS), ("FID@10k", METRICS), ("CLIP", METRICS),
     ("eps-MSE", METRICS), ("FID", ())],
)  # fmt: skip
def test_another_primary_metric_is_refused_in_one_line(metric, measured):
    with pytest.raises(UserError, match=r"^mine\.yaml: endpoint\.metric is ") as error:
        check_endpoint(metric, measured, "mine.yaml")
    assert "\n" not in str(error.value)
