import pytest
import torch

from mindiffusion.chain import Chain
from mindiffusion.ddpm import DDPMProcess
from mindiffusion.errors import UserError
from mindiffusion.noise import sample_noise
from mindiffusion.process import Prediction, clipped, stitched
from mindiffusion.samplers.ancestral import ancestral_sample
from mindiffusion.samplers.ddim import ddim_sample

N_T = 20
PROCESS = DDPMProcess(Chain((1e-3, 0.1), N_T))
SIZE = (3, 4, 4)


class Scale:
    """A denoiser that says ε̂ = factor·x and remembers the levels it was called at."""

    def __init__(self, factor):
        self.factor = factor
        self.levels = []

    def __call__(self, x, level):
        self.levels.append(round(level.time * N_T))
        return Prediction(x, level, self.factor * x)


def draw(denoise, sampler):
    start, noise = sample_noise(3, torch.arange(5), SIZE)
    if sampler == "ddpm":
        return ancestral_sample(denoise, PROCESS.chain_jumps(), start, noise)
    return ddim_sample(clipped(denoise), PROCESS.jumps(7), start, noise)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("tau", [0.0, 0.3, 0.55, 1.0])
def test_a_denoiser_stitched_to_itself_is_itself_to_the_bit(sampler, tau):
    denoise = Scale(0.7)
    assert torch.equal(draw(stitched(denoise, denoise, tau), sampler), draw(denoise, sampler))


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize(
    ("tau", "last_below"), [(0.0, 0), (0.3, 6), (0.34, 6), (0.999, 19), (1, 20)]
)
def test_each_level_is_one_call_of_the_denoiser_on_its_side(sampler, tau, last_below):
    above, below = Scale(0.9), Scale(0.2)
    draw(stitched(above, below, tau), sampler)
    jumps = PROCESS.jumps(7) if sampler == "ddim" else PROCESS.chain_jumps()
    keys = [jump.key for jump in jumps]
    assert above.levels == [key for key in keys if key > last_below]
    assert below.levels == [key for key in keys if key <= last_below]


@pytest.mark.parametrize(("tau", "n_T", "level"), [(0.29, 100, 29), (0.3, 1000, 300), (0.7, 10, 7)])
def test_tau_itself_belongs_below_whatever_its_rounding(tau, n_T, level):
    process = DDPMProcess(Chain((1e-4, 0.02), n_T))
    both = stitched(Scale(1.0), Scale(0.0), tau)
    x = torch.ones(1, *SIZE)
    for k, factor in ((level, 0.0), (level + 1, 1.0)):
        assert float(both(x, process.level(torch.tensor([k / n_T]))).eps.max()) == factor


def test_a_batch_of_several_levels_takes_each_image_to_its_side():
    def constant(value):
        return lambda x, level: Prediction(x, level, torch.full_like(x, value))

    level = PROCESS.level(torch.tensor([0.05, 0.5, 0.55, 1.0]))
    said = stitched(constant(2.0), constant(-1.0), 0.5)(torch.ones(4, *SIZE), level)
    assert said.eps[:, 0, 0, 0].tolist() == [-1.0, -1.0, 2.0, 2.0]
    x_t = (level.alpha * said.x0[:, 0, 0, 0] + level.sigma * said.eps[:, 0, 0, 0]).float()
    torch.testing.assert_close(x_t, torch.ones(4))


@pytest.mark.parametrize("tau", [-0.1, 1.01, float("nan")])
def test_tau_outside_the_levels_is_an_error(tau):
    with pytest.raises(UserError, match="give a noise time from 0 to 1"):
        stitched(Scale(1.0), Scale(1.0), tau)
