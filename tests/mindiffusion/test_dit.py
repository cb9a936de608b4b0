import math
import re

import pytest
import torch
from dit_reference import reference
from tiny_networks import DEEP, dit, images
from torch.utils.flop_counter import FlopCounterMode

from mindiffusion.dit import DiT, grid_positions
from mindiffusion.errors import UserError
from mindiffusion.training.ema import Averages

COUNTS = [
    ("S", 2, 32_963_360, 32_865_056, 132),
    ("S", 4, 32_945_024, 32_920_448, 132),
    ("S", 8, 33_148_160, 33_142_016, 132),
    ("B", 2, 130_512_416, 130_315_808, 132),
    ("B", 4, 130_475_648, 130_426_496, 132),
    ("B", 8, 130_881_536, 130_869_248, 132),
    ("L", 2, 458_102_816, 457_840_672, 252),
    ("L", 4, 458_053_760, 457_988_224, 252),
    ("L", 8, 458_594_816, 458_578_432, 252),
    ("XL", 2, 675_129_632, 674_834_720, 292),
    ("XL", 4, 675_074_432, 675_000_704, 292),
    ("XL", 8, 675_683_072, 675_664_640, 292),
]
PIXELS = {"in_channels": 3, "num_classes": 10, "learn_sigma": False}
OPTIONS = [
    {"num_classes": 5},
    {"num_classes": 5, "learn_sigma": False, "mlp_ratio": 2.5},
    {"num_classes": None, "patch_size": 4},
    {"num_classes": 0, "num_heads": 1, "depth": 3},
]


def on_meta(name, **options):
    with torch.device("meta"):
        return DiT.of_size(name, **options)


def inputs():
    return images(), torch.tensor([0.0, 17.0, 999.0], dtype=torch.float64)


# -- layout --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "patch", "total", "trainable", "tensors"), COUNTS)
def test_parameters_are_those_of_the_published_networks(name, patch, total, trainable, tensors):
    net = on_meta(name, patch_size=patch)
    assert sum(p.numel() for p in net.parameters()) == total
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == trainable
    assert len(net.state_dict()) == tensors and not list(net.buffers())


@pytest.mark.parametrize(
    ("name", "patch", "count"),
    [("S", 2, 32_573_964), ("S", 4, 32_527_920), ("B", 2, 129_733_644)],
)
def test_parameters_for_pixels_and_ten_classes(name, patch, count):
    net = on_meta(name, patch_size=patch, **PIXELS)
    assert sum(p.numel() for p in net.parameters()) == count


def test_state_dict_has_names_and_shapes_of_the_public_code():
    net = DiT(**DEEP | {"num_classes": 5, "depth": 1})
    state = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    linears = {
        "t_embedder.mlp.0": (24, 256),
        "t_embedder.mlp.2": (24, 24),
        "blocks.0.attn.qkv": (72, 24),
        "blocks.0.attn.proj": (24, 24),
        "blocks.0.mlp.fc1": (96, 24),
        "blocks.0.mlp.fc2": (24, 96),
        "blocks.0.adaLN_modulation.1": (144, 24),
        "final_layer.linear": (2 * 2 * 6, 24),
        "final_layer.adaLN_modulation.1": (48, 24),
        "x_embedder.proj": (24, 3, 2, 2),
    }
    assert state == {
        "pos_embed": (1, 16, 24),
        "y_embedder.embedding_table.weight": (6, 24),
        **{f"{layer}.weight": shape for layer, shape in linears.items()},
        **{f"{layer}.bias": shape[:1] for layer, shape in linears.items()},
    }


@pytest.mark.parametrize("none", [None, 0])
def test_network_without_classes_has_no_table(none):
    net = DiT(**DEEP | {"num_classes": none})
    assert net.y_embedder is None
    assert not any(name.startswith("y_embedder") for name in net.state_dict())
    table = DiT(**DEEP | {"num_classes": 5, "class_dropout_prob": 0.0}).y_embedder
    assert table.embedding_table.weight.shape == (5, 24)


def test_initial_weights_are_drawn_as_in_the_public_code():
    torch.manual_seed(0)
    net = DiT(**DEEP | {"hidden_size": 96, "num_classes": 50})
    block = net.blocks[0]
    for weight, fan in (
        (block.attn.qkv.weight, 4 * 96),
        (block.attn.proj.weight, 2 * 96),
        (block.mlp.fc1.weight, 5 * 96),
        (net.x_embedder.proj.weight, 96 + 12),
    ):
        bound = (6 / fan) ** 0.5
        assert float(weight.detach().abs().max()) == pytest.approx(bound, rel=0.02)
    for layer in (net.t_embedder.mlp[0], net.t_embedder.mlp[2], net.y_embedder.embedding_table):
        assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    zeros = [block.adaLN_modulation[1], net.final_layer.adaLN_modulation[1], net.final_layer.linear]
    assert not any(bool(layer.weight.any()) for layer in zeros)
    assert not any(bool(p.any()) for name, p in net.named_parameters() if name.endswith("bias"))
    x, told = (tensor.float() for tensor in inputs())
    answer = net(x, told)
    assert answer.shape == (3, 6, 8, 8) and not answer.any()


