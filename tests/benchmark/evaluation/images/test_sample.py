import numpy as np
import pytest

from benchmark.__main__ import main
from benchmark.evaluation.images.image_source import open_images
from mindiffusion.data.codec import PIXELS
from mindiffusion.runtime import SamplerRuntime
from mindiffusion.sampling import config_of, model_of, sample_images
from mindiffusion.training import checkpoint
from mindiffusion.training.run_folder import CONFIG_FILE
from mindiffusion.unet import NaiveUnet


@pytest.fixture
def weights(workdir, train_run, tiny_config):
    """A milestone's file of a tiny run with chunks of four images."""
    config = tiny_config("cs", "training.steps=8", "training.milestones=[8]")
    train_run(config)
    return checkpoint.weights_path(config.run_dir, 8)


def draw(call, weights, *words):
    code, out, errors = call(main, ["sample", str(weights), "--output", "x.npy", *words])
    assert code == 0, errors
    assert out.strip() == "x.npy"
    return np.load("x.npy")


def test_images_are_those_of_the_primary_average(weights, call):
    import torch

    content = checkpoint.load(weights)
    config = config_of(content)
    model = model_of(content, "ema0.99", torch.device("cpu"))
    expected = sample_images(model, model.process, PIXELS, config.sampler, 6, 32)
    assert np.array_equal(draw(call, weights, "--count", "6"), expected)
    assert not np.array_equal(draw(call, weights, "--count", "6", "--weights", "raw"), expected)


def test_a_wait_for_the_compiler_is_told_before_it_begins(weights, call, monkeypatch):
    words = ["sample", str(weights), "--count", "1", "--output", "x.png"]
    assert "compiling" not in call(main, words)[2]
    module = "benchmark.evaluation.images.sample"
    compiled = SamplerRuntime(4, "fp32", True)
    monkeypatch.setattr(f"{module}.resolve_sampler", lambda config, device: compiled)
    monkeypatch.setattr(NaiveUnet, "compile", lambda self: None)
    assert call(main, words)[2].startswith("compiling the network first; that takes a minute")


def test_arrays_carry_the_manifest_of_the_data_behind_them(weights, call, avatars, workdir):
    draw(call, weights, "--count", "2")
    assert open_images(workdir / "x.npy").manifest == avatars.manifest_id
    (weights.parent / CONFIG_FILE).unlink()  # nothing left that could say
    draw(call, weights, "--count", "2")
    assert open_images(workdir / "x.npy").manifest is None


def test_image_k_is_the_same_for_any_count(weights, call):
    nine = draw(call, weights, "--count", "9")
    for count in (1, 4, 5):
        assert np.array_equal(draw(call, weights, "--count", str(count)), nine[:count])


def test_an_output_that_cant_be_written_is_known_before_anything_is_drawn(
    weights, call, workdir, monkeypatch
):
    monkeypatch.setattr("benchmark.evaluation.images.sample.sampling_network", None)
    (workdir / "folder.npy").mkdir()
    (workdir / "file").write_bytes(b"")
    for output in ("/proc/x.npy", "file/x.npy", "folder.npy"):
        code, _, errors = call(main, ["sample", str(weights), "--output", output])
        assert code == 2 and errors.splitlines()[-1].startswith("error: ") and output in errors


def test_count_seed_and_damage_are_told_in_one_line(weights, call):
    for words, message in (
        (["--count", "-1"], "at least one image"),
        (["--seed", "-1"], "sampling seed"),
        (["--weights", "rw"], "Did you mean 'raw'"),
        (["--output", "x.gif"], ".png or .npy"),
    ):
        code, _, errors = call(main, ["sample", str(weights), *words])
        assert code == 2 and message in errors.splitlines()[-1]
        assert errors.splitlines()[-1].startswith("error: ") and "Traceback" not in errors
    weights.write_bytes(b"PK" + weights.read_bytes()[2:-1])
    code, _, errors = call(main, ["sample", str(weights)])
    assert code == 2 and errors.startswith(f"error: checkpoint {weights} is damaged")
