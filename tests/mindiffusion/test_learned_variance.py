"""The variance of a chain's steps: its bound, against distributions of other libraries, its use."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal, kl_divergence

from mindiffusion.chain import Chain, LinearBeta
from mindiffusion.data.codec import PIXELS
from mindiffusion.data.mean_and_spread import ImageStatistics
from mindiffusion.ddpm import DDPM, DDPMProcess
from mindiffusion.errors import UserError
from mindiffusion.learned_variance import grey_log_mass, variational_table
from mindiffusion.noise import sample_noise
from mindiffusion.parameterization import Preconditioned
from mindiffusion.process import (
    Model,
    Prediction,
    add_noise,
    clipped,
    eps_error,
    guided,
    stitched,
)
from mindiffusion.samplers.ancestral import ancestral_sample
from mindiffusion.samplers.ddim import ddim_sample
from mindiffusion.vpsde import VPSDEProcess

BETAS, N_T = (1e-3, 0.1), 20
PROCESS = DDPMProcess(Chain(BETAS, N_T))
ALPHA_BAR = np.cumprod(1 - np.linspace(*BETAS, N_T + 1))
"""Of the levels 0 … n_T."""
SHAPE = (3, 4, 4)
STATISTICS = ImageStatistics(np.full((1, 1, 3), 0.1), 0.6)


def beta_of(k):
    """Variance of the step to level k from the one below it, or from the image."""
    return 1 - ALPHA_BAR[k] / (ALPHA_BAR[k - 1] if k > 1 else 1.0)


def posterior_of(k):
    """β̃ of level k ≥ 2: Ho et al. 2020, eq. 7."""
    return (1 - ALPHA_BAR[k - 1]) / (1 - ALPHA_BAR[k]) * beta_of(k)


def grey_images(count, seed=0):
    drawn = torch.randint(256, (count, 4, 4, 3), generator=torch.Generator().manual_seed(seed))
    drawn[:, 0, 0, 0], drawn[:, 0, 0, 1] = 0, 255
    return PIXELS.inputs(drawn.byte(), torch.float64)


def at(*levels):
    return PROCESS.level(torch.tensor(levels, dtype=torch.float64) / N_T)


def said_of(images, level, seed=0, wrong=0.3):
    """A prediction that is wrong by about ``wrong``, with shares from −.2 to 1.2."""
    generator = torch.Generator().manual_seed(seed)
    noise, error, share = torch.randn(3, *images.shape, generator=generator).double()
    x_t = add_noise(images, level, noise)
    return Prediction(x_t, level, noise + wrong * error, None, 0.5 + 0.7 * share.tanh())


# -- the bound -----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 3, 11, N_T])
def test_term_of_a_step_is_the_divergence_of_its_posterior_from_its_prediction(k):
    """Means by Ho et al. 2020, eq. 7, of the image and of the predicted one; torch's own KL."""
    x = grey_images(5)
    said = said_of(x, at(k))
    before, here, beta = ALPHA_BAR[k - 1], ALPHA_BAR[k], beta_of(k)

    def mean(image):
        of_image = math.sqrt(before) * beta / (1 - here)
        return of_image * image + math.sqrt(1 - beta) * (1 - before) / (1 - here) * said.x_t

    x0 = (said.x_t - math.sqrt(1 - here) * said.eps) / math.sqrt(here)
    log_variance = said.variance_share * math.log(beta) + (1 - said.variance_share) * math.log(
        posterior_of(k)
    )
    true = Normal(mean(x), math.sqrt(posterior_of(k)))
    expected = kl_divergence(true, Normal(mean(x0), (log_variance / 2).exp()))
    found = PROCESS.variance_loss(said, x)
    assert found.shape == (5,)
    torch.testing.assert_close(found, expected.flatten(1).mean(1) / math.log(2))


