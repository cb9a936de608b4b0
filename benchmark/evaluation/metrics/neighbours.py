"""Precision, recall, density and coverage from nearest neighbours in feature space.

Sources: precision and recall, Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for
Assessing Generative Models", eq. 1-3, k = 3; density and coverage, Naeem et al. 2020, "Reliable
Fidelity and Diversity Metrics for Generative Models", eq. 4 and 6, k = 5.

Balls are closed: a point at exactly the radius is inside, as Kynkäänniemi's eq. 1 says. (The
code of Naeem et al. has open balls; that differs only where a distance equals a radius.)

Distances are found in float32 by matrix products over tiles, after centring, so that memory does
not grow with the number of images. A float32 comparison too close to call is made again in
float64 from the differences themselves, and so are the distances of the nearest neighbours: the
results are those of float64 brute force, also for ties and copies.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.metrics.frechet import FloatArray, check_widths, checked_features
from mindiffusion.errors import UserError

MANIFOLD_K = 3
DENSITY_K = 5

# Images a side of a tile: 4 MB a matrix of float32.
_TILE = 1024
# Neighbours kept beyond k, to be measured exactly: room for those that rounding swaps.
_SPARE = 8
# Pairs measured in float64 at once.
_PAIRS = 1024


@dataclass(frozen=True)
class MeanEstimate:
    """A mean over images and its standard error; see where it is used what stays fixed."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class NeighbourScores:
    """The four scores; each error covers the images averaged over and takes the others as given.

    Attributes:
        precision: share of generated images inside a reference image's ball, in 0..1.
        recall: share of reference images inside a generated image's ball, in 0..1.
        density: balls of reference images that a generated image lies in, over k; ≥ 0.
        coverage: share of reference images with a generated image in their ball, in 0..1.
        n_generated: generated images.
        n_reference: reference images.
    """

    precision: MeanEstimate
    recall: MeanEstimate
    density: MeanEstimate
    coverage: MeanEstimate
    n_generated: int
    n_reference: int


def neighbour_scores(
    generated: NDArray, reference: NDArray, rounding: float = 0.0
) -> NeighbourScores:
    """Precision and recall with k = 3, density and coverage with k = 5.

    All four depend on both numbers of images; the papers use equal numbers.

    Args:
        generated: features (M, D), M ≥ 6.
        reference: features (N, D), N ≥ 6.
        rounding: how far features of one image may lie apart, as a share of their length; no ball
            is smaller, so that copies lie in each other's balls.

    Raises:
        UserError: non-finite features, unequal D, or too few images.
    """
    x, y = _Points.of(generated), _Points.of(reference)
    _check_pair(x, y, smallest=DENSITY_K + 1)
    smallest_x, smallest_y = ((rounding * points.lengths()) ** 2 for points in (x, y))
    x, y = x.centred(y.mean()), y.centred(y.mean())
    squared_y = _nearest_squared(y, y, DENSITY_K, itself=True)[0]
    near_y, wide_y = (np.maximum(squared_y[:, k - 1], smallest_y) for k in (MANIFOLD_K, DENSITY_K))
    squared_x = _nearest_squared(x, x, MANIFOLD_K, itself=True)[0]
    near_x = np.maximum(squared_x[:, MANIFOLD_K - 1], smallest_x)
    precise, dense = np.zeros((2, len(x)), dtype=np.int64)
    recalled, covered = np.zeros((2, len(y)), dtype=np.int64)
    for i in y.tiles():
        for j in x.tiles():
            tile = _Tile.of(y, i, x, j)
            in_wide = tile.within(wide_y[i, None])
            precise[j] += tile.within(near_y[i, None]).sum(axis=0)
            dense[j] += in_wide.sum(axis=0)
            covered[i] += in_wide.sum(axis=1)
            recalled[i] += tile.within(near_x[None, j]).sum(axis=1)
    return NeighbourScores(
        precision=_mean(precise > 0),
        recall=_mean(recalled > 0),
        density=_mean(dense / DENSITY_K),
        coverage=_mean(covered > 0),
        n_generated=len(x),
        n_reference=len(y),
    )


