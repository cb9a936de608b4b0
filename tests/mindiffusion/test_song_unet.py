import re

import pytest
import torch
from song_unet_reference import reference
from tiny_networks import SONG, images, song_unet

from mindiffusion.errors import UserError
from mindiffusion.song_layers import FourierEmbedding
from mindiffusion.song_unet import ARCHITECTURES, SongUNet
from mindiffusion.step_cost import step_cost

CIFAR = {"channel_mult": (2, 2, 2)}
COUNTS = [
    (32, "ddpmpp", CIFAR | {"label_dim": 10, "augment_dim": 9}, 55_735_299, 427),
    (32, "ddpmpp", CIFAR | {"augment_dim": 9}, 55_733_891, 425),
    (32, "ddpmpp", CIFAR | {"label_dim": 10}, 55_734_147, 426),
    (32, "ddpmpp", CIFAR, 55_732_739, 424),
    (32, "ncsnpp", CIFAR | {"label_dim": 10, "augment_dim": 9}, 56_400_643, 434),
    (32, "ncsnpp", CIFAR | {"augment_dim": 9}, 56_397_827, 432),
    (64, "ddpmpp", {"augment_dim": 9}, 61_805_571, None),
    (64, "ncsnpp", {"augment_dim": 9}, 62_761_091, None),
]
OPTIONS = [
    ("ddpmpp", {}),
    ("ddpmpp", {"label_dim": 5, "augment_dim": 4}),
    ("ncsnpp", {}),
    ("ncsnpp", {"label_dim": 5, "attn_resolutions": (8, 2), "channel_mult": (1, 1, 2)}),
    ("ddpmpp", {"resample_filter": (1, 3, 3, 1), "channel_mult": (2,), "attn_resolutions": ()}),
]


def on_meta(side, arch, options):
    with torch.device("meta"):
        return SongUNet(side, 3, 3, **ARCHITECTURES[arch] | options)


def inputs(side=8):
    return images((side, side)), torch.linspace(-1.2, 0.7, 3, dtype=torch.float64)


# -- layout --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "arch", "options", "count", "tensors"), COUNTS)
def test_parameters_are_those_of_the_published_networks(side, arch, options, count, tensors):
    net = on_meta(side, arch, options)
    assert sum(p.numel() for p in net.parameters()) == count
    assert tensors is None or len(net.state_dict()) == tensors


