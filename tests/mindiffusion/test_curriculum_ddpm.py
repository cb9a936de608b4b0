import pytest
import torch
from torch import nn

from mindiffusion.curriculum.density import Window
from mindiffusion.curriculum_ddpm import CurriculumDDPM
from mindiffusion.ddpm import DDPM
from mindiffusion.errors import UserError

BETAS = (1e-4, 0.02)


class TimesSeen(nn.Module):
    """Predicts zero noise and remembers the levels it was asked for."""

    def __init__(self, n_T):
        super().__init__()
        self.n_T, self.levels = n_T, []

    def forward(self, x, t):
        self.levels += (t.double() * self.n_T).round().long().tolist()
        return torch.zeros_like(x)


def process(n_T=100):
    return CurriculumDDPM(TimesSeen(n_T), BETAS, n_T)


def train(curriculum, u):
    x = torch.zeros(len(u), 1, 2, 2)
    return curriculum(x, u, torch.randn_like(x))


@pytest.mark.parametrize("n_T", [2, 100, 1000])
def test_curriculum_ddpm_without_a_range_trains_as_ddpm(n_T):
    u = torch.cat([torch.rand(5000), torch.tensor([0.0, 1 - 2**-24])])
    plain = DDPM(nn.Identity(), BETAS, n_T)
    assert torch.equal(process(n_T).noise_times(u), plain.noise_times(u))


@pytest.mark.parametrize(
    ("ends", "low", "high"),
    [((0.8, 1.0), 80, 100), ((0.29, 0.57), 29, 57), ((0.0, 0.2), 1, 20), ((0.0, 1.0), 1, 100)],
)
def test_set_time_range_trains_on_every_level_of_the_range_and_no_other(ends, low, high):
    curriculum = process()
    curriculum.set_time_range(*ends)
    u = torch.linspace(0, 1 - 2**-24, 2000)
    train(curriculum, u)
    assert set(curriculum.eps_model.levels) == set(range(low, high + 1))


def test_set_time_range_takes_the_place_of_the_last_one():
    curriculum = process()
    curriculum.set_time_range(0.8, 1.0)
    curriculum.set_time_range(0.2, 0.4)
    train(curriculum, torch.linspace(0, 1 - 2**-24, 100))
    assert {min(curriculum.eps_model.levels), max(curriculum.eps_model.levels)} == {20, 40}
    assert curriculum.density == Window(0.2, 0.4)


@pytest.mark.parametrize("ends", [(0.8, 0.2), (0.5, 0.5), (-0.1, 1.0), (0.0, 1.5)], ids=str)
def test_set_time_range_refuses_bad_ends_in_one_line_and_keeps_the_range(ends):
    curriculum = process()
    curriculum.set_time_range(0.4, 1.0)
    with pytest.raises(UserError, match="need 0 <= t_min < t_max <= 1") as error:
        curriculum.set_time_range(*ends)
    assert "\n" not in str(error.value) and str(ends[0]) in str(error.value)
    assert curriculum.density == Window(0.4, 1.0)


def test_set_time_range_refuses_what_is_no_number_in_one_line():
    with pytest.raises(UserError, match="'low'") as error:
        process().set_time_range("low", 1.0)
    assert "\n" not in str(error.value)


def test_sampling_runs_the_full_chain_whatever_the_range():
    samples = []
    for ends in ((0.0, 1.0), (0.8, 1.0), (0.1, 0.2)):
        curriculum = process(25)
        curriculum.set_time_range(*ends)
        samples.append(curriculum.sample(1, (1, 2, 2), "cpu"))
        assert curriculum.eps_model.levels == list(range(25, 0, -1))
    assert torch.equal(samples[0], samples[1]) and torch.equal(samples[0], samples[2])
