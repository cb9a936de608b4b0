"""SparseNaiveUnet with the mask behind its first block."""

import itertools

import pytest
import torch

from mindiffusion.errors import UserError
from mindiffusion.sparse_unet import SparseNaiveUnet
from mindiffusion.unet import NaiveUnet

N = 16


def network(sparsity=0.6, placement="down1", kind=SparseNaiveUnet):
    torch.manual_seed(0)
    if kind is NaiveUnet:
        return NaiveUnet(3, 3, N)
    return kind(3, 3, N, sparsity, placement=placement, seed=1)


def inputs(count=3):
    generator = torch.Generator().manual_seed(5)
    x, noise = torch.randn(2, count, 3, 32, 32, generator=generator)
    return x, torch.linspace(0.2, 1.0, count), noise


def served(net):
    """Name → (parameter, its part that has one entry for each channel along the first axis)."""
    last = net.down1[0].conv[1]
    return {
        "convolution": (last[0].weight, lambda p: p),
        "bias": (last[0].bias, lambda p: p[:, None]),
        "norm's scale": (last[1].weight, lambda p: p[:, None]),
        "norm's shift": (last[1].bias, lambda p: p[:, None]),
        "down2": (net.down2[0].main[0].weight, lambda p: p.transpose(0, 1)),
        "up3, skip half": (net.up3.model[0].weight, lambda p: p[N:]),
    }


READ = ("norm's scale", "norm's shift", "down2", "up3, skip half")


def backward(net):
    x, t, noise = inputs()
    (net(x, t) - noise).square().mean().backward()


@torch.no_grad()
def test_whatever_reads_the_first_block_reads_it_behind_the_mask():
    net, naive = network(), network(kind=NaiveUnet)
    mask = net.channel_mask.view(1, N, 1, 1)
    assert len(net.channel_mask) == N and int(mask.sum()) == 6
    naive.down1.register_forward_hook(lambda _, __, output: output * mask)
    x, t, _ = inputs()
    assert torch.equal(net(x, t), naive(x, t))


@torch.no_grad()
def test_switching_off_any_channel_changes_the_output():
    net = network(0.0)
    x, t, _ = inputs()
    full, maps = net(x, t), net.down1(net.init_conv(x))
    for channel in range(N):
        net.channel_mask.fill_(1.0)[channel] = 0.0
        assert torch.equal(net(x, t), full) == (not maps[:, channel].any())
    assert bool(maps.any(3).any(2).any(0).all())


@pytest.mark.parametrize("name", READ)
@torch.no_grad()
def test_output_does_not_depend_on_the_weights_of_masked_channels(name):
    net = network()
    x, t, _ = inputs()
    before, off = net(x, t), net.channel_mask == 0
    parameter, part = served(net)[name]
    part(parameter)[off] += 0.7
    assert torch.equal(net(x, t), before)
    part(parameter)[~off] += 0.7
    assert not torch.equal(net(x, t), before)


@torch.no_grad()
def test_convolutions_of_masked_channels_act_by_the_statistics_of_their_norm_group_alone():
    net = network(0.0)  # norm groups are of two channels
    x, t, _ = inputs()
    weight = net.down1[0].conv[1][0].weight
    net.channel_mask[:4] = 0.0
    before = net(x, t)
    weight[:4] *= 3.0
    assert torch.equal(net(x, t), before)
    net.channel_mask[3] = 1.0
    before = net(x, t)
    weight[2] *= 3.0
    assert not torch.equal(net(x, t), before)


def test_masked_channels_get_no_gradient_and_others_the_one_they_had():
    net, plain = network(), network(placement="bottleneck")
    # The same forward pass, made without what stops gradients.
    plain.placement, plain.channel_mask = "down1", net.channel_mask.clone()
    backward(net)
    backward(plain)
    off = net.channel_mask == 0
    for (name, (p, part)), (q, _) in zip(served(net).items(), served(plain).values(), strict=True):
        own, other = part(p.grad), part(q.grad)
        assert not own[off].any() and own[~off].flatten(1).any(1).all(), name
        assert torch.equal(own[~off], other[~off]), name
        # Where nothing stops it, the norm's statistics carry a gradient to the convolution.
        assert bool(other[off].any()) == (name in ("convolution", "bias")), name
    assert bool(net.up3.model[0].weight.grad[:N].flatten(1).any(1).all())


def test_channels_learn_from_the_moment_they_are_switched_on():
    net = network()
    grown = net.regrow_channels(3, 1)
    backward(net)
    for name, (parameter, part) in served(net).items():
        assert part(parameter.grad)[grown].flatten(1).any(1).all(), name
        assert not part(parameter.grad)[net.channel_mask == 0].any(), name


def test_frozen_are_the_entries_that_serve_masked_channels_alone():
    net, parameters = network(), dict(network().named_parameters())
    frozen = {n: where.expand_as(parameters[n]) for n, where in net.frozen().items()}
    weights = {id(parameter): name for name, parameter in net.named_parameters()}
    off, names = net.channel_mask == 0, set()
    for parameter, part in served(net).values():
        name = weights[id(parameter)]
        names.add(name)
        rows = part(frozen[name]).flatten(1)
        assert bool(rows[off].all()) and not rows[~off].any()
        assert int(frozen[name].sum()) == int(rows.sum())
    assert frozen.keys() == names


def test_mask_says_where_it_is_and_which_weights_show_it():
    net = network()
    mask, start = net.mask(), net.state_dict()
    assert (mask.place, mask.share_off) == ("down1", 10 / 16)
    (weight,) = (start[name] for name in mask.weights.values())
    assert torch.equal(weight, net.down1[0].conv[1][0].weight)
    assert net.capacity_report() == {"active_channels": 6.0, "penalty_lambda": 0.0}


def test_placements_have_the_same_names_and_weights_but_masks_of_their_own_size():
    states = [network(placement=p).state_dict() for p in ("bottleneck", "silent", "down1")]
    masks = {"channel_mask", "channel_birth_stage", "channel_saliency"}
    for a, b in itertools.pairwise(states):
        assert list(a) == list(b)
        assert all(torch.equal(a[name], b[name]) for name in a.keys() - masks)
    assert [{len(state[name]) for name in masks} for state in states] == [{32}, {32}, {N}]


def test_unknown_placement_is_one_line_that_names_the_near_one():
    with pytest.raises(UserError, match=r"placement 'down2'\. Did you mean 'down1'\?$"):
        network(placement="down2")