def of(name, *layers):
    return [f"{name}.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]


def plain(name):
    return of(name, "norm0", "conv0", "affine", "norm1", "conv1")


def joined(name):
    return [*plain(name), *of(name, "skip")]


def resampled(name):
    names = joined(name)
    names.insert(names.index(f"{name}.conv0.bias") + 1, f"{name}.conv0.resample_filter")
    return [*names, f"{name}.skip.resample_filter"]


def attending(names, name):
    return [*names, *of(name, "norm2", "qkv", "proj")]


def test_state_dict_has_names_shapes_and_order_of_the_public_code():
    options = {
        "channel_mult": (1, 1), "num_blocks": 1, "model_channels": 8, "attn_resolutions": (16,),
    }  # fmt: skip
    state = on_meta(16, "ncsnpp", options | {"label_dim": 3, "augment_dim": 9}).state_dict()
    assert list(state) == [
        "map_noise.freqs",
        *("map_label.weight", "map_label.bias", "map_augment.weight"),
        *("map_layer0.weight", "map_layer0.bias", "map_layer1.weight", "map_layer1.bias"),
        *of("enc", "16x16_conv"),
        *attending(plain("enc.16x16_block0"), "enc.16x16_block0"),
        *resampled("enc.8x8_down"),
        *of("enc", "8x8_aux_residual"), "enc.8x8_aux_residual.resample_filter",
        *plain("enc.8x8_block0"),
        *attending(plain("dec.8x8_in0"), "dec.8x8_in0"),
        *plain("dec.8x8_in1"),
        *joined("dec.8x8_block0"), *joined("dec.8x8_block1"),
        *resampled("dec.16x16_up"),
        *joined("dec.16x16_block0"),
        *attending(joined("dec.16x16_block1"), "dec.16x16_block1"),
        *of("dec", "16x16_aux_norm", "16x16_aux_conv"),
    ]  # fmt: skip
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert shapes["map_noise.freqs"] == (8,)  # half of 2 · 8 channels
    assert shapes["map_label.weight"] == (16, 3) and shapes["map_augment.weight"] == (16, 9)
    assert shapes["map_layer1.weight"] == (32, 32)
    assert shapes["enc.8x8_aux_residual.weight"] == (8, 3, 3, 3)
    assert shapes["enc.8x8_down.skip.resample_filter"] == (1, 1, 4, 4)
    assert shapes["dec.8x8_in0.qkv.weight"] == (24, 8, 1, 1)


def test_cifar_network_has_the_published_blocks():
    net = on_meta(32, "ddpmpp", CIFAR)
    at = {"32x32": "", "16x16": "a", "8x8": ""}
    expected = []
    for side in at:
        expected += [f"{side}_conv" if side == "32x32" else f"{side}_down"]
        expected += [f"{side}_block{k}" for k in range(4)]
    assert list(net.enc) == expected
    assert [net.dec[f"32x32_block{k}"].norm0.num_channels for k in range(5)] == [
        512, 512, 512, 512, 384,
    ]  # fmt: skip
    attends = {
        name
        for part in (net.enc, net.dec)
        for name, block in part.items()
        if getattr(block, "attends", False)
    }
    assert attends == {*(f"16x16_block{k}" for k in range(5)), "8x8_in0"}
    assert net.enc["16x16_block0"].attends and not net.dec["16x16_block3"].attends
    assert net.enc["32x32_conv"].out_channels == 128
    assert net.dec["8x8_in0"].norm0.num_groups == 32


def test_initial_weights_are_drawn_as_in_the_public_code():
    torch.manual_seed(0)
    net = SongUNet(16, 3, 3, model_channels=64, channel_mult=(1, 1), num_blocks=1)
    block = net.enc["16x16_block0"]
    for weight, fan, gain in (
        (block.conv0.weight, 2 * 64 * 9, 1.0),
        (block.conv1.weight, 2 * 64 * 9, 1e-5),
        (block.qkv.weight, 4 * 64, 0.2**0.5),
        (block.proj.weight, 2 * 64, 1e-5),
        (block.affine.weight, 64 + 256, 1.0),
        (net.map_layer1.weight, 512, 1.0),
        (net.dec["16x16_aux_conv"].weight, 67 * 9, 1e-5),
    ):
        bound = gain * (6 / fan) ** 0.5
        assert float(weight.detach().abs().max()) == pytest.approx(bound, rel=0.02)
        assert float(weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.05)
    biases = [p for name, p in net.named_parameters() if name.endswith("bias")]
    assert not any(bool(bias.any()) for bias in biases)
    x, told = (tensor.float() for tensor in inputs(16))
    assert float(net.eval()(x, told).detach().abs().max()) < 1e-3  # nearly 0 before training


def test_fourier_features_are_drawn_once_and_belong_to_the_state():
    torch.manual_seed(0)
    frequencies = FourierEmbedding(4000).freqs
    assert frequencies.shape == (2000,) and float(frequencies.std()) == pytest.approx(16, rel=0.1)
    net = song_unet("ncsnpp")
    assert "map_noise.freqs" in net.state_dict() and not net.map_noise.freqs.requires_grad


# -- the forward pass ----------------------------------------------------------------------------


def one_hot(classes, count):
    return (classes[:, None] == torch.arange(count)).double()


@pytest.mark.parametrize(("arch", "options"), OPTIONS, ids=str)
def test_network_computes_what_the_facts_say(arch, options):
    net = song_unet(arch, **options)
    x, told = inputs()
    sizes = SONG | options
    taps = (ARCHITECTURES[arch] | options).get("resample_filter", (1, 1))
    classes = torch.tensor([3, -1, 0]) if "label_dim" in options else None
    augment = torch.rand(3, 4, dtype=torch.float64) if "augment_dim" in options else None
    expected = reference(
        net.state_dict(), x, told, width=8, levels=len(sizes["channel_mult"]), blocks=2, taps=taps,
        onehot=None if classes is None else one_hot(classes, 5), augment=augment,
    )  # fmt: skip
    assert float(expected.abs().max().detach()) > 0.5
    found = net(x, told, classes, augment)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)
    if augment is not None:  # nothing said of it is no augmentation
        zeros = net(x, told, classes, torch.zeros(3, 4, dtype=torch.float64))
        torch.testing.assert_close(net(x, told, classes), zeros, atol=1e-12, rtol=1e-12)


