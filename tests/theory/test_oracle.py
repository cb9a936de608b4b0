import itertools
import math

import pytest
import torch

from mindiffusion.noise import Stream, normals
from mindiffusion.theory.oracle import expected_codes, posterior_mean, posterior_variance
from mindiffusion.theory.setting import TwoFeatureConfig
from mindiffusion.theory.two_features import codes, features_of


def enumerated(features, y, sigma):
    """E[z | y] by Bayes' rule over all pairs of codes that rejection leaves, in ambient space."""
    d, p = features.num_features, features.share
    each = [bits for bits in itertools.product((0.0, 1.0), repeat=d) if any(bits)]
    z = torch.tensor([a + b for a, b in itertools.product(each, each)]).double()
    x = features.samples(z[None])[0]
    prior = z.sum(1) * math.log(p) + (2 * d - z.sum(1)) * math.log1p(-p)
    distance = (y[:, None] - x).square().sum(-1)
    weights = (prior - distance / (2 * sigma[:, None] ** 2)).softmax(1)
    expected = weights @ z
    variance = weights @ x.square().sum(1) - (weights @ x).square().sum(1)
    return expected, variance


def noisy(config, sigma, seed=0):
    features = features_of(config, [seed])
    index = torch.arange(len(sigma))
    z = codes(config, torch.tensor([seed]), Stream.HELD_OUT_SAMPLES, index, 0).double()
    noise = normals(seed, Stream.EVALUATION_NOISE, index, 0, (config.ambient_dim,)).double()
    return features, features.samples(z[None])[0] + sigma[:, None] * noise, z


@pytest.mark.parametrize(
    ("d", "alpha1", "share"), [(1, 5.0, 0.1), (2, 5.0, 0.1), (3, 1.0, 0.5), (6, 0.7, 0.05)]
)
def test_oracle_is_enumeration(d, alpha1, share):
    config = TwoFeatureConfig(d, 2 * d + 3, alpha1, 0.5, share)
    sigma = torch.tensor([0.03, 0.1, 0.3, 1.0, 2.3, 30.0]).double().repeat(4)
    features, y, _ = noisy(config, sigma)
    expected, variance = enumerated(features, y, sigma)
    found = expected_codes(features, y[None], sigma[None])[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    mean = posterior_mean(features, y[None], sigma[None])[0]
    torch.testing.assert_close(mean, features.samples(expected[None])[0], rtol=1e-12, atol=1e-12)
    spread = posterior_variance(features, y[None], sigma[None])[0]
    torch.testing.assert_close(spread, variance, rtol=1e-9, atol=1e-9)


def test_oracle_knows_that_a_feature_is_there_even_where_all_evidence_is_against_it():
    """At σ = .001 and y = 0 every q is e^{−12,500} or e^{−1,250,000}; the likeliest is certain."""
    config = TwoFeatureConfig(3, 6)
    features = features_of(config, [0])
    y = torch.zeros(1, 1, 6).double() + 0.01 * features.directions[:, [1]]
    sigma = torch.tensor([[1e-3]]).double()
    found = expected_codes(features, y, sigma)[0, 0]
    assert bool(found.isfinite().all())
    torch.testing.assert_close(found[:3], torch.tensor([0.0, 1, 0]).double())
    torch.testing.assert_close(found[3:], torch.full((3,), 1 / 3).double())


def test_certain_features_are_known_without_looking():
    features = features_of(TwoFeatureConfig(2, 4, share=1.0), [0])
    y, sigma = torch.zeros_like(features.directions), torch.ones(1, 1).double()
    assert bool((expected_codes(features, y, sigma) == 1).all())


def test_expected_error_is_that_of_many_samples():
    config = TwoFeatureConfig(4, 10, share=0.2)
    sigma = torch.full((20_000,), 0.4).double()
    features, y, z = noisy(config, sigma)
    squared = (posterior_mean(features, y[None], sigma[None]) - features.samples(z[None])).square()
    errors = squared.sum(-1)[0]
    expected = posterior_variance(features, y[None], sigma[None])[0]
    deviation = float(errors.mean() - expected.mean())
    assert abs(deviation) < 4 * float(errors.std()) / len(errors) ** 0.5
    assert float(expected.std()) < 0.8 * float(errors.std())
