"""Loss weights against their formulas, and where they act."""

import numpy as np
import pytest
import torch

from mindiffusion.chain import Chain
from mindiffusion.curriculum.loss_weight import EDM, P2, WEIGHT_KINDS, Balanced, ChangeAware, MinSNR
from mindiffusion.data.mean_and_spread import ImageStatistics
from mindiffusion.ddpm import DDPM, DDPMProcess
from mindiffusion.errors import UserError
from mindiffusion.parameterization import Preconditioned

BETAS, N_T = (1e-4, 0.02), 1000
CHAIN = Chain(BETAS, N_T)


ALPHA_BAR = np.cumprod(1 - np.linspace(*BETAS, N_T + 1))
CHANGE = np.diff(1 - ALPHA_BAR, prepend=0.0)
CHANGE /= CHANGE[1:].max()


@pytest.fixture
def alpha_bar():
    return ALPHA_BAR


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_p2_is_the_formula_of_its_paper(gamma, alpha_bar):
    snr = alpha_bar / (1 - alpha_bar)
    np.testing.assert_allclose(P2(gamma).at(alpha_bar, CHANGE, 0.5), 1 / (1 + snr) ** gamma)
    # With γ = 1 that is the noise variance.
    np.testing.assert_allclose(P2(1.0).at(alpha_bar, CHANGE, 0.5), 1 - alpha_bar)


def test_min_snr_is_the_formula_of_its_paper(alpha_bar):
    snr = alpha_bar / (1 - alpha_bar)
    found = MinSNR(5.0).at(alpha_bar, CHANGE, 0.5)
    np.testing.assert_allclose(found, np.minimum(snr, 5) / snr)
    assert found[-1] == 1 and found[1] == pytest.approx(5 / snr[1])


@pytest.mark.parametrize("ceiling", [0.6, 1.0])
def test_change_aware_follows_the_change_of_the_noise_variance(ceiling, alpha_bar):
    found = ChangeAware(ceiling).at(alpha_bar, CHANGE, 0.5)[1:]
    change = (1 - alpha_bar[1:]) - (1 - alpha_bar[:-1])
    assert found.max() == pytest.approx(ceiling) and found.argmax() == change.argmax()
    assert (found >= 1 - ceiling).all()
    np.testing.assert_allclose(np.corrcoef(found, change)[0, 1], 1)
    if ceiling == 1.0:
        np.testing.assert_allclose(found, change / change.max())


@pytest.mark.parametrize("std", [0.2, 0.5, 1.0])
def test_edm_and_balanced_are_their_weights_of_the_x0_error(std, alpha_bar):
    sigma = np.sqrt(1 - alpha_bar) / np.sqrt(alpha_bar)
    c_out = sigma * std / np.sqrt(sigma**2 + std**2)
    # The x₀-error is σ² times the ε-error.
    np.testing.assert_allclose(EDM().at(alpha_bar, CHANGE, std), sigma**2 / c_out**2)
    np.testing.assert_allclose(Balanced().at(alpha_bar, CHANGE, std), sigma**2 / (sigma * c_out))
    np.testing.assert_allclose(EDM().at(alpha_bar, CHANGE, std), (sigma**2 + std**2) / std**2)
    np.testing.assert_allclose(
        Balanced().at(alpha_bar, CHANGE, std), np.sqrt(sigma**2 + std**2) / std
    )


def test_edm_gives_a_preconditioned_networks_answer_one_weight(alpha_bar):
    """ε̂ − ε = −(σ_d/r)·(F − F*), so that EDM's weight is the inverse of that factor squared."""
    statistics = ImageStatistics(np.zeros((4, 4, 3)), 0.4)
    process = DDPMProcess(CHAIN, Preconditioned(statistics), EDM(), 0.4)
    level = process.level(torch.arange(1, N_T + 1) / N_T)
    x_t = torch.zeros(N_T, 3, 4, 4, dtype=torch.float64)
    factor = process.predict(lambda x, t: torch.ones_like(x), x_t, level).eps[:, 0, 0, 0]
    np.testing.assert_allclose(level.weight * factor**2, 1)


@pytest.mark.parametrize("kind", WEIGHT_KINDS)
def test_weights_of_tensors_are_those_of_arrays(kind):
    weight = WEIGHT_KINDS[kind]()
    found = weight.at(torch.from_numpy(ALPHA_BAR), torch.from_numpy(CHANGE), 0.5)
    np.testing.assert_allclose(found.numpy(), weight.at(ALPHA_BAR, CHANGE, 0.5), rtol=1e-12)


def test_weights_say_whether_they_need_the_spread(alpha_bar):
    for kind, weight in WEIGHT_KINDS.items():
        tables = [weight().at(alpha_bar, CHANGE, std) for std in (0.3, 0.6)]
        assert np.array_equal(*tables) != weight.needs_std, kind
        assert tables[0].shape == alpha_bar.shape and (tables[0] > 0).all()


class Zero(torch.nn.Module):
    def forward(self, x, t):
        return torch.zeros_like(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weighted_loss_is_the_plain_one_times_its_levels_weight(dtype, alpha_bar):
    x = torch.zeros(6, 3, 4, 4, dtype=dtype)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    u = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.9, 0.9999])
    plain = DDPM(Zero(), BETAS, N_T)
    made = DDPM(Zero(), BETAS, N_T, DDPMProcess(CHAIN, loss_weight=P2()))
    levels = (1 + torch.floor(u.double() * N_T)).long()
    expected = plain.per_sample_loss(x, u, noise) * torch.from_numpy(1 - alpha_bar)[levels]
    losses = made.per_sample_loss(x, u, noise)
    assert losses.dtype == dtype
    torch.testing.assert_close(losses, expected.to(dtype))
    torch.testing.assert_close(made(x, u, noise), losses.mean())
    assert plain.process.level(plain.noise_times(u)).weight.tolist() == [1.0] * 6


def test_weights_move_with_the_process_and_are_not_saved():
    made = DDPMProcess(CHAIN, loss_weight=MinSNR())
    assert not made.state_dict()
    assert made.to("meta").table.device.type == "meta"


def test_a_weight_by_the_spread_needs_it():
    with pytest.raises(UserError, match="'edm' needs the standard deviation"):
        DDPMProcess(CHAIN, loss_weight=EDM())
