"""EDM against figures worked out apart from it: levels, preconditioning, loss, clocks, its grid."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from mindiffusion.build import build_process
from mindiffusion.config.process import EDMConfig
from mindiffusion.config.run import config_hash, to_kept
from mindiffusion.curriculum.clock import to_noise_time
from mindiffusion.curriculum.density import LogSigmaNormal, Window
from mindiffusion.data.mean_and_spread import ImageStatistics
from mindiffusion.edm import EDMProcess
from mindiffusion.errors import UserError
from mindiffusion.noise import Stream, normals, uniforms
from mindiffusion.process import add_noise, eps_error
from mindiffusion.samplers.ddim import ddim_sigma

CONFIG = EDMConfig()
STD = 0.5
PLAIN = ImageStatistics(np.zeros((1, 1, 3)), STD)
PROCESS = EDMProcess(CONFIG.noise, PLAIN)


def level(t, process=PROCESS):
    return process.level(torch.as_tensor(t, dtype=torch.float64).reshape(-1))


# -- levels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [1e-7, 1.46e-5, 0.01, 0.5, 0.9, 0.999, 1 - 1e-6, 1 - 1e-10, 1.0])
def test_noise_time_is_the_share_of_draws_with_no_more_noise(t):
    one = level(t)
    drawn = stats.norm(-1.2, 1.2)
    # As a share of what is left out above it, which is exact where the share itself rounds to 1.
    more, at_most = (drawn.sf(math.log(sigma)) for sigma in (float(one.sigma), 80.0))
    assert more == pytest.approx((1 - t) + t * at_most, rel=1e-9)
    assert float(one.alpha) == 1 and one.time == t
    assert float(one.told) == pytest.approx(math.log(float(one.sigma)) / 4, rel=1e-12)


def test_pure_noise_is_at_sigma_max_and_a_sampler_ends_at_sigma_min():
    assert float(level(1.0).sigma) == pytest.approx(80, rel=1e-13)
    jumps = PROCESS.jumps(18, "rho")
    assert jumps[0].level.time == 1 and float(jumps[0].level.sigma) == pytest.approx(80, rel=1e-13)
    assert float(jumps[-1].level.sigma) == pytest.approx(0.002, rel=1e-11)
    below = stats.norm(-1.2, 1.2).cdf([math.log(0.002), math.log(80)])
    assert jumps[-1].level.time == pytest.approx(below[0] / below[1], rel=1e-12)


@pytest.mark.parametrize("count", [2, 18, 40, 256])
def test_levels_of_rho_are_the_paper_s_grid(count):
    """Karras et al. 2022, eq. 5; the published code makes the same in float64."""
    share = np.arange(count) / (count - 1)
    expected = (80 ** (1 / 7) + share * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    jumps = PROCESS.jumps(count, "rho")
    np.testing.assert_allclose([float(j.level.sigma) for j in jumps], expected, rtol=1e-11)
    assert float(jumps[-1].following.sigma) == 0
    times = [jump.level.time for jump in jumps]
    assert times == sorted(set(times), reverse=True)


def test_many_steps_have_different_noise_times():
    times = [jump.level.time for jump in PROCESS.jumps(3000, "rho")]
    assert len(set(times)) == 3000 and max(times) == 1


@pytest.mark.parametrize("sigma", [1e-4, 0.002, 0.3, 5.0, 79.0, 80.0])
def test_level_of_a_sigma_is_exact(sigma):
    one = PROCESS.level_at(sigma)
    assert float(one.sigma) == pytest.approx(sigma, rel=1e-14)
    assert float(level(one.time).sigma) == pytest.approx(sigma, rel=1e-9)


def test_more_noise_than_sigma_max_is_a_level_at_time_1():
    """Noise that a stochastic sampler adds at its first step goes there, as in the paper's code."""
    one = PROCESS.level_at(113.0)
    assert one.time == 1 and float(one.sigma) == pytest.approx(113)
    assert float(one.told) == pytest.approx(math.log(113) / 4)


