"""Folders with checkpoints in the layout of U-ViT's public code."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.__main__ import main
from mindiffusion.build import build_network
from mindiffusion.config.model import SongUNetConfig
from mindiffusion.config.presets import apply_overrides, build_config, load_preset
from mindiffusion.errors import UserError
from mindiffusion.exchange.by_path import is_weights, open_weights
from mindiffusion.sampling import config_of, model_of, usual_weights
from mindiffusion.song_unet import SongUNet

CPU = torch.device("cpu")
TINY = (
    "data.dataset=avatars", "data.size=32", "data.crop=squash", "model.patch_size=8",
    "model.embed_dim=16", "model.depth=2", "model.num_heads=2",
)  # fmt: skip
PRESET = "celeba64_uvit_small"
SMALL = {"model_channels": 8, "channel_mult": (1, 2), "num_blocks": 1}


def tiny(*words):
    return build_config(apply_overrides(load_preset(PRESET), [*TINY, *words]), "tiny")


def state(seed=0, *words):
    return build_network(replace(tiny(*words), seed=seed)).state_dict()


@pytest.fixture
def folder(tmp_path):
    """A checkpoint with both sets of weights, and with files that are nobody's to read."""
    path = tmp_path / "50000.ckpt"
    path.mkdir()
    torch.save(state(1), path / "nnet.pth")
    torch.save(state(2), path / "nnet_ema.pth")
    (path / "optimizer.pth").write_bytes(pickle.dumps(print))
    (path / "step.pth").mkdir()
    return path


def refused(path, *parts, told=None):
    with pytest.raises(UserError) as caught:
        open_weights(path, told or tiny())
    line = str(caught.value)
    assert "\n" not in line and len(line) < 700
    for part in parts:
        assert part in line, line


def test_the_average_is_drawn_from_and_the_raw_weights_are_there(folder):
    assert is_weights(folder)
    content = open_weights(folder, tiny())
    assert config_of(content) == tiny() and content["step"] == 50_000
    assert usual_weights(content, tiny()) == "ema0.9999"
    for name, seed in (("ema0.9999", 2), ("raw", 1)):
        found = model_of(content, name, CPU).network.state_dict()
        assert all(torch.equal(found[key], tensor) for key, tensor in state(seed).items())


@pytest.mark.parametrize(("gone", "left"), [("nnet.pth", "ema0.9999"), ("nnet_ema.pth", "raw")])
def test_one_of_the_two_files_is_enough(folder, gone, left):
    (folder / gone).unlink()
    content = open_weights(folder, tiny())
    assert list(content["weights"]) == [left] and usual_weights(content, tiny()) == left


def test_weights_under_a_preconditioner_are_those_of_its_network(folder):
    config = replace(tiny(), model=SongUNetConfig(**SMALL))
    bare = build_network(replace(config, seed=3)).state_dict()
    torch.save({f"model.{name}": tensor for name, tensor in bare.items()}, folder / "nnet.pth")
    torch.save(dict(bare), folder / "nnet_ema.pth")
    content = open_weights(folder, config)
    for weights in ("raw", "ema0.9999"):
        found = content["weights"][weights]
        assert list(found) == list(bare)
        assert all(torch.equal(found[name], tensor) for name, tensor in bare.items())
    (folder / "nnet_ema.pth").unlink()
    refused(folder, "nnet.pth", "lacks the tensor 'pos_embed'", told=tiny())


def test_weights_that_hear_of_augmentation_draw_as_their_network_does_of_none(folder):
    """As EDM's are published: their networks were trained with nine numbers more."""
    torch.manual_seed(3)
    config = replace(tiny(), model=SongUNetConfig(**SMALL))
    theirs = SongUNet(32, 3, 3, augment_dim=9, attn_resolutions=(16,), dropout=0, **SMALL).eval()
    theirs.time_scale = config.process.time_scale
    found = {f"model.{name}": tensor for name, tensor in theirs.state_dict().items()}
    assert found["model.map_augment.weight"].shape == (8, 9)
    torch.save(found, folder / "nnet_ema.pth")
    (folder / "nnet.pth").unlink()
    ours = model_of(open_weights(folder, config), "ema0.9999", CPU).network
    x, told = torch.randn(2, 3, 32, 32), torch.tensor([0.2, 0.9])
    with torch.no_grad():
        answer = theirs(x, told)
        torch.testing.assert_close(
            ours(x, told), answer, rtol=1e-4, atol=1e-4 * float(answer.std())
        )


