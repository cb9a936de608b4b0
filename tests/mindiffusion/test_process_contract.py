"""What training, sampling and scoring take for granted of every process that configs may name.

A new process is put under contract by its config in ``CONFIGS``. One of them is known to this file
alone: its levels are continuous, and nothing else in the program knows it.
"""

import itertools
import math
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import ClassVar, Literal, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from scipy import stats

from benchmark.evaluation.metrics.denoising import denoising_profiles
from benchmark.evaluation.metrics.profile import SUMMARIES, ProfileResult, summaries
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.proof import check_finisher
from benchmark.evaluation.milestone.score import score_milestone
from benchmark.evaluation.milestone.stage_pictures import NUM_SHOWN
from benchmark.evaluation.milestone.yardstick import make_yardstick
from benchmark.rows.metric_names import EPS_MSE, EXPOSURE, STAGE_MEDIAN
from benchmark.speed.setting import ddpm_of
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion import build
from mindiffusion.build import build_codec, build_process
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.process import (
    PLAIN_LOSS,
    PROCESSES,
    DDPMConfig,
    EDMConfig,
    LinearPathConfig,
    ProcessConfig,
    VPSDEConfig,
)
from mindiffusion.config.run import config_hash, from_kept, to_dict, to_kept
from mindiffusion.config.sampler import SAMPLERS, SamplerConfig
from mindiffusion.curriculum.clusters import CLUSTERINGS, MeasuredClusters
from mindiffusion.curriculum.density import (
    Average,
    LogSigmaLaplace,
    LogSigmaNormal,
    Share,
    SoftTruncation,
    Window,
    on_noise_time,
)
from mindiffusion.curriculum.loss_weight import EDM, P2
from mindiffusion.curriculum.stages import StageConfig, trained_on_all_levels
from mindiffusion.errors import UserError
from mindiffusion.noise import Stream, normals, sample_noise
from mindiffusion.parameterization import network_times
from mindiffusion.process import (
    Jump,
    Level,
    Prediction,
    add_noise,
    clipped,
    from_x0,
    given,
    stitched,
    times_of,
)
from mindiffusion.samplers.ddim import ddim_sample
from mindiffusion.sampling import model_of, sample_images, sampler_steps
from mindiffusion.spacing import Spacing
from mindiffusion.training import checkpoint
from mindiffusion.training.preflight import check_sampler

CPU = torch.device("cpu")


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class AngleConfig(ProcessConfig):
    kind: Literal["angle"] = "angle"
    widest: float = Field(default=1.55, gt=0, lt=math.pi / 2)

    @property
    def noise(self):
        return f"angles up to {self.widest}"

    @property
    def lowest_time(self):
        return 1e-3

    def log_sigma(self, t):
        return np.log(np.tan(self.widest * t))


@plain_dataclass
class AngleProcess:
    """alpha = cos and sigma = sin of an angle in proportion to the noise time; continuous."""

    widest: float
    device: torch.device = CPU
    num_levels: ClassVar[None] = None
    spacing: ClassVar[None] = None

    def to(self, device):
        return replace(self, device=device)

    def level(self, t):
        if t.device.type == "cpu" and not bool(((t > 0) & (t <= 1)).all()):
            raise UserError(f"noise times {float(t.min())} to {float(t.max())}: allowed is (0, 1].")
        return self._at(t.double())

    def _at(self, t):
        angle = self.widest * t
        return Level(t, angle.cos(), angle.sin(), t, torch.ones_like(t))

    def _one(self, t):
        return self._at(torch.tensor([t], dtype=torch.float64))

    def predict(self, network, x_t, level, condition=None):
        asked = given(network, condition)
        return Prediction(x_t, level, asked(x_t, network_times(level, x_t)).to(x_t.dtype))

    def variance_loss(self, said, images):
        return None

    def grid(self, count):
        self._check(count)
        return tuple(self._one((i + 0.5) / count) for i in range(count))

    def fine_grid(self):
        return self._at(torch.arange(1001).double() / 1000)

    def level_at(self, sigma):
        return self._one(min(1.0, math.atan(sigma) / self.widest))

    def pure_noise(self, noise):
        return noise

    def jumps(self, count, spacing="ddim", rho=7.0):
        self._check(count)
        t = np.arange(count, 0, -1) / count
        ends = np.tan(self.widest * np.array([1, 1e-3]))
        if spacing == "time":
            t = np.linspace(1, 1e-3, count)
        elif spacing == "log_snr":
            t = np.arctan(np.exp(np.linspace(*np.log(ends), count))) / self.widest
        elif spacing == "rho":
            t = np.arctan(np.linspace(*ends ** (1 / rho), count) ** rho) / self.widest
        t[0] = 1
        at = [self._one(float(each)) for each in (*t, 0)]
        return tuple(map(Jump, at[:-1], at[1:], range(count, 0, -1)))

    def rates(self, level):
        slope = self.widest * math.tan(self.widest * level.time)
        return -slope, 2 * slope

    def sde_time(self, level):
        return level.time

    def chain_jumps(self):
        raise UserError("process angle has continuous levels; use another sampler.")

    @staticmethod
    def _check(count):
        if count < 1:
            raise UserError(f"{count} noise levels: give at least 1.")