def test_term_of_the_first_level_is_the_mass_of_the_grey_levels():
    """By scipy's normal distribution around the predicted image; β̃ is that of level 2."""
    x = grey_images(5)
    said = said_of(x, at(1))
    share, sigma = said.variance_share.numpy(), math.sqrt(1 - ALPHA_BAR[1])
    mean = ((said.x_t - sigma * said.eps) / math.sqrt(ALPHA_BAR[1])).numpy()
    log_variance = share * np.log(sigma**2) + (1 - share) * np.log(posterior_of(2))
    normal = stats.norm(mean, np.exp(log_variance / 2))
    low = np.where(x.numpy() == -1, -np.inf, x.numpy() - 1 / 255)
    high = np.where(x.numpy() == 1, np.inf, x.numpy() + 1 / 255)
    # On the lower side of the mean by the CDF, on the upper side by what is left of it.
    is_above = x.numpy() > mean
    mass = np.where(is_above, normal.sf(low) - normal.sf(high), normal.cdf(high) - normal.cdf(low))
    assert is_above.any() and not is_above.all() and mass.min() > 0
    found = PROCESS.variance_loss(said, x).numpy()
    np.testing.assert_allclose(found, -np.log2(mass).mean(axis=(1, 2, 3)), rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mean", [-1.3, -0.999, 0.0, 0.337, 1.02])
@pytest.mark.parametrize("std", [0.002, 0.015, 0.4])
def test_masses_of_all_grey_levels_add_up_to_1(std, mean, dtype):
    levels = PIXELS.inputs(torch.arange(256).byte().view(256, 1, 1, 1), dtype)
    log_variance = torch.full_like(levels, 2 * math.log(std)).requires_grad_()
    log_mass = grey_log_mass(levels, levels - mean, log_variance)
    (gradient,) = torch.autograd.grad(log_mass.sum(), log_variance)
    assert bool(log_mass.isfinite().all()) and bool(gradient.isfinite().all())
    # In float32 the edges of a level are known to 3e-5 of the least std.
    rounding = 1e-4 if dtype == torch.float32 else 1e-9
    assert float(log_mass.detach().double().exp().sum()) == pytest.approx(1, rel=rounding)


def test_terms_and_gradients_are_finite_and_keep_their_digits_in_float32():
    """Also of a prediction that is a hundred standard deviations off, and at all levels."""
    x = grey_images(N_T)
    level = at(*range(1, N_T + 1))
    for wrong, rounding in ((0.0, 1e-4), (0.3, 1e-4), (100.0, 1e-2)):
        exact = said_of(x, level, wrong=wrong)
        losses, gradients = [], []
        for dtype in (torch.float64, torch.float32):
            share = exact.variance_share.to(dtype).requires_grad_()
            said = Prediction(exact.x_t.to(dtype), level, exact.eps.to(dtype), None, share)
            loss = PROCESS.variance_loss(said, x.to(dtype))
            (gradient,) = torch.autograd.grad(loss.sum(), share)
            assert loss.dtype == gradient.dtype == dtype
            assert bool(loss.isfinite().all()) and bool(gradient.isfinite().all())
            losses.append(loss.detach().double())
            gradients.append(gradient.double())
        torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(*gradients, rtol=rounding, atol=1e-6)


def test_images_of_one_batch_have_the_terms_that_each_has_alone():
    x, level = grey_images(4), at(1, 2, 9, N_T)
    said = said_of(x, level)
    whole = PROCESS.variance_loss(said, x)
    for i, k in enumerate((1, 2, 9, N_T)):
        part = (said.x_t[i : i + 1], at(k), said.eps[i : i + 1], None)
        alone = PROCESS.variance_loss(
            Prediction(*part, said.variance_share[i : i + 1]), x[i : i + 1]
        )
        torch.testing.assert_close(alone[0], whole[i])
        both = (said.x_t, at(k), said.eps, None, said.variance_share)
        # One level for all images.
        assert PROCESS.variance_loss(Prediction(*both), x).shape == (4,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("betas", "k"), [((1e-4, 0.09), 1000), ((1e-4, 0.02), 2), (BETAS, 2)])
@pytest.mark.parametrize("v", [-140.0, -1.0, 1.0, 140.0])
def test_gradient_is_that_of_the_divergence_wherever_the_mass_would_overflow(v, betas, k, dtype):
    """At the last level of a chain of ᾱ ≈ 1e-20 x̂₀ is 1e10 off; v is that of a wild network."""
    process = DDPMProcess(Chain(betas, 1000 if betas != BETAS else N_T))
    level = process.level(torch.tensor([k / process.num_levels]))
    if k == 1000:
        assert 1e-21 < float(level.alpha) ** 2 < 1e-19
    x = grey_images(3)
    given = said_of(x, level)
    share = torch.full(x.shape, (v + 1) / 2, dtype=dtype).requires_grad_()
    said = Prediction(given.x_t.to(dtype), level, given.eps.to(dtype), None, share)
    loss = process.variance_loss(said, x.to(dtype))
    (slope,) = torch.autograd.grad(loss.sum(), share)
    assert bool(loss.isfinite().all())
    # d KL/dr = ½(1 − exp(−r)(1 + gain·error²)), r = share·log(β/β̃), in bits per value.
    _, log_ratio, gain = process.variational_table[k - 1].tolist()
    alpha, sigma = float(level.alpha), float(level.sigma)
    error = given.eps - (given.x_t - alpha * x) / sigma
    by_r = (1 - math.exp(-log_ratio * (v + 1) / 2) * (1 + gain * error.square())) / 2
    expected = log_ratio * by_r / x[0].numel() / math.log(2)
    torch.testing.assert_close(slope.double(), expected, rtol=1e-4, atol=1e-9)


def test_gradient_at_level_1_is_finite_where_the_divergence_would_overflow():
    """In float32 exp(−log σ²/β̃) is beyond 3e38, but the mass has a logarithm."""
    x = grey_images(2).float()
    level = at(1)
    log_ratio = float(PROCESS.variational_table[0, 1])
    share = torch.full(x.shape, -90 / log_ratio).requires_grad_()
    eps = torch.zeros_like(x)
    said = Prediction(float(level.alpha) * x, level, eps, None, share)
    assert math.isinf(float(torch.exp(torch.tensor(90.0))))
    (slope,) = torch.autograd.grad(PROCESS.variance_loss(said, x).sum(), share)
    assert bool(slope.isfinite().all())


def test_one_level_on_the_cpu_is_for_images_on_any_device():
    """A device that only has shapes refuses, as a GPU does, to choose by what lies elsewhere."""
    process = DDPMProcess(Chain(BETAS, N_T)).to("meta")
    x = torch.empty(2, *SHAPE, device="meta")
    for k in (1, 5):
        said = Prediction(x, at(k), x, None, x)
        found = process.variance_loss(said, x)
        assert found.shape == (2,) and found.device.type == "meta"


def test_table_has_the_limits_of_the_usual_chain():
    table = variational_table(torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1001).double(), 0)[1:])
    assert table.shape == (1000, 3) and bool(table.isfinite().all())
    # β is never below β̃, so a share of 1 is the larger variance.
    assert bool((table[:, 1] > 0).all()) and float(table[-1, 1]) < 1e-4
    assert table[0, 0] == table[1, 0] and table[0, 2] == 0


