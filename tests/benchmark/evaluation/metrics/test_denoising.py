import math

import numpy as np
import pytest
import torch

from benchmark.evaluation.metrics.denoising import denoising_profiles
from mindiffusion.chain import Chain
from mindiffusion.ddpm import DDPMProcess
from mindiffusion.errors import UserError
from mindiffusion.process import Model, Prediction

PROCESS = DDPMProcess(Chain((1e-3, 0.1), 100))
TIMES = (0.05, 0.5, 0.95)


def levels(times=TIMES):
    return tuple(PROCESS.level(torch.tensor([t])) for t in times)


def keyed_noise(level_index, indices):
    """ε as a pure function of level and image."""
    generators = [torch.Generator().manual_seed(1000 * level_index + int(i)) for i in indices]
    return torch.stack([torch.randn(3, 8, 8, generator=g) for g in generators])


def gaussian_images(n=200, scale=0.3):
    return scale * torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(7))


def optimal_denoiser(scale):
    """E[ε | x_t] for pixels N(0, scale²)."""

    def denoise(x, level):
        variance = float(level.alpha) ** 2 * scale**2 + float(level.sigma) ** 2
        return Prediction(x, level, float(level.sigma) / variance * x)

    return denoise


def profile(denoise, images, batch_size=64, times=TIMES, noise=keyed_noise):
    return denoising_profiles({"": denoise}, images, levels(times), batch_size, noise)[""]


def test_profile_of_the_optimal_denoiser_is_the_closed_form():
    scale, images = 0.3, gaussian_images(scale=0.3)
    result = profile(optimal_denoiser(scale), images)
    alpha_bar = np.array([float(level.alpha) ** 2 for level in levels()])
    expected = alpha_bar * scale**2 / (alpha_bar * scale**2 + 1 - alpha_bar)
    # The residual is Gaussian with variance `expected` in each of 192 pixels of 200 images.
    expected_error = expected * math.sqrt(2 / (192 * len(images)))
    assert result.levels == TIMES
    np.testing.assert_allclose(result.standard_error, expected_error, rtol=0.25)
    assert (np.abs(result.mse - expected) < 4 * expected_error).all()


def test_profile_of_a_zero_network_is_the_mean_square_of_its_noise():
    images = gaussian_images(10)
    result = profile(lambda x, level: Prediction(x, level, torch.zeros_like(x)), images)
    per_image = [keyed_noise(1, torch.arange(10)).double().square().mean(dim=(1, 2, 3))]
    assert result.mse[1] == pytest.approx(per_image[0].mean().item(), rel=1e-12)
    expected_error = per_image[0].std().item() / math.sqrt(10)
    assert result.standard_error[1] == pytest.approx(expected_error, rel=1e-12)


def test_profile_does_not_depend_on_the_batch_size():
    images = gaussian_images(23)
    first, second = (profile(optimal_denoiser(0.5), images, batch_size=b) for b in (1, 10))
    np.testing.assert_allclose(first.mse, second.mse, rtol=1e-6)
    np.testing.assert_allclose(first.standard_error, second.standard_error, rtol=1e-5)


def test_profile_leaves_the_global_generator_alone_and_repeats_exactly():
    images, state = gaussian_images(8), torch.get_rng_state()
    first, second = (profile(optimal_denoiser(0.3), images) for _ in range(2))
    np.testing.assert_array_equal(first.mse, second.mse)
    assert torch.equal(state, torch.get_rng_state())


def test_profile_calls_the_network_with_relative_float32_time_and_the_mixed_image():
    seen = []

    class Network(torch.nn.Module):
        def forward(self, x, t):
            seen.append((x, t))
            return x

    images = gaussian_images(2)
    profile(Model(Network(), PROCESS), images, times=(0.5,))
    x, t = seen[0]
    assert t.dtype == torch.float32 and t.tolist() == [0.5, 0.5]
    eps = keyed_noise(0, torch.arange(2))
    (level,) = levels((0.5,))
    mixed = level.alpha * images.double() + level.sigma * eps.double()
    torch.testing.assert_close(x.double(), mixed, rtol=1e-5, atol=1e-6)


def test_profile_of_a_better_denoiser_is_lower():
    images = gaussian_images(scale=0.3)
    right, wrong = (profile(optimal_denoiser(s), images).mse for s in (0.3, 1.0))
    assert (right < wrong).all()


def test_profile_needs_two_images():
    with pytest.raises(UserError, match="2 or more"):
        profile(optimal_denoiser(0.3), gaussian_images(1))


def test_profiles_of_several_networks_meet_one_noisy_image():
    images, drawn, seen = gaussian_images(23), [], {"a": [], "b": []}

    def noise(level_index, indices):
        drawn.append(level_index)
        return keyed_noise(level_index, indices)

    def recording(name, scale):
        denoise = optimal_denoiser(scale)
        return lambda x, level: seen[name].append(x) or denoise(x, level)

    denoisers = {"a": recording("a", 0.3), "b": recording("b", 0.6)}
    found = denoising_profiles(denoisers, images, levels(), 10, noise)
    assert drawn == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert all(x is y for x, y in zip(seen["a"], seen["b"], strict=True))
    for name, scale in (("a", 0.3), ("b", 0.6)):
        alone = profile(optimal_denoiser(scale), images, batch_size=10)
        np.testing.assert_array_equal(found[name].errors, alone.errors)
        assert found[name].errors.shape == (3, 23)
