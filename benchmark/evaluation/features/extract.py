"""Features from a loaded net: of one array, or streamed by groups and shared out over ranks.

A set of n images is cut into groups of consecutive indices. A group is the unit of work: it goes
to one rank whole, its batches start at its first image, and its moments are merged with the
others' in the order of groups. So the result has the same bits for any number of ranks (at equal
threads and versions), however the images arrive in batches.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from benchmark.evaluation.features.net import FeatureNet, Head
from benchmark.evaluation.features.resize import resize
from benchmark.evaluation.metrics.frechet import MomentAccumulator, Moments, merge_moments
from mindiffusion.errors import UserError
from mindiffusion.training.ranks import Ranks

GROUPS = 10
"""Groups of a feature set: enough for a jackknife over them, few enough to keep their moments."""
ROWS_AT_ONCE = 1024
"""Features gathered before they enter the moments: each entry costs D² beside the product."""
ROUNDING = 1e-5
"""How far, as a share of its length, a feature moves at most with the batch that it is computed in:
up to 3.5e-6 was measured. One grey level in one pixel moves it by 3e-5 or more."""
PIXELS_AT_ONCE = 1 << 24
"""Of images that pass the net together, unless one has more; 64 of 512 x 512 are as many."""
MOST_WAITING = 1 << 25
"""Pixels of a group's images that wait for others of their size."""
ImageBatch = tuple[NDArray[np.int64], NDArray[np.uint8]]
"""Indices (B,) of images, and their pixels (B, H, W, 3), all of one size."""