# -- positions -----------------------------------------------------------------------------------


def test_positions_tell_the_column_first():
    found = grid_positions(8, 3)
    assert found.dtype == torch.float32 and found.shape == (1, 9, 8)
    for row in range(3):
        for column in range(3):
            expected = [
                function(place * frequency)
                for place in (column, row)
                for function in (math.sin, math.cos)
                for frequency in (1.0, 0.01)
            ]
            assert found[0, 3 * row + column].tolist() == pytest.approx(expected, abs=1e-7)


def test_positions_keep_their_bits_under_decay_and_averaging():
    net = DiT(**DEEP | {"num_classes": 5})
    expected = net.pos_embed.clone()
    averages = Averages(net, (0.9, 0.77), total_steps=100)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.5)
    x, told = (tensor.float() for tensor in inputs())
    for _ in range(5):
        (net(x, told)[:, :3] - x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        averages.update()
    assert net.blocks[0].attn.qkv.weight.abs().max() > 0
    assert torch.equal(net.pos_embed, expected)
    for decay in averages.decays:
        assert torch.equal(averages.weights(decay)["pos_embed"], expected)


# -- the forward pass ----------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_network_computes_what_the_facts_say(options):
    net = dit(**options)
    x, told = inputs()
    sizes = DEEP | options
    has_classes = bool(options["num_classes"])
    out = 3 if options.get("learn_sigma") is False else 6
    expected = reference(
        net.state_dict(), x, told, patch=sizes["patch_size"], depth=sizes["depth"],
        heads=sizes["num_heads"], out=out, rows=torch.tensor([4, 5, 0]) if has_classes else None,
    )  # fmt: skip
    assert float(expected.abs().max().detach()) > 0.5
    condition = torch.tensor([4, -1, 0]) if has_classes else None
    torch.testing.assert_close(net(x, told, condition), expected, atol=1e-10, rtol=1e-10)


def test_classes_that_are_not_told_have_the_last_row():
    net = dit(num_classes=5)
    x, told = inputs()
    of_none = net(x, told, torch.full((3,), -1))
    assert torch.equal(net(x, told), of_none)
    for k in range(5):
        assert not torch.allclose(net(x, told, torch.full((3,), k)), of_none)
    net.train()
    assert torch.equal(net(x, told, torch.tensor([1, 2, 3])), net(x, told, torch.tensor([1, 2, 3])))


@pytest.mark.parametrize(
    ("name", "patch", "products"),
    [("S", 2, 6.06), ("B", 4, 5.56), ("L", 2, 80.71), ("XL", 2, 118.64), ("XL", 8, 7.39)],
)
def test_operations_are_those_that_the_paper_gives(name, patch, products):
    """The paper's, in 10⁹ multiplications of a forward pass."""
    net = on_meta(name, patch_size=patch)
    x, told = torch.zeros(1, 4, 32, 32, device="meta"), torch.zeros(1, device="meta")
    plain = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with torch.no_grad(), FlopCounterMode(display=False) as counter, plain:
        net(x, told)
    assert counter.get_total_flops() / 2e9 == pytest.approx(products, rel=0.01)


# -- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"hidden_size": 25},
            "model.hidden_size is 25, model.num_heads 3 and model.depth 2, but D",
        ),
        ({"hidden_size": 6}, "multiples of its heads and of 4 as its width"),
        ({"num_heads": 0}, "model.num_heads 0"),
        ({"depth": 0}, "model.depth 0"),
        ({"patch_size": 3}, "model.patch_size is 3, which does not divide images of 8×8 pixels"),
    ],
)
def test_sizes_that_do_not_fit_are_one_line(options, words):
    with pytest.raises(UserError, match=re.escape(words)) as error:
        dit(**options)
    assert "\n" not in str(error.value)


def test_network_without_a_row_for_it_must_be_told_all_classes():
    net = dit(num_classes=5, class_dropout_prob=0.0)
    x, told = inputs()
    for condition in (None, torch.tensor([1, -1, 2])):
        with pytest.raises(UserError, match="no row for images whose class is not told") as error:
            net(x, told, condition)
        assert "\n" not in str(error.value)
    assert net(x, told, torch.tensor([0, 1, 4])).shape == (3, 6, 8, 8)