def test_ddim_adds_the_noise_that_the_way_back_has():
    """η = 1: the variance of x_s given x_t and x, σ_s²(σ_t² − σ_s²)/σ_t², as for any process."""
    for jump in PROCESS.jumps(9, "rho")[:-1]:
        before, after = float(jump.level.sigma), float(jump.following.sigma)
        expected = after * math.sqrt(before**2 - after**2) / before
        assert ddim_sigma(jump, 1.0) == pytest.approx(expected, rel=1e-9)
        assert ddim_sigma(jump, 0.5) == pytest.approx(expected / 2, rel=1e-9)
    assert ddim_sigma(PROCESS.jumps(9)[-1], 1.0) == 0


# -- what the network does and learns -----------------------------------------------------------


def in_the_paper_s_words(x, sigma, network):
    """Denoised x, with the preconditioning of table 1: c_skip, c_out, c_in and c_noise."""
    total = sigma**2 + STD**2
    skip, out, into = STD**2 / total, sigma * STD / total.sqrt(), 1 / total.sqrt()
    return skip * x + out * network(into * x, (sigma.log() / 4).flatten())


@pytest.mark.parametrize("t", [1.5e-5, 0.2, 0.7, 1.0])
def test_network_is_read_as_in_the_paper(t):
    def network(x, told):
        return torch.tanh(3 * x) + told.view(-1, 1, 1, 1)

    x = normals(0, Stream.NOISE, torch.arange(4), 0, (3, 4, 4)).double()
    one = level(t)
    x_t = add_noise(0.4 * x, one, x.flip(0))
    said = PROCESS.predict(network, x_t, one)
    expected = in_the_paper_s_words(x_t, one.sigma.view(-1, 1, 1, 1), network)
    torch.testing.assert_close(said.x0, expected, rtol=1e-10, atol=1e-10)


def test_loss_is_the_paper_s_and_weighs_the_network_s_own_error_alike():
    count, shape = 64, (3, 4, 4)
    index = torch.arange(count)
    x = STD * normals(0, Stream.FLIP, index, 0, shape).double()
    noise = normals(0, Stream.NOISE, index, 0, shape).double()
    at = level(torch.linspace(1e-4, 1, count))
    sigma = at.sigma.view(-1, 1, 1, 1)
    x_t = add_noise(x, at, noise)

    def network(z, told):
        return 0.3 * torch.sin(2 * z)

    found = eps_error(PROCESS.predict(network, x_t, at), noise) * at.weight
    weight = (sigma**2 + STD**2) / (sigma * STD) ** 2
    denoised = in_the_paper_s_words(x_t, sigma, network)
    on_x0 = (weight * (denoised - x).square()).flatten(1).mean(1)
    torch.testing.assert_close(found, on_x0, rtol=1e-6, atol=1e-9)
    total = sigma**2 + STD**2
    target = (x - STD**2 / total * x_t) / (sigma * STD / total.sqrt())
    own = (network(x_t / total.sqrt(), None) - target).square().flatten(1).mean(1)
    torch.testing.assert_close(found, own, rtol=1e-6, atol=1e-9)


def test_an_untrained_network_s_loss_is_1_at_every_level():
    """F = 0 is the best denoiser of N(0, σ_d²); its own error is then 1, by eq. 8 of the paper."""
    index, shape = torch.arange(512), (3, 4, 4)
    x = STD * normals(1, Stream.FLIP, index, 0, shape).double()
    noise = normals(1, Stream.NOISE, index, 0, shape).double()
    for t in (1e-4, 0.3, 0.8, 1.0):
        said = PROCESS.predict(lambda z, told: 0 * z, add_noise(x, level(t), noise), level(t))
        # 24,576 squares: a standard error of .9 %.
        mean = float(eps_error(said, noise).mean() * level(t).weight)
        assert mean == pytest.approx(1, rel=0.04)


@pytest.mark.parametrize(("sigma_data", "std", "mean"), [("auto", 0.3, 0.2), (0.7, 0.7, 0.0)])
def test_sigma_data_is_a_number_or_that_of_the_images(sigma_data, std, mean, tiny_config):
    words = f"process={{kind: edm, sigma_data: {sigma_data}}}"
    config = tiny_config("b", words)
    assert config.process.uses_statistics == (sigma_data == "auto")
    known = ImageStatistics(np.full((32, 32, 3), 0.2), 0.3)
    process = build_process(config, known)
    x_t = torch.full((1, 3, 32, 32), 0.9, dtype=torch.float64)
    one = process.level_at(0.4)
    said = process.predict(lambda z, told: 0 * z, x_t, one)
    expected = mean + std**2 / (std**2 + 0.16) * (0.9 - mean)
    torch.testing.assert_close(said.x0, torch.full_like(x_t, expected))
    assert float(one.weight) == pytest.approx(1 + 0.16 / std**2)


