import numpy as np
import pytest
import torch

from mindiffusion.build import build_process
from mindiffusion.chain import LinearPath
from mindiffusion.config.process import LinearPathConfig


def test_levels_are_those_of_the_toy():
    """The toy's s from .3 to 1 in 50 steps, σ = (1 − s)/s; here noise time 1 is s = .3."""
    s = np.linspace(0.3, 1.0, 50)
    t = (1 - s) / 0.7
    np.testing.assert_allclose(LinearPath(0.3).sigma(t), (1 - s) / s, atol=1e-15)
    assert LinearPath(0.3).sigma(1.0) == pytest.approx(7 / 3) and LinearPath(0.3).sigma(0.0) == 0
    np.testing.assert_allclose(LinearPath(0.3).time((1 - s) / s), t, atol=1e-15)


@pytest.mark.parametrize("target", ["x0", "eps"])
def test_loss_is_the_squared_error_of_what_the_network_answers(target, tiny_config):
    from dataclasses import replace

    config = replace(tiny_config("b"), process=LinearPathConfig(target=target))
    process = build_process(config)
    level = process.level(torch.tensor([0.2, 1.0]))
    x, noise = torch.full((2, 3, 2, 2), 0.5).double(), torch.full((2, 3, 2, 2), -1.0).double()
    x_t = x + level.sigma.view(-1, 1, 1, 1) * noise
    said = process.predict(lambda x, told: torch.zeros_like(x), x_t, level)
    losses = level.weight * (said.eps - noise).square().mean((1, 2, 3))
    truth = {"x0": 0.25, "eps": 1.0}[target]
    torch.testing.assert_close(losses, torch.full((2,), truth).double())
