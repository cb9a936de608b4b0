"""``export``, and ``sample`` of what it wrote and of folders of other programs."""

import json

import numpy as np
import pytest
import torch

from benchmark.__main__ import main
from benchmark.evaluation.images.image_source import open_images
from mindiffusion.build import build_codec, build_network
from mindiffusion.config.presets import apply_overrides, build_config, load_preset
from mindiffusion.exchange.by_path import open_weights
from mindiffusion.sampling import model_of, sample_images
from mindiffusion.training import checkpoint

PRESET = ["--preset", "celeba64_uvit_small"]
TINY = [
    "data.size=32", "model.patch_size=8", "model.embed_dim=16", "model.depth=2",
    "model.num_heads=2", "sampler.steps=6", "sampler.chunk=4",
]  # fmt: skip


def words_of(overrides):
    return [word for text in overrides for word in ("--set", text)]


def told(*more):
    return build_config(apply_overrides(load_preset(PRESET[1]), [*TINY, *more]), "tiny")


@pytest.fixture
def weights(workdir, train_run, tiny_config):
    """A milestone's file of a tiny run."""
    config = tiny_config("cs", "training.steps=8", "training.milestones=[8]")
    train_run(config)
    return checkpoint.weights_path(config.run_dir, 8)


@pytest.fixture
def folder(workdir):
    """A checkpoint of a tiny U-ViT as its public code keeps it."""
    path = workdir / "50000.ckpt"
    path.mkdir()
    state = build_network(told()).state_dict()
    generator = torch.Generator().manual_seed(5)
    for name in ("nnet.pth", "nnet_ema.pth"):
        moved = {
            key: one + torch.randn(one.shape, generator=generator) for key, one in state.items()
        }
        torch.save(moved, path / name)
    return path


def drawn(call, path, *words):
    """The images, and the line that says of which weights."""
    command = ["sample", str(path), "--count", "5", "--output", "x.npy", *words]
    code, _, errors = call(main, command)
    assert code == 0, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("drawing with")]
    return np.load("x.npy"), line


def refused(call, words, *parts):
    code, out, errors = call(main, [str(word) for word in words])
    assert code == 2 and not out
    assert errors.startswith("error: ") and len(errors.splitlines()) == 1
    for part in parts:
        assert part in errors, errors


def test_images_of_an_exported_file_are_the_milestone_s(weights, call, workdir, avatars):
    for words, name in (([], "ema0.99"), (["--weights", "raw"], "raw")):
        code, out, _ = call(main, ["export", str(weights), "out/x.safetensors", *words])
        assert (code, out) == (0, f"out/x.safetensors: the weights {name} at step 8\n")
        found, line = drawn(call, "out/x.safetensors")
        assert line == f"drawing with the weights {name} of out/x.safetensors"
        # Nothing beside the file says what it was trained on.
        assert open_images(workdir / "x.npy").manifest == avatars.manifest_id
        assert np.array_equal(found, drawn(call, weights, *words)[0])
    assert len(found) == 5 and found.std() > 1


def test_mistakes_of_export_are_one_line_and_nothing_is_lost(weights, call, workdir):
    (workdir / "kept.safetensors").write_text("mine")
    (workdir / "folder.safetensors").mkdir()
    out = ["kept.safetensors"]
    refused(call, ["export", weights, "x.bin"], "x.bin: give a name that ends in .safetensors")
    refused(call, ["export", weights, "folder.safetensors"], "folder.safetensors is a folder")
    refused(call, ["export", weights, "/proc/x.safetensors"], "/proc/x.safetensors")
    refused(call, ["export", "none.pt", *out], "none.pt does not exist")
    refused(call, ["export", ".", *out], "is a folder without nnet_ema.pth")
    refused(call, ["export", weights, *out, "--weights", "rw"], "Did you mean 'raw'")
    state = checkpoint.checkpoint_path(weights.parent, 8)
    refused(call, ["export", state, *out], "state to resume from")
    weights.write_bytes(weights.read_bytes()[:-1])
    refused(call, ["export", weights, *out], "is damaged")
    assert (workdir / "kept.safetensors").read_text() == "mine"
    assert sorted(path.name for path in workdir.glob("*.safetensors")) == [
        "folder.safetensors", *out
    ]  # fmt: skip


def test_an_exported_file_is_told_nothing_and_holds_one_set(weights, call, workdir):
    assert call(main, ["export", str(weights), "x.safetensors"])[0] == 0
    command = ["sample", "x.safetensors"]
    refused(call, [*command, "--weights", "raw"], "no weights 'raw'", "ema0.99")
    refused(call, [*command, *PRESET], "--preset is for those alone")
    refused(call, [*command, "--set", "sampler.steps=3"], "give --preset too")
    path = workdir / "x.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    refused(call, command, "x.safetensors cannot be read")


def test_a_folder_of_another_program_is_drawn_from(folder, call):
    for words, name in (([], "ema0.9999"), (["--weights", "raw"], "raw")):
        found, line = drawn(call, folder, *PRESET, *words_of(TINY), *words)
        assert line == f"drawing with the weights {name} of {folder}"
        config = told()
        model = model_of(open_weights(folder, config), name, torch.device("cpu"))
        codec = build_codec(config)
        assert np.array_equal(
            found, sample_images(model, model.process, codec, config.sampler, 5, 32)
        )
    assert not open_images(folder.parent / "x.npy").manifest
    assert not (folder.parent / "x.npy.json").exists()


def test_mistakes_about_a_folder_are_one_line(folder, call):
    command, tiny = ["sample", folder], words_of(TINY)
    refused(call, command, "50000.ckpt is a folder", "take it with --preset")
    refused(call, [*command, "--preset", "celeba64_uvit_smal"], "Did you mean 'celeba64_uvit_small")
    refused(call, [*command, *PRESET], "nnet_ema.pth", "'pos_embed' is 1x17x16, but 1x257x512")
    refused(call, [*command, *PRESET, "--set", "model.dept=2"], "unknown key 'model.dept'")
    whole = [*command, *PRESET, *tiny]
    refused(call, [*whole, "--set", "sampler.name=ddpm"], "sampler.name is ddpm")
    preconditioned = ["--set", "process.parameterization=preconditioned"]
    refused(call, [*whole, *preconditioned], "lacks the statistics")
    (folder / "nnet.pth").unlink()
    refused(call, [*whole, "--weights", "raw"], "no weights 'raw'", "ema0.9999")
    (folder / "nnet_ema.pth").write_text(json.dumps({"a": 1}))
    refused(call, whole, "nnet_ema.pth cannot be read")
