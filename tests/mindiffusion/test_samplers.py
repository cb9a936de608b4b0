"""Samplers on Gaussian data, whose denoiser and whose way from noise to image are known exactly.

Pixels are N(MEAN, STD²). Along the ODE (x − alpha·m)/√(alpha²s² + sigma²) stays as it is.
"""

import itertools
import math

import numpy as np
import pytest
import torch

from mindiffusion.chain import Chain, LinearBeta, LogNormalSigma
from mindiffusion.config.sampler import SAMPLERS, SamplerConfig
from mindiffusion.data.mean_and_spread import ImageStatistics
from mindiffusion.ddpm import DDPMProcess
from mindiffusion.edm import EDMProcess
from mindiffusion.errors import UserError
from mindiffusion.noise import sample_noise
from mindiffusion.process import Model, Prediction, clipped, from_x0
from mindiffusion.samplers.catalogue import _DRAW, Start, draw
from mindiffusion.samplers.ddim import ddim_sample
from mindiffusion.samplers.edm import Churn
from mindiffusion.samplers.euler import euler_sample
from mindiffusion.vpsde import VPSDEProcess

MEAN, STD = 0.3, 0.5
SDE = VPSDEProcess(LinearBeta(0.1, 20.0))
EDM = EDMProcess(LogNormalSigma(-1.2, 1.2, 0.002, 80.0), ImageStatistics(np.zeros((1, 1, 3)), STD))
CHAIN = DDPMProcess(Chain((1e-4, 0.02), 1000))
PROCESSES = pytest.mark.parametrize("process", [SDE, CHAIN, EDM], ids=["vpsde", "ddpm", "edm"])
WITHOUT_NOISE = ("ddim", "euler", "heun", "edm", "dpm_solver_1", "dpm_solver_2", "dpm_solver_3",
                 "dpm_solver_pp_2m")  # fmt: skip


def exact(x_t, level):
    """E[ε | x_t]."""
    alpha, sigma = float(level.alpha), float(level.sigma)
    return Prediction(x_t, level, sigma * (x_t - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2))


def spread(level):
    return math.hypot(float(level.alpha) * STD, float(level.sigma))


def start_of(x):
    return Start(x, lambda key: pytest.fail("no noise was asked for"), lambda: None)


def drawn(name, steps, x, process=SDE, denoise=exact):
    sampler = SamplerConfig(name=name, steps=steps, eta=0.0, clip=False)
    return draw(denoise, process, sampler, start_of(x))