def nearest_neighbours(
    queries: NDArray, base: NDArray, k: int
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Distances (Q, k), rising, and rows (Q, k) in ``base`` of the k nearest of each query.

    Args:
        queries: features (Q, D).
        base: features (N, D), any real dtype: uint8 pixels stay as they are.
        k: how many, 1 ≤ k ≤ N. Of equally near ones the first in ``base`` come first.

    Raises:
        UserError: non-finite features, unequal D, or k out of range.
    """
    x, y = _Points.of(queries), _Points.of(base)
    _check_pair(x, y, smallest=1)
    if not 1 <= k <= len(y):
        raise UserError(f"{k} nearest neighbours asked for; allowed is 1 to {len(y)}, all images.")
    mean = y.mean()
    squared, rows = _nearest_squared(x.centred(mean), y.centred(mean), k, itself=False)
    return np.sqrt(squared), rows


@dataclass(frozen=True)
class _Points:
    """Features as they came, and the centre to take off before float32 products."""

    features: NDArray
    centre: FloatArray

    @classmethod
    def of(cls, features: NDArray) -> "_Points":
        array = np.asarray(features)
        for start in range(0, max(len(array), 1), _TILE):
            checked_features(array[start : start + _TILE])
        return cls(array, np.zeros(array.shape[1]))

    def __len__(self) -> int:
        return len(self.features)

    def tiles(self) -> list[slice]:
        return [slice(i, min(i + _TILE, len(self))) for i in range(0, len(self), _TILE)]

    def mean(self) -> FloatArray:
        sums = [self.features[i].sum(axis=0, dtype=np.float64) for i in self.tiles()]
        return np.sum(sums, axis=0) / len(self)

    def lengths(self) -> FloatArray:
        """Of the features as they came, (N,)."""
        parts = [np.linalg.norm(self.features[i].astype(np.float64), axis=1) for i in self.tiles()]
        return np.concatenate(parts)

    def centred(self, centre: FloatArray) -> "_Points":
        return _Points(self.features, centre)

    def rows(self, i: slice | NDArray[np.int64], dtype: type) -> NDArray:
        return (self.features[i] - self.centre).astype(dtype)


def _squared_norms(rows: NDArray) -> NDArray:
    return np.einsum("nd,nd->n", rows, rows, dtype=np.float64).astype(rows.dtype)


def _doubt(dim: int, dtype: type) -> float:
    """Bound on the error of a squared distance, in units of |x|² + |y|².

    A product of D terms errs by at most D half-ulps of |x||y| ≤ (|x|² + |y|²)/2.
    """
    return (dim + 8) * float(np.finfo(dtype).eps) / 2


def _exact_squared(x: NDArray, y: NDArray) -> FloatArray:
    """Squared distances (P,) of row p of x and row p of y, the same bits in either order."""
    return np.square(x.astype(np.float64) - y.astype(np.float64)).sum(axis=1)


@dataclass(frozen=True)
class _Tile:
    """Squared distances between rows ``i`` of x and rows ``j`` of y, and how far to trust them."""

    x: NDArray
    y: NDArray
    squared: NDArray[np.float32]  # (I, J)
    doubt: NDArray[np.float32]  # (I, J): a bound on the error of ``squared``

    @classmethod
    def of(cls, x: _Points, i: slice, y: _Points, j: slice) -> "_Tile":
        left, right = x.rows(i, np.float32), y.rows(j, np.float32)
        size = _squared_norms(left)[:, None] + _squared_norms(right)[None, :]
        doubt = size * np.float32(_doubt(left.shape[1], np.float32))
        return cls(x.features[i], y.features[j], size - 2 * (left @ right.T), doubt)

    def within(self, squared_radii: FloatArray) -> NDArray[np.bool_]:
        """Whether each distance is at most its radius; radii (I, 1) or (1, J)."""
        margin = self.squared - squared_radii.astype(np.float32)
        inside = margin <= 0
        rows, columns = np.nonzero(np.abs(margin) <= self.doubt)
        radii = np.broadcast_to(squared_radii, inside.shape)
        for start in range(0, len(rows), _PAIRS):
            r, c = rows[start : start + _PAIRS], columns[start : start + _PAIRS]
            inside[r, c] = _exact_squared(self.x[r], self.y[c]) <= radii[r, c]
        return inside


def _nearest_squared(
    x: _Points, y: _Points, k: int, itself: bool
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Squared distances and rows of the k nearest in y; ``itself``: x is y, skip equal rows."""
    squared = np.empty((len(x), k))
    nearest = np.empty((len(x), k), dtype=np.int64)
    for i in x.tiles():
        wanted = np.arange(i.start, i.stop)
        # float64 where float32 cannot tell which are nearest: in clusters far from the centre.
        for dtype in (np.float32, np.float64):
            rows, beyond = _candidates(x, wanted, y, k + _SPARE, itself, dtype)
            features = x.features[wanted]
            exact = np.stack([_exact_squared(features, y.features[r]) for r in rows.T], axis=1)
            order = np.argsort(exact, axis=1, kind="stable")[:, :k]
            squared[wanted] = np.take_along_axis(exact, order, axis=1)
            nearest[wanted] = np.take_along_axis(rows, order, axis=1)
            wanted = wanted[squared[wanted, k - 1] > beyond]
            if not len(wanted):
                break
    return squared, nearest


def _candidates(
    x: _Points, wanted: NDArray[np.int64], y: _Points, count: int, itself: bool, dtype: type
) -> tuple[NDArray[np.int64], FloatArray]:
    """Rows (W, ≤ count) of the nearest in y of rows ``wanted`` of x, by products of ``dtype``.

    Returns:
        The rows, rising, and for each wanted row (W,) a squared distance that all other rows of
        y keep, whatever the rounding.
    """
    left = x.rows(wanted, dtype)
    norms, largest = _squared_norms(left), 0.0
    best: NDArray = np.empty((len(wanted), 0), dtype=dtype)
    rows = np.empty(best.shape, dtype=np.int64)
    for j in y.tiles():
        right = y.rows(j, dtype)
        right_norms = _squared_norms(right)
        largest = max(largest, float(right_norms.max()))
        tile = norms[:, None] + right_norms[None, :] - 2 * (left @ right.T)
        if itself:
            here = np.flatnonzero((wanted >= j.start) & (wanted < j.stop))
            tile[here, wanted[here] - j.start] = np.inf
        best = np.concatenate([best, tile], axis=1)
        numbers = np.broadcast_to(np.arange(j.start, j.stop), tile.shape)
        rows = np.concatenate([rows, numbers], axis=1)
        if best.shape[1] > count:
            order = np.argpartition(best, count - 1, axis=1)[:, :count]
            best, rows = (np.take_along_axis(part, order, axis=1) for part in (best, rows))
    others = len(y) - itself
    if others <= count:
        # An image is no candidate for itself, even where there are few others.
        order = np.argsort(best, axis=1)[:, :others]
        return np.sort(np.take_along_axis(rows, order, axis=1), axis=1), np.full(len(left), np.inf)
    doubt = _doubt(left.shape[1], dtype) * (norms + largest)
    return np.sort(rows, axis=1), best.max(axis=1) - doubt


def _mean(values: NDArray) -> MeanEstimate:
    spread = float(values.std(ddof=1, dtype=np.float64))
    return MeanEstimate(float(values.mean()), spread / float(np.sqrt(len(values))))


def _check_pair(x: _Points, y: _Points, smallest: int) -> None:
    check_widths(x.features.shape[1], y.features.shape[1])
    if min(len(x), len(y)) < smallest:
        raise UserError(
            f"Neighbours among {len(x)} generated and {len(y)} reference images asked for; "
            f"give {smallest} or more of each."
        )
