"""From a prepared data set to its attribute classifier: chosen, trained, calibrated, measured."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from benchmark.evaluation.attributes.architecture import AttributeNet
from benchmark.evaluation.attributes.classifier import (
    Attribute,
    AttributeClassifier,
    RejectHead,
    class_numbers,
    to_float,
)
from benchmark.evaluation.attributes.damage import blurred, noisy
from benchmark.evaluation.attributes.fit import ClassifierConfig, best_temperature, fit_network
from benchmark.evaluation.attributes.scores import (
    UNKNOWN,
    balanced_mean,
    calibration_error,
    measured_classes,
)
from mindiffusion.data.prepared import PreparedData
from mindiffusion.errors import UserError
from mindiffusion.noise import permutation

MIN_CLASS_IMAGES = 20
"""Classes with fewer training images are not learned, and left out of all scores."""
MIN_SKILL = 0.2
"""Least (accuracy − chance)/(1 − chance) of an attribute that counts as readable."""
_BATCH = 256
_STANDARD_ERRORS = 3
_NOISE_STEP = 2**31  # above any training step: the noise of the measurement is its own
Damage = Callable[[Tensor, int], Tensor]
"""Images and the number of their batch → images."""


@dataclass(frozen=True)
class _Part:
    """Some of the training images with the class of every attribute, (N, A)."""

    images: NDArray[np.uint8]
    classes: NDArray[np.int64]


def train_classifier(data: PreparedData, config: ClassifierConfig) -> AttributeClassifier:
    """Train, calibrate and measure a classifier on the prepared training images.

    An attribute is read if at least two of its values have ``MIN_CLASS_IMAGES`` images among
    those trained on, and if on images held apart its balanced accuracy is above chance by three
    standard errors and by ``MIN_SKILL`` of the way to 1. Others are dropped, with a line.

    Raises:
        UserError: data without labels, with too few images, or without a readable attribute.
    """
    names, codes = _learnable(data, config)
    parts = _parts(data, names, codes, config)
    with tqdm(total=config.steps, desc="attribute classifier", disable=None, delay=5) as bar:
        net = fit_network(
            parts[0].images,
            parts[0].classes,
            [len(read) for read in codes],
            config,
            lambda done: bar.update(done - bar.n),
        )
    dropped = [_too_few(name) for name in data.label_names if name not in names]
    calibration, check = (_logits(net, part.images)[1] for part in parts[1:])
    heads = []
    for number, (name, read) in enumerate(zip(names, codes, strict=True)):
        classes = [part.classes[:, number] for part in parts]
        temperature = best_temperature(calibration[number], classes[1])
        uncertain = _unmeasured(name, data.label_names[name], read, classes[0], temperature)
        attribute, reason = _measured(uncertain, check[number], classes[2])
        heads.append(attribute)
        dropped += [reason] if reason else []
    reject = _reject_head(net, parts[2].images, config.seed)
    side = data.train.shape[1]
    made = AttributeClassifier(net, tuple(heads), reject, tuple(dropped), side, config.width)
    if not made.attributes:
        raise UserError(
            f"None of the {len(dropped)} attributes of {data.manifest['dataset']} can be read, "
            f"such as {dropped[0]}; prepare more images, or leave the attribute metrics out."
        )
    return made


def _too_few(name: str) -> str:
    return f"{name}: fewer than two values with {MIN_CLASS_IMAGES} training images or more"


def _learnable(
    data: PreparedData, config: ClassifierConfig
) -> tuple[list[str], list[tuple[int, ...]]]:
    """Attributes with two classes or more to learn, and the codes of those classes."""
    rows = _rows(data, config)[0]
    found = {}
    for name in data.label_names:
        codes, counts = np.unique(data.train_labels[name][rows], return_counts=True)
        read = tuple(int(code) for code in codes[counts >= MIN_CLASS_IMAGES])
        if len(read) > 1:
            found[name] = read
    if not found:
        raise UserError(
            f"The {len(data.train)} training images of {data.manifest['dataset']} have no label "
            f"with two values on {MIN_CLASS_IMAGES} images each; the attribute metrics need a "
            "labelled data set (avatars, CelebA with its attribute file) and enough images."
        )
    return list(found), list(found.values())


def _rows(data: PreparedData, config: ClassifierConfig) -> list[NDArray[np.int64]]:
    """Training images to train on, calibrate with and measure on: 3/4, 1/8, 1/8, all different.

    Chosen by a keyed permutation: some data sets are sorted by label.
    """
    count = min(config.num_images, len(data.train))
    chosen = permutation(config.seed, 0, len(data.train))[:count].numpy()
    eighth = count // 8
    return [np.sort(part) for part in np.split(chosen, [count - 2 * eighth, count - eighth])]


def _parts(
    data: PreparedData, names: list[str], codes: list[tuple[int, ...]], config: ClassifierConfig
) -> list[_Part]:
    return [
        _Part(
            data.train[rows],
            np.stack(
                [
                    class_numbers(data.train_labels[name][rows], read)
                    for name, read in zip(names, codes, strict=True)
                ],
                axis=1,
            ),
        )
        for rows in _rows(data, config)
    ]


def _as_is(batch: Tensor, number: int) -> Tensor:
    return batch


def _logits(
    net: AttributeNet, images: NDArray[np.uint8], change: Damage = _as_is
) -> tuple[NDArray, list[NDArray]]:
    """Logits of "whole" (N,) and of each head (N, K), of images as they are or damaged."""
    outputs = []
    with torch.inference_mode():
        for number, start in enumerate(range(0, len(images), _BATCH)):
            batch = to_float(images[start : start + _BATCH])
            outputs.append(net(change(batch, number)))
    whole, heads = net.split(torch.cat(outputs))
    return whole.numpy(), [logits.numpy() for logits in heads]


def _unmeasured(
    name: str,
    values: list[str],
    codes: tuple[int, ...],
    trained_on: NDArray[np.int64],
    temperature: float,
) -> Attribute:
    """The attribute as trained and calibrated; nobody knows yet how well it is read."""
    counts = np.bincount(trained_on[trained_on != UNKNOWN], minlength=len(codes))
    return Attribute(
        name=name,
        classes=tuple(values[code] for code in codes),
        codes=codes,
        shares=tuple((counts / counts.sum()).tolist()),
        temperature=temperature,
        balanced_accuracy=math.nan,
        standard_error=math.nan,
        calibration_error=math.nan,
    )


def _measured(
    attribute: Attribute, logits: NDArray, classes: NDArray[np.int64]
) -> tuple[Attribute | None, str]:
    """The attribute with its scores on images held apart, or None and why it is dropped."""
    if len(measured_classes(classes)) < 2:
        return None, f"{attribute.name}: fewer than two values on two images held apart"
    probabilities = torch.from_numpy(logits / attribute.temperature).softmax(dim=1).numpy()
    value, error = balanced_mean(attribute.choose(probabilities) == classes, classes)
    chance = 1 / len(measured_classes(classes))
    above = float(value) - chance
    if above < max(MIN_SKILL * (1 - chance), _STANDARD_ERRORS * float(error)):
        return None, (
            f"{attribute.name}: read with balanced accuracy {value:.2f} ± {error:.2f} where "
            f"chance is {chance:.2f}"
        )
    measured = dataclasses.replace(
        attribute,
        balanced_accuracy=float(value),
        standard_error=float(error),
        calibration_error=calibration_error(probabilities, classes),
    )
    return measured, ""


def _reject_head(net: AttributeNet, images: NDArray[np.uint8], seed: int) -> RejectHead:
    """What the head for whole images does to ``images``, as they are and damaged."""

    def blur(batch: Tensor, number: int) -> Tensor:
        return blurred(batch)

    def noise(batch: Tensor, number: int) -> Tensor:
        return noisy(batch, seed, _NOISE_STEP + number)

    shares = [float((_logits(net, images, to)[0] < 0).mean()) for to in (_as_is, blur, noise)]
    return RejectHead(*shares)
