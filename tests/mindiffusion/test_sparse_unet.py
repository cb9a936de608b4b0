import itertools

import pytest
import torch

from mindiffusion.chain import Chain
from mindiffusion.ddpm import DDPMProcess
from mindiffusion.errors import UserError
from mindiffusion.network import ProbeBatch, StageCapacity
from mindiffusion.sparse_unet import SparseNaiveUnet
from mindiffusion.sparsity import (
    channel_saliency,
    initial_mask,
    keyed_order,
)
from mindiffusion.unet import NaiveUnet

LADDER = (0.8, 0.6, 0.4, 0.2, 0.0)
PLACEMENTS = pytest.mark.parametrize("placement", ["bottleneck", "silent", "down1"])
AT_BOTTLENECK = pytest.mark.parametrize("placement", ["bottleneck", "silent"])


def network(sparsity=0.6, placement="bottleneck", seed=1, n_feat=16, **options):
    torch.manual_seed(0)
    return SparseNaiveUnet(3, 3, n_feat, sparsity, placement=placement, seed=seed, **options)


def inputs(count=3):
    generator = torch.Generator().manual_seed(5)
    x, noise = torch.randn(2, count, 3, 32, 32, generator=generator)
    return x, torch.linspace(0.2, 1.0, count), noise


PROCESS = DDPMProcess(Chain((1e-4, 0.02), 1000))


class CountedProbe:
    """One probe batch, and how often it was asked for."""

    def __init__(self):
        self.calls = 0

    def __call__(self, num_batches, batch_size):
        self.calls += 1
        x_t, times, noise = inputs(4)
        yield ProbeBatch(x_t, PROCESS.level(times), noise, PROCESS)


def frozen_slices(net):
    """Name → (parameter, rows of its first axis that serve channel 0 … C − 1)."""
    last, channels = net.down3[0].conv[1], net.bottleneck_channels
    first, second = slice(0, channels), slice(channels, 2 * channels)
    return {
        "encoder convolution": (last[0].weight, first),
        "encoder bias": (last[0].bias, first),
        "encoder norm's scale": (last[1].weight, first),
        "encoder norm's shift": (last[1].bias, first),
        "up0": (net.up0[0].weight, first),
        "up1, skip half": (net.up1.model[0].weight, second),
    }


def backward(net):
    x, t, noise = inputs()
    (net(x, t) - noise).square().mean().backward()


# -- the mask ------------------------------------------------------------------------------------


@PLACEMENTS
def test_sparse_unet_all_on_predicts_the_same_bits_as_naive_unet(placement):
    net = network(0.0, placement)
    torch.manual_seed(0)
    naive = NaiveUnet(3, 3, 16)
    x, t, _ = inputs()
    assert torch.equal(net(x, t), naive(x, t))
    ones = torch.ones(3, net.num_channels)
    assert torch.equal(net(x, t, channel_mask=ones), naive(x, t))


@AT_BOTTLENECK
@torch.no_grad()
def test_switching_off_any_live_channel_changes_the_output(placement):
    net = network(0.0, placement)
    x, t, _ = inputs()
    full = net(x, t)
    vector = net.to_vec(net.down3(net.down2(net.down1(net.init_conv(x)))))
    for channel in range(32):
        net.channel_mask.fill_(1.0)[channel] = 0.0
        # At the bottleneck a channel that is dead after ReLU carries nothing anyway.
        is_live = placement == "silent" or bool(vector[:, channel].any())
        assert torch.equal(net(x, t), full) == (not is_live)


def test_bottleneck_placement_masks_the_vector_before_the_time_embedding():
    net = network(placement="bottleneck")
    down3, temb = torch.rand(2, 32, 4, 4), torch.randn(2, 32, 1, 1)
    thro, skip = net.bottleneck(down3, temb)
    vector = down3.mean(dim=(2, 3), keepdim=True) * net.channel_mask.view(1, -1, 1, 1)
    torch.testing.assert_close(thro, vector + temb)
    assert torch.equal(skip, down3)


def test_silent_placement_masks_the_time_embedding_and_the_skip_too():
    net = network(placement="silent")
    down3, temb = torch.rand(2, 32, 4, 4), torch.randn(2, 32, 1, 1)
    thro, skip = net.bottleneck(down3, temb)
    off = net.channel_mask == 0
    assert not thro[:, off].any() and not skip[:, off].any()
    torch.testing.assert_close(thro[:, ~off], (down3.mean((2, 3), keepdim=True) + temb)[:, ~off])
    assert torch.equal(skip[:, ~off], down3[:, ~off])


