"""What one feature net says of generated images: numbers with their names and their errors."""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Literal

from numpy.typing import NDArray

from benchmark.evaluation.features.extract import ROUNDING, FeatureExtractor, FeatureSet
from benchmark.evaluation.features.reference_set import ReferenceSet
from benchmark.evaluation.metrics.extrapolation import can_extrapolate, frechet_estimate
from benchmark.evaluation.metrics.inception_score import inception_score
from benchmark.evaluation.metrics.kid import kid_full
from benchmark.evaluation.metrics.memorisation import Memorisation, memorisation
from benchmark.evaluation.metrics.neighbours import neighbour_scores
from benchmark.rows.metric_names import is_smoke, limit_name, metric_label

NEED_FEATURES = frozenset({"kd", "prdc", "is", "memorisation"})
_SPLITS = 10


@dataclass(frozen=True)
class Score:
    """One number.

    Attributes:
        metric: its name with its net and n, such as "FID@10k".
        value: the number.
        error: its standard error over the images, by the metric's own rule.
        direction: which way is better.
        n_generated: generated images behind it.
        n_reference: reference images behind it; 0 where there are none.
    """

    metric: str
    value: float
    error: float
    direction: Literal["lower", "higher", "none"]
    n_generated: int
    n_reference: int

    @property
    def is_smoke(self) -> bool:
        """Whether too few images are behind it to compare it with other work."""
        return is_smoke(min(n for n in (self.n_generated, self.n_reference) if n))


def net_scores(
    extractor: FeatureExtractor,
    found: FeatureSet,
    reference: ReferenceSet,
    metrics: Set[str],
    unseen: NDArray | None = None,
) -> Iterator[Score]:
    """The metrics wanted, of those that are made from features.

    A distance is extrapolated to infinitely many images only where there are enough to do so.

    Args:
        extractor: the net.
        found: the generated images, in 4 groups or more; with features if ``NEED_FEATURES`` asks.
        reference: what they are held against.
        metrics: of "fd", "kd", "prdc", "is", "memorisation"; others are not this function's.
        unseen: features (M, D) of real images that are not in the reference, for memorisation.

    Raises:
        UserError: too few images for a metric.
    """
    net, n = extractor.net, found.n
    if "fd" in metrics:
        fd = frechet_estimate(found.groups, reference.moments, reference.root)
        name = metric_label(net.frechet_name, n)
        yield Score(name, fd.value, fd.standard_error, "lower", n, reference.n)
        if can_extrapolate(n, net.dim):
            limit = limit_name(name)
            yield Score(limit, fd.infinity, fd.infinity_error, "lower", n, reference.n)
    if found.features is None:
        return
    if "kd" in metrics:
        kernel = kid_full(found.features, reference.features, reference.kernel_sums)
        name = metric_label(net.kernel_name, n)
        yield Score(name, kernel.value, kernel.standard_error, "lower", n, reference.n)
    if "prdc" in metrics:
        # As many of each: all four depend on both numbers.
        near = neighbour_scores(found.features, reference.features[:n], ROUNDING)
        for what in ("precision", "recall", "density", "coverage"):
            one = getattr(near, what)
            name = metric_label(f"{what}-{net.label}", n)
            yield Score(name, one.value, one.standard_error, "higher", n, near.n_reference)
    if "is" in metrics and extractor.head is not None:
        score = inception_score(extractor.logits(found.features), splits=min(_SPLITS, n))
        name = metric_label("IS" if net.label == "Inception" else f"IS-{net.label}", n)
        yield Score(name, score.mean, score.standard_error, "higher", n, 0)
    if "memorisation" in metrics and unseen is not None:
        nearness = memorisation(found.features, unseen, reference.features)
        yield memorisation_score(f"memorised-{net.label}", nearness)


def memorisation_score(name: str, found: Memorisation) -> Score:
    """Share of samples nearer to the training images than 1 % of unseen real images are."""
    label = metric_label(name, found.n)
    # More than expected is copying, much less is no virtue: it has no better direction.
    return Score(label, found.share, found.standard_error, "none", found.n, found.n_train)