# -- clocks -------------------------------------------------------------------------------------


def planned(density):
    return to_noise_time(density, CONFIG.log_sigma, None)


def drawn(density, count=200_000):
    u = uniforms(0, Stream.TIME, torch.arange(count), 0)[:, 0]
    return PROCESS.level(density.quantile(u, None)).sigma.log()


def test_plain_training_draws_the_paper_s_log_normal():
    """Also in the tails, at which single-precision noise times would end."""
    found = drawn(Window())
    assert stats.kstest(found, stats.norm(-1.2, 1.2).cdf).pvalue > 0.01
    assert float(found.max()) > 3.5 and float(found.min()) < -6


def test_its_own_log_normal_is_plain_training_on_the_clock_of_noise_time():
    t = np.linspace(0, 1, 501)
    np.testing.assert_allclose(planned(LogSigmaNormal(-1.2, 1.2)).cdf(t), t, atol=3e-6)


@pytest.mark.parametrize(("mean", "std"), [(-0.4, 1.0), (2.5, 0.5), (-4.0, 0.3)])
def test_a_log_normal_of_another_mean_is_drawn_as_said(mean, std):
    found = drawn(planned(LogSigmaNormal(mean, std)))
    assert float(found.mean()) == pytest.approx(mean, abs=0.02)
    assert float(found.std()) == pytest.approx(std, rel=0.02)


# -- settings -----------------------------------------------------------------------------------


def test_what_is_not_said_is_the_paper_s(tiny_config):
    config = tiny_config("b", "process.kind=edm")
    assert config.process == EDMConfig(
        P_mean=-1.2, P_std=1.2, sigma_data=0.5, sigma_min=0.002, sigma_max=80.0
    )
    plain = tiny_config("b")
    assert config_hash(config) != config_hash(plain)
    kept = to_kept(plain)["sampler"]
    assert set(kept) == {
        "name", "steps", "eta", "clip", "seed", "chunk", "precision", "compile", "grid"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("process.sigma_max=0.1",), "give sigma_min < exp(P_mean) = 0.301194 < sigma_max"),
        (("process.sigma_min=0.5",), "give sigma_min < exp(P_mean)"),
        (("process.P_std=0.5",), "sigma_min 0.002 is 10 standard deviations (P_std 0.5)"),
        (("process.P_std=0.0",), "process.P_std"),
        (("process.sigma_data=automatic",), "process.sigma_data"),
        (("process.loss_weight={kind: p2}",), "unknown key 'process.loss_weight' of edm"),
        (("sampler.name=ddpm",), "goes through every noise level, but process.kind edm"),
        (("sampler.spacing=even",), "sampler.spacing"),
        (("sampler.S_churn=4",), "sampler.S_churn is 4.0, but sampler.name ddim does not heed it"),
        (("sampler.name=ddpm", "sampler.spacing=rho"), "sampler.spacing is rho, but sampler.name"),
        (("sampler.name=edm", "sampler.S_min=2.0", "sampler.S_max=1.0"), "S_min 2 is above S_max"),
        (("sampler.name=edm", "sampler.S_min=2.0"), "sampler.S_min is 2, but sampler.S_churn is 0"),
        (("sampler.name=edm", "sampler.S_max=9.0"), "sampler.S_max is 9, but sampler.S_churn is 0"),
        (("sampler.name=edm", "sampler.S_noise=1.1"), "S_noise is 1.1, but sampler.S_churn is 0"),
        (("sampler.rho=5.0", "sampler.spacing=log_snr"), "sampler.rho is 5, but the levels are"),
        (("sampler.name=euler", "sampler.spacing=time"), "high noise of process.kind edm"),
    ],
)
def test_senseless_settings_are_one_line(words, message, tiny_config):
    from mindiffusion.training.preflight import check_sampler

    with pytest.raises(UserError) as error:
        check_sampler(tiny_config("b", "process.kind=edm", *words))
    assert message in str(error.value) and "\n" not in str(error.value)
