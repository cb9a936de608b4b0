"""Autoencoders out of a folder: what is read, and what is refused in one line."""

import json
from dataclasses import replace

import latents_of_a_test as tiny
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mindiffusion.config.codec import VAEConfig
from mindiffusion.config.presets import build_config
from mindiffusion.errors import UserError
from mindiffusion.kept_latents import KnownLatents
from mindiffusion.latent_codec import LatentCodec, at_once
from mindiffusion.vae import check_vae, open_vae, vae_sha256

pytest.importorskip("diffusers", reason="the extra [latents] is not installed")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_vae(tmp_path_factory.mktemp("vae"))


@pytest.fixture
def own(folder, tmp_path):
    """A function: names a copy of the folder with changes of its document and tensors."""

    def make(name="own", tensors=lambda found: found, **changes):
        path = tmp_path / name
        path.mkdir()
        settings = json.loads((folder / "config.json").read_text()) | changes
        (path / "config.json").write_text(json.dumps(settings))
        found = tensors(load_file(folder / "diffusion_pytorch_model.safetensors"))
        save_file(found, path / "diffusion_pytorch_model.safetensors")
        return VAEConfig(path=str(path), factor=tiny.FACTOR)

    return make


def config_of(folder, **changes):
    return VAEConfig(path=str(folder), **({"factor": tiny.FACTOR} | changes))


def test_moments_and_images_are_those_of_diffusers_own_loader(folder):
    from diffusers import AutoencoderKL

    theirs = AutoencoderKL.from_pretrained(folder, local_files_only=True).eval()
    ours = open_vae(config_of(folder), CPU)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 16, 16, generator=generator) * 2 - 1
    with torch.no_grad():
        said = theirs.encode(images).latent_dist
        expected = torch.stack((said.mean, said.std), 1)
        torch.testing.assert_close(ours.moments(images), expected)
        torch.testing.assert_close(ours.decoded(said.mean), theirs.decode(said.mean).sample)
    assert ours.moments(images).shape == (2, 2, 4, 4, 4)


def test_codec_draws_scaled_latents_by_place_and_decodes_them_unscaled(folder, monkeypatch):
    vae = open_vae(config_of(folder), CPU)
    codec = LatentCodec(config_of(folder), KnownLatents(vae.sha256, 0.5))
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    images = torch.from_numpy(images)
    inputs = codec.inputs(images, torch.float32)
    assert codec.shape(16) == tuple(inputs.shape[1:]) == (4, 4, 4)
    assert torch.equal(codec.inputs(images[:2], torch.float32), inputs[:2])
    moments = vae.moments((images / 127.5 - 1).permute(0, 3, 1, 2))
    noise = (2 * inputs - moments[:, 0]) / moments[:, 1]
    # 320 normals, none of which another image shares.
    assert abs(noise.mean()) < 0.25 and noise.std() == pytest.approx(1, abs=0.15)
    assert len(noise.flatten().unique()) > 300
    pixels = codec.pixels(inputs)
    torch.testing.assert_close(pixels, vae.decoded(2 * inputs).clamp(-1, 1))
    expected = ((pixels + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(codec.images(inputs), expected)
    assert at_once(256) == 4 and at_once(4096) == 1
    with pytest.raises(UserError, match="not finite"):
        codec.images(inputs * torch.nan)


def test_hash_follows_weights_and_network_but_no_other_word(folder, own):
    known = vae_sha256(config_of(folder))
    assert vae_sha256(own("same", scaling_factor=0.3, sample_size=8)) == known
    assert vae_sha256(own("net", norm_num_groups=2)) != known
    other = own("weights", lambda found: found | {"quant_conv.bias": found["quant_conv.bias"] + 1})
    assert vae_sha256(other) != known
    codec = LatentCodec(other, KnownLatents(known, 1.0))
    with pytest.raises(UserError, match=rf"autoencoder {known[:12]}, but .* give the former"):
        codec.pixels(torch.zeros(1, 4, 2, 2))


def test_names_of_older_files_are_read(tmp_path):
    folder = tiny.write_vae(tmp_path / "new", mid_block_add_attention=True)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    older = {}
    for name, tensor in tensors.items():
        for now, before in names.items():
            if f".attentions.0.{now}." in name:
                name = name.replace(now, before)
                tensor = tensor[:, :, None, None] if tensor.dim() == 2 else tensor
        older[name] = tensor.contiguous()
    assert sum("query" in name for name in older) == 4
    path = tmp_path / "old"
    path.mkdir()
    (path / "config.json").write_text((folder / "config.json").read_text())
    torch.save(older, path / "diffusion_pytorch_model.bin")
    images = torch.linspace(-1, 1, 3 * 64).view(1, 3, 8, 8)
    both = [open_vae(config_of(one), CPU).moments(images) for one in (folder, path)]
    assert torch.equal(*both)


def test_folder_that_does_not_fit_is_refused_in_one_line(folder, own, tmp_path):
    cut = own("cut")
    weights = tmp_path / "cut" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    lacking = own("lacking")
    (tmp_path / "lacking" / "diffusion_pytorch_model.safetensors").unlink()
    broken = own("broken")
    (tmp_path / "broken" / "config.json").write_text("{")
    wider = own("wider", lambda found: found | {"quant_conv.bias": torch.zeros(9)})
    for config, said in (
        (config_of(tmp_path / "nowhere"), r"nowhere/config.json is not there"),
        (lacking, r"safetensors is not there"),
        (cut, r"cannot be read"),
        (broken, r"no whole JSON document"),
        (wider, r"'quant_conv.bias' is 9, but 8"),
        (own("class", _class_name="VQModel"), r"_class_name is 'VQModel'"),
        (own("shift", shift_factor=0.1), r"shift_factor is 0.1"),
        (own("groups", norm_num_groups=3), r"no network can be built"),
        (
            config_of(folder, channels=16),
            r"codec.channels is 16, but .* have channels 4; give --set",
        ),
        (config_of(folder, factor=8), r"codec.factor is 8, but .* have factor 4; give --set"),
    ):
        with pytest.raises(UserError, match=said) as error:
            check_vae(config)
        assert "\n" not in str(error.value)


def test_config_takes_the_short_form_and_refuses_what_does_not_fit(tiny_content, tiny_config):
    config = tiny_config("b", *tiny.words("here"))
    assert config.input_shape == (4, 8, 8)
    short = tiny_config("b", "codec=vae:here", *tiny.WORDS)
    assert short.codec == VAEConfig(path="here") and short.input_shape == (4, 4, 4)
    assert replace(short.codec, factor=4, scale=0.18215).shape(32) == (4, 8, 8)
    for words, said in (
        (("codec=vae",), r"codec\.path"),
        (("codec=vqgan:here",), r"allowed are pixels, vae"),
        (("codec=vae:here", "data.size=36", *tiny.WORDS[1:]), r"data.size is 36, .* multiple of"),
        ((*tiny.words("here"), "codec.scale=0"), r"codec\.scale"),
        (
            ("codec=vae:here", "training.augment=0.1",
             "model={network: song_unet, model_channels: 8, channel_mult: [1], num_blocks: 1}"),
            r"training.augment is 0.1, but it moves pixels",
        ),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            build_config(tiny_content("b", *words), "tiny")
    with pytest.raises(UserError, match=r"images are latents here: their side, 4, is data.size 32"):
        tiny_config("b", "codec=vae:here", "data.size=32").check_model()
