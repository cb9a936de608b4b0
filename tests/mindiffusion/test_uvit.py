import re

import pytest
import torch
from tiny_networks import images, uvit
from torch.utils.flop_counter import FlopCounterMode
from uvit_reference import reference

from mindiffusion.errors import UserError
from mindiffusion.step_cost import step_cost
from mindiffusion.uvit import UViT, forward_flops, resized_positions
from mindiffusion.uvit_layers import sinusoid

TINY = (32, 4, 3, 64, 4, 4)
"""Side, patch, channels, width, depth, heads."""
IN256 = {"num_classes": 1001}
IN64 = {"num_classes": 1000}
TEXT = {"clip_dim": 768, "num_clip_token": 77}
COUNTS = [
    ((64, 4, 3, 512, 12, 8), {}, 44_292_228),
    ((64, 4, 3, 256, 12, 8), {}, 11_136_132),
    ((32, 2, 3, 512, 12, 8), {}, 44_255_328),
    ((32, 2, 3, 256, 12, 8), {}, 11_117_664),
    ((64, 4, 3, 768, 16, 12), IN64, 130_940_292),
    ((64, 4, 3, 1024, 20, 16), IN64, 286_827_652),
    ((32, 2, 4, 1024, 20, 16), IN256, 286_763_172),
    ((32, 2, 4, 1152, 28, 16), IN256 | {"conv": False}, 500_832_016),
    ((64, 4, 4, 1024, 20, 16), IN256, 286_861_524),
    ((64, 4, 4, 1152, 28, 16), IN256 | {"conv": False}, 500_942_656),
    ((32, 2, 4, 512, 12, 8), TEXT, 44_692_644),
    ((32, 2, 4, 512, 16, 8), TEXT, 58_345_636),
    ((64, 4, 3, 512, 12, 8), {"mlp_time_embed": True}, 46_391_940),
    ((64, 4, 3, 512, 12, 8), {"qkv_bias": True}, 44_312_196),
    ((64, 4, 3, 512, 12, 8), {"skip": False}, 41_143_428),
    ((64, 4, 3, 512, 12, 8), {"skip": "add"}, 41_143_428),
    ((64, 4, 3, 512, 12, 8), {"conv": False}, 44_292_144),
    (TINY, {}, 276_100),
    (TINY, {"num_classes": 10}, 276_804),
    (TINY, {"clip_dim": 32, "num_clip_token": 5}, 278_532),
]
OPTIONS = [
    {},
    {"num_classes": 10},
    {"clip_dim": 12, "num_clip_token": 5},
    {"skip": False},
    {"skip": "add"},
    {"conv": False, "mlp_time_embed": True, "qkv_bias": True, "mlp_ratio": 2.5},
]


def on_meta(sizes, **options):
    with torch.device("meta"):
        return UViT(*sizes, **options)


def inputs(sides=(16, 16), count=2):
    return images(sides, count), torch.linspace(0.1, 1.0, count, dtype=torch.float64)


def condition_of(options, count=2):
    if "num_classes" in options:
        return torch.tensor([3, 9][:count])
    if "clip_dim" in options:
        shape = (count, options["num_clip_token"], options["clip_dim"])
        return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return None


# -- layout --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sizes", "options", "count"), COUNTS)
def test_parameters_are_those_of_the_published_networks(sizes, options, count):
    assert sum(p.numel() for p in on_meta(sizes, **options).parameters()) == count


def test_state_dict_has_names_shapes_and_order_of_the_public_code():
    options = {"mlp_time_embed": True, "qkv_bias": True, "num_classes": 10}
    state = on_meta((16, 4, 3, 8, 2, 2), **options).state_dict()
    both = ("weight", "bias")
    in_block = [
        f"{layer}.{kind}"
        for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        for kind in both
    ]
    out_block = [*in_block, "skip_linear.weight", "skip_linear.bias"]
    assert list(state) == [
        "pos_embed",
        *(f"patch_embed.proj.{kind}" for kind in both),
        *(f"time_embed.{layer}.{kind}" for layer in (0, 2) for kind in both),
        "label_emb.weight",
        *(f"in_blocks.0.{name}" for name in in_block),
        *(f"mid_block.{name}" for name in in_block),
        *(f"out_blocks.0.{name}" for name in out_block),
        *(f"{layer}.{kind}" for layer in ("norm", "decoder_pred", "final_layer") for kind in both),
    ]
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert shapes["pos_embed"] == (1, 2 + 16, 8)
    assert shapes["patch_embed.proj.weight"] == (8, 3, 4, 4)
    assert shapes["mid_block.attn.qkv.weight"] == (24, 8)
    assert shapes["out_blocks.0.skip_linear.weight"] == (8, 16)
    assert shapes["decoder_pred.weight"] == (48, 8)
    text = list(on_meta((16, 4, 3, 8, 2, 2), clip_dim=6).state_dict())
    assert text[3:5] == ["context_embed.weight", "context_embed.bias"]
    whole = on_meta((64, 4, 3, 512, 12, 8))
    assert len(whole.state_dict()) == 164 and not list(whole.buffers())


