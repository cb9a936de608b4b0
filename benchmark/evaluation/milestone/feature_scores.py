"""What one feature net says of generated images: numbers with their names and their errors."""

from collections.abc import Callable, Collection, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from numpy.typing import NDArray

from benchmark.evaluation.features.extract import ROUNDING, FeatureExtractor, FeatureSet
from benchmark.evaluation.features.net import FeatureNet
from benchmark.evaluation.features.reference_set import ReferenceSet
from benchmark.evaluation.metrics.extrapolation import can_extrapolate, frechet_estimate
from benchmark.evaluation.metrics.inception_score import inception_score
from benchmark.evaluation.metrics.kid import kid_full
from benchmark.evaluation.metrics.memorisation import Memorisation, memorisation
from benchmark.evaluation.metrics.neighbours import neighbour_scores
from benchmark.rows.metric_names import is_smoke, limit_name, metric_label
from benchmark.study.measure import ScaleName, allowed_scales
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


_Number = tuple[str, float, float, int]
"""Name, value, standard error, and reference images behind it."""


def _distance(of: _Scored, names: Sequence[str]) -> Iterator[_Number]:
    """A distance is extrapolated to infinitely many images only where there are enough to do so."""
    fd = frechet_estimate(of.found.groups, of.reference.moments, of.reference.root)
    yield names[0], fd.value, fd.standard_error, of.reference.n
    if can_extrapolate(of.found.n, of.extractor.net.dim):
        yield limit_name(names[0]), fd.infinity, fd.infinity_error, of.reference.n


def _kernel_distance(of: _Scored, names: Sequence[str]) -> Iterator[_Number]:
    kernel = kid_full(of.features(), of.reference.features, of.reference.kernel_sums)
    yield names[0], kernel.value, kernel.standard_error, of.reference.n


_NEIGHBOURS = ("precision", "recall", "density", "coverage")


def _neighbours(of: _Scored, names: Sequence[str]) -> Iterator[_Number]:
    # As many of each: all four depend on both numbers.
    near = neighbour_scores(of.features(), of.reference.features[: of.found.n], ROUNDING)
    for what, name in zip(_NEIGHBOURS, names, strict=True):
        one = getattr(near, what)
        yield name, one.value, one.standard_error, near.n_reference


def _inception_score(of: _Scored, names: Sequence[str]) -> Iterator[_Number]:
    if of.extractor.head is None:
        return
    score = inception_score(of.extractor.logits(of.features()), splits=min(_SPLITS, of.found.n))
    yield names[0], score.mean, score.standard_error, 0


def _memorisation(of: _Scored, names: Sequence[str]) -> Iterator[_Number]:
    if of.unseen is None:
        return
    found = memorisation(of.features(), of.unseen, of.reference.features)
    yield names[0], found.share, found.standard_error, found.n_train


def _inception_score_names(net: FeatureNet) -> tuple[str, ...]:
    if net.num_classes is None:
        return ()
    return ("IS" if net.label == "Inception" else f"IS-{net.label}",)


@dataclass(frozen=True)
class _Scorer:
    """A metric of features.

    Attributes:
        direction: which way is better.
        names: of its numbers on a net, without n; none where the net does not give it.
        numbers: its numbers, under these names with n.
        is_positive: whether its numbers are above 0, whatever the images.
    """

    direction: Direction
    names: Callable[[FeatureNet], tuple[str, ...]]
    numbers: Callable[[_Scored, Sequence[str]], Iterator[_Number]]
    is_positive: bool = False


# More than expected is copying, much less is no virtue: it has no better direction.
_OF_MEMORISATION: Direction = "none"
_SCORERS = {
    "fd": _Scorer("lower", lambda net: (net.frechet_name,), _distance, is_positive=True),
    "kd": _Scorer("lower", lambda net: (net.kernel_name,), _kernel_distance),
    "prdc": _Scorer(
        "higher", lambda net: tuple(f"{one}-{net.label}" for one in _NEIGHBOURS), _neighbours
    ),
    "is": _Scorer("higher", _inception_score_names, _inception_score, is_positive=True),
    "memorisation": _Scorer(
        _OF_MEMORISATION, lambda net: (f"memorised-{net.label}",), _memorisation
    ),
}
"""Metrics of features by their names in the catalogue."""
MADE_OF_FEATURES = frozenset(_SCORERS)


def scales_of_numbers(
    net: FeatureNet, metrics: Collection[str]
) -> dict[str, tuple[ScaleName, ...]]:
    """Names of the numbers that a net gives of an image set, without n: scales to compare them on.

    Args:
        net: the net.
        metrics: names of metrics; those that are not made from features give none.
    """
    return {
        name: allowed_scales(scorer.direction, scorer.is_positive)
        for metric, scorer in _SCORERS.items()
        if metric in metrics
        for name in scorer.names(net)
    }


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
            scorer = _SCORERS[entry.name]
            names = [metric_label(name, found.n) for name in scorer.names(extractor.net)]
            for name, value, error, n_reference in scorer.numbers(of, names):
                yield Score(name, value, error, scorer.direction, found.n, n_reference)


def memorisation_score(name: str, found: Memorisation) -> Score:
    """Share of samples nearer to the training images than 1 % of unseen real images are."""
    label, error = metric_label(name, found.n), found.standard_error
    return Score(label, found.share, error, _OF_MEMORISATION, found.n, found.n_train)
