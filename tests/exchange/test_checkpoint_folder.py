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

CPU = torch.device("cpu")
TINY = (
    "data.dataset=avatars", "data.size=32", "data.crop=squash", "model.patch_size=8",
    "model.embed_dim=16", "model.depth=2", "model.num_heads=2",
)  # fmt: skip
PRESET = "celeba64_uvit_small"


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
    small = SongUNetConfig(model_channels=8, channel_mult=(1, 2), num_blocks=1)
    config = replace(tiny(), model=small)
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
