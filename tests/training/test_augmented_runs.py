"""Augmentation in training: what a batch has, what a network is told, what is refused, resuming."""

import numpy as np
import pytest
import torch

from mindiffusion.build import build_network, expected_tensors
from mindiffusion.config.presets import apply_overrides, build_config, load_preset
from mindiffusion.config.run import config_hash, to_kept
from mindiffusion.data.codec import PIXELS
from mindiffusion.data.training_data import TrainingData
from mindiffusion.errors import UserError
from mindiffusion.noise import Stream
from mindiffusion.song_unet import SongUNet
from mindiffusion.training import checkpoint
from mindiffusion.training.batches import BatchSource
from mindiffusion.training.preflight import notes

MODEL = "model={network: song_unet, model_channels: 8, channel_mult: [1, 2], num_blocks: 1}"
WORDS = (MODEL, "training.augment=0.4", "training.steps=8", "training.milestones=[8]",
         "training.checkpoint_every=3")  # fmt: skip


def source(augment, **changes):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    settings = {
        "seed": 3, "global_batch": 16, "flip": False,
        "device": torch.device("cpu"), "dtype": torch.float32,
    } | changes  # fmt: skip
    return BatchSource(TrainingData(images, "m"), PIXELS, augment=augment, **settings)


# -- batches -------------------------------------------------------------------------------------


def test_batch_is_augmented_by_seed_step_and_position_alone():
    whole = source(0.3).batch(7, 0, 16)
    assert whole.augment_labels.shape == (16, 9) and whole.augment_labels.any(1).sum() > 4
    for start, stop in ((0, 3), (3, 11), (11, 16)):
        part = source(0.3).batch(7, start, stop)
        assert torch.equal(part.augment_labels, whole.augment_labels[start:stop])
        torch.testing.assert_close(part.images, whole.images[start:stop], atol=1e-6, rtol=0)
    for other in (source(0.3).batch(8, 0, 16), source(0.3, noise_stream=1).batch(7, 0, 16)):
        assert not torch.equal(other.augment_labels, whole.augment_labels)


def test_augmentation_changes_images_and_labels_and_no_other_draw():
    plain, changed = (source(p).batch(7, 0, 16) for p in (0.0, 0.3))
    assert plain.augment_labels is None
    assert torch.equal(plain.u, changed.u) and torch.equal(plain.noise, changed.noise)
    is_told = changed.augment_labels.any(1)
    is_changed = (plain.images != changed.images).flatten(1).any(1)
    assert torch.equal(is_told, is_changed) and 4 < is_told.sum() < 16


def test_probes_are_of_images_as_they_are():
    streams = (Stream.PROBE_TIME, Stream.PROBE_NOISE)
    plain, changed = (source(p).batch(7, 0, 16, streams) for p in (0.0, 0.3))
    assert changed.augment_labels is None and torch.equal(plain.images, changed.images)


def test_batch_in_float64_is_augmented_likewise():
    single, double = (source(0.3, dtype=d).batch(1, 0, 16) for d in (torch.float32, torch.float64))
    assert double.images.dtype == double.augment_labels.dtype == torch.float64
    torch.testing.assert_close(single.images.double(), double.images, atol=3e-5, rtol=0)
    assert torch.equal(single.augment_labels, double.augment_labels.float())


# -- runs ----------------------------------------------------------------------------------------


def test_network_is_told_what_was_done_and_learns_of_it(workdir, train_run, tiny_config):
    config = tiny_config("b", *WORDS)
    before = build_network(config).map_augment.weight.detach().clone()
    network = train_run(config).network
    assert before.shape[1] == 9
    assert not torch.equal(network.map_augment.weight, before)

    # Without labels, as samplers and scores ask, it is the network of images as they are.
    x, noise = torch.zeros(2, 3, 32, 32), torch.ones(2)
    with torch.no_grad():
        network.eval()
        told = [network(x, noise, augment_labels=labels) for labels in (None, torch.zeros(2, 9))]
        other = network(x, noise, augment_labels=torch.ones(2, 9))
    torch.testing.assert_close(*told)
    assert not torch.allclose(told[0], other)