def test_initial_weights_are_drawn_as_in_the_public_code():
    torch.manual_seed(0)
    net = UViT(32, 4, 3, 256, 2, 4, num_classes=100)
    for weight in (net.pos_embed, net.mid_block.attn.qkv.weight, net.decoder_pred.weight):
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert (
        float(net.mid_block.mlp.fc1.weight.detach().abs().max()) > 0.06
    )  # not cut at two deviations
    assert not net.mid_block.attn.proj.bias.any()
    assert float(net.patch_embed.proj.weight.detach().abs().max()) == pytest.approx(
        48**-0.5, rel=0.01
    )
    assert float(net.label_emb.weight.detach().std()) == pytest.approx(1.0, rel=0.05)


# -- the forward pass ----------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_network_computes_what_the_facts_say(options):
    net, condition = uvit(**options), condition_of(options)
    x, t = inputs()
    kind = "label" if "num_classes" in options else "text"
    expected = reference(
        net.state_dict(), x, t, patch=4, depth=4, heads=3,
        skip=options.get("skip", True), **{kind: condition},
    )  # fmt: skip
    assert float(expected.abs().max().detach()) > 0.5
    torch.testing.assert_close(net(x, t, condition), expected, atol=1e-10, rtol=1e-10)


def test_images_need_not_be_square():
    net = uvit(sides=(8, 20))
    assert net.grid == (2, 5)
    x, t = inputs((8, 20))
    expected = reference(net.state_dict(), x, t, patch=4, depth=4, heads=3)
    torch.testing.assert_close(net(x, t), expected, atol=1e-10, rtol=1e-10)


def test_sinusoid_has_cosines_first_and_a_zero_for_an_odd_width():
    times = torch.tensor([0.0, 2.0], dtype=torch.float64)
    found = sinusoid(times, 5)
    assert found.dtype == torch.float64 and found[0].tolist() == [1, 1, 0, 0, 0]
    angles = torch.tensor([2.0, 0.02], dtype=torch.float64)
    torch.testing.assert_close(found[1, :4], torch.cat((angles.cos(), angles.sin())))


def test_classes_that_are_not_told_have_the_last_row():
    net = uvit(num_classes=10)
    x, t = inputs()
    of_last = net(x, t, torch.tensor([9, 9]))
    assert torch.equal(net(x, t), of_last)
    assert torch.equal(net(x, t, torch.tensor([-1, -1])), of_last)
    mixed = net(x, t, torch.tensor([-1, 3]))
    torch.testing.assert_close(mixed[0], of_last[0], atol=1e-12, rtol=1e-12)
    assert not torch.allclose(mixed[1], of_last[1])


