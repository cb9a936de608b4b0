import math
from fractions import Fraction

import pytest
import torch
from uvit_reference import reference

from mindiffusion.errors import UserError
from mindiffusion.network import StageCapacity
from mindiffusion.sparse_uvit import EmbeddingSparsityMask, SparseUViT, active_dimensions
from mindiffusion.sparsity import keyed_order
from mindiffusion.uvit import UViT

PLACEMENTS = pytest.mark.parametrize("placement", ["patch", "patch+decoder", "stream"])
WIDTH, OFF = 12, 5
"""Of the tiny network, and how many of its dimensions are off at sparsity .4."""
OPTIONS = [{}, {"num_classes": 10}, {"clip_dim": 6, "num_clip_token": 5}]
OPTIONS += [{"mlp_time_embed": True, "qkv_bias": True}, {"skip": "add"}, {"skip": False}]


def network(placement="stream", sparsity=0.4, **options):
    torch.manual_seed(0)
    net = SparseUViT(
        16, 4, 3, WIDTH, 2, 3, placement=placement, initial_sparsity=sparsity, seed=1, **options
    ).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def inputs(options=()):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 16, 16, generator=generator, dtype=torch.float64)
    condition = torch.tensor([3, 9]) if "num_classes" in options else None
    if "clip_dim" in options:
        condition = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64)
    return x, torch.tensor([0.3, 1.0], dtype=torch.float64), condition


def off(net):
    return net.embedding_mask.mask == 0


# -- how many, and which -------------------------------------------------------------------------


def test_dimensions_are_the_floor_of_the_decimal_number_that_is_written():
    ladder = (0.15, 0.15, 0.15, 0.13, 0.1, 0.08, 0.05, 0.0)
    assert [active_dimensions(256, s) for s in ladder] == [217, 217, 217, 222, 230, 235, 243, 256]
    assert [active_dimensions(512, s) for s in ladder] == [435, 435, 435, 445, 460, 471, 486, 512]
    # Where floats fall short of a whole number.
    assert [active_dimensions(*pair) for pair in ((100, 0.8), (320, 0.8))] == [20, 64]
    assert math.floor(100 * (1 - 0.8)) == 19
    assert active_dimensions(3, 0.99) == 1 and active_dimensions(10, 1e-05) == 9
    for width in (7, 48, 100, 256, 1000):
        for thousandths in range(0, 1000, 7):
            exact = width * (1 - Fraction(thousandths, 1000))
            assert active_dimensions(width, thousandths / 1000) == max(1, exact.__floor__())


def test_dimensions_that_are_on_stay_on_at_lower_sparsities():
    mask = EmbeddingSparsityMask(64, seed=3)
    assert bool(mask.mask.all())
    before = torch.zeros(64)
    for sparsity in (0.9, 0.5, 0.15, 0.0):
        count = mask.set_sparsity(sparsity)
        assert count == active_dimensions(64, sparsity) == int(mask.mask.sum())
        assert bool((mask.mask >= before).all())
        assert bool(mask.mask[keyed_order(3, 64, 0)[:count]].all())
        before = mask.mask.clone()
    other = EmbeddingSparsityMask(64, seed=4)
    assert other.set_sparsity(0.5) == mask.set_sparsity(0.5)
    assert not torch.equal(other.mask, mask.mask)
    x = torch.ones(2, 5, 64, dtype=torch.float64)
    assert torch.equal(mask(x), mask.mask.double().expand(2, 5, -1))


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan")])
def test_sparsity_outside_is_one_line(ratio):
    with pytest.raises(UserError, match=r"give a share of dimensions in \[0, 1\)"):
        EmbeddingSparsityMask(8).set_sparsity(ratio)


def test_stage_takes_the_order_of_the_runs_seed():
    net = network(sparsity=0.0)
    event = net.enter_stage(StageCapacity(0, 0.4, 0.0, seed=9), None)
    assert event == {"dimensions_on": WIDTH - OFF}
    assert net.capacity_report() == {"active_channels": float(WIDTH - OFF), "penalty_lambda": 0.0}
    assert set(off(net).nonzero().flatten().tolist()) == set(
        keyed_order(9, WIDTH, 0)[WIDTH - OFF :].tolist()
    )


# -- what a mask does ----------------------------------------------------------------------------


@PLACEMENTS
def test_network_with_all_on_is_the_plain_one(placement):
    net = network(placement, 0.0)
    plain = UViT(16, 4, 3, WIDTH, 2, 3).double()
    buffer = {"embedding_mask.mask": net.embedding_mask.mask}
    state = net.state_dict()
    assert list(state) == [*plain.state_dict(), *buffer]
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    torch.testing.assert_close(net(*inputs()), plain(*inputs()), atol=1e-12, rtol=1e-12)
    if placement != "stream":  # whose norms add up in an order of their own
        assert torch.equal(net(*inputs()), plain(*inputs()))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_masked_stream_is_the_network_of_a_narrower_stream(options):
    """Without the rows and columns of masked dimensions the reference computes the same."""
    net = network("stream", **options)
    on = ~off(net)
    narrow = {}
    for name, weight in net.named_parameters():
        frozen = net.frozen().get(name, torch.tensor(False)).expand_as(weight)
        kept = weight
        for axis in range(weight.dim()):
            others = [k for k in range(weight.dim()) if k != axis]
            gone = frozen.all(dim=others) if others else frozen
            kept = kept.index_select(axis, (~gone).nonzero().flatten())
        narrow[name] = kept
    assert narrow["mid_block.mlp.fc1.weight"].shape == (4 * WIDTH, WIDTH - OFF)
    x, t, condition = inputs(options)
    kind = "label" if "num_classes" in options else "text"
    expected = reference(
        narrow, x, t, patch=4, depth=2, heads=3, on=on,
        skip=options.get("skip", True), **{kind: condition},
    )  # fmt: skip
    torch.testing.assert_close(net(x, t, condition), expected, atol=1e-10, rtol=1e-10)


