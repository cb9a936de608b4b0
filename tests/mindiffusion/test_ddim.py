import itertools

import numpy as np
import pytest
import torch

from mindiffusion.chain import Chain
from mindiffusion.ddpm import DDPMProcess
from mindiffusion.errors import UserError
from mindiffusion.noise import Stream, normals, sample_noise
from mindiffusion.process import Prediction, clipped
from mindiffusion.samplers.ddim import ddim_sample, ddim_sigma
from mindiffusion.schedules import linear_tables

N_T = 200
BETAS = (1e-4, 0.1)
TABLES = linear_tables(*BETAS, N_T)
ALPHA_BAR = TABLES.alpha_bar
PROCESS = DDPMProcess(Chain(BETAS, N_T))
SIZE = (3, 8, 8)


def gaussian_denoiser(scale, calls=None):
    """E[ε | x_t] for pixels N(0, scale²)."""

    def denoise(x, level):
        if calls is not None:
            calls.append(level.time)
        variance = float(level.alpha) ** 2 * scale**2 + float(level.sigma) ** 2
        return Prediction(x, level, float(level.sigma) / variance * x)

    return denoise


def sample(denoise, index, num_steps=50, eta=1.0, clip=True, seed=0, process=PROCESS):
    asked = clipped(denoise) if clip else denoise
    start, noise = sample_noise(seed, index, SIZE)
    return ddim_sample(asked, process.jumps(num_steps), start, noise, eta=eta)


def levels_of(n_T, num_steps):
    return [jump.key for jump in DDPMProcess(Chain((1e-4, 0.02), n_T)).jumps(num_steps)]


def jump_factors(scale, levels):
    """Factor of x_t in each deterministic jump, √ᾱ_s E[x₀|x_t] + √(1 − ᾱ_s) E[ε|x_t]."""
    a = ALPHA_BAR.numpy()[levels]
    b = np.append(a[1:], 1.0)
    variance = a * scale**2 + 1 - a
    return (np.sqrt(a * b) * scale**2 + np.sqrt((1 - a) * (1 - b))) / variance