# -- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "condition", "words"),
    [
        ({}, torch.tensor([1, 2]), "takes None as its condition, but got one of shape (2,);"),
        ({"num_classes": 10}, torch.tensor([1]), "wants a class from 0 to 9 for each image, int64 "
         "(B,), or -1 where it is not told, as its condition, but got one of shape (1,)."),
        (
            {"clip_dim": 6, "num_clip_token": 5}, None,
            "wants a text for each image, (B, 5, 6), as its condition, but got none.",
        ),
        ({"clip_dim": 6, "num_clip_token": 5}, torch.zeros(2, 6, 5), "got one of shape (2, 6, 5)."),
    ],
)  # fmt: skip
def test_condition_that_does_not_fit_is_one_line(options, condition, words):
    with pytest.raises(UserError, match=re.escape(words)) as error:
        uvit(**options)(*inputs(), condition)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("sizes", "options", "words"),
    [
        ((30, 4, 3, 8, 2, 2), {}, "model.patch_size is 4, which does not divide images of 30×30"),
        (((32, 30), 4, 3, 8, 2, 2), {}, "images of 32×30"),
        ((32, 0, 3, 8, 2, 2), {}, "model.patch_size is 0"),
        ((32, 4, 3, 64, 2, 5), {}, "model.embed_dim is 64 and model.num_heads 5, but the heads of "
         "U-ViT share its width evenly; try --set model.embed_dim=65."),
        ((32, 4, 3, 8, 0, 2), {}, "model.depth is 0"),
        ((32, 4, 3, 8, 2, 0), {}, "model.num_heads 0"),
        ((32, 4, 3, 8, 13, 2), {}, "model.depth is 13, but U-ViT has as many blocks before its "
         "middle one as after it; give 12 or 14."),
        ((32, 4, 3, 8, 1, 2), {}, "give 2 or 4."),
        ((32, 4, 3, 8, 2, 2), {"num_classes": 2, "clip_dim": 3}, "not both"),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_one_line(sizes, options, words):
    with pytest.raises(UserError, match=re.escape(words)) as error:
        UViT(*sizes, **options)
    assert "\n" not in str(error.value)


# -- other resolutions ---------------------------------------------------------------------------


def on_ramp(place):
    """Bicubic interpolation of 0, 1, 2, 3 between 1 and 2, by the cubic kernel with a = −3/4."""
    a, total = -0.75, 0.0
    for value in range(4):
        d = abs(place - value)
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        total += value * (near if d <= 1 else a * (d**3 - 5 * d**2 + 8 * d - 4))
    return total


def test_positions_are_interpolated_for_patches_alone():
    net = uvit(num_classes=10)
    state = net.state_dict()
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    state["pos_embed"][0, 2:, 0] = rows.flatten()
    state["pos_embed"][0, 2:, 1] = columns.flatten()
    resized = resized_positions(state, (4, 4), (8, 12))
    wide = uvit(sides=(32, 48), num_classes=10)
    wide.load_state_dict(resized)
    positions = resized["pos_embed"]
    assert positions.dtype == torch.float64
    assert torch.equal(positions[:, :2], state["pos_embed"][:, :2])
    plane = positions[0, 2:].unflatten(0, (8, 12))
    # Centre k of new patches is at (k + ½)/2 − ½ of the old ones' rows, (k + ½)/3 − ½ of columns.
    assert plane[3:5, 6, 0].tolist() == pytest.approx([on_ramp(1.25), on_ramp(1.75)])
    assert plane[4, 5:7, 1].tolist() == pytest.approx([on_ramp(4 / 3), on_ramp(5 / 3)])
    others = state.keys() - {"pos_embed"}
    assert others and all(resized[name] is state[name] for name in others)
    same = resized_positions(state, (4, 4), (4, 4))["pos_embed"]
    torch.testing.assert_close(same, state["pos_embed"])
    assert list(resized) == list(state)


@pytest.mark.parametrize("state", [{}, {"pos_embed": torch.zeros(1, 16, 8)}])
def test_positions_of_another_grid_are_one_line(state):
    with pytest.raises(UserError, match="4×4 patches has 1 to 16 positions and more") as error:
        resized_positions(state, (4, 4), (8, 8))
    assert "\n" not in str(error.value)


# -- operations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_closed_form_counts_the_operations_that_torch_counts(options):
    net = UViT((16, 24), 4, 3, 12, 4, 3, **options)
    x, t = (tensor.float() for tensor in inputs((16, 24), count=1))
    condition = condition_of(options, count=1)
    if "clip_dim" in options:
        condition = condition.float()
    plain = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with torch.no_grad(), FlopCounterMode(display=False) as counter, plain:
        net(x, t, condition)
    assert forward_flops(net) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("sizes", "options", "forward", "step"),
    [
        ((64, 4, 3, 512, 12, 8), {}, 24.42, 73.25),
        ((64, 4, 3, 256, 12, 8), {}, 6.552, 19.65),
        ((32, 2, 3, 512, 12, 8), {}, 24.40, 73.20),
        ((64, 4, 3, 768, 16, 12), IN64, 70.47, None),
        ((32, 2, 4, 1152, 28, 16), IN256 | {"conv": False}, 266.4, None),
        (TINY, {}, 0.0404, 0.121),
        ((64, 8, 3, 256, 8, 8), {}, None, 3.12),
    ],
)
def test_operations_are_those_of_the_published_networks(sizes, options, forward, step):
    net = on_meta(sizes, **options)
    if forward is not None:
        assert forward_flops(net) / 1e9 == pytest.approx(forward, rel=1e-3)
    if step is not None:
        assert step_cost(net, 3, sizes[0]).flops / 1e9 == pytest.approx(step, rel=3e-3)