# -- what is learned -----------------------------------------------------------------------------


def reverse_variance(k, spread):
    """Of x_{k−1} given x_k, for pixels N(m, spread²): a product of two normal distributions."""
    before = ALPHA_BAR[k - 1] * spread**2 + 1 - ALPHA_BAR[k - 1]
    return 1 / (1 / before + (1 - beta_of(k)) / beta_of(k))


def best_share(k, spread):
    """The share at which a step has the variance that the data have there."""
    low, high = math.log(posterior_of(k)), math.log(beta_of(k))
    return (math.log(reverse_variance(k, spread)) - low) / (high - low)


@pytest.mark.parametrize("spread", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("k", [2, 7, N_T])
def test_gradient_is_0_where_gaussian_data_have_their_variance(k, spread):
    """The bound is linear in the squared error, so its mean over the data has the mean error."""
    error = math.sqrt(ALPHA_BAR[k] * spread**2 / (ALPHA_BAR[k] * spread**2 + 1 - ALPHA_BAR[k]))
    x, level = grey_images(2), at(k)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
    best = best_share(k, spread)
    assert 0 < best < 1
    slopes = []
    for off in (-0.05, 0.0, 0.05):
        share = torch.full_like(x, best + off).requires_grad_()
        said = Prediction(add_noise(x, level, noise), level, noise + error, None, share)
        (slope,) = torch.autograd.grad(PROCESS.variance_loss(said, x).sum(), share)
        slopes.append(slope)
    assert float(slopes[1].abs().max()) < 1e-9 * float(slopes[2].max())
    assert bool((slopes[0] < 0).all()) and bool((slopes[2] > 0).all())


@pytest.mark.parametrize("levels", [(1, 1), (2, N_T)])
def test_the_mean_has_no_gradient_from_the_bound(levels):
    x, level = grey_images(2), at(*levels)
    given = said_of(x, level)
    eps, share = given.eps.requires_grad_(), given.variance_share.requires_grad_()
    PROCESS.variance_loss(Prediction(given.x_t, level, eps, None, share), x).sum().backward()
    assert eps.grad is None
    assert bool((share.grad != 0).all())


def test_nothing_is_learned_where_there_is_no_variance():
    x, level = grey_images(2), at(3)
    said = said_of(x, level)
    without = Prediction(said.x_t, level, said.eps)
    assert PROCESS.variance_loss(without, x) is None
    process = VPSDEProcess(LinearBeta(0.1, 20.0))
    assert process.variance_loss(said, x) is None


# -- a network's answer --------------------------------------------------------------------------


def doubled(x, told):
    """ε̂ = tanh x, and v = x."""
    return torch.cat((torch.tanh(x), x), dim=1)


@pytest.mark.parametrize("parameterization", [None, Preconditioned(STATISTICS)], ids=str)
def test_further_channels_are_the_variance_and_leave_eps_as_it_was(parameterization):
    process = DDPMProcess(Chain(BETAS, N_T), parameterization)
    x_t = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    asked = []

    def network(x, told):
        asked.append(x)
        return doubled(x, told)

    found = process.predict(network, x_t, at(4))
    plain = process.predict(lambda x, told: torch.tanh(x), x_t, at(4))
    assert torch.equal(found.eps, plain.eps) and plain.variance_share is None
    assert torch.equal(found.variance_share, (asked[0] + 1) / 2)
    low = process.predict(lambda x, told: doubled(x, told).bfloat16(), x_t, at(4))
    assert low.variance_share.dtype == low.eps.dtype == torch.float32


@pytest.mark.parametrize("count", [1, 4, 9])
def test_other_numbers_of_channels_are_one_line(count):
    with pytest.raises(
        UserError, match=f"3 channels with {count}; build one with 3, or 6"
    ) as error:
        PROCESS.predict(lambda x, told: torch.zeros(2, count, 4, 4), torch.zeros(2, *SHAPE), at(4))
    assert "\n" not in str(error.value)


def test_loss_of_minidiffusions_class_has_the_bound_too():
    x = grey_images(4)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).double()
    model = DDPM(torch.nn.Identity(), BETAS, N_T)
    model.eps_model.forward = doubled
    u = torch.tensor([0.0, 0.1, 0.5, 0.99])
    level = PROCESS.level(model.noise_times(u))
    said = PROCESS.predict(doubled, add_noise(x, level, noise), level)
    expected = eps_error(said, noise) + PROCESS.variance_loss(said, x)
    torch.testing.assert_close(model.per_sample_loss(x, u, noise), expected)


