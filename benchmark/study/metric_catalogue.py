"""The metrics that a study may ask for: one entry for each.

An entry says what a metric needs, which way is better and where its rows are shown. How it is
computed stands in ``benchmark/evaluation/``, which needs torch.
"""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["lower", "higher", "none"]
Need = Literal[
    "samples", "features", "kernel sums", "logits", "unseen", "held-out", "oracle", "classifier",
    "finisher",
]  # fmt: skip


@dataclass(frozen=True)
class MetricEntry:
    """One metric, by its name in ``evaluation.metrics``.

    Attributes:
        name: in a study's file.
        needs: what must be there: generated images, their features and what else is made of these;
            real images that no arm trains on; the best linear denoiser; the attribute classifier;
            an arm that finishes samples.
        direction: which way is better.
        rows: how the names of its rows begin.
        table: file of the tables that show them; empty: none.
        is_usual: whether it is measured where a study's file names no metrics.
        of_every_seed: whether the images of every sampling seed are scored.
    """

    name: str
    needs: frozenset[Need]
    direction: Direction
    rows: tuple[str, ...]
    table: str = ""
    is_usual: bool = False
    of_every_seed: bool = False


CATALOGUE = (
    MetricEntry(
        "profile", frozenset({"held-out", "oracle"}), "lower", ("eps-MSE",), "denoising",
        is_usual=True,
    ),
    MetricEntry(
        "fd", frozenset({"samples"}), "lower", ("FID", "FD-"), "fid_vs_steps",
        is_usual=True, of_every_seed=True,
    ),
    MetricEntry(
        "kd", frozenset({"samples", "features", "kernel sums"}), "lower", ("KID", "KD-"),
        "kid_and_eps_mse", is_usual=True, of_every_seed=True,
    ),
    MetricEntry(
        "prdc", frozenset({"samples", "features"}), "higher",
        ("precision", "recall", "density", "coverage"), "quality", is_usual=True,
    ),
    MetricEntry("is", frozenset({"samples", "features", "logits"}), "higher", ("IS",), "quality"),
    # More than expected is copying, much less is no virtue: it has no better direction.
    MetricEntry(
        "memorisation", frozenset({"samples", "features", "unseen"}), "none", ("memorised",),
        "quality", is_usual=True,
    ),
    MetricEntry("stitched", frozenset({"finisher"}), "lower", ("stitched-",), "quality"),
    MetricEntry(
        "attributes", frozenset({"samples", "classifier"}), "none", ("rejected", "attribute/"),
        "quality",
    ),
    MetricEntry(
        "emergence", frozenset({"held-out", "oracle", "classifier"}), "none", ("emergence/",)
    ),
)  # fmt: skip
METRICS = tuple(entry.name for entry in CATALOGUE)
USUAL_METRICS = tuple(entry.name for entry in CATALOGUE if entry.is_usual)


def metric_entry(name: str) -> MetricEntry:
    """The entry of a metric of that name."""
    return next(entry for entry in CATALOGUE if entry.name == name)


def metrics_needing(need: Need) -> frozenset[str]:
    """Names of the metrics that need something."""
    return frozenset(entry.name for entry in CATALOGUE if need in entry.needs)


def metrics_of_every_seed() -> frozenset[str]:
    """Names of the metrics that are made of the images of every sampling seed."""
    return frozenset(entry.name for entry in CATALOGUE if entry.of_every_seed)


def rows_shown_in(table: str) -> tuple[str, ...]:
    """How the names of the rows begin that a file of tables shows, in its order."""
    return tuple(start for entry in CATALOGUE if entry.table == table for start in entry.rows)