def test_masked_dimensions_of_the_stream_are_zero_at_every_depth():
    net, seen = network("stream"), []
    for block in (*net.in_blocks, net.mid_block, *net.out_blocks):
        block.register_forward_hook(lambda layer, args, output: seen.extend([args[0], output]))
        for norm in (block.norm1, block.norm2):
            norm.register_forward_hook(lambda layer, args, output: seen.append(output))
    net.norm.register_forward_hook(lambda layer, args, output: seen.append(output))
    net(*inputs())
    assert len(seen) == 3 * 4 + 1
    assert not any(tokens[..., off(net)].any() for tokens in seen)
    assert all(bool(tokens[..., ~off(net)].all()) for tokens in seen)


@PLACEMENTS
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_output_does_not_depend_on_what_is_frozen(placement, options):
    net, given = network(placement, **options), inputs(options)
    before, frozen = net(*given), net.frozen()
    with torch.no_grad():
        for name, where in frozen.items():
            net.get_parameter(name).add_(0.7 * where)
        assert torch.equal(net(*given), before)
        for name, where in frozen.items():
            net.get_parameter(name).add_(0.7 * ~where)
    assert not torch.allclose(net(*given), before)


# -- what gets no gradient -----------------------------------------------------------------------


def gradients(placement, options):
    net, given = network(placement, **options), inputs(options)
    noise = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(4)).double()
    (net(*given) - noise).square().mean().backward()
    return net, {name: parameter.grad for name, parameter in net.named_parameters()}


@PLACEMENTS
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_exactly_the_frozen_entries_get_no_gradient(placement, options):
    net, found = gradients(placement, options)
    for name, gradient in found.items():
        frozen = net.frozen().get(name, torch.tensor(False)).expand_as(gradient)
        if name == "label_emb.weight":  # classes that are not asked get none either
            gradient, frozen = gradient[[3, 9]], frozen[[3, 9]]
        # Softmax takes no notice of what all keys share, so their bias has a gradient of rounding.
        assert torch.equal(gradient == 0, frozen) or name.endswith("qkv.bias"), name


def test_each_place_freezes_the_entries_that_the_methods_say():
    """In numbers, so that the list of what a place freezes can't lose an entry unnoticed."""
    counts = {}
    for placement in ("patch", "patch+decoder", "stream"):
        net, found = gradients(placement, {})
        gone = off(net)
        assert not found["patch_embed.proj.weight"][gone].any()
        assert not found["patch_embed.proj.bias"][gone].any()
        counts[placement] = sum(int((g == 0).sum()) for g in found.values())
    kept = WIDTH - OFF
    patch = OFF * (48 + 1)
    assert counts["patch"] == patch
    assert counts["patch+decoder"] == patch + OFF * 48 + 2 * OFF
    block = 4 * OFF + 3 * WIDTH * OFF + OFF * (WIDTH + 1) + 4 * WIDTH * OFF + OFF * (4 * WIDTH + 1)
    skip = 2 * (WIDTH**2 - kept**2) + OFF
    assert counts["stream"] == counts["patch+decoder"] + 17 * OFF + 3 * block + skip


def test_share_without_gradient_in_the_published_joint_curriculum():
    with torch.device("meta"):
        shares = {}
        for placement in ("patch", "patch+decoder", "stream"):
            net = SparseUViT(64, 4, 3, 256, 12, 8, placement=placement, initial_sparsity=0.15)
            frozen = sum(
                int(where.expand(net.get_parameter(name).shape).sum())
                for name, where in net.frozen().items()
            )
            shares[placement] = frozen / sum(p.numel() for p in net.parameters())
    assert shares["patch"] == 39 * 49 / 11_136_132
    assert shares["patch"] == pytest.approx(0.000172, abs=5e-7)
    assert shares["patch+decoder"] == pytest.approx(0.000347, abs=5e-7)
    assert shares["stream"] == pytest.approx(1_796_028 / 11_136_132, rel=1e-9)


# -- outside training ----------------------------------------------------------------------------


@PLACEMENTS
@pytest.mark.parametrize("sampling", ["lifted", "masked"])
def test_mask_is_lifted_outside_training_unless_it_is_asked_for(placement, sampling):
    net = network(placement, sampling=sampling)
    under = net(*inputs())
    with net.mask().lifted():
        lifted = net(*inputs())
    assert not torch.allclose(under, lifted)
    net.eval()
    torch.testing.assert_close(net(*inputs()), lifted if sampling == "lifted" else under)
    assert (net.mask().imposed is None) == (sampling == "masked")
    assert net.mask().place == placement and int((~net.mask().is_on).sum()) == OFF
    assert int(off(net).sum()) == OFF  # it is known all the same


def test_masked_network_is_compiled_as_one_graph():
    net = network("stream")
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    for mode in (True, False):
        net.train(mode)
        torch.testing.assert_close(compiled(*inputs()), net(*inputs()))
