import pytest
import torch
from torch import nn

from mindiffusion.ddim import ddim_levels, ddim_sample
from mindiffusion.ddpm import DDPM
from mindiffusion.errors import UserError
from mindiffusion.stitching import Stitched, network_at

N_T = 20
BETAS = (1e-3, 0.1)
SIZE = (3, 4, 4)


class Scale(nn.Module):
    """An ε-network that remembers the levels it was called at."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.levels = []

    def forward(self, x, t):
        self.levels.append(round(float(t[0]) * N_T))
        return self.factor * x


def draw(network, sampler):
    process = DDPM(network, BETAS, N_T)
    if sampler == "ddpm":
        return process.sample(5, SIZE, "cpu", seed=3)
    index = torch.arange(5)
    return ddim_sample(network, process.alpha_bar, index, SIZE, num_steps=7, seed=3)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("tau", [0.0, 0.3, 0.55, 1.0])
def test_a_network_stitched_to_itself_is_itself_to_the_bit(sampler, tau):
    network = Scale(0.7)
    assert torch.equal(draw(Stitched(network, network, tau, N_T), sampler), draw(network, sampler))


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize(
    ("tau", "last_below"), [(0.0, 0), (0.3, 6), (0.34, 6), (0.999, 19), (1, 20)]
)
def test_each_level_is_one_call_of_the_network_on_its_side(sampler, tau, last_below):
    above, below = Scale(0.9), Scale(0.2)
    draw(Stitched(above, below, tau, N_T), sampler)
    levels = ddim_levels(N_T, 7) if sampler == "ddim" else list(range(N_T, 0, -1))
    assert above.levels == [level for level in levels if level > last_below]
    assert below.levels == [level for level in levels if level <= last_below]


@pytest.mark.parametrize(("tau", "n_T", "level"), [(0.29, 100, 29), (0.3, 1000, 300), (0.7, 10, 7)])
def test_tau_itself_belongs_below_whatever_its_rounding(tau, n_T, level):
    above, below = Scale(1.0), Scale(0.0)
    stitched = Stitched(above, below, tau, n_T)
    assert stitched.at(level) is below and stitched.at(level + 1) is above


def test_a_batch_of_several_levels_takes_each_image_to_its_side():
    stitched = Stitched(Scale(2.0), Scale(-1.0), 0.5, N_T)
    x = torch.ones(4, *SIZE)
    result = stitched(x, torch.tensor([0.05, 0.5, 0.55, 1.0]))
    assert result[:, 0, 0, 0].tolist() == [-1.0, -1.0, 2.0, 2.0]


def test_a_plain_network_is_the_same_at_every_level():
    network = Scale(1.0)
    assert network_at(network, 1) is network_at(network, N_T) is network


@pytest.mark.parametrize("tau", [-0.1, 1.01, float("nan")])
def test_tau_outside_the_chain_is_an_error(tau):
    with pytest.raises(UserError, match="give a noise time from 0 to 1"):
        Stitched(Scale(1.0), Scale(1.0), tau, N_T)
