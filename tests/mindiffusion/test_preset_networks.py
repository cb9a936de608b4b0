"""The network of every preset, built without memory, beside published sizes."""

import functools

import pytest

from mindiffusion.build import network_without_memory
from mindiffusion.config.presets import build_config, load_preset, preset_names

# Parameters of DiT's authors for latents of 32x32x4 with 1000 classes, and the width of each size.
OF_LATENTS = {
    "s2": (32_963_360, 384, 2),
    "b2": (130_512_416, 768, 2),
    "b4": (130_475_648, 768, 4),
    "l2": (458_102_816, 1024, 2),
    "xl2": (675_129_632, 1152, 2),
}


@functools.cache
def size_of(name):
    network = network_without_memory(build_config(load_preset(name), name))
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", preset_names())
def test_network_of_every_preset_is_built_without_memory(name):
    assert size_of(name) > 100_000


def test_networks_of_edm_have_the_published_sizes():
    """With the nine inputs of augmentation, as the public weights have them."""
    for arm in "bd":
        assert size_of(f"cifar10_edm_{arm}") == 55_735_299
        assert size_of(f"ffhq64_edm_{arm}") == 61_805_571


def test_networks_on_latents_have_the_published_sizes():
    assert size_of("imagenet256_uvit_large_latent") == 286_763_172
    latents, width, patch = OF_LATENTS["xl2"]
    assert size_of("imagenet256_dit_xl2_latent") == latents - 4 * patch**2 * (width + 1)


@pytest.mark.parametrize("name", OF_LATENTS)
def test_networks_of_dit_have_the_published_sizes_on_pixels(name):
    """Three channels of 64 pixels instead of four of 32, and no variance."""
    latents, width, patch = OF_LATENTS[name]
    positions = ((64 // patch) ** 2 - (32 // patch) ** 2) * width
    first = -(patch**2) * width
    last = -(patch**2) * 5 * (width + 1)
    assert size_of(f"imagenet64_dit_{name}") == latents + positions + first + last
