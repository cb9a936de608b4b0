"""A preconditioned network against its definition, in float64."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.evaluation.metrics.linear_oracle import LinearOracle
from mindiffusion.data.mean_and_spread import ImageStatistics, image_statistics
from mindiffusion.ddpm import DDPM
from mindiffusion.parameterization import EpsPrediction, Preconditioned
from mindiffusion.schedules import linear_tables
from mindiffusion.sparsity import ProbeBatch, channel_saliency
from mindiffusion.stitching import Stitched, network_at

BETAS, N_T = (1e-4, 0.02), 1000
ALPHA_BAR = linear_tables(*BETAS, N_T).alpha_bar
LEVELS = torch.tensor([1, 2, 30, 400, 999, 1000])
TIMES = LEVELS.double() / N_T
RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 200, (50, 4, 4, 3), dtype=np.uint8)
STATISTICS = image_statistics(IMAGES)


def noisy(dtype=torch.float64):
    x0 = torch.from_numpy(IMAGES[: len(LEVELS)] / 127.5 - 1).permute(0, 3, 1, 2)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1)).double()
    a = ALPHA_BAR[LEVELS].view(-1, 1, 1, 1)
    return (a.sqrt() * x0 + (1 - a).sqrt() * noise).to(dtype)


class Network(nn.Module):
    """Anything that depends on its input and on t; remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.seen = []

    def forward(self, x, t):
        self.seen.append((x, t))
        return torch.sin(3 * x) * self.weight.to(x.dtype) + t.to(x.dtype).view(-1, 1, 1, 1)


class Nothing(nn.Module):
    def forward(self, x, t):
        return torch.zeros_like(x)


def terms():
    """σ, r, c_skip, c_out, c_in as Karras et al. define them, (L, 1, 1, 1) float64."""
    a, d = ALPHA_BAR[LEVELS].view(-1, 1, 1, 1), STATISTICS.std
    sigma = (1 - a).sqrt() / a.sqrt()
    r = (sigma**2 + d**2).sqrt()
    return a, sigma, r, d**2 / r**2, sigma * d / r, 1 / r


def test_preconditioned_is_its_definition():
    network, x_t = Network(), noisy()
    found = Preconditioned(ALPHA_BAR, STATISTICS).predictor(network)(x_t, TIMES)
    ((given, times),) = network.seen
    a, sigma, r, c_skip, c_out, c_in = terms()
    mean = torch.from_numpy(STATISTICS.mean).permute(2, 0, 1)
    y = x_t / a.sqrt() - mean
    torch.testing.assert_close(given, c_in * y, rtol=1e-12, atol=1e-13)
    assert torch.equal(times, TIMES)
    answer = Network()(c_in * y, TIMES)
    torch.testing.assert_close(
        found, sigma / r**2 * y - STATISTICS.std / r * answer, rtol=1e-11, atol=1e-12
    )
    x0 = mean + c_skip * y + c_out * answer
    by_x0 = (x_t - a.sqrt() * x0) / (1 - a).sqrt()
    torch.testing.assert_close(found, by_x0, rtol=1e-9, atol=1e-11)


def test_squares_of_both_factors_add_up_to_one():
    made = Preconditioned(ALPHA_BAR, STATISTICS)
    torch.testing.assert_close(made.of_input**2 + made.of_answer**2, torch.ones_like(ALPHA_BAR))


def test_without_an_answer_it_is_the_best_denoiser_that_knows_no_directions():
    x_t = noisy()
    found = Preconditioned(ALPHA_BAR, STATISTICS).predictor(Nothing())(x_t, TIMES)
    dim = STATISTICS.mean.size
    oracle = LinearOracle(
        torch.from_numpy(STATISTICS.mean).permute(2, 0, 1).flatten(),
        torch.full((dim,), STATISTICS.std**2, dtype=torch.float64),
        torch.eye(dim, dtype=torch.float64),
        len(IMAGES),
    )
    predict = oracle.predictor(ALPHA_BAR)
    expected = [predict(x_t[k : k + 1], TIMES[k : k + 1]) for k in range(len(LEVELS))]
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-10, atol=1e-12)
    # No other multiple of y has a smaller expected error on these images: (1 − c)²σ_d² + c²σ².
    _, sigma, _, c_skip, _, _ = terms()
    values = torch.from_numpy(IMAGES / 127.5 - 1) - torch.from_numpy(STATISTICS.mean)
    variance = float(values.square().mean())

    def error(c):
        return (1 - c) ** 2 * variance + c**2 * sigma**2

    assert (error(c_skip) < error(0.999 * c_skip)).all()
    assert (error(c_skip) < error(1.001 * c_skip)).all()


def test_images_of_the_data_give_the_network_unit_variance():
    made, mean = Preconditioned(ALPHA_BAR, STATISTICS), torch.from_numpy(STATISTICS.mean)
    variance = float((torch.from_numpy(IMAGES / 127.5 - 1) - mean).square().mean())
    for level in LEVELS.tolist():
        a = float(ALPHA_BAR[level])
        assert (a * variance + 1 - a) / float(made.spread[level]) ** 2 == pytest.approx(1)


