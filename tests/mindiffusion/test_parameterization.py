"""A preconditioned network against its definition, in float64."""

import functools
import math

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.evaluation.metrics.linear_oracle import LinearOracle
from mindiffusion.chain import Chain
from mindiffusion.data.mean_and_spread import ImageStatistics, image_statistics
from mindiffusion.ddpm import DDPMProcess
from mindiffusion.network import ProbeBatch
from mindiffusion.noise import sample_noise
from mindiffusion.parameterization import Preconditioned
from mindiffusion.process import Model, add_noise, eps_error, stitched
from mindiffusion.samplers.ancestral import ancestral_sample
from mindiffusion.schedules import linear_tables
from mindiffusion.sparsity import channel_saliency

CHAIN = Chain((1e-4, 0.02), 1000)
N_T = CHAIN.n_T
ALPHA_BAR = linear_tables(*CHAIN.betas, N_T).alpha_bar
LEVELS = torch.tensor([1, 2, 30, 400, 999, 1000])
TIMES = LEVELS.double() / N_T
RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 200, (50, 4, 4, 3), dtype=np.uint8)
STATISTICS = image_statistics(IMAGES)
PLAIN = DDPMProcess(CHAIN)
PROCESS = DDPMProcess(CHAIN, Preconditioned(STATISTICS))
LEVEL = PROCESS.level(TIMES)


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
    said = PROCESS.predict(network, x_t, LEVEL)
    ((given, times),) = network.seen
    a, sigma, r, c_skip, c_out, c_in = terms()
    mean = torch.from_numpy(STATISTICS.mean).permute(2, 0, 1)
    y = x_t / a.sqrt() - mean
    torch.testing.assert_close(given, c_in * y, rtol=1e-12, atol=1e-13)
    assert torch.equal(times, TIMES)
    answer = Network()(c_in * y, TIMES)
    torch.testing.assert_close(
        said.eps, sigma / r**2 * y - STATISTICS.std / r * answer, rtol=1e-11, atol=1e-12
    )
    x0 = mean + c_skip * y + c_out * answer
    torch.testing.assert_close(said.x0, x0, rtol=1e-8, atol=1e-9)


def test_without_an_answer_it_is_the_best_denoiser_that_knows_no_directions():
    x_t = noisy()
    found = PROCESS.predict(Nothing(), x_t, LEVEL).eps
    dim = STATISTICS.mean.size
    oracle = LinearOracle(
        torch.from_numpy(STATISTICS.mean).permute(2, 0, 1).flatten(),
        torch.full((dim,), STATISTICS.std**2, dtype=torch.float64),
        torch.eye(dim, dtype=torch.float64),
        len(IMAGES),
    )
    expected = [
        oracle(x_t[k : k + 1], PROCESS.level(TIMES[k : k + 1])).eps for k in range(len(LEVELS))
    ]
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
    """Of x₀ of the data and ε of unit variance: that of z = (x_t − alpha·μ)/s is 1."""
    values = torch.from_numpy(IMAGES / 127.5 - 1) - torch.from_numpy(STATISTICS.mean)
    variance = float(values.square().mean())
    network = Network()
    x_t = torch.ones(len(LEVELS), 3, 4, 4, dtype=torch.float64)
    PROCESS.predict(network, x_t, LEVEL)
    ((given, _),) = network.seen
    mean = torch.from_numpy(STATISTICS.mean).permute(2, 0, 1)
    spread = (x_t - LEVEL.alpha.view(-1, 1, 1, 1) * mean) / given
    expected = (LEVEL.alpha**2 * variance + LEVEL.sigma**2).view(-1, 1, 1, 1)
    torch.testing.assert_close(spread**2, expected.expand_as(spread))


def test_float32_is_exact_to_its_rounding_at_every_level():
    exact = PROCESS.predict(Network(), noisy(), LEVEL).eps
    single = PROCESS.predict(Network(), noisy(torch.float32), LEVEL).eps
    assert single.dtype == torch.float32
    # What a sampler makes of it: an error of ε is magnified 157 times at t = 1.
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=2e-6)