# -- wrapped denoisers ---------------------------------------------------------------------------


def saying(value, share):
    """A denoiser that says ε̂ = value and a share, plus a tenth of the class where it is told."""

    def denoise(x_t, level, condition=None):
        told = 0.0 if condition is None else 0.1 * condition.to(x_t).view(-1, 1, 1, 1)
        filled = torch.full_like(x_t, 1.0)
        own = None if share is None else share * filled + told
        return Prediction(x_t, level, value * filled + told, None, own)

    return denoise


def test_clipping_leaves_the_variance_as_it_was_said():
    x_t = torch.full((2, *SHAPE), 3.0)
    found = clipped(saying(0.0, 0.25))(x_t, at(4))
    assert bool((found.x0 == 1).all()) and bool((found.variance_share == 0.25).all())
    assert clipped(saying(0.0, None))(x_t, at(4)).variance_share is None


def test_guidance_takes_the_variance_with_classes_and_at_scale_0_the_one_without():
    x_t, told = torch.zeros(3, *SHAPE), torch.tensor([1, 2, 3])
    denoise, expected = saying(0.0, 0.5), torch.tensor([0.6, 0.7, 0.8])
    for scale in (1.0, 2.5):
        found = guided(denoise, scale)(x_t, at(4), told).variance_share
        torch.testing.assert_close(found[:, 0, 0, 0], expected)
    found = guided(denoise, 0.0)(x_t, at(4), told).variance_share
    torch.testing.assert_close(found[:, 0, 0, 0], torch.full((3,), 0.4))
    # Images of several levels as each alone: outside the interval the scale is 1.
    found = guided(denoise, 0.0, (0.4, 1.0))(x_t, at(4, 10, 20), told).variance_share
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor([0.6, 0.4, 0.4]))
    assert guided(saying(0.0, None), 0.0)(x_t, at(4, 10, 20), told).variance_share is None


def test_stitched_denoisers_have_each_their_own_variance():
    x_t = torch.zeros(2, *SHAPE)
    both = stitched(saying(0.0, 0.9), saying(0.0, 0.1), 0.5)
    assert both(x_t, at(3, 15)).variance_share[:, 0, 0, 0].tolist() == pytest.approx([0.1, 0.9])
    assert float(both(x_t, at(3)).variance_share.max()) == pytest.approx(0.1)
    one = stitched(saying(0.0, 0.9), saying(0.0, None), 0.5)
    assert one(x_t, at(3, 15)).variance_share is None
    assert one(x_t, at(3)).variance_share is None
    assert float(one(x_t, at(15)).variance_share.max()) == pytest.approx(0.9)


