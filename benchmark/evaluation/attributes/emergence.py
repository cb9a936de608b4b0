"""Feature emergence: which attributes can be read in x̂₀(x_t), beyond what a linear denoiser shows.

x_t is made of held-out images with known labels; x̂₀ = (x_t − σ ε̂)/α (Ho et al. 2020, "Denoising
Diffusion Probabilistic Models", eq. 15), as pixels clipped to [-1, 1]. All denoisers meet the same
noise, so accuracies are compared image by image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.evaluation.attributes.classifier import (
    Attribute,
    AttributeClassifier,
    Readings,
    joined,
    true_classes,
)
from benchmark.evaluation.attributes.scores import (
    balanced_mean,
    calibration_error,
    measured_classes,
)
from benchmark.evaluation.metrics.denoising import NoiseSource
from benchmark.evaluation.metrics.frechet import FloatArray
from mindiffusion.errors import UserError
from mindiffusion.process import Denoiser, Level, add_noise, given, times_of


@dataclass(frozen=True)
class DenoisedReadings:
    """What the classifier reads in one denoiser's x̂₀.

    Attributes:
        levels: the L noise times t in (0, 1].
        by_level: readings of the N images at each of them.
    """

    levels: tuple[float, ...]
    by_level: tuple[Readings, ...]


@dataclass(frozen=True)
class AttributeEmergence:
    """How well one attribute can be read in x̂₀, by noise level; arrays are (L,) float64.

    Attributes:
        name: the attribute.
        n: images measured: those whose true class is read and has two images or more.
        chance: balanced accuracy of a constant answer.
        levels: noise times t in (0, 1].
        net: balanced accuracy in the network's x̂₀.
        net_error: its standard error over images.
        oracle: balanced accuracy in the linear oracle's x̂₀.
        oracle_error: its standard error.
        gain: net − oracle, on the same noisy images.
        gain_error: standard error of that paired difference.
        net_calibration_error: expected calibration error on the network's x̂₀.
        oracle_calibration_error: the same on the oracle's.
    """

    name: str
    n: int
    chance: float
    levels: tuple[float, ...]
    net: FloatArray
    net_error: FloatArray
    oracle: FloatArray
    oracle_error: FloatArray
    gain: FloatArray
    gain_error: FloatArray
    net_calibration_error: FloatArray
    oracle_calibration_error: FloatArray


def read_denoised(
    denoise: Denoiser,
    images: torch.Tensor,
    levels: Sequence[Level],
    batch_size: int,
    noise: NoiseSource,
    pixels: Callable[[torch.Tensor], torch.Tensor],
    classifier: AttributeClassifier,
    condition: torch.Tensor | None = None,
) -> DenoisedReadings:
    """Read the attributes in x̂₀(x_t) of ``images`` at each noise level.

    The oracle's readings are the same for all arms and milestones that share the noise, so they
    need to be made once.

    Args:
        denoise: a network in eval mode, or the linear oracle.
        images: (N, C, h, w) float, a network's inputs, on the denoiser's device.
        levels: noise levels, each one for all images.
        batch_size: images a call; changes the result by rounding at most.
        noise: noise(level index, image indices (B,) int64) → ε (B, C, h, w), as for
            ``denoising_profiles``.
        pixels: of the codec: inputs (B, C, h, w) → pixels (B, 3, H, W) in [-1, 1].
        classifier: the reader.
        condition: (N, …), what the denoiser is told of the images; None: nothing.

    Raises:
        UserError: no image.
    """
    if len(images) == 0:
        raise UserError("No image to denoise; give held-out images with labels.")
    by_level = []
    with torch.no_grad():
        for number, level in enumerate(levels):
            parts = []
            for start in range(0, len(images), batch_size):
                x = images[start : start + batch_size]
                stop = start + len(x)
                eps = noise(number, torch.arange(start, stop)).to(x)
                asked = given(denoise, None if condition is None else condition[start:stop])
                shown = asked(add_noise(x, level, eps), level).x0.to(x)
                parts.append(classifier.read(pixels(shown)))
            by_level.append(joined(parts))
    return DenoisedReadings(times_of(levels), tuple(by_level))


def emergence(
    net: DenoisedReadings,
    oracle: DenoisedReadings,
    labels: Mapping[str, NDArray],
    attributes: Sequence[Attribute],
) -> tuple[AttributeEmergence, ...]:
    """Balanced accuracy by attribute and level of a network's x̂₀ against the linear oracle's.

    Args:
        net: readings of the network's x̂₀.
        oracle: readings of the oracle's, of the same images, levels and noise.
        labels: attribute to the (N,) codes of the images.
        attributes: what to score, of the classifier that read both.

    Returns:
        One an attribute; those with fewer than two measurable classes are left out.

    Raises:
        UserError: readings or labels of different levels or images.
    """
    if net.levels != oracle.levels:
        raise UserError(
            f"Levels of the network are {net.levels}, of the oracle {oracle.levels}; read both at "
            "the same levels, with the same noise."
        )
    truth = true_classes(attributes, labels)
    _check_count(net, oracle, truth)
    return tuple(
        _one_attribute(attribute, net, oracle, truth[attribute.name])
        for attribute in attributes
        if len(measured_classes(truth[attribute.name])) > 1
    )


def _one_attribute(
    attribute: Attribute,
    net: DenoisedReadings,
    oracle: DenoisedReadings,
    truth: NDArray[np.int64],
) -> AttributeEmergence:
    # (L, N, K) of each.
    read = [
        np.stack([level.probabilities[attribute.name] for level in readings.by_level])
        for readings in (net, oracle)
    ]
    right = [(attribute.choose(p) == truth).astype(np.float64) for p in read]
    classes = measured_classes(truth)
    calibration = [np.array([calibration_error(level, truth) for level in p]) for p in read]
    accuracies = [balanced_mean(scores, truth) for scores in right]
    gain, gain_error = balanced_mean(right[0] - right[1], truth)
    return AttributeEmergence(
        name=attribute.name,
        n=int(np.isin(truth, classes).sum()),
        chance=1 / len(classes),
        levels=net.levels,
        net=accuracies[0][0],
        net_error=accuracies[0][1],
        oracle=accuracies[1][0],
        oracle_error=accuracies[1][1],
        gain=gain,
        gain_error=gain_error,
        net_calibration_error=calibration[0],
        oracle_calibration_error=calibration[1],
    )


def _check_count(
    net: DenoisedReadings, oracle: DenoisedReadings, truth: Mapping[str, NDArray]
) -> None:
    counts = {len(level.rejected) for read in (net, oracle) for level in read.by_level}
    for name, classes in truth.items():
        if counts != {len(classes)}:
            read = " and ".join(map(str, sorted(counts)))
            raise UserError(
                f"{read} images were read, {len(classes)} have labels of {name!r}; give readings "
                "and labels of the same images."
            )
