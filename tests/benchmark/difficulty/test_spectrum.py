"""Closed forms of difficulty against other ways to the same numbers."""

import numpy as np
import pytest
import torch

from benchmark.difficulty.spectrum import (
    Spectrum,
    entropy_rate,
    relative_entropy,
    spectrum_of,
)
from benchmark.evaluation.metrics.linear_oracle import LinearOracle

LAMBDA = np.array([4.0, 1.0, 0.25, 0.01])
MU2 = np.array([0.5, 0.0, 2.0, 0.1])


def by_torch(low, high):
    """KL of two Gaussians with full covariances, by PyTorch."""
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    laws = [
        torch.distributions.MultivariateNormal(
            torch.from_numpy(alpha * rotation @ np.sqrt(MU2)),
            torch.from_numpy(rotation @ np.diag(alpha**2 * LAMBDA + sigma**2) @ rotation.T),
        )
        for alpha, sigma in (low, high)
    ]
    return float(torch.distributions.kl_divergence(*laws))


@pytest.mark.parametrize(
    ("low", "high"), [((1.0, 0.3), (1.0, 0.9)), ((0.9, 0.4), (0.5, 0.86)), ((1.0, 0.01), (0.3, 2))]
)
def test_relative_entropy_is_that_of_the_two_gaussians(low, high):
    alpha, sigma = np.array([low, high]).T
    (found,) = relative_entropy(Spectrum(LAMBDA, MU2), alpha, sigma)
    assert found == pytest.approx(by_torch(low, high), rel=1e-9)


def test_relative_entropy_of_tiny_steps_keeps_its_digits():
    """For small steps it is half the Fisher information of ln σ times the step squared."""
    sigma, step = 0.7, 1e-5
    (found,) = relative_entropy(
        Spectrum(LAMBDA, np.zeros(4)), np.ones(2), np.array([sigma, sigma * np.exp(step)])
    )
    information = 2 * ((sigma**2 / (LAMBDA + sigma**2)) ** 2).sum()
    assert found == pytest.approx(information * step**2 / 2, rel=1e-4)


def test_entropy_rate_adds_up_to_the_mutual_information():
    """I-MMSE (Guo, Shamai & Verdú 2005): its integral over ln σ is the information lost."""
    spectrum = Spectrum(LAMBDA, MU2)
    log_ratio = np.linspace(np.log(0.05), np.log(30), 20_001)
    rates = entropy_rate(spectrum, np.exp(log_ratio))
    lost = np.trapezoid(rates, log_ratio)
    known = [0.5 * np.log1p(LAMBDA / ratio**2).sum() for ratio in (0.05, 30)]
    assert lost == pytest.approx(known[0] - known[1], rel=1e-6)


def test_spectrum_of_an_oracle_has_all_directions_and_the_whole_mean():
    vectors, _ = torch.linalg.qr(torch.from_numpy(np.random.default_rng(1).normal(size=(12, 12))))
    mean = torch.arange(12, dtype=torch.float64) / 10
    oracle = LinearOracle(mean, torch.tensor([3.0, 1.0]).double(), vectors[:, :2], 100)
    found = spectrum_of(oracle)
    assert found.eigenvalues.tolist() == [3.0, 1.0, *[0.0] * 10]
    assert found.mean_squares.sum() == pytest.approx(float(mean @ mean))
    assert found.mean_squares[:2] == pytest.approx((mean @ vectors[:, :2]).numpy() ** 2)
    whole = Spectrum(np.array([3.0, 1.0, *[0.0] * 10]), (mean @ vectors).numpy() ** 2)
    levels = np.array([0.9, 0.8]), np.array([0.3, 0.5])
    assert relative_entropy(found, *levels) == pytest.approx(relative_entropy(whole, *levels))