@PLACEMENTS
def test_sparse_unet_takes_a_mask_of_each_samples_own(placement):
    # In float64: CPUs sum batches of three and of one in orders of their own.
    net = network(0.0, placement).double()
    x, t, _ = (tensor.double() for tensor in inputs())
    drawn = torch.rand(3, net.num_channels, generator=torch.Generator().manual_seed(0))
    masks = (drawn > 0.5).double()
    together = net(x, t, channel_mask=masks)
    for b in range(3):
        net.channel_mask.copy_(masks[b])
        torch.testing.assert_close(together[b : b + 1], net(x[b : b + 1], t[b : b + 1]))


@pytest.mark.parametrize(
    "name", ["encoder norm's scale", "encoder norm's shift", "up0", "up1, skip half"]
)
def test_silent_output_does_not_depend_on_the_weights_of_masked_channels(name):
    net = network(placement="silent")
    x, t, _ = inputs()
    before = net(x, t)
    weight, rows = frozen_slices(net)[name]
    off = net.channel_mask == 0
    with torch.no_grad():
        weight[rows][off] += 0.7
        assert torch.equal(net(x, t), before)
        weight[rows][~off] += 0.7
        assert not torch.equal(net(x, t), before)


def test_silent_output_does_not_depend_on_convolutions_of_norm_groups_that_are_wholly_masked():
    # A norm group shares its statistics, so only whole groups (4 of 32 channels) are shut off.
    net = network(0.0, "silent")
    net.channel_mask[:12] = 0.0
    x, t, _ = inputs()
    before = net(x, t)
    with torch.no_grad():
        net.down3[0].conv[1][0].weight[:12] += torch.randn(12, 32, 3, 3)
        assert torch.equal(net(x, t), before)


def test_bottleneck_placement_is_not_silent():
    net = network(placement="bottleneck")
    x, t, _ = inputs()
    before, off = net(x, t), net.channel_mask == 0
    with torch.no_grad():
        net.up0[0].weight[off] += 0.7
    assert not torch.equal(net(x, t), before)


# -- freezing --------------------------------------------------------------------------------------


def test_silent_gradients_of_masked_channels_are_exactly_zero():
    net = network(placement="silent")
    backward(net)
    off = net.channel_mask == 0
    for name, (parameter, rows) in frozen_slices(net).items():
        gradient = parameter.grad[rows].flatten(1) if parameter.dim() > 1 else parameter.grad[rows]
        assert not gradient[off].any(), name
        assert gradient[~off].any(), name
    up0_half = net.up1.model[0].weight.grad[:32]
    assert bool(up0_half.flatten(1).any(dim=1).all())  # up0's output is no bottleneck channel


def test_silent_gradients_of_channels_on_equal_those_without_hooks():
    net, plain = network(placement="silent"), network(placement="bottleneck")
    plain.placement = "silent"  # the same forward pass, made without hooks
    backward(net)
    backward(plain)
    on = net.channel_mask == 1
    for (p, rows), (q, _) in zip(
        frozen_slices(net).values(), frozen_slices(plain).values(), strict=True
    ):
        assert torch.equal(p.grad[rows][on], q.grad[rows][on])
    assert plain.down3[0].conv[1][0].weight.grad[~on].any()  # hooks do have something to stop


@AT_BOTTLENECK
def test_adam_moves_masked_channels_only_where_the_mask_is_not_silent(placement):
    net = network(placement=placement)
    start = {name: p[r].clone() for name, (p, r) in frozen_slices(net).items()}
    off = net.channel_mask == 0
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        backward(net)
        optimizer.step()
    for name, (parameter, rows) in frozen_slices(net).items():
        stood_still = torch.equal(parameter[rows][off], start[name][off])
        assert stood_still == (placement == "silent"), name
        assert not torch.equal(parameter[rows][~off], start[name][~off]), name


def test_silent_channels_learn_from_the_moment_they_are_switched_on():
    net = network(placement="silent")
    grown = net.regrow_channels(3, 1)
    backward(net)
    for name, (parameter, rows) in frozen_slices(net).items():
        assert parameter.grad[rows][grown].any(), name
        assert not parameter.grad[rows][net.channel_mask == 0].any(), name


# -- regrowth ------------------------------------------------------------------------------------


