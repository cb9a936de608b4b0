"""A run on latents of an autoencoder: encoded once, trained, resumed, drawn from, exported."""

import json
import shutil
import sys
from dataclasses import replace

import latents_of_a_test as tiny
import numpy as np
import pytest
import torch

from mindiffusion import prepared_latents
from mindiffusion.config.model import DiTConfig
from mindiffusion.config.process import DDPMConfig
from mindiffusion.config.run import config_hash, from_kept, to_kept
from mindiffusion.data.latents import usual_scale
from mindiffusion.errors import UserError
from mindiffusion.exchange import exported
from mindiffusion.kept_latents import KnownLatents, latents_of
from mindiffusion.prepared_latents import with_latents
from mindiffusion.sampling import codec_of, config_of, model_of, sample_images
from mindiffusion.training import checkpoint
from mindiffusion.training.preflight import check_run, preflight
from mindiffusion.vae import vae_sha256

pytest.importorskip("diffusers", reason="the extra [latents] is not installed")
CPU = torch.device("cpu")
SHORT = ("training.steps=6", "training.milestones=[3, 6]", "training.checkpoint_every=3")
WORDS = (*SHORT, "process={kind: edm, sigma_data: auto}", "sampler={name: heun, steps: 3}")


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    return tiny.write_vae(tmp_path_factory.mktemp("vae"))


@pytest.fixture
def make(workdir, vae, tiny_config):
    """A function: words → the config of a run on latents in this test's folder."""

    def config(*words, output="run", **codec):
        return tiny_config("b", *WORDS, *tiny.words(vae, **codec), *words, output=workdir / output)

    return config


def weights_of(config, step=6):
    return checkpoint.load(checkpoint.weights_path(config.run_dir, step))


def test_run_goes_on_as_if_it_had_not_been_stopped(make, train_run, avatars, monkeypatch):
    whole, parts = make(), make(output="parts")
    train_run(whole)
    encoded = []
    monkeypatch.setattr(prepared_latents, "open_vae", lambda *how: encoded.append(how))
    train_run(parts, stop_after=4)
    trainer = train_run(parts)
    assert encoded == []  # once, by the first run
    ours, theirs = (weights_of(config)["weights"]["raw"] for config in (whole, parts))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    latents = trainer.data.latents
    assert latents.moments.shape == (512, 2, 4, 8, 8) and latents.is_mirrored
    assert latents.scale == usual_scale(latents.moments[:256])
    # Scaled so that all values have variance 1 around one mean, so less around the mean picture.
    assert 0.1 < trainer.statistics.std < 1 and trainer.statistics.mean.shape == (8, 8, 4)
    content = weights_of(whole)
    assert content["latents"] == {"vae": vae_sha256(whole.codec), "scale": latents.scale}


def test_mirrored_rows_are_latents_of_mirrored_images(make, avatars):
    config = make()
    data = with_latents(avatars.training, config.codec, config.data, CPU, show_progress=False)
    vae = prepared_latents.open_vae(config.codec, CPU)
    for mirrored, start in ((False, 0), (True, 256)):
        image = avatars.train[3:4, :, ::-1] if mirrored else avatars.train[3:4]
        pixels = torch.from_numpy(image.copy()).permute(0, 3, 1, 2) / 127.5 - 1
        found = torch.from_numpy(data.latents.moments[start + 3 : start + 4]).float()
        torch.testing.assert_close(found, vae.moments(pixels), atol=2e-3, rtol=2e-3)
    unmirrored = replace(config.data, horizontal_flip=False)
    plain = with_latents(avatars.training, config.codec, unmirrored, CPU, show_progress=False)
    np.testing.assert_array_equal(plain.latents.moments, data.latents.moments[:256])
    assert plain.latents.scale == data.latents.scale


def test_samples_are_decoded_unclipped_and_the_same_from_an_exported_file(
    make, train_run, workdir, monkeypatch
):
    config = make()
    train_run(config)
    content = weights_of(config) | {"manifest": None}
    exported.save(workdir / "one.safetensors", content, "raw")
    drawn = []
    for one in (content, exported.load(workdir / "one.safetensors")):
        own = config_of(one)
        codec, model = codec_of(one, own), model_of(one, "raw", CPU)
        drawn.append(sample_images(model, model.process, codec, own.sampler, 3, 32))
    assert drawn[0].shape == (3, 32, 32, 3) and np.array_equal(*drawn)
    unclipped = replace(own.sampler, clip=False)
    again = sample_images(model, model.process, codec, unclipped, 3, 32)
    np.testing.assert_array_equal(again, drawn[0])


def test_another_autoencoder_is_refused_and_the_same_elsewhere_is_not(
    make, train_run, workdir, vae
):
    config = make()
    train_run(config, stop_after=4)
    other = tiny.write_vae(workdir / "other", seed=1)
    changed = replace(config, codec=replace(config.codec, path=str(other)))
    with pytest.raises(UserError, match=r"step 3 was trained on latents of vae .* former autoenc"):
        train_run(changed)
    path = checkpoint.checkpoint_path(config.run_dir, 3)
    state = checkpoint.load(path)
    scale = state["latents"]["scale"]
    checkpoint.save(path, state | {"latents": state["latents"] | {"scale": 1.001 * scale}})
    with pytest.raises(UserError, match=r"encoded anew by the same autoencoder.* bring the folder"):
        train_run(config)
    checkpoint.save(path, state)
    moved = shutil.copytree(vae, workdir / "moved")
    train_run(replace(config, codec=replace(config.codec, path=str(moved))))
    assert weights_of(config)["step"] == 6


def test_scale_may_be_given_and_is_known_without_a_checkpoint(make, avatars):
    config = make(scale=0.18215)
    data = with_latents(avatars.training, config.codec, config.data, CPU, show_progress=False)
    assert data.latents.scale == 0.18215
    assert latents_of({}, config) == KnownLatents(None, 0.18215)
    with pytest.raises(UserError, match=r"such as codec.scale=0.18215"):
        latents_of({}, make())


def test_runs_on_pixels_keep_their_files_and_hash(make, tiny_config):
    plain = tiny_config("b")
    assert "codec" not in to_kept(plain)
    assert config_hash(make()) != config_hash(make(scale=0.5)) != config_hash(plain)
    assert from_kept(json.loads(json.dumps(to_kept(make()))), "kept") == make()


def test_what_latents_lack_is_refused_before_the_first_step(make, workdir, monkeypatch):
    dit = DiTConfig(patch_size=2, hidden_size=16, depth=1, num_heads=2, learn_sigma=True)
    learning = replace(make(), model=dit, process=DDPMConfig())
    with pytest.raises(UserError, match=r"ends at grey levels, which inputs of codec.kind vae"):
        check_run(learning, 256)
    absent = replace(make(), codec=replace(make().codec, path="nowhere"))
    with pytest.raises(UserError, match=r"codec.path: nowhere/config.json is not there"):
        preflight(absent, 256)
    assert preflight(absent, None) == []  # nor are the data
    module = "diffusers.models.autoencoders.autoencoder_kl"
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install 'mindiffusion-curriculum\[latents\]'"):
        check_run(make(), 256)
