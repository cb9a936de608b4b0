import math

import numpy as np
import pytest
import torch
from torch import nn

from mindiffusion.chain import Chain
from mindiffusion.ddpm import DDPM, DDPMProcess
from mindiffusion.errors import UserError
from mindiffusion.noise import Stream, normals
from mindiffusion.process import add_noise
from mindiffusion.schedules import linear_tables

BETAS, N_T = (1e-4, 0.02), 1000


class Recorder(nn.Module):
    """ε-network a·x + b·t that remembers its calls."""

    def __init__(self, a=0.3, b=0.5):
        super().__init__()
        self.a, self.b, self.calls = a, b, []

    def forward(self, x, t):
        self.calls.append((x, t))
        return self.a * x + self.b * t.view(-1, 1, 1, 1)


class GaussianDenoiser(nn.Module):
    """E[ε | x_t] for pixels N(mean, scale²)."""

    def __init__(self, alpha_bar, mean, scale):
        super().__init__()
        self.alpha_bar, self.mean, self.scale = alpha_bar, mean, scale

    def forward(self, x, t):
        level = (t.double() * (len(self.alpha_bar) - 1)).round().long()
        a = self.alpha_bar[level].view(-1, 1, 1, 1)
        return (1 - a).sqrt() / (a * self.scale**2 + 1 - a) * (x - a.sqrt() * self.mean)


def gaussian_process(mean, scale, n_T=200):
    alpha_bar = linear_tables(1e-4, 0.1, n_T).alpha_bar
    return DDPM(GaussianDenoiser(alpha_bar, mean, scale), (1e-4, 0.1), n_T)


def batch(count=4, dtype=torch.float64):
    x, noise = torch.randn(2, count, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return x.clamp(-1, 1).to(dtype), noise.to(dtype)


def numpy_loss(x, level, noise, a, b):
    """Each sample's mean squared ε-error for the network a·x_t + b·t, from the definition."""
    alpha_bar = np.cumprod(1 - np.linspace(*BETAS, N_T + 1))[level].reshape(-1, 1, 1, 1)
    x_t = np.sqrt(alpha_bar) * x.numpy() + np.sqrt(1 - alpha_bar) * noise.numpy()
    prediction = a * x_t + b * (np.asarray(level) / N_T).reshape(-1, 1, 1, 1)
    return ((prediction - noise.numpy()) ** 2).mean(axis=(1, 2, 3))


def test_loss_equals_a_hand_computation():
    x, noise = batch()
    process = DDPM(Recorder(), BETAS, N_T)
    u = torch.tensor([0.0, 0.2994, 0.5, 0.9999])
    expected = numpy_loss(x, [1, 300, 501, 1000], noise, 0.3, 0.5)
    per_sample = process.per_sample_loss(x, u, noise)
    assert per_sample.dtype == torch.float64
    np.testing.assert_allclose(per_sample.numpy(), expected, rtol=1e-12)
    loss = process(x, u, noise)
    assert loss.shape == () and float(loss) == pytest.approx(expected.mean(), rel=1e-7)


def test_loss_of_a_perfect_prediction_is_zero():
    x, noise = batch()
    process = DDPM(Recorder(), BETAS, N_T)
    process.eps_model.forward = lambda x_t, t: noise
    assert float(process(x, torch.rand(4), noise)) == 0.0


def test_loss_draws_times_and_noise_itself_when_not_given():
    x, _ = batch(16)
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        process = DDPM(Recorder(), BETAS, N_T)
        losses.append(float(process(x)))
        (_, t) = process.eps_model.calls[0]
        assert t.unique().numel() > 10 and 0 < float(t.min()) <= float(t.max()) <= 1
    assert losses[0] == losses[1] != losses[2]
    assert losses[0] == pytest.approx(0.5, abs=0.4)  # (a − 1)² and a little of x and t


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_T", [2, 100, 1000])
def test_noise_times_are_the_levels_1_to_n_T_each_as_often(n_T, dtype):
    process = DDPM(nn.Identity(), BETAS, n_T)
    u = ((torch.arange(n_T * 8) + 0.5) / (n_T * 8)).to(dtype)
    level = (process.noise_times(u) * n_T).round().long()
    assert torch.bincount(level).tolist() == [0] + [8] * n_T
    ends = process.noise_times(torch.tensor([0.0, 1 - 2**-24], dtype=dtype))
    assert ends.tolist() == [1 / n_T, 1.0]


def test_network_gets_level_over_n_T_in_the_images_dtype():
    x, noise = batch(dtype=torch.float32)
    process = DDPM(Recorder(), BETAS, N_T)
    process(x, torch.tensor([0.0, 0.25, 0.5, 0.9999]), noise)
    ((x_t, t),) = process.eps_model.calls
    assert x_t.dtype == t.dtype == torch.float32
    assert t.tolist() == pytest.approx([0.001, 0.251, 0.501, 1.0], rel=1e-6)


def test_process_finds_every_level_again_from_a_float32_time():
    process = DDPMProcess(Chain(BETAS, N_T))
    index = torch.arange(1, N_T + 1)
    level = process.level((index / N_T).float())
    alpha_bar = linear_tables(*BETAS, N_T).alpha_bar[1:]
    assert torch.equal(level.t, index.double() / N_T) and torch.equal(level.told, level.t)
    assert torch.equal(level.alpha, alpha_bar.sqrt())
    assert torch.equal(level.sigma, (1 - alpha_bar).sqrt())


def test_add_noise_keeps_unit_variance_for_one_level_and_for_one_an_image():
    process = DDPMProcess(Chain(BETAS, N_T))
    x, noise = torch.randn(2, 3, 1, 300, 300, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0.001, 0.3, 1.0])
    noisy = add_noise(x, process.level(times), noise)
    for k, time in enumerate(times):
        assert float(noisy[k].var()) == pytest.approx(1.0, abs=0.03)
        alone = add_noise(x[k : k + 1], process.level(time[None]), noise[k : k + 1])
        torch.testing.assert_close(alone[0], noisy[k], rtol=1e-6, atol=1e-6)