@pytest.mark.parametrize("n_T", [2, 10, 100, 1000])
def test_ddim_levels_are_even_falling_and_end_at_one_or_above(n_T):
    for num_steps in {*range(1, n_T + 1, -(-n_T // 100)), n_T - 1, n_T}:
        levels = levels_of(n_T, num_steps)
        assert len(levels) == num_steps and levels[0] == n_T and levels[-1] >= 1
        gaps = -np.diff([*levels, 0])
        assert gaps.min() >= 1 and abs(gaps - n_T / num_steps).max() < 1 + 1e-9


@pytest.mark.parametrize(
    ("n_T", "num_steps", "expected"),
    [
        (10, 4, [10, 8, 5, 3]),  # 2.5 and 7.5 go up
        (10, 3, [10, 7, 3]),
        (5, 5, [5, 4, 3, 2, 1]),
        (1000, 2, [1000, 500]),
        (1000, 1, [1000]),
    ],
)
def test_ddim_levels_are_rounded_half_up(n_T, num_steps, expected):
    assert levels_of(n_T, num_steps) == expected


@pytest.mark.parametrize("num_steps", [-1, 0, N_T + 1])
def test_ddim_refuses_a_number_of_steps_out_of_range(num_steps):
    with pytest.raises(UserError, match=f"{num_steps} sampling steps: allowed are 1 to n_T = 200"):
        sample(gaussian_denoiser(1.0), torch.arange(1), num_steps=num_steps)


def sigmas(num_steps, eta):
    return [ddim_sigma(jump, eta) for jump in PROCESS.jumps(num_steps)]


def test_jumps_are_a_way_from_n_T_to_the_clean_image():
    jumps = PROCESS.jumps(7)
    end = jumps[-1].following
    assert jumps[0].level.time == 1 and (float(end.alpha), float(end.sigma), end.time) == (1, 0, 0)
    assert all(a.following is b.level for a, b in itertools.pairwise(jumps))
    for jump in jumps:
        assert jump.level.time == jump.key / N_T
        assert float(jump.level.alpha) == float(ALPHA_BAR[jump.key].sqrt())


def test_ddim_sigma_with_eta_one_and_all_steps_is_the_posterior_of_ddpm():
    sigma = sigmas(N_T, 1.0)[:-1]
    beta, a = TABLES.beta.numpy(), ALPHA_BAR.numpy()
    t = np.arange(N_T, 1, -1)
    np.testing.assert_allclose(np.square(sigma), beta[t] * (1 - a[t - 1]) / (1 - a[t]), rtol=1e-9)


def test_ddim_sigma_is_proportional_to_eta_and_ends_at_none():
    full, half, none = (sigmas(9, eta) for eta in (1, 0.5, 0))
    np.testing.assert_allclose(half, np.array(full) / 2)
    assert none == [0.0] * 9 and min(full[:-1]) > 0 and full[-1] == 0


@pytest.mark.parametrize("num_steps", [3, 5, 50, N_T])
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_deterministic_ddim_of_a_gaussian_is_the_closed_form_linear_map(num_steps, scale):
    index = torch.arange(4)
    x = sample(gaussian_denoiser(scale), index, num_steps=num_steps, eta=0.0, clip=False)
    start = normals(0, Stream.SAMPLE_START, index, 0, SIZE)
    factor = float(np.prod(jump_factors(scale, levels_of(N_T, num_steps))))
    torch.testing.assert_close(x, start * factor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_deterministic_ddim_reaches_the_gaussians_scale_with_more_steps(scale):
    errors = []
    for num_steps in (5, 20, N_T):
        index = torch.arange(2)
        x = sample(gaussian_denoiser(scale), index, num_steps=num_steps, eta=0.0, clip=False)
        ratio = x / normals(0, Stream.SAMPLE_START, index, 0, SIZE)
        errors.append(abs(float(ratio.median()) / scale - 1))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.03


def stochastic_variance(scale, num_steps):
    x = sample(gaussian_denoiser(scale), torch.arange(64), num_steps=num_steps, clip=False)
    assert abs(float(x.mean())) < 4 * scale / np.sqrt(x.numel())
    return float(x.double().var())


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_stochastic_ddim_approaches_the_variance_of_ancestral_sampling_from_below(scale):
    # σ² of η = 1 is DDPM's posterior variance for a point, the lower of its two bounds.
    variances = [stochastic_variance(scale, num_steps) for num_steps in (10, 50, N_T)]
    assert variances == sorted(variances)
    assert 0.87 * scale**2 < variances[-1] < scale**2


@pytest.mark.parametrize("num_steps", [10, N_T])
def test_stochastic_ddim_variance_follows_its_recursion(num_steps):
    scale, variance = 0.5, 1.0
    for jump in PROCESS.jumps(num_steps):
        a, b = float(jump.level.alpha) ** 2, float(jump.following.alpha) ** 2
        s2 = ddim_sigma(jump, 1.0) ** 2
        x0 = np.sqrt(a) * scale**2 / (a * scale**2 + 1 - a)
        eps = np.sqrt(1 - a) / (a * scale**2 + 1 - a)
        variance = (np.sqrt(b) * x0 + np.sqrt(max(0.0, 1 - b - s2)) * eps) ** 2 * variance + s2
    # 12,288 values: a standard error of 1.3 %.
    assert stochastic_variance(scale, num_steps) == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_clip_keeps_images_in_range_where_a_bad_network_would_explode(eta):
    def wild(x, level):
        return Prediction(x, level, -3.0 * x)

    index = torch.arange(3)
    clipped = sample(wild, index, num_steps=20, eta=eta)
    assert float(clipped.abs().max()) <= 1.0 and bool(clipped.isfinite().all())
    assert float(sample(wild, index, num_steps=20, eta=eta, clip=False).abs().max()) > 100


def test_clip_changes_nothing_where_no_prediction_leaves_the_range():
    network, index = gaussian_denoiser(0.05), torch.arange(3)
    on, off = (sample(network, index, num_steps=20, clip=clip) for clip in (True, False))
    torch.testing.assert_close(on, off, rtol=1e-3, atol=1e-4)


def test_clip_recomputes_the_noise_from_the_clipped_image():
    # ε = 0 at t = n_T puts x̂₀ = x/√ᾱ out of range; ε = x at the next level brings it back.
    tables, index = linear_tables(0.1, 0.4, 2), torch.arange(2)

    def denoise(x, level):
        return Prediction(x, level, float(level.time < 1) * x)

    start = x = normals(0, Stream.SAMPLE_START, index, 0, SIZE).double()
    first, second = float(tables.alpha_bar[2]), float(tables.alpha_bar[1])
    x0 = (x / first**0.5).clamp(-1, 1)
    eps = (x - first**0.5 * x0) / (1 - first) ** 0.5
    x = second**0.5 * x0 + (1 - second) ** 0.5 * eps
    expected = (x * (1 - (1 - second) ** 0.5) / second**0.5).clamp(-1, 1)
    result = sample(denoise, index, 2, 0.0, process=DDPMProcess(Chain((0.1, 0.4), 2)))
    torch.testing.assert_close(result.double(), expected, rtol=1e-4, atol=1e-5)
    assert bool((start.abs() > first**0.5).any()) and bool((expected.abs() < 1).all(1).any())


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("sizes", [[1] * 7, [3, 4]], ids=str)
def test_image_is_the_same_in_any_chunk(eta, sizes):
    network, index = gaussian_denoiser(0.5), torch.arange(20, 27)
    parts = [sample(network, part, num_steps=9, eta=eta, seed=3) for part in index.split(sizes)]
    assert torch.equal(torch.cat(parts), sample(network, index, num_steps=9, eta=eta, seed=3))


def test_images_and_seeds_differ_and_eta_adds_noise():
    def draw(**options):
        return sample(gaussian_denoiser(0.5), torch.arange(2), num_steps=5, **options)

    images = torch.cat([draw(seed=0), draw(seed=1), draw(seed=0, eta=0.0)]).flatten(1)
    assert len(torch.unique(images, dim=0)) == 6


def test_network_is_called_once_a_step_at_level_over_n_T():
    calls = []
    sample(gaussian_denoiser(1.0, calls), torch.arange(2), num_steps=6)
    assert calls == pytest.approx([level / N_T for level in levels_of(N_T, 6)])
