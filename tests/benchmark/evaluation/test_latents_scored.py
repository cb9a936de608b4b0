"""Milestones of a network that sees latents: profiles in latents, all else decoded."""

import dataclasses

import latents_of_a_test as tiny
import numpy as np
import pytest
import torch

from benchmark.evaluation.attributes.fit import ClassifierConfig
from benchmark.evaluation.evaluate_run import evaluate_run, run_evaluation
from benchmark.evaluation.milestone.milestone import CODEC
from benchmark.evaluation.milestone.proof import check_finisher
from benchmark.evaluation.milestone.stage_pictures import shown
from benchmark.evaluation.milestone.yardstick import make_yardstick
from benchmark.rows.file import read_rows
from benchmark.rows.keeper import INSTRUMENT
from benchmark.study.study import EvaluationConfig
from mindiffusion.data.caption_file import captions_table
from mindiffusion.data.latents import TrainingLatents
from mindiffusion.errors import UserError
from mindiffusion.prepared_latents import with_latents
from mindiffusion.sampling import codec_of
from mindiffusion.training import checkpoint
from mindiffusion.training.loop import Hooks
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.run_folder import run as train

pytest.importorskip("diffusers", reason="the extra [latents] is not installed")
SETTINGS = [
    "evaluation.num_generated=8", "evaluation.num_reference=32", "evaluation.strip=2",
    "evaluation.profile_levels=4", "evaluation.profile_images=16",
]  # fmt: skip

DIT = (
    "model={network: dit, patch_size: 2, hidden_size: 16, depth: 1, num_heads: 2, "
    "text: {width: 8, max_tokens: 4, vocabulary: 16, layers: 1}}"
)


@pytest.fixture
def run(workdir, tiny_config, train_run):
    """A trained run on latents, in the working folder."""
    config = tiny_config(
        "b", "training.steps=4", "training.milestones=[4]", "sampler={name: heun, steps: 3}",
        *tiny.words(tiny.write_vae(workdir / "vae")), output=workdir / "run",
    )  # fmt: skip
    train_run(config)
    return config


@pytest.fixture
def quick_attributes(monkeypatch):
    """A classifier of attributes that is made in a second, and no portraits drawn for it."""
    quick = ClassifierConfig(num_images=256, steps=20, batch=16, width=8)
    place = "benchmark.evaluation.milestone"
    monkeypatch.setattr(f"{place}.yardstick.ClassifierConfig", lambda: quick)
    monkeypatch.setattr(f"{place}.attribute_rows.amplitudes", lambda *how: ())


def test_run_is_scored_by_pixels_and_profiled_in_latents(run, quick_attributes):
    how = run_evaluation(["fd", "profile", "emergence"], ["effnet-lite0-64"], SETTINGS)
    assert evaluate_run(run.run_dir, how, None) == 0
    rows = read_rows(run.run_dir / "rows.jsonl")
    content = checkpoint.load(checkpoint.weights_path(run.run_dir, 4))
    kept = content["latents"]
    assert {row.versions[CODEC] for row in rows} == {
        f"vae {kept['vae'][:12]}, scale {kept['scale']:.9g}"
    }
    metrics = {row.metric for row in rows}
    assert "FD-EffNet-Lite0-64px@8" in metrics and any(m.startswith("emergence/") for m in metrics)
    assert all(INSTRUMENT in row.versions for row in rows if row.metric.startswith("FD-"))
    # At pure noise the linear denoiser of latents with variance 1 finds nearly all of it.
    by_metric = {
        metric: [row.value for row in rows if row.metric == metric]
        for metric in ("eps-MSE-linear", "eps-MSE-mean")
    }
    linear, mean = (np.array(values) for values in by_metric.values())
    assert len(linear) == 4 and (linear <= mean * 1.2).all() and linear[-1] < 0.1


