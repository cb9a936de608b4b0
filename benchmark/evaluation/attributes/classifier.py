"""A frozen, calibrated reader of a data set's own attributes: images in, probabilities out.

Besides a softmax for each attribute it has one head for "a whole image of this data", trained
against blurred and noisy copies. One, not a reject class in each softmax: blur and noise damage
all of an image, nobody knows which attributes survive it, and every head's reject class would
learn the same target while taking probability from its classes. So the attribute heads answer
"if this shows a portrait, which hair?", and that head whether it does.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.evaluation.attributes.architecture import AttributeNet
from benchmark.evaluation.attributes.scores import UNKNOWN
from mindiffusion.data.codec import PIXELS
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_json

_BATCH = 256


@dataclass(frozen=True)
class Attribute:
    """One attribute the classifier reads, and how well it does.

    Attributes:
        name: label name of the prepared data.
        classes: names of the classes it tells apart.
        codes: their codes in the labels; images with other codes are left out of all scores.
        shares: shares of the classes among the images trained on, all > 0.
        temperature: its logits are divided by this.
        balanced_accuracy: on training images it was neither trained nor calibrated on.
        standard_error: of that, over images.
        calibration_error: expected calibration error on the same images.
    """

    name: str
    classes: tuple[str, ...]
    codes: tuple[int, ...]
    shares: tuple[float, ...]
    temperature: float
    balanced_accuracy: float
    standard_error: float
    calibration_error: float

    def classes_of(self, codes: NDArray) -> NDArray[np.int64]:
        """Labels' codes (N,) → class numbers 0 … K−1, ``UNKNOWN`` for codes it does not read."""
        return class_numbers(codes, self.codes)

    def choose(self, probabilities: NDArray) -> NDArray[np.int64]:
        """The class that is most likely beyond its share, argmax p(k | x)/p(k): (..., K) → (...).

        That is the best guess where every class counts alike, as in balanced accuracy; the most
        probable class would hide a rare one until the image is all but clear.
        """
        return (probabilities / np.array(self.shares)).argmax(axis=-1)


def class_numbers(codes: NDArray, read: tuple[int, ...]) -> NDArray[np.int64]:
    """Each code's place in ``read``, ``UNKNOWN`` where it is not there."""
    places = {code: place for place, code in enumerate(read)}
    return np.array([places.get(int(code), UNKNOWN) for code in codes], dtype=np.int64)


@dataclass(frozen=True)
class RejectHead:
    """What the head for whole images does to real images that it was not trained on.

    It rejects what is more likely damaged than whole; a temperature moves no logit across even
    odds, so it has none.

    Attributes:
        whole_rejected: share of undamaged images it rejects.
        blurred_rejected: share of blurred ones, over all strengths.
        noisy_rejected: share of noisy ones, over all strengths.
    """

    whole_rejected: float
    blurred_rejected: float
    noisy_rejected: float


@dataclass(frozen=True)
class Readings:
    """What the classifier reads in N images.

    Attributes:
        probabilities: attribute to (N, K) float32, calibrated.
        rejected: (N,) whether an image is more likely damaged than whole.
    """

    probabilities: dict[str, NDArray[np.float32]]
    rejected: NDArray[np.bool_]


@dataclass(frozen=True)
class AttributeClassifier:
    """The frozen classifier.

    Attributes:
        net: in eval mode, without gradients.
        heads: the attribute of each of the net's heads in order; None for one it cannot read.
        reject: what its head for whole images does.
        dropped: a line for each attribute of the data that is not read, with the reason.
        side: of the images, in pixels.
        width: channels of the net's first stage.
    """

    net: AttributeNet
    heads: tuple[Attribute | None, ...]
    reject: RejectHead
    dropped: tuple[str, ...]
    side: int
    width: int

    @functools.cached_property
    def fingerprint(self) -> str:
        """12 hex digits of all it is: numbers by two classifiers do not belong in one column."""
        digest = hashlib.sha256(sha256_of_json(self.description()).encode("ascii"))
        for name, tensor in self.net.state_dict().items():
            digest.update(name.encode("utf-8"))
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def description(self) -> dict[str, Any]:
        """All but the weights, as plain types."""
        return {
            "heads": [None if head is None else dataclasses.asdict(head) for head in self.heads],
            "head_sizes": list(self.net.head_sizes),
            "reject": dataclasses.asdict(self.reject),
            "dropped": list(self.dropped),
            "side": self.side,
            "width": self.width,
        }

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The attributes it reads."""
        return tuple(head for head in self.heads if head is not None)

    def to(self, device: torch.device | str) -> "AttributeClassifier":
        """Itself, its network moved to ``device``."""
        self.net.to(device)
        return self

    def read(self, images: torch.Tensor) -> Readings:
        """Read float images (N, 3, side, side) in [-1, 1], on any device.

        Raises:
            UserError: another shape.
        """
        if images.shape[1:] != (3, self.side, self.side):
            raise UserError(
                f"Images are {tuple(images.shape)}; this classifier reads (N, 3, {self.side}, "
                f"{self.side}): give images of the data it was trained on."
            )
        device = next(self.net.parameters()).device
        with torch.inference_mode():
            batches = [self.net(batch.to(device).float()).cpu() for batch in images.split(_BATCH)]
        whole, heads = self.net.split(torch.cat(batches))
        probabilities = {
            head.name: (logits / head.temperature).softmax(dim=1).numpy()
            for head, logits in zip(self.heads, heads, strict=True)
            if head is not None
        }
        return Readings(probabilities, (whole < 0).numpy())

    def read_uint8(self, images: NDArray[np.uint8]) -> Readings:
        """Read uint8 images (N, side, side, 3), such as generated or prepared ones.

        Raises:
            UserError: not uint8, or another shape.
        """
        if images.dtype != np.uint8 or images.shape[1:] != (self.side, self.side, 3):
            raise UserError(
                f"Images are {images.dtype} {images.shape}; this classifier reads uint8 "
                f"(N, {self.side}, {self.side}, 3): give images of the data it was trained on."
            )
        parts = [
            self.read(to_float(images[start : start + _BATCH]))
            for start in range(0, len(images), _BATCH)
        ]
        return joined(parts)


def to_float(images: NDArray[np.uint8]) -> torch.Tensor:
    """Uint8 images (N, H, W, 3) as float32 (N, 3, H, W) in [-1, 1]."""
    # np.array: a copy that torch may own; memory-mapped arrays are read-only.
    return PIXELS.inputs(torch.from_numpy(np.array(images)), torch.float32)


def joined(parts: list[Readings]) -> Readings:
    """Readings of several sets of images, one after the other; at least one set."""
    names = parts[0].probabilities
    return Readings(
        {name: np.concatenate([part.probabilities[name] for part in parts]) for name in names},
        np.concatenate([part.rejected for part in parts]),
    )


def true_classes(
    attributes: Sequence[Attribute], labels: Mapping[str, NDArray]
) -> dict[str, NDArray[np.int64]]:
    """Class numbers of labelled images, by attribute.

    Args:
        attributes: of the classifier.
        labels: attribute to the (N,) codes of ``PreparedData``.

    Raises:
        UserError: an attribute without labels.
    """
    missing = [attribute.name for attribute in attributes if attribute.name not in labels]
    if missing:
        raise UserError(
            f"The labels lack {missing[0]!r}, which the classifier reads; give the labels of the "
            "data it was trained on."
        )
    return {a.name: a.classes_of(labels[a.name]) for a in attributes}
