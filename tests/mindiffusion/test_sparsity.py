import math
import random

import pytest
import torch
from scipy.stats import spearmanr

from mindiffusion.chain import Chain
from mindiffusion.ddpm import DDPMProcess
from mindiffusion.network import ProbeBatch
from mindiffusion.reg_unet import RegNaiveUnet
from mindiffusion.sparse_unet import SparseNaiveUnet
from mindiffusion.sparsity import (
    active_count,
    channel_saliency,
    channels_to_grow,
    conv_layers,
    group_norm_summary,
    group_norms,
    initial_mask,
    keyed_order,
    rank_correlation,
    vanished_groups,
    weight_movement,
)

SAMPLES = 6
PLACEMENTS = pytest.mark.parametrize("placement", ["bottleneck", "silent", "down1"])
PROCESS = DDPMProcess(Chain((1e-4, 0.02), 1000))


def network(placement="bottleneck"):
    torch.manual_seed(0)
    return SparseNaiveUnet(3, 3, 16, 0.6, placement=placement, seed=1).double()


def probe(sizes=(SAMPLES,)):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(SAMPLES, 3, 32, 32, generator=generator, dtype=torch.float64)
    noise = torch.randn(SAMPLES, 3, 32, 32, generator=generator, dtype=torch.float64)
    t = torch.linspace(0.1, 1.0, SAMPLES, dtype=torch.float64)
    parts = zip(x.split(sizes), t.split(sizes), noise.split(sizes), strict=True)
    return [ProbeBatch(x_t, PROCESS.level(times), eps, PROCESS) for x_t, times, eps in parts]


@torch.no_grad()
def losses(net, batch, mask):
    """Mean squared ε-error of each sample of a batch under one mask (C,), (B,)."""
    rows = mask.expand(len(batch.noise), -1)
    error = net(batch.x_t, batch.level.t, channel_mask=rows) - batch.noise
    return error.square().mean(dim=(1, 2, 3))


@pytest.mark.parametrize(
    ("sparsity", "on"), [(0.8, 13), (0.6, 26), (0.4, 38), (0.2, 51), (0.0, 64)]
)
def test_active_count_at_64_channels_is_the_documented_ladder(sparsity, on):
    assert active_count(64, sparsity) == on


