"""The metrics that a study may ask for: one entry for each.

An entry says what a metric needs and which of its rows the table of quality shows. How it is
computed, and which way is better, stands in ``benchmark/evaluation/``, which needs torch.
"""

from dataclasses import dataclass
from typing import Literal

Need = Literal[
    "samples", "nets", "features", "kernel sums", "logits", "unseen", "held-out", "oracle",
    "classifier", "finisher", "layers", "labels", "milestones", "text", "clip",
]  # fmt: skip


@dataclass(frozen=True)
class MetricEntry:
    """One metric, by its name in ``evaluation.metrics``.

    Attributes:
        name: in a study's file.
        needs: what must be there: generated images; feature nets and what they see in training
            images; features of all generated images and what else is made of these; real images
            that no arm trains on; the best linear denoiser; the attribute classifier; an arm that
            finishes samples; layers of the network by name; labels of the data that the study
            names; the weights of earlier milestones; captions that the network is told; a CLIP
            network.
        quality_rows: how the names of those of its rows begin that the table of quality shows.
        is_usual: whether it is measured where a study's file names no metrics.
        of_every_seed: whether the images of every sampling seed are scored.
    """

    name: str
    needs: frozenset[Need]
    quality_rows: tuple[str, ...] = ()
    is_usual: bool = False
    of_every_seed: bool = False


_OF_FEATURES: frozenset[Need] = frozenset({"samples", "nets", "features"})
CATALOGUE = (
    MetricEntry("profile", frozenset({"held-out", "oracle"}), is_usual=True),
    MetricEntry("fd", frozenset({"samples", "nets"}), is_usual=True, of_every_seed=True),
    MetricEntry("kd", _OF_FEATURES | {"kernel sums"}, is_usual=True, of_every_seed=True),
    MetricEntry(
        "prdc", _OF_FEATURES, ("precision", "recall", "density", "coverage"), is_usual=True
    ),
    MetricEntry("is", _OF_FEATURES | {"logits"}, ("IS",)),
    MetricEntry("memorisation", _OF_FEATURES | {"unseen"}, ("memorised",), is_usual=True),
    MetricEntry("stitched", frozenset({"finisher", "nets"}), ("stitched-",)),
    MetricEntry("attributes", frozenset({"samples", "classifier"}), ("rejected", "attribute/")),
    MetricEntry("faithfulness", frozenset({"samples", "classifier", "text"})),
    MetricEntry("clip", frozenset({"samples", "text", "clip"})),
    MetricEntry("emergence", frozenset({"held-out", "oracle", "classifier"})),
    MetricEntry("silhouette", frozenset({"held-out", "layers", "labels"})),
    MetricEntry("probe", frozenset({"held-out", "layers", "labels"})),
    MetricEntry("norms", frozenset({"held-out", "layers"})),
    MetricEntry("cka", frozenset({"held-out", "layers", "milestones"})),
    MetricEntry("jacobian", frozenset({"held-out", "oracle"})),
    MetricEntry("spectrum", frozenset({"samples"})),
    MetricEntry("ablation", frozenset({"held-out"})),
    MetricEntry("ablation_attributes", frozenset({"held-out", "classifier"})),
)  # fmt: skip
METRICS = tuple(entry.name for entry in CATALOGUE)
USUAL_METRICS = tuple(entry.name for entry in CATALOGUE if entry.is_usual)


def metrics_needing(need: Need) -> frozenset[str]:
    """Names of the metrics that need something."""
    return frozenset(entry.name for entry in CATALOGUE if need in entry.needs)


def metrics_of_every_seed() -> frozenset[str]:
    """Names of the metrics that are made of the images of every sampling seed."""
    return frozenset(entry.name for entry in CATALOGUE if entry.of_every_seed)


def quality_rows() -> tuple[str, ...]:
    """How the names of the rows begin that the table of quality shows, in its order."""
    return tuple(start for entry in CATALOGUE for start in entry.quality_rows)