@dataclass(frozen=True)
class FeatureExtractor:
    """A loaded net; call it with uint8 images (N, H, W, 3) for float64 features (N, D).

    Attributes:
        net: facts about it.
        weights_sha256: of its weights file.
        module: from (B, 3, S, S) float32, in the net's range of values, to (B, D).
        device: where it runs.
        batch_size: images a call of the module.
        head: its classifier, if it has one.
    """

    net: FeatureNet
    weights_sha256: str
    module: nn.Module
    device: torch.device
    batch_size: int
    head: Head | None = None

    def __call__(
        self, images: NDArray[np.uint8], on_batch: Callable[[int], None] = lambda done: None
    ) -> NDArray[np.float64]:
        """Features of ``images``, row k for image k; a batch changes them by rounding at most.

        Args:
            images: (N, H, W, 3) uint8.
            on_batch: called with the number of images done after every batch.

        Raises:
            UserError: images that are not uint8 (N, H, W, 3), or a net that gives another
                number of features than its entry says.
        """
        _check(images)
        features = np.empty((len(images), self.net.dim), dtype=np.float64)
        starts = range(0, len(images), self.batch_size)
        # disable=None: no bar where nobody watches; delay: none for what takes a moment.
        for start in tqdm(starts, desc=f"{self.net.label} features", disable=None, delay=5):
            rows = slice(start, min(start + self.batch_size, len(images)))
            features[rows] = self.batch(images[rows])
            on_batch(rows.stop)
        return features

    def batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (B, D) of one batch (B, H, W, 3), in one call of the net.

        Raises:
            UserError: as for a call of the extractor.
        """
        _check(images)
        # np.array: a copy that torch may own; memory-mapped arrays are read-only.
        pixels = torch.from_numpy(np.array(images, order="C")).to(self.device)
        with torch.inference_mode(), _full_float32():
            values = resize(pixels, self.net.input_size, self.net.shift, self.net.scale)
            output = self.module(values).float().cpu().numpy()
        expected = (len(images), self.net.dim)
        if output.shape != expected:
            raise UserError(
                f"The {self.net.label} net gave features of shape {output.shape} instead of "
                f"{expected}; check its weights file."
            )
        return output

    def images_at_once(self, height: int, width: int) -> int:
        """Images of a size that pass the net together: ``batch_size``, or fewer large ones."""
        return max(1, min(self.batch_size, PIXELS_AT_ONCE // (height * width)))

    def logits(self, features: NDArray) -> NDArray[np.float64]:
        """What the net's own classifier says: (N, D) features → (N, K) logits.

        Raises:
            UserError: the net has no classifier.
        """
        if self.head is None:
            raise UserError(
                f"{self.net.label} has no classifier here; the Inception score needs one: take "
                "inception with its whole weights file, or effnet-lite0-224."
            )
        return self.head(features)


def _check(images: NDArray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise UserError(f"Images are {images.dtype} {images.shape}; give uint8 (N, H, W, 3).")


def _full_float32() -> AbstractContextManager[None]:
    """Without TF32: cuDNN would round the inputs of convolutions to 10 bits, 1e-3 of a feature."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """What is known of the features of n images.

    Attributes:
        groups: moments of the groups, in the order of their images.
        features: (n, D) float32 in the order of the images; None unless they were to be kept.
        n: number of images.
    """

    groups: tuple[Moments, ...]
    features: NDArray[np.float32] | None
    n: int

    @cached_property
    def moments(self) -> Moments:
        """Moments of all n features."""
        return merge_moments(self.groups)


def group_ranges(n: int, groups: int = GROUPS) -> list[range]:
    """Indices of each group: consecutive, and as equal in number as can be.

    Raises:
        UserError: fewer than two images a group.
    """
    if n < 2 * groups:
        raise UserError(f"{n} images make no {groups} groups; give {2 * groups} images or more.")
    borders = [group * n // groups for group in range(groups + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(borders)]


def own_ranges(n: int, groups: int = GROUPS, ranks: Ranks | None = None) -> list[range]:
    """The groups whose images this rank has to give: group g is of rank g modulo their number."""
    ranks = ranks or Ranks()
    return group_ranges(n, groups)[ranks.rank :: ranks.world]


def array_batches(
    images: NDArray[np.uint8], size: int, ranges: Sequence[range] | None = None
) -> Iterator[ImageBatch]:
    """Batches of an array (N, H, W, 3), of all images or of some ranges of them.

    Args:
        images: may be memory-mapped.
        size: images a batch at most.
        ranges: indices wanted, such as :func:`own_ranges`.
    """
    for wanted in [range(len(images))] if ranges is None else ranges:
        for start in range(wanted.start, wanted.stop, size):
            stop = min(start + size, wanted.stop)
            yield np.arange(start, stop), images[start:stop]


class _Group:
    """One group's images on their way into its moments.

    Args:
        extractor: the net.
        indices: the group's images.
        features: where its features (n, D) are put, if they are to be kept.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        indices: range,
        features: NDArray[np.float32] | None,
    ) -> None:
        self._extractor = extractor
        self._indices = indices
        self._features = features
        # By image size: the net gets whole batches wherever the group's images allow it.
        self._waiting: dict[tuple[int, ...], ImageBatch] = {}
        self._rows: list[NDArray[np.float32]] = []
        self._moments = MomentAccumulator()
        self._seen = np.zeros(len(indices), dtype=bool)

    @property
    def missing(self) -> int:
        """Images that have not come yet."""
        return int(np.count_nonzero(~self._seen))

    def take(self, indices: NDArray[np.int64], images: NDArray[np.uint8]) -> None:
        """Take in some of the group's images (B, H, W, 3), all of one size.

        Where images of many sizes wait, those whose size has not come for longest go first.

        Raises:
            UserError: an image came twice.
        """
        places = indices - self._indices.start
        if len(np.unique(places)) < len(places) or self._seen[places].any():
            raise UserError(
                f"An image from {indices[0]} to {indices[-1]} came twice; give each once."
            )
        self._seen[places] = True
        if (waiting := self._waiting.pop(images.shape[1:], None)) is not None:
            places = np.concatenate([waiting[0], places])
            images = np.concatenate([waiting[1], images])
        size = self._extractor.images_at_once(*images.shape[1:3])
        whole = len(places) - len(places) % size
        for start in range(0, whole, size):
            self._run(places[start : start + size], images[start : start + size])
        if whole < len(places):
            self._waiting[images.shape[1:]] = places[whole:], images[whole:].copy()
        while sum(images.size for _, images in self._waiting.values()) > 3 * MOST_WAITING:
            self._run(*self._waiting.pop(next(iter(self._waiting))))
        if not self.missing:
            for rest in self._waiting.values():
                self._run(*rest)
            self._waiting.clear()

    def result(self) -> Moments:
        """The group's moments, when all its images have come."""
        self._add_rows()
        return self._moments.result()

    def _run(self, places: NDArray[np.int64], images: NDArray[np.uint8]) -> None:
        features = self._extractor.batch(images)
        if self._features is not None:
            self._features[places] = features
        self._rows.append(features)
        if len(self._rows) * self._extractor.batch_size >= ROWS_AT_ONCE:
            self._add_rows()

    def _add_rows(self) -> None:
        if self._rows:
            self._moments.add(np.concatenate(self._rows))
            self._rows.clear()