def test_regrowth_takes_the_highest_saliency_among_the_channels_off():
    net = network()
    saliency = torch.rand(32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    net.channel_saliency.copy_(saliency)
    off = net.channel_mask == 0
    expected = set(torch.where(off, saliency, -1.0).topk(5).indices.tolist())
    before, births = net.channel_mask.clone(), net.channel_birth_stage.clone()
    grown = net.regrow_channels(5, 2)
    assert set(grown.tolist()) == expected
    assert set((net.channel_mask - before).nonzero().flatten().tolist()) == expected
    births[list(expected)] = 2
    assert torch.equal(net.channel_birth_stage, births)


def test_regrowth_breaks_ties_by_a_keyed_order():
    def grown(seed, stage):
        net = network(0.6, seed=seed)
        net.channel_mask.zero_()  # the same channels are off for every seed
        return net.regrow_channels(6, stage).tolist()

    assert grown(1, 1) == keyed_order(1, 32, 2)[:6].tolist()
    assert grown(1, 1) != grown(2, 1) and grown(1, 1) != grown(1, 2)


def test_random_regrowth_is_keyed_and_ignores_the_saliency():
    def grown(method, top, seed=1):
        net = network(seed=seed)
        off = (net.channel_mask == 0).nonzero().flatten()
        net.channel_saliency[off[:5] if top else off[-5:]] = 1.0
        return set(net.regrow_channels(5, 1, method).tolist()), set(off[:5].tolist())

    chosen, top = grown("gradient", True)
    assert chosen == top
    first, second = grown("random", True)[0], grown("random", False)[0]
    assert first == second != top
    order = keyed_order(1, 32, 2)
    off = initial_mask(1, 32, 0.6)[order] == 0
    assert first == set(order[off][:5].tolist())


@pytest.mark.parametrize("num", [-1, 20])
def test_regrowth_refuses_more_channels_than_are_off(num):
    net = network()  # 13 of 32 are on
    with pytest.raises(UserError, match=rf"switch on {num} channels, but 19 are off") as error:
        net.regrow_channels(num, 1)
    assert "\n" not in str(error.value) and int(net.channel_mask.sum()) == 13


def test_regrowth_refuses_an_unknown_method_and_names_the_near_one():
    with pytest.raises(UserError, match=r"'gradeint'\. Did you mean 'gradient'\?"):
        network().regrow_channels(1, 1, "gradeint")


# -- stages --------------------------------------------------------------------------------------


def enter(net, index, sparsity, probe, seed=1):
    return net.enter_stage(StageCapacity(index, sparsity, 0.0, seed), probe)


@PLACEMENTS
@pytest.mark.parametrize("method", ["gradient", "random"])
def test_stages_follow_the_ladder_and_record_births(placement, method):
    n_feat = 64 if placement == "down1" else 32
    net = network(0.8, placement, n_feat=n_feat, regrow_method=method)
    probe, counts, masks = CountedProbe(), [], []
    for index, sparsity in enumerate(LADDER):
        event = enter(net, index, sparsity, probe)
        masks.append(net.channel_mask.clone())
        counts.append(int(net.channel_mask.sum()))
        assert event["channels_on"] == counts[-1] == net.capacity_report()["active_channels"]
        born = (net.channel_birth_stage == index).nonzero().flatten().tolist()
        assert index == 0 or event["channels_grown"] == born
    assert counts == [13, 26, 38, 51, 64] and probe.calls == 4
    assert all(bool((b >= a).all()) for a, b in itertools.pairwise(masks))
    births = torch.bincount(net.channel_birth_stage).tolist()
    assert births == [13, 13, 12, 13, 13]


def test_stage_grows_by_the_saliency_of_its_own_probe():
    net = network(0.8)
    expected, agreement = channel_saliency(network(0.8), list(CountedProbe()(1, 4)))
    off = net.channel_mask == 0
    event = enter(net, 1, 0.6, CountedProbe())
    assert torch.equal(net.get_channel_gradients(), expected.float())
    best = torch.where(off, expected, -1.0).topk(13 - 6).indices.tolist()
    assert event["channels_grown"] == sorted(best)
    assert event["saliency_split_half_correlation"] == agreement


def test_entering_a_stage_again_changes_nothing():
    net, probe = network(0.8), CountedProbe()
    for index, sparsity in enumerate(LADDER):
        enter(net, index, sparsity, probe)
        before = {key: value.clone() for key, value in net.state_dict().items()}
        calls = probe.calls
        assert "channels_grown" not in enter(net, index, sparsity, probe)
        assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
        assert probe.calls == calls


def test_first_stage_sets_the_mask_of_the_runs_seed():
    net = network(0.0, seed=1)
    assert enter(net, 0, 0.6, CountedProbe(), seed=9) == {"channels_on": 13}
    assert torch.equal(net.channel_mask, initial_mask(9, 32, 0.6))
    assert torch.equal(net.channel_birth_stage, (net.channel_mask - 1).long())


def test_stage_with_more_sparsity_than_before_is_an_error():
    with pytest.raises(UserError, match=r"stage 1 has sparsity 0\.8, more than the stage before"):
        enter(network(0.6), 1, 0.8, CountedProbe())


def test_mask_and_births_survive_a_state_dict():
    net = network(0.8)
    enter(net, 1, 0.6, CountedProbe())
    other = network(0.0, seed=7)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.channel_mask, net.channel_mask)
    assert torch.equal(other.channel_birth_stage, net.channel_birth_stage)
    assert torch.equal(other.get_channel_gradients(), net.get_channel_gradients())
    x, t, _ = inputs()
    assert torch.equal(net(x, t), other(x, t))
