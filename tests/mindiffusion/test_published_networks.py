"""What the networks of publications have in common beyond the contract of all networks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tiny_networks import dit, images, song_unet, uvit

from mindiffusion.errors import UserError

TOLD = torch.tensor([0.12, 0.5, 0.97], dtype=torch.float64)


@dataclass(frozen=True)
class Published:
    """A tiny network, and where to look in it.

    Attributes:
        build: makes it.
        side: of its images.
        classes: its option for classes.
        embed: network, images, told → what it makes of the noise.
        ends: its first layer, one in the middle, its last layer.
        title: as errors name it.
    """

    build: Callable[..., Any]
    side: int
    classes: str
    embed: Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]
    ends: tuple[str, str, str]
    title: str

    def inputs(self):
        return images((self.side, self.side)), TOLD


NETWORKS = {
    "dit": Published(
        dit, 8, "num_classes", lambda net, x, told: net._embedding(x, told, None),
        ("x_embedder", "blocks.0.attn", "final_layer.linear"), "DiT",
    ),
    "song_unet": Published(
        lambda **options: song_unet("ncsnpp", **options), 8, "label_dim",
        lambda net, x, told: net._embedding(x, told, None, None),
        ("enc.8x8_conv", "enc.2x2_block0.conv0", "dec.8x8_aux_conv"), "SongUNet",
    ),
    "uvit": Published(
        uvit, 16, "num_classes", lambda net, x, told: net._extra_tokens(told, None)[-1],
        ("patch_embed", "mid_block.attn", "final_layer"), "U-ViT",
    ),
}  # fmt: skip


@pytest.fixture(params=NETWORKS)
def published(request):
    return NETWORKS[request.param]


def test_time_scale_is_a_factor_on_what_the_network_is_told(published):
    net, scaled = (published.build(time_scale=scale) for scale in (3.0, 30.0))
    scaled.load_state_dict(net.state_dict())
    x, told = published.inputs()
    torch.testing.assert_close(scaled(x, told), net(x, 10.0 * told), atol=1e-9, rtol=1e-9)
    assert not torch.allclose(scaled(x, told), net(x, told))


def test_time_is_told_apart_in_float32_whatever_the_weights_are(published):
    net = published.build(time_scale=999.0).float()
    x, close = published.inputs()[0].float(), torch.tensor([997.0, 998.0, 999.0]) / 999.0
    with torch.autocast("cpu", torch.bfloat16):
        wide = published.embed(net, x, close)
    assert wide.dtype == torch.float32 and torch.equal(wide, published.embed(net, x, close))
    assert not torch.equal(wide[1], wide[2])
    narrow = published.embed(net.bfloat16(), x, close)
    assert narrow.dtype == torch.bfloat16 and not torch.equal(narrow[0], narrow[2])


@pytest.mark.parametrize("exact_ends", [False, True])
def test_ends_stay_exact_where_a_sampler_asks_for_it(exact_ends, published):
    net = published.build().float()
    net.exact_ends = exact_ends
    dtypes = {}
    for name in published.ends:
        net.get_submodule(name).register_forward_hook(
            lambda layer, args, output, name=name: dtypes.update({name: output.dtype})
        )
    x, told = published.inputs()
    with torch.autocast("cpu", torch.bfloat16):
        net(x.float(), told.float())
    end = torch.float32 if exact_ends else torch.bfloat16
    assert [dtypes[name] for name in published.ends] == [end, torch.bfloat16, end]


def test_network_is_compiled_as_one_graph(published):
    net = published.build(**{published.classes: 5}).float()
    net.exact_ends = True
    x, told = (tensor.float() for tensor in published.inputs())
    labels = torch.tensor([1, 2, -1])
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(compiled(x, told, labels), net(x, told, labels))


def test_images_of_other_sides_are_one_line(published):
    side, other = published.side, 2 * published.side
    said = f"this {published.title} was built for images of {side}×{side} pixels, but got {other}×"
    with pytest.raises(UserError, match=said) as error:
        published.build()(images((other, other)), TOLD)
    assert "\n" not in str(error.value)
