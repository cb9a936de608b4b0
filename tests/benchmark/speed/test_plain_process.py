"""The plain programs train and draw what ours do: on data of which the best answer is known."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmark.speed.networks import NETWORK_PARTS
from benchmark.speed.rivals import plain_process as plain_module
from benchmark.speed.rivals.plain_network import PlainTraining, with_plain_layers
from benchmark.speed.rivals.plain_process import PLAIN_PROCESSES, plain_process
from benchmark.speed.setting import speed_config
from mindiffusion.build import build_network, build_process
from mindiffusion.config.presets import load_preset
from mindiffusion.config.process import (
    PROCESSES,
    DDPMConfig,
    EDMConfig,
    LinearPathConfig,
    VPSDEConfig,
)
from mindiffusion.errors import UserError

CPU = torch.device("cpu")
PIXEL = 0.25
DDPM = plain_process(DDPMConfig())
CONFIGS = {"ddpm": DDPMConfig(), "vpsde": VPSDEConfig(), "edm": EDMConfig()}


def test_every_process_of_images_has_a_plain_program():
    """That of the two-feature toy trains no images whose speed anybody asks for."""
    assert set(PLAIN_PROCESSES) == set(PROCESSES.values()) - {LinearPathConfig}
    assert {type(config) for config in CONFIGS.values()} == set(PLAIN_PROCESSES)


def test_process_without_one_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(plain_module, "PLAIN_PROCESSES", {})
    with pytest.raises(UserError, match="no plain program for the process edm; leave") as error:
        plain_process(EDMConfig())
    assert "\n" not in str(error.value)


class Oracle(nn.Module):
    """The best network for data that are one grey image, by our process's levels.

    It finds the level by what it is told, so a plain program that tells another thing is found out.
    """

    def __init__(self, kind, tiny_config):
        super().__init__()
        self.kind = kind
        self.process = build_process(replace(tiny_config("c"), process=CONFIGS[kind]))

    def forward(self, x, told):
        if self.kind == "edm":
            sigma = (4 * told.double()).exp().float().view(-1, 1, 1, 1)
            root = (sigma**2 + 0.25).sqrt()
            noisy = x * root  # EDM's network is given y/root
            # x̂₀ = .25/root² y + .5 σ/root F
            return (PIXEL - 0.25 / root**2 * noisy) * root / (0.5 * sigma)
        level = self.process.level(told)
        alpha, sigma = (each.float().view(-1, 1, 1, 1) for each in (level.alpha, level.sigma))
        return (x - alpha * PIXEL) / sigma


@pytest.mark.parametrize("kind", CONFIGS)
def test_best_network_has_no_loss_and_draws_the_only_image(kind, tiny_config):
    torch.manual_seed(0)
    oracle, plain = Oracle(kind, tiny_config), plain_process(CONFIGS[kind])
    images = torch.full((64, 3, 4, 4), PIXEL)
    assert float(plain.loss(oracle, images)) < 1e-6
    calls = []
    asked = lambda x, told: calls.append(len(x)) or oracle(x, told)  # noqa: E731
    found = plain.sample(asked, (2, 3, 4, 4), 40, CPU)
    assert calls == [2] * 40
    torch.testing.assert_close(found, torch.full((2, 3, 4, 4), PIXEL), rtol=0, atol=0.1)


@pytest.mark.parametrize("kind", CONFIGS)
def test_loss_of_a_network_that_says_nothing_is_the_known_one(kind):
    """By its mean over many draws, for images of a spread of their own."""
    torch.manual_seed(0)
    images = 0.6 * torch.randn(20_000, 3, 2, 2)
    found = float(plain_process(CONFIGS[kind]).loss(lambda x, told: torch.zeros_like(x), images))
    expected = _silent_loss_of_edm(0.6) if kind == "edm" else 1.0
    assert found == pytest.approx(expected, rel=0.05)


def _silent_loss_of_edm(spread):
    """E[(c_skip (x + n) − x)² weight]: of σ the mean over its normal, by quadrature."""
    z = torch.linspace(-6, 6, 4001).double()
    sigma = (-1.2 + 1.2 * z).exp()
    density = (-(z**2) / 2).exp() / (-(z**2) / 2).exp().sum()
    total = sigma**2 + 0.25
    skip = 0.25 / total
    error = (skip - 1) ** 2 * spread**2 + skip**2 * sigma**2
    return float((density * error * total / (0.5 * sigma) ** 2).sum())


class OneLayer(nn.Conv2d):
    def forward(self, x, told):
        return super().forward(x)


def test_plain_training_learns_and_averages():
    torch.manual_seed(0)
    network, images, plain = OneLayer(3, 3, 1), torch.full((8, 3, 8, 8), PIXEL), DDPM
    loop = PlainTraining("plain", network, images, 8, 1, plain)
    first = [weight.detach().clone() for weight in network.parameters()]
    before = sum(float(plain.loss(network, images).detach()) for _ in range(20))
    loop.run(300)
    assert sum(float(plain.loss(network, images).detach()) for _ in range(20)) < 0.9 * before
    for start, average, now in zip(first, loop._average, network.parameters(), strict=True):
        moved, all_the_way = (average - start).norm(), (now.detach() - start).norm()
        assert 0 < float(moved) < 0.05 * float(all_the_way)


def test_plain_network_has_pytorchs_layers_and_our_weights():
    """Each network keeps its names and its order, and the layers of others are left alone."""
    for part in NETWORK_PARTS.values():
        config = speed_config(part.preset, part.words(32, is_on_gpu=False))
        ours, plain = build_network(config), with_plain_layers(build_network(config))
        kinds = {type(layer) for layer in plain.modules() if isinstance(layer, nn.Linear)}
        assert kinds == {nn.Linear}
        found, expected = plain.state_dict(), ours.state_dict()
        assert list(found) == list(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        x, told = torch.randn(2, 3, 32, 32), torch.rand(2)
        torch.testing.assert_close(plain(x, told), ours(x, told), rtol=1e-4, atol=1e-5)


def test_presets_of_networks_are_of_their_processes():
    """So that a table's title says what was measured."""
    presets = {name: load_preset(part.preset) for name, part in NETWORK_PARTS.items()}
    kinds = {name: preset["process"]["kind"] for name, preset in presets.items()}
    assert kinds == {"uvit": "vpsde", "dit": "ddpm", "song_unet": "edm"}
