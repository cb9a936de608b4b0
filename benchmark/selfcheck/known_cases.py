"""Sets of images whose distance to real ones is known to be small, or to rise."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.cluster.vq import kmeans2
from scipy.ndimage import gaussian_filter

from mindiffusion.data.prepared import PreparedData
from mindiffusion.errors import UserError

Images = NDArray[np.uint8]
SAME, HALVES, MODE = "with itself", "split halves", "mode drop"

# Standard deviations as shares of the side, and in grey levels. Qualities lie far apart: by KD on
# EfficientNet-Lite0 at 64 px, avatars at JPEG quality 90 are farther off than those at 75.
_BLUR = (0.02, 0.04, 0.08)
_NOISE = (2, 6, 18)
_JPEG_QUALITY = (95, 25, 5)
_MODE_SHARE = (0.5, 0.75, 1.0)
_SETS_NEEDED = 4
_LARGEST_MODE = 1 / 3
_THUMBNAIL = 16


@dataclass(frozen=True)
class Case:
    """Images made from the real ones in one way.

    Attributes:
        name: what was done, or how the set was chosen.
        levels: how much, rising: text → images (n, H, W, 3).
    """

    name: str
    levels: dict[str, Callable[[], Images]]


@dataclass(frozen=True)
class Mode:
    """Images that have something in common: its name, and their rows, rising."""

    name: str
    rows: NDArray[np.int64]


def known_cases(data: PreparedData, n: int) -> list[Case]:
    """Sets whose distance to the first n training images is known to be small, or to rise.

    Args:
        data: prepared images, with or without labels.
        n: images a set.

    Raises:
        UserError: fewer than 4 n training images.
    """
    if len(data.train) < _SETS_NEEDED * n:
        raise UserError(
            f"selfcheck of {n} images needs {_SETS_NEEDED * n} training images, the data has "
            f"{len(data.train)}; ask for {len(data.train) // _SETS_NEEDED} at most."
        )
    pool = data.train[n:]
    half = np.array(pool[:n])
    labels = {label: codes[n:] for label, codes in data.train_labels.items()}
    mode = find_mode(thumbnails(pool), labels, data.label_names, n)
    side = half.shape[1]
    return [
        Case(SAME, {"": lambda: np.array(data.train[:n])}),
        Case(HALVES, {"": lambda: half}),
        Case("blur", {f"{s * side:.2g} px": partial(blurred, half, s * side) for s in _BLUR}),
        Case("noise", {f"{s} grey levels": partial(noisy, half, s) for s in _NOISE}),
        Case("JPEG", {f"quality {q}": partial(compressed, half, q) for q in _JPEG_QUALITY}),
        Case(
            f"{MODE}: {mode.name}",
            {f"{share:.0%}": partial(collapsed, pool, mode, n, share) for share in _MODE_SHARE},
        ),
    ]


def blurred(images: Images, sigma: float) -> Images:
    """Gaussian blur of standard deviation ``sigma`` pixels, rounded once."""
    smooth = gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0))
    return _rounded(smooth)


def noisy(images: Images, std: float) -> Images:
    """Gaussian noise of ``std`` grey levels in every value, the same for every level."""
    noise = np.random.default_rng(0).standard_normal(images.shape, dtype=np.float32)
    return _rounded(images + std * noise)


def compressed(images: Images, quality: int) -> Images:
    """Through a JPEG file and back."""
    return np.stack([_through_jpeg(image, quality) for image in images])


def _through_jpeg(image: Images, quality: int) -> Images:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as read:
        return np.asarray(read)


def _rounded(values: NDArray[np.float32]) -> Images:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def collapsed(pool: Images, mode: Mode, n: int, share: float) -> Images:
    """The first n images, a share of those outside the mode replaced by further ones in it.

    Args:
        pool: (N, H, W, 3), may be memory-mapped.
        mode: with n rows or more.
        n: images returned, all different ones.
        share: 0 to 1; at 1 all images are of the mode.
    """
    inside = mode.rows[mode.rows < n]
    outside = np.setdiff1d(np.arange(n), inside)
    num_kept = len(outside) - round(share * len(outside))
    kept = np.concatenate([outside[:num_kept], inside])
    further = mode.rows[mode.rows >= n][: n - len(kept)]
    return np.array(pool[np.sort(np.concatenate([kept, further]))])


def thumbnails(images: Images) -> NDArray[np.float32]:
    """Every k-th pixel of every image, (N, D): enough to tell kinds of images apart."""
    step = max(1, images.shape[1] // _THUMBNAIL)
    return images[:, ::step, ::step].reshape(len(images), -1).astype(np.float32)


def find_mode(
    pixels: NDArray[np.float32],
    labels: dict[str, NDArray],
    label_names: dict[str, list[str]],
    n: int,
) -> Mode:
    """One kind of image to keep: the value of a label, or where none will do a cluster of pixels.

    Of all values with n images or more, and at most a third of them all, that one whose mean
    image is farthest from the mean of all: the choice never looks at a metric.

    Args:
        pixels: (N, D) of N ≥ 3 n images.
        labels: label → codes (N,).
        label_names: label → names of its codes.
        n: images needed.
    """
    best, farthest = None, -1.0
    middle = pixels.mean(axis=0)
    for label, codes in labels.items():
        for code in np.unique(codes):
            rows = np.flatnonzero(codes == code)
            if not n <= len(rows) <= _LARGEST_MODE * len(pixels):
                continue
            distance = float(np.linalg.norm(pixels[rows].mean(axis=0) - middle))
            if distance > farthest:
                best, farthest = Mode(f"{label} {label_names[label][code]}", rows), distance
    return best or _cluster(pixels, n)


def _cluster(pixels: NDArray[np.float32], n: int) -> Mode:
    """The smallest k-means cluster with n images or more; k is so small that there is one."""
    k = min(4, len(pixels) // n - 1)
    starts = pixels[np.random.default_rng(0).choice(len(pixels), k, replace=False)]
    _, codes = kmeans2(pixels, starts, minit="matrix")
    sizes = np.bincount(codes, minlength=k)
    chosen = min((size, code) for code, size in enumerate(sizes) if size >= n)[1]
    return Mode(f"one of {k} pixel clusters", np.flatnonzero(codes == chosen))
