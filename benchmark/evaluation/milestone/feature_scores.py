"""What one feature net says of generated images: numbers with their names and their errors."""

from collections.abc import Callable, Iterator, Set
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
from benchmark.study.metric_catalogue import CATALOGUE

Direction = Literal["lower", "higher", "none"]
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
    direction: Direction
    n_generated: int
    n_reference: int

    @property
    def is_smoke(self) -> bool:
        """Whether too few images are behind it to compare it with other work."""
        return is_smoke(min(n for n in (self.n_generated, self.n_reference) if n))


@dataclass(frozen=True)
class _Scored:
    """What metrics of features are made of: a net, its features of the images, and real ones."""

    extractor: FeatureExtractor
    found: FeatureSet
    reference: ReferenceSet
    unseen: NDArray | None

    def features(self) -> NDArray:
        """Those of the generated images."""
        assert self.found.features is not None
        return self.found.features

    def name(self, base: str) -> str:
        """The metric with its number of images."""
        return metric_label(base, self.found.n)


_Number = tuple[str, float, float, int]
"""Name, value, standard error, and reference images behind it."""


def _distance(of: _Scored) -> Iterator[_Number]:
    """A distance is extrapolated to infinitely many images only where there are enough to do so."""
    fd = frechet_estimate(of.found.groups, of.reference.moments, of.reference.root)
    name = of.name(of.extractor.net.frechet_name)
    yield name, fd.value, fd.standard_error, of.reference.n
    if can_extrapolate(of.found.n, of.extractor.net.dim):
        yield limit_name(name), fd.infinity, fd.infinity_error, of.reference.n


def _kernel_distance(of: _Scored) -> Iterator[_Number]:
    kernel = kid_full(of.features(), of.reference.features, of.reference.kernel_sums)
    name = of.name(of.extractor.net.kernel_name)
    yield name, kernel.value, kernel.standard_error, of.reference.n


def _neighbours(of: _Scored) -> Iterator[_Number]:
    # As many of each: all four depend on both numbers.
    near = neighbour_scores(of.features(), of.reference.features[: of.found.n], ROUNDING)
    for what in ("precision", "recall", "density", "coverage"):
        one = getattr(near, what)
        name = of.name(f"{what}-{of.extractor.net.label}")
        yield name, one.value, one.standard_error, near.n_reference


def _inception_score(of: _Scored) -> Iterator[_Number]:
    if of.extractor.head is None:
        return
    score = inception_score(of.extractor.logits(of.features()), splits=min(_SPLITS, of.found.n))
    label = of.extractor.net.label
    name = of.name("IS" if label == "Inception" else f"IS-{label}")
    yield name, score.mean, score.standard_error, 0


def _memorisation(of: _Scored) -> Iterator[_Number]:
    if of.unseen is None:
        return
    found = memorisation(of.features(), of.unseen, of.reference.features)
    name = of.name(f"memorised-{of.extractor.net.label}")
    yield name, found.share, found.standard_error, found.n_train


# More than expected is copying, much less is no virtue: it has no better direction.
_OF_MEMORISATION: Direction = "none"
_SCORERS: dict[str, tuple[Direction, Callable[[_Scored], Iterator[_Number]]]] = {
    "fd": ("lower", _distance),
    "kd": ("lower", _kernel_distance),
    "prdc": ("higher", _neighbours),
    "is": ("higher", _inception_score),
    "memorisation": (_OF_MEMORISATION, _memorisation),
}
"""Metrics of features by their names in the catalogue: which way is better, and their numbers."""


def net_scores(
    extractor: FeatureExtractor,
    found: FeatureSet,
    reference: ReferenceSet,
    metrics: Set[str],
    unseen: NDArray | None = None,
) -> Iterator[Score]:
    """The metrics wanted, of those that are made from features, in the catalogue's order.

    Args:
        extractor: the net.
        found: the generated images, in 4 groups or more; with features if a metric needs them.
        reference: what they are held against.
        metrics: names of metrics; those that are not made from features are not this function's.
        unseen: features (M, D) of real images that are not in the reference, for memorisation.

    Raises:
        UserError: too few images for a metric.
    """
    of = _Scored(extractor, found, reference, unseen)
    for entry in CATALOGUE:
        has_features = found.features is not None or "features" not in entry.needs
        if entry.name in metrics and entry.name in _SCORERS and has_features:
            direction, numbers = _SCORERS[entry.name]
            for name, value, error, n_reference in numbers(of):
                yield Score(name, value, error, direction, found.n, n_reference)


def memorisation_score(name: str, found: Memorisation) -> Score:
    """Share of samples nearer to the training images than 1 % of unseen real images are."""
    label, error = metric_label(name, found.n), found.standard_error
    return Score(label, found.share, error, _OF_MEMORISATION, found.n, found.n_train)