def error(name, steps, process=SDE, spacing=None):
    """Largest distance from where the ODE leads: at the last level, then x̂₀ of it."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).view(1, 1, 3, 3)
    sampler = SamplerConfig(name=name, steps=steps, eta=0.0, clip=False, spacing=spacing)
    last = process.jumps(steps, sampler.spacing_on(process.spacing))[-1].level
    top = process.jumps(1)[0].level
    on_way = (process.pure_noise(x) - float(top.alpha) * MEAN) / spread(top)
    truth = exact(float(last.alpha) * MEAN + spread(last) * on_way, last).x0
    return float((draw(exact, process, sampler, start_of(x)) - truth).abs().max())


def test_every_sampler_of_configs_can_draw():
    assert set(_DRAW) == set(SAMPLERS)


@pytest.mark.parametrize(
    ("name", "order", "steps"),
    [
        ("ddim", 1, (40, 80, 160)),
        ("dpm_solver_1", 1, (40, 80, 160)),
        # One call is that of the last step; the others fill steps of equal order.
        ("dpm_solver_2", 2, (41, 81, 161)),
        ("dpm_solver_3", 3, (61, 121, 241)),
        ("dpm_solver_pp_2m", 2, (41, 81, 161)),
        ("heun", 2, (81, 161, 321)),
    ],
)
def test_error_falls_by_the_order_of_the_method(name, order, steps):
    errors = [error(name, count) for count in steps]
    found = [math.log2(before / after) for before, after in itertools.pairwise(errors)]
    assert all(order - 0.35 < one < order + 1.0 for one in found), (errors, found)


@pytest.mark.parametrize(
    ("name", "order", "steps"),
    [
        ("ddim", 1, (40, 80, 160)),
        ("euler", 1, (40, 80, 160)),
        ("dpm_solver_1", 1, (40, 80, 160)),
        ("dpm_solver_2", 2, (41, 81, 161)),
        ("dpm_solver_pp_2m", 2, (41, 81, 161)),
        # The paper's numbers of steps: 18, 36, 72 and 144.
        ("heun", 2, (35, 71, 143, 287)),
        ("edm", 2, (35, 71, 143, 287)),
    ],
)
@pytest.mark.parametrize("spacing", ["rho", "log_snr"])
def test_order_is_the_same_on_edm_and_on_its_levels(name, order, steps, spacing):
    for process in (EDM, SDE):
        errors = [error(name, count, process, spacing) for count in steps]
        found = [math.log2(before / after) for before, after in itertools.pairwise(errors)]
        assert all(order - 0.35 < one < order + 1.0 for one in found), (process, errors, found)


def test_third_order_on_edm():
    errors = [error("dpm_solver_3", count, EDM, "log_snr") for count in (61, 121, 241)]
    found = [math.log2(before / after) for before, after in itertools.pairwise(errors)]
    assert all(2.65 < one < 4.0 for one in found), (errors, found)


def test_heun_on_edm_is_the_paper_s_sampler():
    """Its algorithm 1, written out with its own schedule and preconditioned denoiser of x̂₀."""
    count = 18
    share = np.arange(count) / (count - 1)
    sigmas = (80 ** (1 / 7) + share * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64).view(1, 1, 3, 3)

    def slope(x, sigma):
        return (x - MEAN) * sigma / (sigma**2 + STD**2)

    x = 80 * noise
    for sigma, following in itertools.pairwise([*sigmas.tolist(), 0.0]):
        first = slope(x, sigma)
        tried = x + (following - sigma) * first
        second = slope(tried, following) if following else first
        x = x + (following - sigma) * (first + second) / 2
    for name in ("heun", "edm"):
        torch.testing.assert_close(drawn(name, 35, noise, EDM), x, rtol=1e-9, atol=1e-10)


def churned(denoise, process, count, x, noise, **churn):
    sampler = SamplerConfig(name="edm", steps=2 * count - 1, clip=False, **churn)
    return draw(denoise, process, sampler, Start(x, noise, lambda: None))


@pytest.mark.parametrize("process", [SDE, EDM], ids=["vpsde", "edm"])
@pytest.mark.parametrize(
    "churn",
    [
        {"S_churn": 40.0, "S_min": 0.05, "S_max": 50.0, "S_noise": 1.003},
        {"S_churn": 5.0},
        {"S_churn": 1e9, "S_noise": 1.2, "S_max": 1.0},
    ],
)
def test_stochastic_sampler_has_the_moments_of_its_steps(churn, process):
    """In y = x/alpha each step is linear, so mean and variance go through it in closed form."""
    count = 30
    jumps = process.jumps(count, "rho")
    sigmas = [float(j.level.sigma / j.level.alpha) for j in jumps]
    first = float(jumps[0].level.alpha)
    mean, variance = -MEAN, float(process.pure_noise(torch.ones(1))) ** 2 / first**2
    for sigma, following in itertools.pairwise([*sigmas, 0.0]):
        is_raised = churn.get("S_min", 0) <= sigma <= churn.get("S_max", math.inf)
        gamma = min(churn["S_churn"] / count, math.sqrt(2) - 1) if is_raised else 0.0
        raised = sigma * (1 + gamma)
        if process is SDE:
            raised = min(raised, sigmas[0])
        variance += churn.get("S_noise", 1.0) ** 2 * (raised**2 - sigma**2)
        here, there = (one / (one**2 + STD**2) for one in (raised, following))
        span = following - raised
        factor = (
            1 + span * (here + there * (1 + span * here)) / 2 if following else 1 - raised * here
        )
        mean, variance = factor * mean, factor**2 * variance
    x, noise = sample_noise(0, torch.arange(512), (3, 8, 8))
    found = churned(exact, process, count, x.double(), noise, **churn)
    # 98,304 pixels: standard errors .0016 and .45 % of the variance.
    assert float(found.mean()) == pytest.approx(MEAN + mean, abs=0.008)
    assert float(found.var()) == pytest.approx(variance, rel=0.02)


def test_gamma_is_at_most_that_of_the_paper_and_both_ends_count():
    churn = Churn(amount=40.0, least=0.05, most=50.0, scale=1.003)
    assert churn.gamma(1.0, 256) == 40 / 256
    assert churn.gamma(1.0, 18) == pytest.approx(math.sqrt(2) - 1)
    assert churn.gamma(0.05, 256) == churn.gamma(50.0, 256) == 40 / 256
    assert churn.gamma(0.0499, 256) == churn.gamma(50.1, 256) == 0.0
    assert Churn(0.0, 0.0, math.inf, 1.0).gamma(3.0, 18) == 0.0


def test_noise_is_added_only_between_s_min_and_s_max():
    keys, x = [], torch.ones(1, 1, 2, 2, dtype=torch.float64)

    def noise(key):
        keys.append(key)
        return torch.zeros_like(x)

    churned(exact, EDM, 18, x, noise, S_churn=40.0, S_min=0.05, S_max=50.0)
    inside = [j.key for j in EDM.jumps(18, "rho") if 0.05 <= float(j.level.sigma) <= 50]
    assert keys == inside and 0 < len(keys) < 17
    keys.clear()
    churned(exact, EDM, 18, x, noise, S_churn=4.0)
    assert keys == list(range(18, 0, -1))


def test_noise_of_a_chain_goes_to_its_own_levels():
    """And none is added where the nearest level is the one it starts from."""
    own = {jump.key / 1000 for jump in CHAIN.chain_jumps()}
    asked, keys = [], []

    def noted(x_t, level):
        asked.append(level.time)
        return exact(x_t, level)

    def noise(key):
        keys.append(key)
        return torch.zeros_like(x)

    x = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    churned(noted, CHAIN, 10, x, noise, S_churn=2.0)
    assert len(asked) == 19 and set(asked) <= own
    grid = [jump.level.time for jump in CHAIN.jumps(10, "rho")]
    raised = [after - before for after, before in zip(asked[::2], grid, strict=True)]
    assert min(raised) >= 0
    # There is no level above the first.
    assert raised[0] == 0 and len(keys) == sum(step > 0 for step in raised) >= 8
    keys.clear()
    churned(noted, CHAIN, 10, x, noise, S_churn=1e-4)
    assert keys == []


def test_churn_of_0_is_heun_s_method_bit_for_bit():
    x = sample_noise(0, torch.arange(2), (3, 4, 4))[0]
    assert torch.equal(drawn("edm", 11, x, EDM), drawn("heun", 11, x, EDM))


@pytest.mark.parametrize(
    ("words", "way"),
    [
        ({"name": "heun"}, "heun"),
        ({"name": "heun", "spacing": "rho"}, "heun-rho7"),
        ({"name": "ddim", "eta": 0.0, "spacing": "log_snr"}, "ddim-eta0-log_snr"),
        ({"name": "edm", "rho": 5.0}, "edm-rho5"),
        ({"name": "edm", "S_churn": 40.0}, "edm-churn40-from0to-noise1"),
        (
            {"name": "edm", "S_churn": 40.0, "S_min": 0.05, "S_max": 50.0, "S_noise": 1.003},
            "edm-churn40-from0.05to50-noise1.003",
        ),
    ],
)
def test_results_name_how_levels_are_spaced_and_what_is_added(words, way):
    assert SamplerConfig(**words).way == way


def test_higher_orders_are_more_exact_at_equal_calls():
    first, second, third, two_step = (
        error(f"dpm_solver_{kind}", 61) for kind in ("1", "2", "3", "pp_2m")
    )
    assert first > 5 * second > 100 * third
    assert first > 20 * two_step


@pytest.mark.parametrize("name", WITHOUT_NOISE)
@PROCESSES
def test_sampler_draws_the_data_on_every_process(name, process):
    index = torch.arange(64)
    x = sample_noise(0, index, (3, 8, 8))[0].double()
    found = drawn(name, 60, x, process)
    # 12,288 pixels: their mean has a standard error of .005, their spread of .6 %.
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(found.std()) == pytest.approx(STD, rel=0.06)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 7, 50])
def test_no_call_more_than_stated(name, steps):
    """And the clean image at the end, also of a sampler with a single call."""
    calls = []
    x = torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64)
    process = DDPMProcess(Chain((1e-3, 0.2), 60))
    sampler = SamplerConfig(name=name, steps=steps, eta=0.0, clip=False)
    start = Start(x, lambda key: torch.zeros_like(x), lambda: calls.append(1))

    def counted(x_t, level):
        calls.append(-1)
        return exact(x_t, level)

    found = draw(counted, process, sampler, start)
    kind = SAMPLERS[name]
    expected = 60 if kind.is_whole_chain else kind.calls(steps)
    assert calls == [1, -1] * expected and (kind.is_whole_chain or expected <= steps)
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_euler_has_the_moments_of_its_chain(eta):
    """Each step is linear in x, so mean and variance go through it in closed form."""
    jumps = SDE.jumps(50)
    mean, variance = 0.0, 1.0
    for jump in jumps[:-1]:
        beta = 0.1 + 19.9 * jump.level.time
        span = jump.level.time - jump.following.time
        alpha, total = float(jump.level.alpha), spread(jump.level) ** 2
        pull = 0.5 * (1 + eta**2) * beta * span
        factor = 1 + 0.5 * beta * span - pull / total
        mean = factor * mean + pull * alpha * MEAN / total
        variance = factor**2 * variance + eta**2 * beta * span
    # The last step is to x̂₀, the mean of the image given x.
    alpha, total = float(jumps[-1].level.alpha), spread(jumps[-1].level) ** 2
    gain = alpha * STD**2 / total
    mean, variance = MEAN + gain * (mean - alpha * MEAN), gain**2 * variance
    if eta:
        # With a plain last step it is known to be .2582 where the data have .25.
        assert variance == pytest.approx(0.2582, abs=1e-3)
    index = torch.arange(512)
    x, noise = sample_noise(0, index, (3, 8, 8))
    found = euler_sample(exact, jumps, SDE, x.double(), noise, eta=eta)
    # 98,304 pixels: standard errors .0016 and .45 % of the variance.
    assert float(found.mean()) == pytest.approx(mean, abs=0.008)
    assert float(found.var()) == pytest.approx(variance, rel=0.02)


@PROCESSES
@pytest.mark.parametrize("steps", [20, 50, 200])
def test_euler_leaves_no_noise_of_a_picture_that_is_known(process, steps):
    """A plain last step from t = 1/50 of a chain would leave 10 grey levels."""

    def known(x_t, level):
        return from_x0(x_t, level, torch.full_like(x_t, MEAN))

    x, noise = sample_noise(0, torch.arange(16), (3, 8, 8))
    jumps = process.jumps(steps, process.spacing or "time")
    found = euler_sample(known, jumps, process, process.pure_noise(x.double()), noise)
    torch.testing.assert_close(found, torch.full_like(found, MEAN))


def test_order_one_is_ddim_without_noise_at_the_same_levels():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).view(1, 1, 3, 3)
    by_ddim = ddim_sample(exact, SDE.jumps(12, "log_snr"), x, lambda key: x, eta=0.0)
    torch.testing.assert_close(drawn("dpm_solver_1", 12, x), by_ddim, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", WITHOUT_NOISE)
def test_images_stay_in_range_where_they_are_clipped(name):
    def wild(x_t, level):
        return Prediction(x_t, level, torch.full_like(x_t, -3.0))

    sampler = SamplerConfig(name=name, steps=9, eta=0.0)
    x = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    found = draw(wild, SDE, sampler, start_of(x))
    assert float(found.abs().max()) <= 1.0 + 1e-9


def test_network_is_asked_in_its_images_dtype():
    seen = []

    def network(x, told):
        seen.append((x.dtype, told.dtype, tuple(told.shape)))
        return 0.1 * x

    x = torch.ones(2, 1, 2, 2)
    for name in WITHOUT_NOISE:
        found = draw(Model(network, SDE), SDE, SamplerConfig(name=name, steps=5), start_of_any(x))
        assert found.dtype == torch.float32
    assert set(seen) == {(torch.float32, torch.float32, (2,))}


def start_of_any(x):
    return Start(x, lambda key: torch.zeros_like(x), lambda: None)


def test_unknown_sampler_is_one_line(tiny_config):
    with pytest.raises(UserError) as error:
        tiny_config("b", "sampler.name=dpm")
    assert "sampler.name" in str(error.value) and "dpm_solver_3" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_learned_variance_changes_what_is_drawn_only_where_the_sampler_says_so(name):
    process = DDPMProcess(Chain((1e-3, 0.1), 20))
    sampler = SamplerConfig(name=name, steps=5)

    def drawn_with(share):
        def denoise(x_t, level):
            said = exact(x_t, level)
            return Prediction(x_t, level, said.eps, None, share * torch.ones_like(x_t))

        start = Start(torch.ones(1, 1, 2, 2), lambda key: torch.ones(1, 1, 2, 2), lambda: None)
        return draw(denoise, process, sampler, start)

    is_changed = not torch.equal(drawn_with(0.0), drawn_with(0.5))
    assert is_changed == SAMPLERS[name].uses_variance


@pytest.mark.parametrize("name", SAMPLERS)
def test_denoiser_is_clipped_if_asked_but_never_for_the_whole_chain(name):
    seen = set()

    def wild(x_t, level):
        said = from_x0(x_t, level, torch.full_like(x_t, 7.0))
        return Prediction(x_t, level, said.eps, said.x0)

    def draw_by(denoise, clip):
        sampler = SamplerConfig(name=name, steps=4, eta=0.0, clip=clip)
        x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        return float(draw(denoise, CHAIN, sampler, start_of_any(x)))

    seen = {clip: draw_by(wild, clip) for clip in (True, False)}
    assert seen[False] == draw_by(wild, False) and seen[False] > 3
    is_clipped = not SAMPLERS[name].is_whole_chain
    assert (seen[True] != seen[False]) == is_clipped
    assert not is_clipped or seen[True] == draw_by(clipped(wild), False)
