"""Memorisation: are generated images nearer to the training images than unseen real ones are?

Held-out images, real and unseen in training, show how near to its training set a model without
any memory would come. The share of generated images nearer than the held-out 1 % quantile is
then about 1 % for such a model, and more for one that copies. The rule is this project's own;
comparing distances to training and to held-out images follows Meehan, Chaudhuri and Dasgupta
2020, "A Non-Parametric Test to Detect Data-Copying in Generative Models".
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.metrics.frechet import FloatArray
from benchmark.evaluation.metrics.neighbours import nearest_neighbours
from mindiffusion.errors import UserError

QUANTILE = 0.01


@dataclass(frozen=True)
class ClosestPairs:
    """Generated images with their nearest training image, nearest pair first."""

    generated: NDArray[np.int64]  # (P,) rows
    train: NDArray[np.int64]  # (P,) rows
    distance: FloatArray  # (P,)


@dataclass(frozen=True)
class Memorisation:
    """What :func:`memorisation` found.

    Attributes:
        share: of generated images strictly nearer to a training image than ``threshold``.
        standard_error: binomial, over generated images, the threshold taken as given.
        expected: share of a model without memory: .01, or 1/(n + 1) with fewer than 99 images.
        threshold: the 1 % quantile of the held-out images' distances to their nearest
            training image, in the features' unit.
        n: images compared, of each kind.
        n_train: training images searched.
        pairs: the closest pairs, for a figure.
    """

    share: float
    standard_error: float
    expected: float
    threshold: float
    n: int
    n_train: int
    pairs: ClosestPairs


def memorisation(
    generated: NDArray, held_out: NDArray, train: NDArray, num_pairs: int = 16
) -> Memorisation:
    """Share of generated images nearer to the training set than 1 % of held-out images are.

    The first n images of each kind are compared, n being the smaller number. The same function
    serves features and pixels (N, H·W·C). Where training mirrors images, mirrored training
    images belong into ``train``.

    Args:
        generated: (M, D), any real dtype.
        held_out: (L, D), without images of ``train`` (see :func:`unseen_images`).
        train: (N, D).
        num_pairs: closest pairs to name; fewer where there are fewer generated images.

    Raises:
        UserError: non-finite features, unequal D, or no image of a kind.
    """
    n = min(len(generated), len(held_out))
    if n == 0 or len(train) == 0:
        raise UserError(
            f"Memorisation of {len(generated)} generated, {len(held_out)} held-out and "
            f"{len(train)} training images asked for; give one or more of each."
        )
    unseen = nearest_neighbours(held_out[:n], train, 1)[0][:, 0]
    found, found_rows = nearest_neighbours(generated[:n], train, 1)
    distances, rows = found[:, 0], found_rows[:, 0]
    # "weibull": of n + 1 exchangeable images, the last falls below this quantile in 1 % of cases.
    threshold = float(np.quantile(unseen, QUANTILE, method="weibull"))
    share = float((distances < threshold).mean())
    closest = np.argsort(distances, kind="stable")[:num_pairs]
    return Memorisation(
        share=share,
        standard_error=float(np.sqrt(share * (1 - share) / n)),
        expected=max(QUANTILE, 1 / (n + 1)),
        threshold=threshold,
        n=n,
        n_train=len(train),
        pairs=ClosestPairs(closest, rows[closest], distances[closest]),
    )


def unseen_images(held_out: NDArray[np.uint8], train: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which held-out images (M,) are neither a training image nor one mirrored left to right.

    Only exact copies are found: every pixel equal.

    Args:
        held_out: (M, H, W, 3) uint8.
        train: (N, H, W, 3) uint8, may be memory-mapped.

    Raises:
        UserError: images that are not uint8, or of another size than the training images.
    """
    for images in (held_out, train):
        if images.dtype != np.uint8 or images.shape[1:] != train.shape[1:] or images.ndim != 4:
            raise UserError(
                f"Images are {images.dtype} {images.shape}; give uint8 (N, H, W, 3), "
                "held-out and training images of one size."
            )
    seen = {_digest(image) for image in train}
    return np.array(
        [_digest(image) not in seen and _digest(image[:, ::-1]) not in seen for image in held_out],
        dtype=bool,
    )


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
