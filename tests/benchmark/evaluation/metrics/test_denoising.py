import math

import numpy as np
import pytest
import torch

from benchmark.evaluation.metrics.denoising import (
    denoising_profile,
    denoising_profiles,
    profile_levels,
)
from mindiffusion.errors import UserError

N_T = 100
ALPHA_BAR = torch.cos(torch.linspace(0, 1.5, N_T + 1, dtype=torch.float64)) ** 2
LEVELS = (5, 50, 95)


def keyed_noise(level_index, indices):
    """ε as a pure function of level and image."""
    generators = [torch.Generator().manual_seed(1000 * level_index + int(i)) for i in indices]
    return torch.stack([torch.randn(3, 8, 8, generator=g) for g in generators])


def gaussian_images(n=200, scale=0.3):
    return scale * torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(7))


def optimal_predictor(scale):
    """E[ε | x_t] for pixels N(0, scale²)."""

    def network(x, t):
        alpha_bar = ALPHA_BAR[(t * N_T).round().long()].view(-1, 1, 1, 1)
        variance = alpha_bar * scale**2 + 1 - alpha_bar
        return ((1 - alpha_bar).sqrt() / variance).to(x) * x

    return network


def profile(network, images, batch_size=64, levels=LEVELS, noise=keyed_noise):
    return denoising_profile(network, ALPHA_BAR, images, levels, N_T, batch_size, noise)


def test_profile_of_the_optimal_denoiser_is_the_closed_form():
    scale, images = 0.3, gaussian_images(scale=0.3)
    result = profile(optimal_predictor(scale), images)
    alpha_bar = ALPHA_BAR[list(LEVELS)].numpy()
    expected = alpha_bar * scale**2 / (alpha_bar * scale**2 + 1 - alpha_bar)
    # The residual is Gaussian with variance `expected` in each of 192 pixels of 200 images.
    expected_error = expected * math.sqrt(2 / (192 * len(images)))
    assert result.levels == LEVELS
    np.testing.assert_allclose(result.standard_error, expected_error, rtol=0.25)
    assert (np.abs(result.mse - expected) < 4 * expected_error).all()


def test_profile_of_a_zero_network_is_the_mean_square_of_its_noise():
    images = gaussian_images(10)
    result = profile(lambda x, t: torch.zeros_like(x), images)
    per_image = [keyed_noise(1, torch.arange(10)).double().square().mean(dim=(1, 2, 3))]
    assert result.mse[1] == pytest.approx(per_image[0].mean().item(), rel=1e-12)
    expected_error = per_image[0].std().item() / math.sqrt(10)
    assert result.standard_error[1] == pytest.approx(expected_error, rel=1e-12)


def test_profile_does_not_depend_on_the_batch_size():
    images = gaussian_images(23)
    first, second = (profile(optimal_predictor(0.5), images, batch_size=b) for b in (1, 10))
    np.testing.assert_allclose(first.mse, second.mse, rtol=1e-6)
    np.testing.assert_allclose(first.standard_error, second.standard_error, rtol=1e-5)


def test_profile_leaves_the_global_generator_alone_and_repeats_exactly():
    images, state = gaussian_images(8), torch.get_rng_state()
    first, second = (profile(optimal_predictor(0.3), images) for _ in range(2))
    np.testing.assert_array_equal(first.mse, second.mse)
    assert torch.equal(state, torch.get_rng_state())


def test_profile_calls_the_network_with_relative_float32_time_and_the_mixed_image():
    seen = []

    def network(x, t):
        seen.append((x, t))
        return x

    images = gaussian_images(2)
    profile(network, images, levels=(50,))
    x, t = seen[0]
    assert t.dtype == torch.float32 and t.tolist() == [0.5, 0.5]
    eps = keyed_noise(0, torch.arange(2))
    mixed = ALPHA_BAR[50].sqrt() * images.double() + (1 - ALPHA_BAR[50]).sqrt() * eps.double()
    torch.testing.assert_close(x.double(), mixed, rtol=1e-5, atol=1e-6)


def test_profile_of_a_better_denoiser_is_lower():
    images = gaussian_images(scale=0.3)
    right, wrong = (profile(optimal_predictor(s), images).mse for s in (0.3, 1.0))
    assert (right < wrong).all()


def test_profile_levels_are_the_middles_of_equal_shares():
    assert profile_levels(1000) == tuple(range(25, 1000, 50))
    assert profile_levels(500, count=5) == (50, 150, 250, 350, 450)


@pytest.mark.parametrize(("n_T", "count"), [(20, 20), (21, 20), (37, 20), (1, 1), (999, 20)])
def test_profile_levels_are_different_levels_of_the_chain(n_T, count):
    levels = profile_levels(n_T, count)
    assert len(set(levels)) == count
    assert min(levels) >= 1 and max(levels) <= n_T


@pytest.mark.parametrize("count", [0, 11])
def test_profile_levels_reject_a_count_the_chain_cannot_give(count):
    with pytest.raises(UserError, match="allowed is 1 to n_T = 10"):
        profile_levels(10, count)


def test_profile_rejects_bad_input():
    images = gaussian_images(4)
    with pytest.raises(UserError, match="allowed is 1 to n_T"):
        profile(optimal_predictor(0.3), images, levels=(0,))
    with pytest.raises(UserError, match="2 or more"):
        profile(optimal_predictor(0.3), images[:1])
    with pytest.raises(UserError, match="needs n_T"):
        denoising_profile(
            optimal_predictor(0.3), ALPHA_BAR[:-1], images, LEVELS, N_T, 4, keyed_noise
        )


def test_profiles_of_several_networks_meet_one_noisy_image():
    images, drawn, seen = gaussian_images(23), [], {"a": [], "b": []}

    def noise(level_index, indices):
        drawn.append(level_index)
        return keyed_noise(level_index, indices)

    def recording(name, scale):
        network = optimal_predictor(scale)
        return lambda x, t: seen[name].append(x) or network(x, t)

    networks = {"a": recording("a", 0.3), "b": recording("b", 0.6)}
    found = denoising_profiles(networks, ALPHA_BAR, images, LEVELS, N_T, 10, noise)
    assert drawn == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert all(x is y for x, y in zip(seen["a"], seen["b"], strict=True))
    for name, scale in (("a", 0.3), ("b", 0.6)):
        alone = profile(optimal_predictor(scale), images, batch_size=10)
        np.testing.assert_array_equal(found[name].errors, alone.errors)
        assert found[name].errors.shape == (3, 23)
