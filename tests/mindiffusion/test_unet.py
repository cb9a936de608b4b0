import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from mindiffusion.config.naive_unet import check_sizes
from mindiffusion.errors import UserError
from mindiffusion.layers import TimeSiren
from mindiffusion.unet import NaiveUnet


def images(count=2, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, side, side, generator=generator)


def network(n_feat=16, seed=0):
    torch.manual_seed(seed)
    return NaiveUnet(3, 3, n_feat)


@pytest.mark.parametrize(
    ("n_feat", "parameters"), [(16, 180_435), (32, 714_659), (64, 2_844_483), (128, 11_349_635)]
)
def test_naive_unet_has_the_parameters_of_mindiffusion(n_feat, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in NaiveUnet(3, 3, n_feat).parameters()) == parameters


@pytest.mark.parametrize(("n_feat", "gflop"), [(16, 0.257), (32, 1.013)])
def test_naive_unet_costs_the_flops_of_mindiffusion(n_feat, gflop):
    net = network(n_feat)
    with FlopCounterMode(display=False) as counter:
        net(images(1), torch.ones(1)).sum().backward()
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, abs=6e-4)


def reference_forward(w, x, t):
    """NaiveUnet written out from docs/methods.md, NaiveUnet, on a state dict."""

    def block(name, x):
        x = F.conv2d(x, w[f"{name}.0.weight"], w[f"{name}.0.bias"], padding=1)
        return F.relu(F.group_norm(x, 8, w[f"{name}.1.weight"], w[f"{name}.1.bias"]))

    def conv3(name, x, residual=False):
        first = block(f"{name}.main", x)
        last = block(f"{name}.conv.1", block(f"{name}.conv.0", first))
        return (first + last) / 1.414 if residual else last

    def up(name, x, skip):
        x = torch.cat([x, skip], dim=1)
        x = F.conv_transpose2d(x, w[f"{name}.0.weight"], w[f"{name}.0.bias"], stride=2)
        return conv3(f"{name}.2", conv3(f"{name}.1", x))

    x = conv3("init_conv", x, residual=True)
    down1 = F.max_pool2d(conv3("down1.0", x), 2)
    down2 = F.max_pool2d(conv3("down2.0", down1), 2)
    down3 = F.max_pool2d(conv3("down3.0", down2), 2)
    temb = torch.sin(t[:, None] * w["timeembed.lin1.weight"][:, 0])
    temb = temb @ w["timeembed.lin2.weight"].T + w["timeembed.lin2.bias"]
    temb = temb[:, :, None, None]
    thro = F.relu(F.avg_pool2d(down3, 4)) + temb
    thro = F.conv_transpose2d(thro, w["up0.0.weight"], w["up0.0.bias"], stride=4)
    thro = F.relu(F.group_norm(thro, 8, w["up0.1.weight"], w["up0.1.bias"]))
    up1 = up("up1.model", thro, down3) + temb
    up3 = up("up3.model", up("up2.model", up1, down2), down1)
    return F.conv2d(torch.cat([up3, x], dim=1), w["out.weight"], w["out.bias"], padding=1)


@pytest.mark.parametrize("side", [32, 64])
def test_naive_unet_forward_equals_the_architecture_written_out(side):
    net = network().double()
    x, t = images(3, side).double(), torch.tensor([0.001, 0.4, 1.0]).double()
    result = net(x, t)
    assert result.shape == (3, 3, side, side)
    torch.testing.assert_close(result, reference_forward(net.state_dict(), x, t))


def test_naive_unet_takes_other_channel_counts():
    assert NaiveUnet(1, 2, 8)(torch.zeros(2, 1, 32, 32), torch.ones(2)).shape == (2, 2, 32, 32)


def test_naive_unet_predicts_each_image_alone():
    net = network().eval()
    x, t = images(4), torch.tensor([0.1, 0.5, 0.7, 1.0])
    torch.testing.assert_close(net(x, t)[2:3], net(x[2:3], t[2:3]))


def test_naive_unet_gradients_reach_every_parameter():
    net = network()
    net(images(4), torch.tensor([0.1, 0.4, 0.7, 1.0])).square().mean().backward()
    without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_naive_unet_has_no_capacity_of_its_own():
    net = network(8)
    assert net.bottleneck_channels == 16 and net.penalty() is None
    assert net.capacity_report() == {"active_channels": 16.0, "penalty_lambda": 0.0}


def test_time_embedding_stays_float32_under_bf16_autocast():
    torch.manual_seed(0)
    embed = TimeSiren(64)
    t = torch.tensor([0.999, 1.0])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.nn.Linear(1, 1)(t[:, None]).dtype == torch.bfloat16
        result = embed(t)
        assert embed(t.bfloat16()).dtype == torch.float32
    assert result.dtype == torch.float32 and torch.equal(result, embed(t))
    assert not torch.equal(result[0], result[1])


def test_time_embedding_is_the_sine_network_of_its_weights():
    torch.manual_seed(0)
    embed = TimeSiren(8).double()
    t = torch.tensor([0.25, 1.0], dtype=torch.float64)
    hidden = torch.sin(t[:, None] * embed.lin1.weight[:, 0])
    torch.testing.assert_close(embed(t), hidden @ embed.lin2.weight.T + embed.lin2.bias)
    assert embed.lin1.bias is None


@pytest.mark.parametrize("n_feat", [-8, 0, 4, 12, 33])
def test_naive_unet_refuses_a_bad_width_in_one_line(n_feat):
    with pytest.raises(UserError, match=rf"model.n_feat is {n_feat},.*multiples of 8") as error:
        NaiveUnet(3, 3, n_feat)
    assert "\n" not in str(error.value) and "--set model.n_feat=32" in str(error.value)


@pytest.mark.parametrize("side", [0, 16, 31, 40, 48])
def test_check_sizes_refuses_a_bad_side_in_one_line(side):
    with pytest.raises(UserError, match=rf"data.size is {side},.*multiples of 32") as error:
        check_sizes(32, side)
    assert "\n" not in str(error.value) and "--set data.size=32" in str(error.value)


def test_check_sizes_agrees_with_what_the_network_can_take():
    net, t = network(8), torch.ones(1)
    for side in (32, 64, 96):
        check_sizes(8, side)
        assert net(torch.zeros(1, 3, side, side), t).shape == (1, 3, side, side)
    with pytest.raises(RuntimeError):
        net(torch.zeros(1, 3, 48, 48), t)


def test_exact_ends_keep_the_first_and_last_block_in_float32_under_autocast():
    net, x, t = network().eval(), images(4), torch.full((4,), 0.5)
    dtypes = {}
    for name in ("init_conv", "down1", "up3", "out"):
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: dtypes.update({name: output.dtype})
        )
    errors = {}
    with torch.no_grad():
        exact = net(x, t)
        for net.exact_ends in (False, True):
            with torch.autocast("cpu", torch.bfloat16):
                errors[net.exact_ends] = float((net(x, t) - exact).abs().mean())
            end = torch.float32 if net.exact_ends else torch.bfloat16
            inner = dtypes["down1"], dtypes["up3"]
            assert (dtypes["init_conv"], dtypes["out"]) == (end, end)
            assert inner == (torch.bfloat16, torch.bfloat16)
    assert 0 < errors[True] < errors[False]
