"""The metrics that a study may ask for: one entry for each.

An entry says what a metric needs, which way is better and where its rows are shown. How it is
computed stands in ``benchmark/evaluation/``, which needs torch.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from mindiffusion.errors import UserError
from mindiffusion.outside.documents import shown_value

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
        endpoints: how the names of those rows begin that may be a study's primary endpoint.
        is_usual: whether it is measured where a study's file names no metrics.
        of_every_seed: whether the images of every sampling seed are scored.
    """

    name: str
    needs: frozenset[Need]
    direction: Direction
    rows: tuple[str, ...]
    table: str = ""
    endpoints: tuple[str, ...] = ()
    is_usual: bool = False
    of_every_seed: bool = False


CATALOGUE = (
    MetricEntry(
        "profile", frozenset({"held-out", "oracle"}), "lower", ("eps-MSE",), "denoising",
        endpoints=("eps-MSE/",), is_usual=True,
    ),
    MetricEntry(
        "fd", frozenset({"samples"}), "lower", ("FID", "FD-"), "fid_vs_steps",
        endpoints=("FID", "FD-"), is_usual=True, of_every_seed=True,
    ),
    MetricEntry(
        "kd", frozenset({"samples", "features", "kernel sums"}), "lower", ("KID", "KD-"),
        "kid_and_eps_mse", endpoints=("KID", "KD-"), is_usual=True, of_every_seed=True,
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


def check_endpoint(metric: str, measured: Collection[str], source: str) -> None:
    """Refuse a primary metric that a study does not measure, or of which less is not better.

    Args:
        metric: as in ``endpoint.metric``; empty: the usual distance.
        measured: names of the study's metrics.
        source: the study's file, named in messages.

    Raises:
        UserError: it is none of those that may decide.
    """
    allowed = [one for entry in CATALOGUE if entry.name in measured for one in entry.endpoints]
    if metric and ("@" in metric or not metric.startswith(tuple(allowed))):
        raise UserError(
            f"{source}: endpoint.metric is {shown_value(metric)}; name a distance or an error that "
            f"evaluation.metrics measures, without its number of images. Such names begin with "
            f"{', '.join(allowed) or 'nothing here'}."
        )
