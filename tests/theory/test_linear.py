import itertools

import torch

from mindiffusion.theory.linear import after_descent, code_moments, data_moments, population_loss
from mindiffusion.theory.networks import Weights, answers
from mindiffusion.theory.setting import TwoFeatureConfig
from mindiffusion.theory.two_features import features_of

CONFIG = TwoFeatureConfig(2, 5, alpha1=2.0, alpha2=0.5, share=0.3)
SIGMAS = (0.2, 0.9)


def all_codes(d, p):
    """Every code that rejection leaves, with its probability."""
    each = [bits for bits in itertools.product((0.0, 1.0), repeat=d) if any(bits)]
    z = torch.tensor([a + b for a, b in itertools.product(each, each)]).double()
    chance = p ** z.sum(1) * (1 - p) ** (2 * d - z.sum(1))
    return z, chance / chance.sum()


def test_moments_of_codes_are_those_of_enumeration():
    for d, p in ((1, 0.3), (2, 0.3), (3, 0.05), (3, 1.0)):
        z, chance = all_codes(d, p)
        torch.testing.assert_close(code_moments(d, p), (z.T * chance) @ z)


def exact_loss(forward):
    """The mean squared error over all codes and levels; noise by points with its two moments."""
    features = features_of(CONFIG, [0])
    z, chance = all_codes(CONFIG.num_features, CONFIG.share)
    x, size = features.samples(z[None])[0], CONFIG.ambient_dim
    points = size**0.5 * torch.cat([torch.eye(size), -torch.eye(size)]).double()
    loss = torch.zeros(()).double()
    for sigma in SIGMAS:
        y = x[:, None] + sigma * points
        errors = (forward(y.flatten(0, 1)) - x.repeat_interleave(2 * size, 0)).square().sum(1)
        loss = loss + (errors.view(len(x), -1).mean(1) * chance).sum() / len(SIGMAS)
    return loss


def test_population_loss_is_the_mean_over_the_data():
    a = torch.linspace(-1, 1, 25).double().view(5, 5)
    variance = sum(s**2 for s in SIGMAS) / len(SIGMAS)
    expected = population_loss(a, data_moments(features_of(CONFIG, [0])), variance)
    torch.testing.assert_close(exact_loss(lambda y: y @ a.T), expected)


def test_linear_network_follows_its_closed_form():
    """The denoiser's own code with ±pairs of neurons, relu(u) − relu(−u) = u, is linear in y."""
    moments = data_moments(features_of(CONFIG, [0]))
    variance = sum(s**2 for s in SIGMAS) / len(SIGMAS)
    start = 0.1 * torch.linspace(-1, 1, 25).double().view(5, 5)
    pairs = torch.cat([torch.eye(5), -torch.eye(5)]).double()[None]
    a, rate = start.clone().requires_grad_(), 0.02

    def network(y):
        # Row h of outgoing is what neuron h writes: columns of A, with the sign of what it reads.
        weights = Weights(pairs, torch.cat([a.T, -a.T])[None])
        return answers(weights, y[None], torch.zeros(1, len(y)))[0]

    for steps in range(1, 31):
        (gradient,) = torch.autograd.grad(exact_loss(network), a)
        with torch.no_grad():
            a -= rate * gradient
        expected = after_descent(start, moments, variance, rate, steps)
        torch.testing.assert_close(a.detach(), expected, rtol=0, atol=1e-12)
    assert float((a.detach() - start).abs().max()) > 0.1


def test_strong_features_are_learned_first():
    features = features_of(TwoFeatureConfig(2, 5), [0])
    moments, nothing = data_moments(features), torch.zeros(5, 5).double()
    best = after_descent(nothing, moments, 1.0, 1e-2, 10_000)
    early = after_descent(nothing, moments, 1.0, 1e-2, 10)
    gain = [torch.einsum("id,de,ie->i", *(features.directions[0], a, features.directions[0]))
            for a in (early, best)]  # fmt: skip
    share = gain[0] / gain[1]
    assert float(share[:2].min()) > 0.9 and float(share[2:].max()) < 0.4