def feature_set(
    extractor: FeatureExtractor,
    batches: Iterable[ImageBatch],
    n: int,
    groups: int = GROUPS,
    keep: bool = False,
    ranks: Ranks | None = None,
    on_images: Callable[[int], None] = lambda done: None,
) -> FeatureSet:
    """Moments, and if wanted features, of n images that come in batches; the same on all ranks.

    Without ``keep`` the memory needed does not grow with n. Groups of other ranks may be left out
    of ``batches`` (see :func:`own_ranges`) and are passed over where they are not.

    Args:
        extractor: the net.
        batches: each index from 0 to n − 1 of this rank's groups once, in any order.
        n: number of images, of all ranks together.
        groups: how many, each of two images or more.
        keep: whether the features are wanted too.
        ranks: this process among its peers; alone if None.
        on_images: called with this rank's number of images so far, after every batch.

    Raises:
        UserError: an image missing, given twice or out of range; images that are not uint8;
            features that are not finite.
    """
    ranks = ranks or Ranks()
    ranges, dim = group_ranges(n, groups), extractor.net.dim
    features = np.empty((n, dim), dtype=np.float32) if keep else None
    kept = [None if features is None else features[own.start : own.stop] for own in ranges]
    own = {
        number: _Group(extractor, ranges[number], kept[number])
        for number in range(ranks.rank, groups, ranks.world)
    }
    total = sum(len(ranges[number]) for number in own)
    with tqdm(total=total, desc=f"{extractor.net.label} features", disable=None, delay=5) as bar:
        done = 0
        for indices, images in batches:
            done += _hand_out(own, ranges, indices, images)
            bar.update(done - bar.n)
            on_images(done)
    missing = sum(group.missing for group in own.values())
    if missing:
        raise UserError(f"{missing} of {total} images did not come; give each of them once.")
    parts = []
    for number, wanted in enumerate(ranges):
        with ranks.phase(f"features of group {number}"):
            source = number % ranks.world
            parts.append(_shared(own.get(number), len(wanted), dim, source, ranks))
            if kept[number] is not None:
                ranks.same(torch.from_numpy(kept[number]), source)
    return FeatureSet(tuple(parts), features, n)


def _hand_out(
    own: dict[int, _Group],
    ranges: Sequence[range],
    indices: NDArray[np.int64],
    images: NDArray[np.uint8],
) -> int:
    """Give each group its part of a batch; returns how many images were taken."""
    if len(indices) != len(images) or indices.min() < 0 or indices.max() >= ranges[-1].stop:
        raise UserError(
            f"A batch of {len(images)} images has indices from {indices.min()} to {indices.max()}; "
            f"allowed is one for each image, from 0 to {ranges[-1].stop - 1}."
        )
    numbers = np.searchsorted([group.stop for group in ranges], indices, side="right")
    taken = 0
    for number in np.unique(numbers):
        if number in own:
            mine = numbers == number
            own[number].take(indices[mine], images[mine])
            taken += int(np.count_nonzero(mine))
    return taken


def _shared(group: _Group | None, n: int, dim: int, source: int, ranks: Ranks) -> Moments:
    """The moments of a group of n images on all ranks, from the one that has them."""
    found = group.result() if group else Moments(np.empty(dim), np.empty((dim, dim)), n)
    for array in (found.mean, found.covariance):
        ranks.same(torch.from_numpy(array), source)
    return found