@pytest.mark.parametrize("shape", [(9, 8), (8,)])
def test_augmentation_weights_that_fit_no_network_are_refused(folder, shape):
    config = replace(tiny(), model=SongUNetConfig(**SMALL))
    bare = build_network(config).state_dict()
    torch.save({**bare, "map_augment.weight": torch.zeros(shape)}, folder / "nnet_ema.pth")
    refused(folder, "has the tensor 'map_augment.weight'", told=config)
    torch.save({**state(), "map_augment.weight": torch.zeros(8, 9)}, folder / "nnet_ema.pth")
    refused(folder, "has the tensor 'map_augment.weight'")


def test_a_folder_of_another_name_says_no_step(folder):
    assert "step" not in open_weights(folder.rename(folder.with_name("best")), tiny())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("model.embed_dim=32", "'pos_embed' is 1x17x16, but 1x17x32"),
        ("model.patch_size=4", "'pos_embed' is 1x17x16, but 1x65x16"),
        ("model.depth=4", "lacks the tensor 'in_blocks.1.norm1.weight'"),
        ("model.conv=false", "has the tensor 'final_layer.weight'"),
        ("model.skip=false", "has the tensor 'out_blocks.0.skip_linear.weight'"),
    ],
)
def test_a_checkpoint_of_another_size_names_the_first_tensor_that_differs(folder, words, message):
    refused(folder, "nnet_ema.pth", message, told=tiny(words))


def test_what_is_no_state_dict_is_one_line_and_nothing_of_it_runs(folder):
    for content, message in (
        (b"", "cannot be read"),
        (pickle.dumps(print), "cannot be read"),
        ((folder / "nnet_ema.pth").read_bytes()[:-9], "cannot be read"),
    ):
        (folder / "nnet_ema.pth").write_bytes(content)
        refused(folder, "nnet_ema.pth", message)
    torch.save([1], folder / "nnet_ema.pth")
    refused(folder, "nnet_ema.pth holds [1] where names of tensors should be")
    torch.save({"step": 3}, folder / "nnet_ema.pth")
    refused(folder, "'step', which names no tensor")


def test_a_link_in_the_folder_is_not_followed(folder, tmp_path):
    (folder / "nnet_ema.pth").rename(tmp_path / "elsewhere.pth")
    (folder / "nnet_ema.pth").symlink_to(tmp_path / "elsewhere.pth")
    refused(folder, "nnet_ema.pth is a link")


def test_a_config_is_told_of_folders_and_of_nothing_else(folder, tmp_path):
    with pytest.raises(UserError, match=r"50000\.ckpt is a folder, .*--preset"):
        open_weights(folder)
    refused(tmp_path, "is a folder without nnet_ema.pth and nnet.pth")
    for name in ("weights-000000004.pt", "x.safetensors"):
        refused(tmp_path / name, name, "--preset is for those alone")


def test_weights_with_classes_are_drawn_by_number(tmp_path, call):
    words = ("model.num_classes=7", "training.label_drop=0.1", "sampler.steps=2", "sampler.chunk=2")
    path = tmp_path / "9.ckpt"
    path.mkdir()
    torch.save(state(1, *words), path / "nnet_ema.pth")
    sets = [part for word in (*TINY, *words) for part in ("--set", word)]
    command = ["sample", str(path), "--preset", PRESET, *sets, "--count", "2", "--guidance", "2"]

    def drawn(shown):
        output = tmp_path / f"{shown}.npy"
        code, _, errors = call(main, [*command, "--class", shown, "--output", str(output)])
        return errors if code else np.load(output)

    assert drawn("6").shape == drawn("0").shape == (2, 32, 32, 3)
    assert not np.array_equal(drawn("6"), drawn("0"))
    assert "class '7': class has the classes 0 to 6" in drawn("7")