EVALUATION = EvaluationConfig(
    num_generated=8, num_reference=32, feature_nets=("effnet-lite0-64",), profile_images=4,
    profile_levels=5, strip=3, metrics=("profile", "fd"),
)  # fmt: skip
CONFIGS = (
    DDPMConfig(beta1=1e-3, beta2=0.1, n_T=100),
    DDPMConfig(parameterization="preconditioned", loss_weight=P2()),
    VPSDEConfig(),
    VPSDEConfig(parameterization="preconditioned", loss_weight=EDM()),
    EDMConfig(),
    EDMConfig(P_mean=-0.4, P_std=1.0, sigma_data="auto"),
    LinearPathConfig(),
    LinearPathConfig(lowest=0.02, target="eps"),
    AngleConfig(),
)
LOWEST_SIGMA = 0.002
"""Of samplers on EDM; those of other processes end at the first level or at t = .001."""


def lowest_time(process, config):
    """Noise time of the lowest level that a sampler asks for, of any spacing but "ddim"."""
    if not isinstance(config, EDMConfig):
        return 1 / (process.num_levels or 1000)
    below = [stats.norm(config.P_mean, config.P_std).cdf(math.log(s)) for s in (LOWEST_SIGMA, 80)]
    return below[0] / below[1]


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """The program knows the process of this file."""
    monkeypatch.setitem(PROCESSES, "angle", AngleConfig)
    monkeypatch.setitem(build.PROCESSES, AngleConfig, lambda own, known: AngleProcess(own.widest))


@pytest.fixture(params=CONFIGS, ids=lambda config: f"{config.kind} {CONFIGS.index(config)}")
def config(request):
    return request.param


@pytest.fixture
def run(config, tiny_config):
    return replace(tiny_config("b"), process=config)


@pytest.fixture
def process(run):
    return build_process(run)


def most_of(process, count):
    """So many levels or steps as it has, at most ``count``."""
    return min(count, process.num_levels or count)


def drawn(count=6):
    """Images and noise, (count, 3, 8, 8) float64."""
    index, shape = torch.arange(count), (3, 8, 8)
    images, noise = (normals(1, s, index, 0, shape) for s in (Stream.FLIP, Stream.NOISE))
    return (0.5 * images).clamp(-1, 1).double(), noise.double()


def gaussian(std):
    """The exact denoiser of pixels N(0, std²)."""

    def denoise(x_t, level):
        alpha, sigma = float(level.alpha), float(level.sigma)
        return Prediction(x_t, level, sigma / (alpha**2 * std**2 + sigma**2) * x_t)

    return denoise


def test_every_process_of_configs_is_under_contract():
    assert {type(config) for config in CONFIGS} == set(PROCESSES.values())
    assert set(build.PROCESSES) == set(PROCESSES.values())
    assert all(PROCESSES[config.kind] is type(config) for config in CONFIGS)


# -- the config ---------------------------------------------------------------------------------