@pytest.mark.parametrize("process", [PLAIN, PROCESS])
def test_an_answer_in_fewer_bits_is_widened(process):
    x_t = noisy(torch.float32)
    half = process.predict(lambda x, t: torch.tanh(x).bfloat16(), x_t, LEVEL)
    whole = process.predict(lambda x, t: torch.tanh(x), x_t, LEVEL)
    assert half.eps.dtype == half.x0.dtype == torch.float32
    # At the highest level an answer counts for little, so its rounding does too.
    allowed = 2**-8 * (0.01 if process is PROCESS else 1)
    assert (half.eps[-1] - whole.eps[-1]).abs().max() < allowed


def test_eps_is_the_answer_itself():
    network, x_t = Network(), noisy()
    assert torch.equal(PLAIN.predict(network, x_t, LEVEL).eps, Network()(x_t, LEVEL.told))


def test_process_reads_by_its_parameterization_and_saves_none_of_it():
    made = DDPMProcess(CHAIN, Preconditioned(STATISTICS))
    assert not made.state_dict() and not list(made.parameters())
    assert made.to("meta").parameterization.mean.device.type == "meta"
    network = Network()
    x = torch.from_numpy(IMAGES[:6] / 127.5 - 1).permute(0, 3, 1, 2)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).double()
    x_t = add_noise(x, LEVEL, noise)
    errors = [eps_error(one.predict(network, x_t, LEVEL), noise) for one in (PLAIN, PROCESS)]
    expected = (network(x_t, LEVEL.told) - noise).square().mean((1, 2, 3))
    torch.testing.assert_close(errors[0], expected)
    assert not torch.allclose(errors[1], expected)


def test_stitched_sides_keep_their_own_parameterization():
    above, below = Model(Network(), PLAIN), Model(Network(), PROCESS)
    both, x_t = stitched(above, below, 0.4), noisy()
    with torch.no_grad():
        mixed, high, low = (one(x_t, LEVEL).eps for one in (both, above, below))
        assert torch.equal(mixed[LEVELS > 400], high[LEVELS > 400])
        assert torch.equal(mixed[LEVELS <= 400], low[LEVELS <= 400])
        for key, side in ((401, above), (400, below)):
            level = PLAIN.level(torch.tensor([key / N_T]))
            assert both(x_t, level).eps.equal(side(x_t, level).eps)


def test_a_gaussian_is_sampled_exactly_without_any_learning():
    """F = 0 is right for N(μ, σ_d²): ancestral samples have its mean and nearly its spread."""
    reads = Preconditioned(ImageStatistics(np.full((4, 4, 3), 0.2), 0.3))
    process = DDPMProcess(Chain((1e-3, 0.05), 200), reads)
    start, noise = sample_noise(0, torch.arange(2000), (3, 4, 4))
    model = Model(Nothing(), process)
    images = ancestral_sample(model, process.chain_jumps(), start, noise).double()
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
    network, x_t = Masked(), noisy()
    noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(5)).double()
    found, _ = channel_saliency(network, [ProbeBatch(x_t, LEVEL, noise, PROCESS)])
    step, expected = 1e-6, torch.zeros(2, dtype=torch.float64)
    for channel in range(2):
        errors = []
        for sign in (-1, 1):
            mask = network.channel_mask.expand(len(x_t), -1).clone()
            mask[:, channel] += sign * step
            masked = functools.partial(network, channel_mask=mask)
            errors.append(eps_error(PROCESS.predict(masked, x_t, LEVEL), noise))
        expected[channel] = ((errors[1] - errors[0]) / (2 * step)).square().sum()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)
    plain, _ = channel_saliency(network, [ProbeBatch(x_t, LEVEL, noise, PLAIN)])
    assert not torch.allclose(plain, found, rtol=0.01)