def test_tables_follow_the_config_move_and_are_not_saved():
    model = DDPM(nn.Linear(1, 1), BETAS, N_T)
    assert set(model.state_dict()) == {"eps_model.weight", "eps_model.bias"}
    moved = DDPMProcess(Chain(BETAS, N_T)).to("meta")
    assert moved.device.type == "meta"
    # A sampler's levels are known without that device.
    assert moved.level(torch.tensor([0.5])).time == 0.5


def test_grid_has_the_middles_of_equal_shares():
    def keys(n_T, count):
        levels = DDPMProcess(Chain(BETAS, n_T)).grid(count)
        return [round(level.time * n_T) for level in levels]

    assert keys(1000, 20) == list(range(25, 1000, 50))
    assert keys(500, 5) == [50, 150, 250, 350, 450]
    for n_T, count in ((20, 20), (21, 20), (37, 20), (2, 1), (999, 20)):
        found = keys(n_T, count)
        assert len(set(found)) == count and min(found) >= 1 and max(found) <= n_T


@pytest.mark.parametrize("count", [0, 11])
def test_grid_rejects_a_count_the_chain_cannot_give(count):
    with pytest.raises(UserError, match="allowed is 1 to n_T = 10"):
        DDPMProcess(Chain(BETAS, 10)).grid(count)


@pytest.mark.parametrize("t", [-0.3, 0.0, 0.04, 1.3, float("nan")])
def test_times_outside_the_chain_are_refused(t):
    with pytest.raises(UserError, match="t from 1 to 10"):
        DDPMProcess(Chain(BETAS, 10)).level(torch.tensor([0.5, t]))


def test_a_process_of_other_levels_is_refused():
    with pytest.raises(UserError, match="n_T 500, and a process of"):
        DDPM(nn.Identity(), BETAS, 500, DDPMProcess(Chain(BETAS, 1000)))


def test_fine_grid_has_the_whole_chain():
    found = DDPMProcess(Chain(BETAS, 50)).fine_grid()
    torch.testing.assert_close(found.alpha**2, linear_tables(*BETAS, 50).alpha_bar)
    assert found.t.tolist() == [k / 50 for k in range(51)]


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (0.3, 0.5)])
def test_ancestral_sampling_of_a_gaussian_gives_its_mean_and_variance(mean, scale):
    process = gaussian_process(mean, scale)
    x = process.sample(64, (3, 8, 8), "cpu").double()
    # 12,288 values: standard errors are scale/110 and 1.3 %; the rest is 200 finite steps.
    assert float(x.mean()) == pytest.approx(mean, abs=0.02)
    assert float(x.var()) == pytest.approx(scale**2, rel=0.06)


def test_ancestral_sampling_of_a_point_ends_at_the_point():
    # With ε = x/√(1 − ᾱ) the clean image is 0; without noise at t = 1 nothing is left but β₁.
    x = gaussian_process(0.0, 0.0).sample(2, (3, 4, 4), "cpu")
    assert float(x.abs().max()) < 4 * math.sqrt(1e-4 + 6e-4)


def test_sample_step_equals_the_formula_of_ho_et_al():
    process = DDPM(Recorder(0.1, 0.2), (0.1, 0.4), 2)
    index = torch.arange(5, 8)
    beta = np.array([0.1, 0.25, 0.4])
    alpha_bar = np.cumprod(1 - beta)
    x = normals(9, Stream.SAMPLE_START, index, 0, (1, 2, 2)).numpy()
    z = normals(9, Stream.SAMPLE_STEP, index, 2, (1, 2, 2)).numpy()
    for t, noise in ((2, z), (1, 0.0)):  # no noise in the last step
        eps = 0.1 * x + 0.2 * t / 2
        x = (x - beta[t] / np.sqrt(1 - alpha_bar[t]) * eps) / np.sqrt(1 - beta[t])
        x = x + np.sqrt(beta[t]) * noise
    result = process.sample(3, (1, 2, 2), "cpu", seed=9, first_index=5)
    np.testing.assert_allclose(result.numpy(), x, rtol=1e-5, atol=1e-6)


def test_sample_calls_the_network_once_a_level_and_falls_from_n_T_to_1():
    process = DDPM(Recorder(), BETAS, 30)
    result = process.sample(2, (3, 4, 4), "cpu")
    times = [t.tolist() for _, t in process.eps_model.calls]
    assert times == [pytest.approx([t / 30] * 2) for t in range(30, 0, -1)]
    assert result.shape == (2, 3, 4, 4) and result.dtype == torch.float32


@pytest.mark.parametrize("sizes", [(7,), (1,) * 7, (3, 4)], ids=str)
def test_sample_image_is_the_same_in_any_batch(sizes):
    process = gaussian_process(0.1, 0.5, n_T=20)
    parts, first = [], 0
    for size in sizes:
        parts.append(process.sample(size, (3, 5, 5), "cpu", seed=4, first_index=first))
        first += size
    assert torch.equal(torch.cat(parts), process.sample(7, (3, 5, 5), "cpu", seed=4))


def test_sample_images_and_seeds_differ():
    process = gaussian_process(0.0, 0.5, n_T=20)
    a, b = (process.sample(3, (3, 4, 4), "cpu", seed=seed) for seed in (0, 1))
    assert len({tuple(image.flatten().tolist()) for image in (*a, *b)}) == 6