def test_classes_that_are_not_told_are_those_of_no_class():
    net = song_unet(label_dim=5)
    x, told = inputs()
    of_none = net(x, told, torch.full((3,), -1))
    assert torch.equal(net(x, told), of_none)
    told_two = net(x, told, torch.tensor([-1, 2, 4]))
    torch.testing.assert_close(told_two[:1], of_none[:1], atol=1e-12, rtol=1e-12)
    assert not torch.allclose(told_two[1:], of_none[1:])


def test_dropout_acts_in_train_mode_alone():
    net = song_unet(dropout=0.5)
    x, told = inputs()
    assert not torch.equal(net(x, told), net(x, told))
    net.eval()
    assert torch.equal(net(x, told), net(x, told))
    assert torch.equal(net(x, told), song_unet().eval()(x, told))


def test_operations_are_those_of_convolutions_and_products():
    """By hand: a block without attention, at 8×8, of 8 channels, and its embedding."""
    net = SongUNet(8, 3, 3, model_channels=8, channel_mult=(1,), num_blocks=1, attn_resolutions=())
    pixels, mapping = 64, 8 * 32 + 32 * 32
    convs = 3 * 8 * 9 + 2 * 8 * 8 * 9  # first, block0
    convs += 2 * (2 * 8 * 8 * 9)  # in0, in1
    convs += 2 * (16 * 8 * 9 + 8 * 8 * 9 + 16 * 8)  # two blocks with a skip
    convs += 8 * 24 + 8 * 8 + 8 * 3 * 9  # attention's, and the last
    forward = 2 * (pixels * convs + mapping + 5 * 32 * 8 + 2 * pixels**2 * 8)
    # The backward pass takes twice that, less the gradients of the image and of the noise label.
    spared = 2 * (pixels * 3 * 8 * 9 + 8 * 32)
    assert step_cost(net, 3, 8).flops == 3 * forward - spared


# -- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model_channels": 30}, "model.model_channels is 30, but SongUNet takes positive mul"),
        ({"model_channels": 0}, "model.model_channels is 0"),
        ({"model_channels": 132}, "gives a norm of SongUNet 132 channels in 32 groups; give a"),
        ({"channel_mult": ()}, "model.channel_mult is []"),
        ({"num_blocks": 0}, "model.num_blocks 0"),
        ({"channel_mult": (1,) * 5}, "data.size is 8, but a SongUNet of 5 levels"),
        ({"attn_resolutions": (4, 3)}, "model.attn_resolutions has 3, but with images of 8 pixels "
         "and 3 levels the maps have sides 8, 4, 2; give some of these, or []."),
        ({"embedding_type": "sine"}, "embedding_type is 'sine'; allowed are positional, fourier."),
        ({"encoder_type": "skip"}, "encoder_type is 'skip'; allowed are standard, residual."),
        ({"decoder_type": "skip"}, "decoder_type is 'skip'; allowed are standard."),
        ({"label_dropout": 0.1}, "label_dropout is 0.1, but this network draws no labels"),
    ],
)  # fmt: skip
def test_sizes_and_words_that_do_not_fit_are_one_line(options, words):
    with pytest.raises(UserError, match=re.escape(words)) as error:
        song_unet(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("built", "told"), [(0, 9), (4, 9), (9, 4)])
def test_labels_of_augmentation_that_have_no_input_are_one_line(built, told):
    said = f"has {built} inputs for augmentation, but got labels of shape (3, {told}); build it"
    with pytest.raises(UserError, match=re.escape(said)) as error:
        song_unet(augment_dim=built)(*inputs(), None, torch.zeros(3, told))
    assert "\n" not in str(error.value)