def test_config_is_kept_and_read_again(run):
    again = from_kept(to_kept(run), "kept")
    assert again == run and config_hash(again) == config_hash(run)


def test_ddpm_is_what_a_config_without_a_kind_means(tiny_config):
    usual = tiny_config("b")
    assert usual.process == DDPMConfig() and "kind" not in to_dict(usual)["process"]
    assert tiny_config("b", "process.kind=ddpm") == usual
    named = tiny_config("b", "process.kind=angle", "process.widest=1.5")
    assert named.process == AngleConfig(widest=1.5)
    assert to_dict(named)["process"] == {"kind": "angle", "widest": 1.5}
    assert config_hash(named) != config_hash(usual)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("process.kind=angel",), "is 'angel'; allowed are ddpm, vpsde, edm, linear_path, angle."),
        (("process.widest=1.0",), "unknown key 'process.widest' of ddpm; it is a key of angle."),
        (("process={kind: angle, n_T: 9}",), "unknown key 'process.n_T' of angle; it is a key of "),
        (("process={kind: angle, widest: 2}",), "key 'process.widest' is 2"),
    ],
)  # fmt: skip
def test_mistake_in_a_process_is_one_line(words, message, tiny_config):
    with pytest.raises(UserError) as error:
        tiny_config("b", *words)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_config_and_process_have_the_same_levels(config, process):
    assert process.num_levels == config.num_levels
    levels = config.num_levels or 1000
    t = np.arange(1, levels + 1) / levels
    level = process.level(torch.from_numpy(t))
    found = config.log_sigma(t)
    assert np.isfinite(found).all() and (np.diff(found) > 0).all()
    np.testing.assert_allclose(found, (level.sigma / level.alpha).log(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_suits_the_levels_or_is_refused(name, config, run):
    kind = SAMPLERS[name]
    one = replace(run, sampler=SamplerConfig(name=name, steps=7))
    if kind.is_whole_chain and config.num_levels is None:
        with pytest.raises(UserError, match=f"sampler.name is {name}, which goes through every"):
            check_sampler(one)
        return
    check_sampler(one)
    assert sampler_steps(one) == (config.num_levels if kind.is_whole_chain else kind.calls(7))
    # Twice as many are too many for all, also for a sampler that asks twice at a level.
    steps = min(100_000, 2 * (config.num_levels or 50_000) + 1)
    many = replace(run, sampler=SamplerConfig(name=name, steps=steps))
    if config.num_levels is None or kind.is_whole_chain:
        check_sampler(many)
    else:
        with pytest.raises(UserError, match=f"the process has {config.num_levels} noise levels"):
            check_sampler(many)


def test_only_networks_of_the_same_noise_denoise_in_turns(config, run):
    check_finisher(run, replace(run, seed=1))
    for other in CONFIGS:
        if other.noise != config.noise:
            with pytest.raises(UserError, match="need one data set and the same noise levels"):
                check_finisher(run, replace(run, process=other))
    assert str(config.noise) and hash(config.noise) == hash(replace(config).noise)


def test_speed_is_measured_of_ddpm_alone(config, run):
    if config.num_levels:
        assert ddpm_of(run) is config
        return
    with pytest.raises(UserError, match=f"has the process {config.kind}; speed is measured of"):
        ddpm_of(run)


# -- levels -------------------------------------------------------------------------------------


def test_variance_is_learned_exactly_where_the_config_has_a_chain(config, process):
    x = torch.zeros(2, 3, 4, 4)
    level = process.level(torch.tensor([0.3, 0.9]))
    loss = process.variance_loss(Prediction(x, level, x, None, x + 0.5), x)
    assert (loss is not None) == config.has_chain
    assert loss is None or (loss.shape == (2,) and bool((loss > 0).all()))
    assert process.variance_loss(Prediction(x, level, x), x) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_level_is_at_its_noise_time(process, dtype):
    t = torch.linspace(0.011, 1, 64, dtype=dtype)
    level = process.level(t)
    for each in (level.t, level.alpha, level.sigma, level.told, level.weight):
        assert each.shape == (64,) and each.dtype == torch.float64
        assert bool(each.isfinite().all()) and (each is level.told or bool((each > 0).all()))
    # Of different noise a network is told different things.
    assert len(level.told.unique()) == len(level.sigma.unique())
    step = 0.5 / process.num_levels if process.num_levels else 0.0
    assert float((level.t - t.double()).abs().max()) <= step + 1e-12
    again = process.level(level.t)
    assert torch.equal(again.t, level.t) and torch.equal(again.sigma, level.sigma)
    ratio = level.sigma / level.alpha
    assert bool(ratio.isfinite().all()) and bool((ratio.diff() >= 0).all())
    alone = process.level(t[40:41])
    assert torch.equal(alone.told, level.told[40:41]) and alone.time == float(level.t[40])


@pytest.mark.parametrize("times", [[0.0], [0.5, 1.1], [-0.2], [math.nan]])
def test_time_outside_is_refused_in_one_line(process, times):
    with pytest.raises(UserError, match="noise times") as error:
        process.level(torch.tensor(times))
    assert "\n" not in str(error.value)


def test_prediction_takes_noisy_images_apart(process):
    x, noise = drawn()
    level = process.level(torch.linspace(0.05, 1.0, len(x)))
    x_t = add_noise(x, level, noise)
    assert x_t.dtype == x.dtype
    for factor, each in ((level.alpha, x), (level.sigma, noise)):
        x_t = x_t - factor.view(-1, 1, 1, 1) * each
    assert float(x_t.abs().max()) < 1e-14 * max(1.0, float(level.sigma.max()))
    x_t = add_noise(x, level, noise)
    said = process.predict(lambda x, told, condition: torch.tanh(x) * condition, x_t, level, 2.0)
    assert said.eps.dtype == x_t.dtype and bool(said.eps.isfinite().all())
    torch.testing.assert_close(add_noise(said.x0, level, said.eps), x_t)
    # A process may read the answer as it likes, but of each image alone and in its dtype.
    one = process.level(level.t[2:3])
    alone = process.predict(lambda x, told: 2 * torch.tanh(x), x_t[2:3].float(), one)
    assert alone.eps.dtype == torch.float32
    torch.testing.assert_close(alone.eps.double(), said.eps[2:3], rtol=1e-4, atol=1e-5)
    perfect = from_x0(x_t, level, x)
    torch.testing.assert_close(perfect.eps, noise)


def test_grid_stands_at_the_middles_of_equal_shares(process):
    for count in (1, 5, 20):
        grid = process.grid(count)
        middles = (np.arange(count) + 0.5) / count
        step = 0.5 / process.num_levels if process.num_levels else 0.0
        np.testing.assert_allclose(times_of(grid), middles, rtol=0, atol=step + 1e-12)
        assert all(level.t.shape == (1,) and level.t.device.type == "cpu" for level in grid)
    for wrong in (0, -1, *([process.num_levels + 1] if process.num_levels else [])):
        with pytest.raises(UserError):
            process.grid(wrong)


def test_fine_grid_is_even_from_the_lower_end_to_pure_noise(process):
    grid = process.fine_grid()
    n = len(grid.t) - 1
    assert n == (process.num_levels or n) >= 100
    torch.testing.assert_close(grid.t, torch.arange(n + 1).double() / n)
    assert bool((grid.sigma[1:] > 0).all()) and bool((grid.alpha > 0).all())
    assert bool(((grid.sigma / grid.alpha).diff() > 0).all())


def test_jumps_go_from_pure_noise_to_the_clean_image(process):
    for count in (1, 7, most_of(process, 100)):
        jumps = process.jumps(count)
        assert len(jumps) == count == len({jump.key for jump in jumps})
        assert jumps[0].level.time == 1
        noise = torch.tensor([1.5, -1.0]).double()
        sigma = float(jumps[0].level.sigma)
        torch.testing.assert_close(process.pure_noise(noise), sigma * noise, rtol=5e-3, atol=0)
        end = jumps[-1].following
        assert (end.time, float(end.sigma), float(end.alpha)) == (0, 0, 1)
        for jump, following in itertools.pairwise(jumps):
            assert jump.following.time == following.level.time < jump.level.time
        for jump in jumps:
            assert jump.level.t.shape == (1,) and jump.level.t.device.type == "cpu"
    for wrong in (0, *([process.num_levels + 1] if process.num_levels else [])):
        with pytest.raises(UserError):
            process.jumps(wrong)


@pytest.mark.parametrize(
    ("spacing", "scale"),
    [("log_snr", np.log), ("rho", lambda sigma: sigma ** (1 / 7))],
    ids=["log_snr", "rho"],
)
@pytest.mark.parametrize("count", [1, 2, 7, 40, 100])
def test_jumps_are_as_even_as_the_levels_allow(count, spacing, scale, process, config):
    jumps = process.jumps(count, spacing)
    levels = [jump.level for jump in jumps]
    assert len(levels) == count and levels[0].time == 1
    assert jumps[-1].following.time == 0 and len({jump.key for jump in jumps}) == count
    ratios = scale(np.array([float(level.sigma / level.alpha) for level in levels]))
    assert (np.diff(ratios) < 0).all()
    if count < 2:
        return
    assert config.lowest_time == pytest.approx(lowest_time(process, config), rel=1e-9)
    assert levels[-1].time == pytest.approx(lowest_time(process, config))
    even = np.linspace(ratios[0], ratios[-1], count)
    if process.num_levels is None:
        np.testing.assert_allclose(ratios, even, rtol=0, atol=1e-9)
    elif count <= 7:
        # As near as the next levels are far.
        grid = process.fine_grid()
        step = np.diff(scale((grid.sigma / grid.alpha)[1:].numpy()))
        assert np.abs(ratios - even).max() <= step.max()


def test_rho_one_is_even_in_sigma_and_a_large_one_in_its_logarithm(process):
    def sigmas(spacing, **rho):
        levels = [jump.level for jump in process.jumps(5, spacing, **rho)]
        return np.array([float(level.sigma / level.alpha) for level in levels])

    # Counted levels are the nearest ones: at the top, where they are far apart, within .1 here.
    exact = 0.1 if process.num_levels else 1e-9
    found = sigmas("rho", rho=1.0)
    np.testing.assert_allclose(found, np.linspace(found[0], found[-1], 5), rtol=exact)
    np.testing.assert_allclose(sigmas("rho", rho=1e3), sigmas("log_snr"), rtol=max(exact, 0.02))


def test_level_of_a_sigma_is_the_nearest_there_is(process):
    grid = process.grid(7)
    for level in grid:
        sigma = float(level.sigma / level.alpha)
        for factor in (1.0, 1.0 + 1e-5):
            found = process.level_at(factor * sigma)
            assert found.t.shape == (1,) and found.t.device.type == "cpu"
            exact = 1e-3 if process.num_levels else 1e-9
            assert float(found.sigma / found.alpha) == pytest.approx(factor * sigma, rel=exact)
            again = process.level(found.t)
            torch.testing.assert_close(again.told, found.told, rtol=1e-9, atol=1e-12)
    top = process.jumps(1)[0].level
    beyond = process.level_at(1e5)
    assert beyond.time == 1 and float(beyond.sigma) >= float(top.sigma)


def test_config_and_process_say_the_same_spacing(config, process):
    assert config.spacing == process.spacing
    kinds = {spacing: SamplerConfig(spacing=spacing) for spacing in get_args(Spacing)}
    assert all(one.spacing_on(process.spacing) == spacing for spacing, one in kinds.items())
    assert SamplerConfig("heun").spacing_on(process.spacing) == (process.spacing or "log_snr")


def test_euler_takes_even_times_where_rates_allow_it(config, run):
    even = replace(run, sampler=SamplerConfig("euler", steps=7, spacing="time"))
    check_sampler(replace(run, sampler=SamplerConfig("euler", steps=7, spacing="log_snr")))
    if config.has_even_times:
        check_sampler(even)
        return
    with pytest.raises(UserError, match=r"sampler\.spacing is time, but such") as error:
        check_sampler(even)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spacing", get_args(Spacing))
def test_all_counted_levels_can_be_asked_for_in_any_spacing(spacing, process):
    n = process.num_levels
    if n is not None:
        keys = [jump.key for jump in process.jumps(n, spacing)]
        assert keys == list(range(n, 0, -1))
        for count in (n - 1, n // 2, 3):
            keys = [jump.key for jump in process.jumps(count, spacing)]
            assert keys == sorted(set(keys), reverse=True) and len(keys) == count
            assert keys[0] == n and (spacing == "ddim" or keys[-1] == 1)


@pytest.mark.parametrize("count", [1, 2, 9, 50])
def test_jumps_even_in_time_go_down_to_the_lowest_level(count, process, config):
    times = [jump.level.time for jump in process.jumps(count, "time")]
    lowest = lowest_time(process, config)
    half = 0.5 / process.num_levels if process.num_levels else 0.0
    np.testing.assert_allclose(times, np.linspace(1, lowest, count), atol=half + 1e-12)


def test_rates_are_those_of_the_levels(process):
    """f = d ln alpha/ds and g² = d sigma²/ds − 2·f·sigma², by differences."""
    is_chain = process.num_levels is not None
    n = process.num_levels or 100_000
    for k in (n // 50, n // 3, n - 2):
        # A chain's rates are those of the step to a level.
        before, after = (k - 1, k) if is_chain else (k - 5e-4, k + 5e-4)
        t = torch.tensor([before, k, after], dtype=torch.float64) / n
        low, level, high = map(process.level, t.split(1))
        span = process.sde_time(high) - process.sde_time(low)
        assert span > 0
        drift = float((high.alpha / low.alpha).log()) / span
        growth = float(high.sigma**2 - low.sigma**2) / span
        expected = drift, growth - 2 * drift * float(level.sigma) ** 2
        # Over one step, a share of at most .1 in these chains, neither changes much.
        assert process.rates(level) == pytest.approx(expected, rel=0.1 if is_chain else 1e-6)


def test_chain_jumps_go_through_every_counted_level(process):
    if process.num_levels is None:
        with pytest.raises(UserError, match="continuous levels") as error:
            process.chain_jumps()
        assert "\n" not in str(error.value)
        return
    n = process.num_levels
    jumps = process.chain_jumps()
    np.testing.assert_allclose([jump.level.time for jump in jumps], np.arange(n, 0, -1) / n)


def test_process_is_moved_to_a_device(process):
    moved = process.to(CPU)
    assert moved.device == CPU and moved.num_levels == process.num_levels
    t = torch.tensor([0.3, 0.9])
    assert torch.equal(moved.level(t).sigma, process.level(t).sigma)


# -- sampling and scoring -----------------------------------------------------------------------


def test_ddim_draws_what_an_exact_denoiser_knows(process):
    std, index = 0.5, torch.arange(64)
    start, noise = sample_noise(0, index, (3, 8, 8))
    jumps = process.jumps(most_of(process, 200))
    start = process.pure_noise(start.double())
    found = ddim_sample(gaussian(std), jumps, start, noise, eta=0.0)
    # The spread of 12,288 pixels has a standard error of .6 %; the rest is that of the steps.
    assert float(found.std()) == pytest.approx(std, rel=0.08)
    images = ddim_sample(clipped(gaussian(std)), jumps, start, noise, eta=1.0)
    assert float(images.abs().max()) <= 1 and float(images.std()) == pytest.approx(std, rel=0.2)


def test_stitched_denoisers_take_turns_at_tau(process):
    def constant(value):
        return lambda x_t, level: Prediction(x_t, level, torch.full_like(x_t, value))

    both = stitched(constant(2.0), constant(-1.0), 0.5)
    x = torch.zeros(1, 3, 4, 4)
    for t, value in ((0.25, -1.0), (0.5, -1.0), (0.51, 2.0), (1.0, 2.0)):
        assert float(both(x, process.level(torch.tensor([t]))).eps.mean()) == value
    start, noise = sample_noise(0, torch.arange(2), (3, 8, 8))
    jumps, own = process.jumps(7), gaussian(0.5)
    twice = ddim_sample(stitched(own, own, 0.5), jumps, start, noise)
    assert torch.equal(twice, ddim_sample(own, jumps, start, noise))


def test_profile_of_the_exact_denoiser_is_the_closed_form(process):
    std, levels = 0.5, process.grid(5)
    index, shape = torch.arange(128), (3, 8, 8)
    images = std * normals(0, Stream.NOISE, index, 0, shape)
    keyed = [normals(0, Stream.EVALUATION_NOISE, index, k, shape) for k in range(5)]
    found = denoising_profiles({"": gaussian(std)}, images, levels, 64, lambda k, i: keyed[k][i])
    signal = np.array([float(level.alpha) ** 2 * std**2 for level in levels])
    noise = np.array([float(level.sigma) ** 2 for level in levels])
    # The mean of 24,576 squares has a standard error of .9 %.
    np.testing.assert_allclose(found[""].mse, signal / (signal + noise), rtol=0.04)


def test_summaries_of_a_profile_are_weighted_means(process):
    grid = process.fine_grid()
    tables = [each.numpy() for each in (grid.t, grid.alpha, grid.sigma)]
    times = times_of(process.grid(20))
    flat = summaries(ProfileResult(times, np.full((20, 3), 0.37)), *tables)
    assert all(each.value == pytest.approx(0.37, rel=1e-9) for each in flat.values())
    falling = ProfileResult(times, np.exp(-3 * np.array(times))[:, None].repeat(3, 1))
    found = {name: each.value for name, each in summaries(falling, *tables).items()}
    assert found["L_simple"] == pytest.approx(falling.mse.mean(), rel=1e-3)
    # Its weight is at low noise, or at both ends.
    assert found["ELBO"] > found["L_simple"]


# -- training -----------------------------------------------------------------------------------

CURRICULA = {
    "plain": (Window(),),
    "windows": (Window(0.8), Window(0.3, 0.9), Window()),
    "average": (Average((Share(2.0, Window(0.5)), Share(1.0, LogSigmaNormal(-1.2, 1.2)))),),
    "log-normal": (Window(0.5), LogSigmaNormal(-1.2, 1.2)),
    "rivals": (LogSigmaLaplace(0.0, 0.25), SoftTruncation()),
}


@pytest.fixture
def make_run(run):
    """A function: name of a curriculum, output folder → a run of six steps with the process."""

    def make(name, output="run"):
        stages = tuple(StageConfig(f"s{k}", 1.0, one) for k, one in enumerate(CURRICULA[name]))
        training = replace(
            run.training, steps=6, global_batch=4, milestones=(3, 6), checkpoint_every=100
        )
        sampler = SamplerConfig(steps=2, grid=2, chunk=4)
        return replace(run, curriculum=stages, training=training, sampler=sampler, output=output)

    return make


@pytest.mark.parametrize("name", CURRICULA)
def test_process_is_trained_sampled_and_its_exposure_told(
    name, make_run, train_run, avatars, workdir
):
    config = make_run(name, str(workdir / "results" / "run"))
    trainer = train_run(config)
    assert trainer.step == 6 and trainer.is_finite()
    for stage in trainer.pacer.stages:
        batch = trainer.source.batch(stage.start, 0, 4)
        _, level = trainer.noisy(batch, stage.density)
        low, high = stage.density.ends(trainer.process.num_levels)
        half = 0.5 / (trainer.process.num_levels or math.inf)
        assert low - half <= float(level.t.min()) and float(level.t.max()) <= high + half
        expected = stage.density.quantile(batch.u, trainer.process.num_levels)
        torch.testing.assert_close(level.t, expected)

    content = checkpoint.load(checkpoint.weights_path(config.run_dir, 6))
    model = model_of(content, "raw", CPU)
    assert sample_images(
        model, model.process, build_codec(config), config.sampler, 3, 32
    ).shape == (3, 32, 32, 3)
    study = Study("s", workdir / "results", (config,), EVALUATION)
    plan = resolve_plan(config, len(avatars.train))
    milestone = Milestone(study, config, plan, avatars.manifest_id, content, config.run_dir)
    rows = list(milestone.stage_rows())
    for stage in milestone.stages:
        exposure = [r.value for r in rows if r.metric == EXPOSURE and r.stage == stage.config.name]
        # A milestone tells of the stages that began since the one before.
        assert len(exposure) == (20 if stage.start >= 3 else 0)
        assert not exposure or sum(exposure) == pytest.approx(20, abs=1e-6)
        if stage.config.density == Window():
            assert exposure in ([], [1.0] * 20)
    assert trained_on_all_levels(milestone.stages, 6)


def test_process_is_scored(make_run, train_run, avatars, workdir):
    config = make_run("log-normal", str(workdir / "results" / "run"))
    process = train_run(config).process
    content = checkpoint.load(checkpoint.weights_path(config.run_dir, 6))
    study = Study("s", workdir / "results", (config,), EVALUATION)
    plan = resolve_plan(config, len(avatars.train))
    milestone = Milestone(study, config, plan, avatars.manifest_id, content, config.run_dir)
    rows = list(score_milestone(milestone, make_yardstick(EVALUATION, avatars, "cpu")))
    assert all(math.isfinite(row.value) for row in rows)
    levels = [row.level for row in rows if (row.metric, row.weights) == (EPS_MSE, "raw")]
    np.testing.assert_allclose(levels, times_of(process.grid(5)))
    assert {row.sampler_steps for row in rows if row.sampler} == {2}
    assert {f"{EPS_MSE}/{name}" for name in SUMMARIES} <= {row.metric for row in rows}
    strips = [row for row in rows if row.metric == STAGE_MEDIAN]
    assert len({row.step for row in strips}) == len(strips) > 0
    for row in strips:
        (stage,) = (one for one in milestone.stages if one.start == row.step)
        low, high = stage.density.ends(process.num_levels)
        assert low <= row.value <= high
        with Image.open(study.folder / row.samples) as picture:
            assert picture.size == (NUM_SHOWN * 32, 32)


def test_sampler_meets_untrained_levels_until_the_stages_cover_all(make_run):
    stages = resolve_plan(make_run("windows"), 256).pacer().stages
    assert [trained_on_all_levels(stages, step) for step in (1, 3, 6)] == [False, False, True]
    assert trained_on_all_levels(stages, 1, 0.8, 1.0)
    normal = resolve_plan(make_run("log-normal"), 256).pacer().stages
    assert [trained_on_all_levels(normal, step) for step in (1, 6)] == [False, True]


def test_words_call_a_loss_plain_if_no_level_is_weighted(config, process):
    weights = process.level(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)).weight
    assert (config.loss_words == PLAIN_LOSS) == bool((weights == 1).all())


@pytest.mark.parametrize("by", [by for by, way in CLUSTERINGS.items() if way != MeasuredClusters])
def test_levels_of_every_process_can_be_cut_into_clusters(by, config):
    clusters = CLUSTERINGS[by](by=by, count=5)
    edges = clusters.edges(config)
    assert (edges[0], edges[-1]) == (0, 1) and sorted(set(edges)) == list(edges)
    stages = clusters.stages(config)
    lows = [on_noise_time(stage.density).ends(config.num_levels)[0] for stage in stages]
    step = 0 if config.num_levels is None else 1 / config.num_levels
    assert lows == pytest.approx([*(edge + step for edge in edges[4:0:-1]), step], abs=1e-9)
    if by == "log_snr":
        # The outermost clusters reach as far as a process's rarest levels.
        inner = np.array(edges[1:-1])
        widths = np.diff(config.log_sigma(inner))
        assert widths.max() < 3 * widths.min()


def test_interrupted_run_goes_on_to_the_same_bits(make_run, train_run, workdir):
    whole = train_run(make_run("log-normal", "whole"))
    parts = make_run("log-normal", "parts")
    assert train_run(parts, stop_after=4).step == 4
    again = train_run(parts).network.state_dict()
    assert all(torch.equal(again[key], value) for key, value in whole.network.state_dict().items())