def test_float32_is_exact_to_its_rounding_at_every_level():
    made, network = Preconditioned(ALPHA_BAR, STATISTICS), Network()
    exact = made.predictor(network)(noisy(), TIMES)
    single = made.predictor(network)(noisy(torch.float32), TIMES.float())
    assert single.dtype == torch.float32
    # What a sampler makes of it: an error of ε is magnified 157 times at t = 1.
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=2e-6)


def test_an_answer_in_fewer_bits_is_widened():
    class Half(nn.Module):
        def forward(self, x, t):
            return torch.tanh(x).bfloat16()

    found = Preconditioned(ALPHA_BAR, STATISTICS).predictor(Half())(noisy(torch.float32), TIMES)
    assert found.dtype == torch.float32
    # At the highest level an answer counts for little, so its rounding does too.
    plain = Preconditioned(ALPHA_BAR, STATISTICS).predictor(
        lambda x, t: torch.tanh(x)
    )(noisy(torch.float32), TIMES)  # fmt: skip
    assert (found[-1] - plain[-1]).abs().max() < 2**-8 * 0.01


def test_eps_is_the_network_itself():
    network = Network()
    assert EpsPrediction().predictor(network) is network
    assert DDPM(network, BETAS, N_T).predictor is network


def test_process_reads_by_its_parameterization_and_saves_none_of_it():
    network = Network()
    made = DDPM(network, BETAS, N_T, Preconditioned(ALPHA_BAR, STATISTICS))
    assert set(made.state_dict()) == {"eps_model.weight"}
    assert [name for name, _ in made.named_parameters()] == ["eps_model.weight"]
    elsewhere = DDPM(Nothing(), BETAS, N_T, Preconditioned(ALPHA_BAR, STATISTICS)).to("meta")
    assert elsewhere.parameterization.mean.device.type == "meta"
    x = torch.from_numpy(IMAGES[:6] / 127.5 - 1).permute(0, 3, 1, 2)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).double()
    batch = made.noisy_batch(x, (TIMES - 1e-9), noise)
    expected = (made.predictor(batch.x_t, batch.time) - noise).square().mean((1, 2, 3))
    torch.testing.assert_close(made.eps_error(batch, noise), expected)
    assert not torch.allclose(expected, (network(batch.x_t, batch.time) - noise).square().mean())


def test_stitched_sides_keep_their_own_parameterization():
    network = Network()
    plain = DDPM(network, BETAS, N_T)
    other = DDPM(network, BETAS, N_T, Preconditioned(ALPHA_BAR, STATISTICS))
    both = Stitched(plain.predictor, other.predictor, 0.4, N_T)
    x_t = noisy()
    with torch.no_grad():
        mixed = both(x_t, TIMES)
        above, below = plain.predictor(x_t, TIMES), other.predictor(x_t, TIMES)
    assert torch.equal(mixed[LEVELS > 400], above[LEVELS > 400])
    assert torch.equal(mixed[LEVELS <= 400], below[LEVELS <= 400])
    assert network_at(both, 401)(x_t, TIMES).equal(above)
    assert network_at(both, 400)(x_t, TIMES).equal(below)


def test_a_gaussian_is_sampled_exactly_without_any_learning():
    """F = 0 is right for N(μ, σ_d²): ancestral samples have its mean and nearly its spread."""
    mean = np.full((4, 4, 3), 0.2)
    betas, n_T = (1e-3, 0.05), 200
    tables = linear_tables(*betas, n_T)
    made = DDPM(Nothing(), betas, n_T, Preconditioned(tables.alpha_bar, ImageStatistics(mean, 0.3)))
    images = made.sample(2000, (3, 4, 4), "cpu").double()
    assert float(images.mean()) == pytest.approx(0.2, abs=5 * 0.3 / math.sqrt(images.numel()))
    assert float(images.std()) == pytest.approx(0.3, rel=0.05)


class Masked(nn.Module):
    """A network with two maskable terms."""

    def __init__(self):
        super().__init__()
        self.channel_mask = torch.tensor([1.0, 0.0], dtype=torch.float64)

    def forward(self, x, t, channel_mask):
        first, second = (channel_mask[:, k].view(-1, 1, 1, 1) for k in range(2))
        return first * torch.sin(x) + second * torch.cos(x) * x


def test_saliency_is_that_of_the_eps_error_the_network_makes_as_it_is_read():
    made, network = Preconditioned(ALPHA_BAR, STATISTICS), Masked()
    x_t = noisy()
    noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(5)).double()
    found, _ = channel_saliency(network, [ProbeBatch(x_t, TIMES, noise, made.predictor)])
    step, expected = 1e-6, torch.zeros(2, dtype=torch.float64)
    for channel in range(2):
        errors = []
        for sign in (-1, 1):
            mask = network.channel_mask.expand(len(x_t), -1).clone()
            mask[:, channel] += sign * step
            predict = made.predictor(lambda x, t, mask=mask: network(x, t, mask))
            errors.append((predict(x_t, TIMES) - noise).square().mean((1, 2, 3)))
        expected[channel] = ((errors[1] - errors[0]) / (2 * step)).square().sum()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)
    plain, _ = channel_saliency(network, [ProbeBatch(x_t, TIMES, noise)])
    assert not torch.allclose(plain, found, rtol=0.01)