def test_rows_of_channels_left_out_name_the_latents(
    workdir, tiny_config, train_run, quick_attributes
):
    config = tiny_config(
        "cs", "training.steps=10", "training.milestones=[10]",
        *tiny.words(tiny.write_vae(workdir / "vae")), "model.network=sparse_uvit",
        output=workdir / "cs",
    )  # fmt: skip
    train_run(config)
    how = run_evaluation(
        ["ablation", "ablation_attributes"], [],
        [*SETTINGS, "evaluation.features.ablation_draws=2", "evaluation.profile_levels=2"],
    )  # fmt: skip
    assert evaluate_run(config.run_dir, how, None) == 0
    rows = read_rows(config.run_dir / "rows.jsonl")
    of_channels = [row for row in rows if row.metric.startswith("ablation")]
    assert {row.metric.split("/")[0] for row in of_channels} == {
        "ablation", "ablation-random", "ablation-units", "ablation-accuracy",
        "ablation-accuracy-random",
    }  # fmt: skip
    assert all(row.versions[CODEC].startswith("vae ") for row in of_channels)
    assert all(INSTRUMENT in row.versions for row in of_channels if "accuracy" in row.metric)


def test_features_of_a_network_that_reads_text_and_sees_latents(
    workdir, tiny_config, avatars, monkeypatch
):
    told = [[f"face {image % 3}"] for image in range(len(avatars.train))]
    prompts = [one[0] for one in told[: len(avatars.held_out)]]
    captions = captions_table("txt", told, told[: len(avatars.held_out)], prompts)
    data = dataclasses.replace(avatars, captions=captions)
    monkeypatch.setattr("benchmark.evaluation.evaluate_run.prepared_data", lambda *_, **__: data)
    for name, few in {"LEADING": 4, "_EXTRA": 2, "_PROBES": 3}.items():
        monkeypatch.setattr(f"benchmark.evaluation.features_of.jacobian.{name}", few)
    config = tiny_config(
        "b", "training.steps=4", "training.milestones=[2, 4]", "sampler={name: heun, steps: 2}",
        *tiny.words(tiny.write_vae(workdir / "vae"))[::2], DIT, "data.captions=auto",
        "training.label_drop=0.25", output=workdir / "text",
    )  # fmt: skip
    train(config, data.training, Ranks(), lambda trainer: Hooks())
    how = run_evaluation(
        ["profile", "norms", "cka", "jacobian"], [],
        [*SETTINGS, "evaluation.features.images=20", "evaluation.features.levels=[0.4]",
         "evaluation.features.jacobian_images=2"],
    )  # fmt: skip
    assert evaluate_run(config.run_dir, how, None) == 0
    rows = read_rows(config.run_dir / "rows.jsonl")
    found = {row.metric for row in rows if row.step == 4}
    assert {"eps-MSE", "channel-norm/blocks.0/p50", "cka/blocks.0/own/2"} <= found
    assert {"jacobian/1", "jacobian-linear/1", "jacobian/effective-rank"} <= found
    assert all(np.isfinite(row.value) and row.versions[CODEC].startswith("vae ") for row in rows)


def test_oracle_and_inputs_are_of_latents_of_one_distribution(run, avatars):
    evaluation = EvaluationConfig(num_reference=32, num_generated=8, profile_images=16)
    yardstick = make_yardstick(evaluation, avatars, "cpu")
    content = checkpoint.load(checkpoint.weights_path(run.run_dir, 4))
    codec = codec_of(content, run)
    inputs = yardstick.inputs(codec, "held_out")
    oracle = yardstick.oracle(run)
    assert inputs.shape == (16, 4, 8, 8) and len(oracle.mean) == 256 and oracle.n == 256
    seen = with_latents(avatars.training, run.codec, run.data, "cpu", show_progress=False).latents
    assert isinstance(seen, TrainingLatents)
    expected = seen.statistics.mean.transpose(2, 0, 1).ravel()
    np.testing.assert_allclose(oracle.mean, expected, atol=1e-9)
    assert float(oracle.eigenvalues.mean()) == pytest.approx(seen.statistics.std**2, rel=1e-6)
    assert float(inputs.std()) == pytest.approx(1, abs=0.1)


def test_noisy_latents_are_shown_decoded(run, avatars):
    content = checkpoint.load(checkpoint.weights_path(run.run_dir, 4))
    codec, images = codec_of(content, run), np.array(avatars.held_out[:2])
    pictures = shown(images, torch.tensor([0.5, 1.0]).double(), run, codec)
    assert pictures.shape == images.shape and pictures.dtype == np.uint8


def test_finisher_must_see_the_same(run, tiny_config):
    pixels = tiny_config("b", *tiny.WORDS)
    with pytest.raises(UserError, match="has another codec than the run"):
        check_finisher(run, dataclasses.replace(pixels, process=run.process))