# -- samples -------------------------------------------------------------------------------------


def test_steps_add_the_variance_that_was_said():
    """By hand, in the formula of the paper; the last step adds none."""
    start, noise = sample_noise(5, torch.arange(2), SHAPE)
    shares = torch.linspace(-0.1, 1.1, 48).view(SHAPE)

    def denoise(x, level):
        return Prediction(x, level, 0.3 * x, None, shares.expand_as(x))

    found = ancestral_sample(denoise, PROCESS.chain_jumps(), start, noise)
    x, share = start.double().numpy(), shares.double().numpy()
    for k in range(N_T, 0, -1):
        # The chain that is drawn ends at level 0.
        beta = 1 - ALPHA_BAR[k] / ALPHA_BAR[k - 1]
        x = (x - beta / np.sqrt(1 - ALPHA_BAR[k]) * 0.3 * x) / np.sqrt(1 - beta)
        if k > 1:
            log_variance = share * np.log(beta) + (1 - share) * np.log(posterior_of(k))
            x = x + np.exp(log_variance / 2) * noise(k).double().numpy()
    np.testing.assert_allclose(found.numpy(), x, rtol=1e-4, atol=1e-5)


def gaussian(spread, share_of):
    """The exact denoiser of pixels N(0, spread²), with a share by level."""

    def denoise(x, level):
        alpha, sigma = float(level.alpha), float(level.sigma)
        share = share_of(round(level.time * N_T))
        eps = sigma / (alpha**2 * spread**2 + sigma**2) * x
        return Prediction(x, level, eps, None, None if share is None else share + 0 * x)

    return denoise


def test_samples_have_the_variance_of_gaussian_data_only_with_the_best_share():
    """Of few steps β is too much and β̃ too little; images differ where the last step ends."""
    spread = 0.3
    start, noise = sample_noise(5, torch.arange(256), (3, 8, 8))
    # Data and first noise differ a little at t = 1: begin where the chain has its variance.
    first = ALPHA_BAR[-1] * spread**2 + 1 - ALPHA_BAR[-1]
    at_zero = ALPHA_BAR[0] * spread**2 + 1 - ALPHA_BAR[0]
    beta = 1 - ALPHA_BAR[1] / ALPHA_BAR[0]
    expected = at_zero - 1 / (1 / at_zero + (1 - beta) / beta)

    def drawn(share_of):
        jumps = PROCESS.chain_jumps()
        x = ancestral_sample(gaussian(spread, share_of), jumps, math.sqrt(first) * start, noise)
        return float(x.double().square().mean()) / expected

    # 49,152 values: the ratio's standard error is .6 %.
    assert drawn(lambda k: best_share(max(k, 2), spread)) == pytest.approx(1, abs=0.025)
    assert drawn(lambda k: None) > 1.05 and drawn(lambda k: 0.0) < 0.95


def test_share_1_is_the_variance_of_minidiffusion_and_other_samplers_heed_none():
    start, noise = sample_noise(5, torch.arange(2), SHAPE)
    plain, learned = gaussian(0.5, lambda k: None), gaussian(0.5, lambda k: 1.0)
    jumps = PROCESS.chain_jumps()
    drawn = [ancestral_sample(denoise, jumps, start, noise) for denoise in (plain, learned)]
    torch.testing.assert_close(*drawn)
    low = gaussian(0.5, lambda k: 0.0)
    assert not torch.allclose(ancestral_sample(low, jumps, start, noise), drawn[0], atol=1e-2)
    few = PROCESS.jumps(7)
    ddim = [ddim_sample(clipped(denoise), few, start, noise) for denoise in (plain, low)]
    assert torch.equal(*ddim)


def test_image_is_the_same_in_any_batch():
    model = Model(torch.nn.Identity(), PROCESS)
    model.network.forward = lambda x, told: doubled(0.5 * x, told)
    parts = []
    for first, size in ((0, 2), (2, 3)):
        start, noise = sample_noise(3, torch.arange(first, first + size), SHAPE)
        parts.append(ancestral_sample(model, PROCESS.chain_jumps(), start, noise))
    start, noise = sample_noise(3, torch.arange(5), SHAPE)
    whole = ancestral_sample(model, PROCESS.chain_jumps(), start, noise)
    assert torch.equal(torch.cat(parts), whole)