def test_trainer_tells_the_labels_of_the_batch(workdir, train_run, tiny_config):
    trainer = train_run(tiny_config("b", *WORDS))
    heard = []
    hook = trainer.network.map_augment.register_forward_pre_hook(
        lambda layer, args: heard.append(args[0].clone())
    )
    trainer.train_step()
    hook.remove()
    expected = trainer.source.batch(8, 0, 8).augment_labels
    assert torch.equal(torch.cat(heard), expected) and expected.any()


def test_resumed_run_ends_with_the_bits_of_one_that_was_not_stopped(
    workdir, train_run, tiny_config, assert_same, log_lines
):
    whole, cut = (tiny_config("b", *WORDS, output=name) for name in ("whole", "cut"))
    train_run(whole)
    train_run(cut, stop_after=5)
    train_run(cut)
    ends = [checkpoint.load(checkpoint.checkpoint_path(c.run_dir, 8)) for c in (whole, cut)]
    assert_same(*ends)
    assert log_lines(whole.run_dir) == log_lines(cut.run_dir)


# -- configs -------------------------------------------------------------------------------------


def test_runs_without_it_keep_their_hash_and_their_weights(tiny_config):
    plain, off = (tiny_config("b", MODEL, *words) for words in ((), ("training.augment=0",)))
    assert "augment" not in to_kept(plain)["training"] and config_hash(plain) == config_hash(off)
    assert "map_augment.weight" not in expected_tensors(plain)
    on = tiny_config("b", MODEL, "training.augment=0.12")
    assert to_kept(on)["training"]["augment"] == 0.12 and config_hash(on) != config_hash(plain)


@pytest.mark.parametrize("network", ["naive_unet", "uvit", "sparse_uvit", "dit"])
def test_network_that_cannot_be_told_is_refused(network, tiny_config):
    said = (
        f"training.augment is 0.12, but the network {network} has no input that tells it of "
        "augmentation, so it would draw augmented images; give training.augment=0, or "
        "model.network=song_unet."
    )
    with pytest.raises(UserError, match=said) as caught:
        tiny_config("b", f"model.network={network}", "training.augment=0.12")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["-0.1", "1.5", "yes"])
def test_chances_that_are_none_are_one_line(value, tiny_config):
    with pytest.raises(UserError, match=r"training\.augment") as caught:
        tiny_config("b", MODEL, f"training.augment={value}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("arch", "size"), [("ddpmpp", 427), ("ncsnpp", 434)])
def test_weights_of_the_published_layout_fit_a_run_that_augments(arch, size):
    """CIFAR-10 with classes: 427 and 434 tensors, map_augment among them, by the same names."""
    options = {"ncsnpp": {"embedding_type": "fourier", "channel_mult_noise": 2,
                          "encoder_type": "residual", "resample_filter": (1, 3, 3, 1)}}  # fmt: skip
    with torch.device("meta"):
        public = SongUNet(32, 3, 3, label_dim=10, augment_dim=9, channel_mult=(2, 2, 2),
                          **options.get(arch, {}))  # fmt: skip
    content = apply_overrides(load_preset("cifar10_edm_b"), [f"model.arch={arch}"])
    ours = expected_tensors(build_config(content, "preset"))
    assert {k: v.shape for k, v in ours.items()} == {
        k: v.shape for k, v in public.state_dict().items()
    }
    assert len(ours) == size and ours["map_augment.weight"].shape[1] == 9


def test_mirrored_images_that_are_not_told_are_pointed_out(tiny_config):
    words = ("model.network=song_unet", "model.model_channels=8", "training.augment=0.1")
    for flip, count in ((True, 1), (False, 0)):
        config = tiny_config("b", *words, f"data.horizontal_flip={str(flip).lower()}")
        found = [line for line in notes(config, 256) if "is not told of the former" in line]
        assert len(found) == count
