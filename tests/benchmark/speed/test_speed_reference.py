import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmark.speed.rivals.peer import PeerNetwork, why_not
from benchmark.speed.rivals.reference_loop import ReferenceLoop, plain_ancestral, plain_ddim
from benchmark.speed.setting import n_feat_of, speed_config
from mindiffusion.config.model import MODELS, ModelConfig
from mindiffusion.errors import UserError
from mindiffusion.schedules import linear_tables

TINY = ["model.n_feat=8", "training.global_batch=4", "training.device=cpu", "training.lr=1e-3"]


def test_reference_loop_learns_and_looks_at_its_loss():
    torch.manual_seed(0)
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    loop = ReferenceLoop(
        "reference", itertools.repeat(images), speed_config("celeba_b_32", TINY), 1, 1
    )
    loop.run(1)
    first = loop.running_loss
    assert loop.description == f"loss {first:.4f}, running {first:.4f}"
    loop.run(30)
    assert loop.running_loss < first


class Oracle(nn.Module):
    """The noise predictor of data that are all one image."""

    def __init__(self, image, alpha_bar):
        super().__init__()
        self.image, self.alpha_bar, self.n_T = image, alpha_bar, len(alpha_bar) - 1

    def forward(self, x, t):
        a = self.alpha_bar[(t * self.n_T).round().long()].view(-1, 1, 1, 1).float()
        return (x - a.sqrt() * self.image) / (1 - a).sqrt()


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_plain_samplers_end_at_the_only_image_there_is(sampler):
    image = torch.full((3, 4, 4), 0.25)
    alpha_bar = linear_tables(1e-4, 0.02, 200).alpha_bar
    oracle, alpha_bar = Oracle(image, alpha_bar), alpha_bar.float()
    if sampler == "ancestral":
        found = plain_ancestral(oracle, alpha_bar, (2, 3, 4, 4))
    else:
        found = plain_ddim(oracle, alpha_bar, (2, 3, 4, 4), list(range(200, 0, -20)))
    torch.testing.assert_close(found, image.expand(2, 3, 4, 4), rtol=0, atol=0.06)


def test_peer_network_gets_our_time_for_its_level():
    network = PeerNetwork(8, 100).eval()
    x = torch.randn(2, 3, 32, 32)
    found = network(x, torch.tensor([0, 99]), None)
    torch.testing.assert_close(found, network.network(x, torch.tensor([0.01, 1.0])))


def test_peer_is_left_out_with_a_reason(monkeypatch):
    config = speed_config("celeba_b_32", TINY)
    assert "batches of 16" in why_not(config, 1000)
    monkeypatch.setattr("benchmark.speed.rivals.peer.PACKAGE", "no_such_package_here")
    assert "not installed" in why_not(config, 1000)


def test_batch_suits_the_device_unless_given():
    assert speed_config("celeba_b_32", ["training.device=cpu"]).training.global_batch == 128
    assert speed_config("celeba_b_32", ["training.device=cuda"]).training.global_batch == 256
    assert speed_config("celeba_b_32", TINY).training.global_batch == 4


def test_run_without_a_unet_is_not_measured(monkeypatch):
    monkeypatch.setitem(MODELS, "other", ModelConfig)
    config = speed_config("celeba_b_32", [])
    assert n_feat_of(config) == 32
    with pytest.raises(UserError, match="network other; speed is measured of U-Nets"):
        n_feat_of(replace(config, model=ModelConfig(network="other")))
