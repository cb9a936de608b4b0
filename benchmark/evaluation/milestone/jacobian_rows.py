"""Rows of spectra: of the denoiser's Jacobian beside the linear denoiser's, and of its samples."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.evaluation.features_of.jacobian import (
    JacobianSpectrum,
    jacobian_spectrum,
    linear_values,
)
from benchmark.evaluation.features_of.spectrum import (
    EFFECTIVE_RANK,
    effective_rank_of,
    shown_ranks,
)
from benchmark.evaluation.metrics.linear_oracle import fit_linear_oracle
from benchmark.evaluation.milestone.layer_rows import HeldOut, feature_levels, held_out
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.profile_rows import noise_source
from benchmark.evaluation.milestone.yardstick import Yardstick
from benchmark.rows.metric_names import (
    JACOBIAN,
    JACOBIAN_LINEAR,
    SPECTRUM,
    SPECTRUM_DATA,
    metric_label,
)
from benchmark.rows.row import Row
from mindiffusion.process import Level, Model, add_noise


def jacobian_rows(milestone: Milestone, model: Model, yardstick: Yardstick) -> Iterator[Row]:
    """Singular values of the Jacobian at ranks 1, 2, 4 … and its effective rank, by noise level.

    Each is a mean over held-out images with its error over them. ``jacobian-linear/…`` is of the
    best linear denoiser of the training images, whose Jacobian is the same at every image.

    Args:
        milestone: the milestone.
        model: with the weights that are scored.
        yardstick: data and linear oracle.
    """
    config, count = milestone.config, milestone.evaluation.features.jacobian_images
    given = held_out(milestone.codec, config, yardstick, count)
    noise = noise_source(config, yardstick.device)
    for number, level in enumerate(feature_levels(model.process, milestone.evaluation)):
        noisy = add_noise(given.images, level, noise(number, torch.arange(count)).to(given.images))
        found = [_at_image(milestone, model, noisy, level, given, k) for k in range(count)]
        ranks = shown_ranks(len(found[0].values))
        values = {f"{k}": np.array([one.values[k - 1] for one in found]) for k in ranks}
        values[EFFECTIVE_RANK] = np.array([one.effective_rank for one in found])
        for name, each in values.items():
            yield milestone.row(
                f"{JACOBIAN}/{name}",
                float(each.mean()),
                level=level.time,
                error=float(each.std(ddof=1) / np.sqrt(count)),
                n_reference=count,
                weights=milestone.weights,
            )
        linear = linear_values(yardstick.oracle(config).eigenvalues, level).numpy()
        for name, value in _at_ranks(linear, max(ranks)).items():
            yield milestone.row(f"{JACOBIAN_LINEAR}/{name}", value, level=level.time)


def _at_image(
    milestone: Milestone,
    model: Model,
    noisy: torch.Tensor,
    level: Level,
    given: HeldOut,
    image: int,
) -> JacobianSpectrum:
    one = slice(image, image + 1)
    return jacobian_spectrum(
        model,
        noisy[one],
        level,
        seed=milestone.config.sampler.seed,
        image=image,
        condition=None if given.told is None else given.told[one],
    )


def _at_ranks(values: NDArray[np.float64], most: int) -> dict[str, float]:
    """Singular values at ranks 1, 2, 4 … up to ``most``, and the effective rank of all."""
    found = {f"{k}": float(values[k - 1]) for k in shown_ranks(min(most, len(values)))}
    return found | {EFFECTIVE_RANK: effective_rank_of(values)}


def spectrum_rows(
    milestone: Milestone, yardstick: Yardstick, images: NDArray[np.uint8], common: dict[str, Any]
) -> Iterator[Row]:
    """Singular values of the centred samples over √n, and of as many training images.

    They are the standard deviations along principal axes, in the [-1, 1] scale.

    Args:
        milestone: the milestone.
        yardstick: data.
        images: (N, H, W, 3) uint8, drawn.
        common: fields of the rows.
    """
    n = len(images)
    for name, value in _of_images(images).items():
        yield milestone.row(metric_label(f"{SPECTRUM}/{name}", n), value, **common)
    if len(yardstick.data.train) >= n:
        for name, value in _of_data(yardstick, n).items():
            metric = metric_label(f"{SPECTRUM_DATA}/{name}", n)
            yield milestone.row(metric, value, n_reference=n)


@functools.lru_cache(maxsize=4)
def _of_data(yardstick: Yardstick, n: int) -> dict[str, float]:
    """The spectrum of the first n training images: the same for all milestones."""
    return _of_images(np.array(yardstick.data.train[:n]))


def _of_images(images: NDArray[np.uint8]) -> dict[str, float]:
    values = fit_linear_oracle(images).eigenvalues.sqrt().numpy()
    return _at_ranks(values, len(values))
