import math

import numpy as np
import pytest
import torch

from mindiffusion.config.presets import load_preset
from mindiffusion.network import StageCapacity
from mindiffusion.reg_unet import RegNaiveUnet
from mindiffusion.sparsity import conv_layers, group_norms
from mindiffusion.unet import NaiveUnet

TRANSPOSED = ("up0.0.weight", "up1.model.0.weight", "up2.model.0.weight", "up3.model.0.weight")


def network(n_feat=8, kind=RegNaiveUnet):
    torch.manual_seed(0)
    return kind(3, 3, n_feat)


def no_probe():
    raise AssertionError("a penalty needs no probe")


def numpy_penalty(net):
    """Σ_convs Σ_c ‖W_c‖₂ from the state dict; transposed layers hold outputs along axis 1."""
    total = 0.0
    for name, weight in net.state_dict().items():
        if weight.dim() == 4:
            w = weight.double().numpy()
            axes = (0, 2, 3) if name in TRANSPOSED else (1, 2, 3)
            total += np.sqrt((w**2).sum(axis=axes)).sum()
    return total


def test_group_l1_penalty_equals_the_numpy_formula():
    net = network()
    penalty = net.get_group_l1_penalty(0.3).detach()
    assert float(penalty) == pytest.approx(0.3 * numpy_penalty(net), rel=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.Conv2d(3, 5, 3),
        torch.nn.ConvTranspose2d(5, 3, 2),
        torch.nn.ConvTranspose2d(3, 5, 2),
    ],
    ids=str,
)
def test_group_norms_have_one_group_per_output_channel(layer):
    base = group_norms(layer).detach()
    assert base.shape == (layer.out_channels,)
    with torch.no_grad():
        dim = 1 if isinstance(layer, torch.nn.ConvTranspose2d) else 0
        layer.weight.select(dim, 2).mul_(3)
    expected = torch.ones(layer.out_channels)
    expected[2] = 3.0
    torch.testing.assert_close(group_norms(layer) / base, expected)


def test_conv_layers_are_all_35_convolutions_of_which_4_are_transposed():
    layers = dict(conv_layers(network()))
    transposed = [n for n, m in layers.items() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert len(layers) == 35 and tuple(f"{n}.weight" for n in transposed) == TRANSPOSED


@pytest.mark.parametrize("layer", ["up0.0", "out"])
def test_group_l1_penalty_gradient_at_an_all_zero_group_is_zero(layer):
    net = network()
    weight = net.get_submodule(layer).weight
    dim = 1 if layer == "up0.0" else 0
    with torch.no_grad():
        weight.select(dim, 1).zero_()
    net.get_group_l1_penalty(1.0).backward()
    assert all(bool(m.weight.grad.isfinite().all()) for _, m in conv_layers(net))
    assert not weight.grad.select(dim, 1).any() and weight.grad.select(dim, 0).any()
    # The gradient of a norm has length 1.
    assert float(weight.grad.select(dim, 0).norm()) == pytest.approx(1.0, rel=1e-5)


def test_group_l1_penalty_at_lambda_zero_is_an_exact_zero_without_gradient():
    zero = network().get_group_l1_penalty(0.0)
    assert zero.shape == () and float(zero) == 0.0 and not zero.requires_grad


def test_penalty_follows_the_stage():
    net = network()
    assert net.penalty() is None and net.capacity_report()["penalty_lambda"] == 0.0
    assert net.enter_stage(StageCapacity(0, 0.8, 2e-3, 0), no_probe) == {"penalty_lambda": 2e-3}
    assert float(net.penalty().detach()) == pytest.approx(2e-3 * numpy_penalty(net), rel=1e-5)
    norms = np.concatenate([group_norms(m).detach().numpy() for _, m in conv_layers(net)])
    report = net.capacity_report()
    assert report["penalty_lambda"] == 2e-3 and report["active_channels"] == 16.0
    assert report["group_norm_mean"] == pytest.approx(norms.mean(), rel=1e-5)
    net.enter_stage(StageCapacity(1, 0.0, 0.0, 0), no_probe)
    assert net.penalty() is None


def test_penalty_descent_shrinks_the_group_norms():
    net = network()
    net.enter_stage(StageCapacity(0, 0.0, 1.0, 0), no_probe)
    before = net.capacity_report()["group_norm_mean"]
    net.penalty().backward()
    with torch.no_grad():
        for _, layer in conv_layers(net):
            layer.weight -= 0.01 * layer.weight.grad
    assert net.capacity_report()["group_norm_mean"] == pytest.approx(before - 0.01, rel=1e-3)


def test_reg_unet_predicts_the_same_bits_as_naive_unet():
    net, naive = network(), network(kind=NaiveUnet)
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([0.2, 1.0])
    assert torch.equal(net(x, t), naive(x, t))


def test_cr_preset_holds_the_cosine_of_the_seed_document():
    rows = load_preset("arms/cr")["curriculum"]
    cosine = [5e-5 * 0.5 * (1 + math.cos(math.pi * i / 4)) for i in range(5)]
    assert [row["penalty_lambda"] for row in rows] == pytest.approx(cosine, rel=1e-12, abs=1e-20)
    assert rows[-1]["penalty_lambda"] == 0.0