def test_active_count_rounds_half_up_whatever_the_float_error():
    for channels in range(16, 1025, 16):
        for thousandths in range(1000):
            on = active_count(channels, thousandths / 1000)
            # In integers: ⌊channels·(1000 − tenths)/1000 + ½⌋.
            assert on == max(1, (2 * channels * (1000 - thousandths) + 1000) // 2000)
        for j in range(channels):
            # Exactly halfway between two counts, but for the float error of the sparsity.
            assert active_count(channels, (2 * j + 1) / (2 * channels)) == max(1, channels - j)


def test_active_count_is_monotone_and_ends_all_on_for_any_ladder():
    dice = random.Random(0)
    for n_feat in range(8, 257, 8):
        for _ in range(20):
            falling = sorted((dice.random() for _ in range(6)), reverse=True)
            counts = [active_count(2 * n_feat, s) for s in (*falling, 0.0)]
            assert counts == sorted(counts) and counts[0] >= 1 and counts[-1] == 2 * n_feat


def test_keyed_order_is_a_permutation_keyed_by_seed_and_draw():
    orders = {tuple(keyed_order(s, 64, d).tolist()) for s in (0, 1, 2) for d in (0, 1, 2)}
    assert len(orders) == 9 and all(sorted(order) == list(range(64)) for order in orders)
    assert torch.equal(keyed_order(2, 64, 1), keyed_order(2, 64, 1))


@pytest.mark.parametrize("sparsity", [0.8, 0.6, 0.4, 0.2, 0.0])
def test_initial_mask_switches_on_the_first_channels_of_a_keyed_order(sparsity):
    mask = initial_mask(3, 64, sparsity)
    on = mask.nonzero().flatten().tolist()
    assert on == sorted(keyed_order(3, 64, 0)[: active_count(64, sparsity)].tolist())
    assert set(mask.tolist()) <= {0.0, 1.0}
    assert (sparsity == 0.0) == torch.equal(mask, initial_mask(4, 64, sparsity))


@pytest.mark.parametrize(
    ("scores", "mask", "num", "expected"),
    [
        ([1, 5, 3, 4], [0, 0, 0, 0], 2, [1, 3]),
        ([9, 5, 3, 4], [1, 0, 0, 0], 2, [1, 3]),  # the best is already on
        ([2, 2, 2, 2], [0, 0, 0, 0], 3, [2, 0, 3]),  # ties go by the order
        ([2, 7, 2, 2], [0, 0, 1, 0], 3, [1, 0, 3]),
        ([1, 2, 3, 4], [0, 0, 0, 0], 0, []),
    ],
)
def test_channels_to_grow_takes_the_highest_that_are_off(scores, mask, num, expected):
    order = torch.tensor([2, 0, 3, 1])
    chosen = channels_to_grow(torch.tensor(scores).double(), torch.tensor(mask), num, order)
    assert chosen.tolist() == expected


@PLACEMENTS
def test_saliency_is_the_sum_of_squared_per_sample_derivatives(placement):
    net = network(placement)
    (batch,) = probe()
    squares = []
    for b in range(SAMPLES):
        mask = net.channel_mask.clone().requires_grad_()
        image, t = batch.x_t[b : b + 1], batch.level.t[b : b + 1]
        error = net(image, t, channel_mask=mask[None]) - batch.noise[b]
        squares.append(torch.autograd.grad(error.square().mean(), mask)[0].square())
    squares = torch.stack(squares)
    saliency, agreement = channel_saliency(net, [batch])
    assert saliency.dtype == torch.float64
    torch.testing.assert_close(saliency, squares.sum(0), rtol=1e-8, atol=0)
    halves = spearmanr(squares[0::2].sum(0), squares[1::2].sum(0)).statistic
    assert agreement == pytest.approx(halves)


@PLACEMENTS
def test_saliency_agrees_with_finite_differences(placement):
    net, step = network(placement), 1e-8  # so small that hardly a ReLU flips in between
    (batch,) = probe()
    saliency, _ = channel_saliency(net, [batch])
    expected = torch.zeros_like(saliency)
    for channel in range(len(expected)):
        shift = torch.zeros_like(net.channel_mask)
        shift[channel] = step
        up = losses(net, batch, net.channel_mask + shift)
        down = losses(net, batch, net.channel_mask - shift)
        expected[channel] = ((up - down) / (2 * step)).square().sum()
    torch.testing.assert_close(saliency, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize("sizes", [[1] * 6, [2, 4], [4, 2], [3, 3]], ids=str)
def test_saliency_does_not_depend_on_the_batch_split(sizes):
    net = network()
    whole, _ = channel_saliency(net, probe())
    split, _ = channel_saliency(net, probe(sizes))
    torch.testing.assert_close(split, whole, rtol=1e-9, atol=0)


@PLACEMENTS
def test_saliency_is_not_zero_for_masked_channels(placement):
    net = network(placement)
    saliency, _ = channel_saliency(net, probe())
    masked = saliency[net.channel_mask == 0]
    assert float((masked > 0).double().mean()) > 0.7
    assert bool((saliency >= 0).all())


def test_saliency_leaves_weights_gradients_and_mask_alone():
    net = network()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    channel_saliency(net, probe())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters()) and not net.channel_mask.requires_grad


def test_rank_correlation_is_spearmans_and_nan_for_a_constant():
    a = torch.tensor([1.0, 2.0, 3.0, 10.0])
    assert rank_correlation(a, a.exp()) == pytest.approx(1.0)
    assert rank_correlation(a, -a) == pytest.approx(-1.0)
    assert math.isnan(rank_correlation(a, torch.ones(4)))
    assert math.isnan(rank_correlation(torch.zeros(4), a))


def test_weight_movement_is_the_mean_relative_distance_of_each_group():
    initial, trained = network(), network()
    mask = initial.channel_mask
    with torch.no_grad():
        # Rows of channels on move by 10 %, masked ones by 30 % of their length.
        factor = 1.3 - 0.2 * mask
        trained.down3[0].conv[1][0].weight.mul_(factor.view(-1, 1, 1, 1))
        trained.up0[0].weight.mul_(1 + 2 * (factor - 1).view(-1, 1, 1, 1))
    assert weight_movement(trained, initial) == pytest.approx(
        {"encoder-on": 0.1, "encoder-masked": 0.3, "up0-on": 0.2, "up0-masked": 0.6}
    )
    mask.fill_(1.0)
    all_on = weight_movement(initial, initial)
    assert all_on == {"encoder-on": 0.0, "up0-on": 0.0}


def test_vanished_groups_are_counted_by_block():
    before, after = (RegNaiveUnet(3, 3, 8) for _ in range(2))
    after.load_state_dict(before.state_dict())
    with torch.no_grad():
        after.out.weight[0] *= 0.009
        after.out.weight[1] *= 0.011
        # Of a transposed convolution, output channels are along the second dimension.
        after.up0[0].weight[:, :4] = 0
    shares = vanished_groups(after.group_norms(), before.group_norms())
    assert list(shares) == [
        "init_conv", "down1", "down2", "down3", "up0", "up1", "up2", "up3", "out"
    ]  # fmt: skip
    assert {block: share for block, share in shares.items() if share} == {"up0": 0.25, "out": 1 / 3}


def test_group_norm_summary_counts_groups_below_one_percent():
    before, after = RegNaiveUnet(3, 3, 8), RegNaiveUnet(3, 3, 8)
    after.load_state_dict(before.state_dict())
    groups = sum(len(group_norms(layer)) for _, layer in conv_layers(before))
    with torch.no_grad():
        after.out.weight[0] *= 0.009
        after.out.weight[1] *= 0.011
    summary = group_norm_summary(after.group_norms(), before.group_norms())
    assert summary["group-norm-share-below-1%"] == pytest.approx(1 / groups)
    norms = torch.cat([group_norms(layer) for _, layer in conv_layers(after)])
    assert summary["group-norm-mean"] == pytest.approx(float(norms.detach().double().mean()))
