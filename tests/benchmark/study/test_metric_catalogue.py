"""What is known of metrics: one entry each."""

from benchmark.study.metric_catalogue import (
    METRICS,
    metrics_needing,
    metrics_of_every_seed,
    quality_rows,
)


def test_every_metric_has_one_entry():
    assert len(set(METRICS)) == len(METRICS)


def test_metrics_are_found_by_what_they_need():
    assert metrics_needing("held-out") == {
        "profile", "emergence", "silhouette", "probe", "norms", "jacobian", "ablation",
        "ablation_attributes", "cka",
    }  # fmt: skip
    assert metrics_needing("samples") == {
        "fd", "kd", "prdc", "is", "memorisation", "attributes", "spectrum", "faithfulness", "clip",
    }  # fmt: skip
    assert metrics_needing("text") == {"faithfulness", "clip"}
    assert metrics_of_every_seed() == {"fd", "kd"}
    assert quality_rows() == (
        "precision", "recall", "density", "coverage", "IS", "memorised", "stitched-", "rejected",
        "attribute/",
    )  # fmt: skip
