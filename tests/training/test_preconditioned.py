"""Preconditioned runs: trained, resumed, sampled from their files alone, on one rank and two."""

import numpy as np
import pytest
import torch

from mindiffusion.build import build_process
from mindiffusion.data.codec import PIXELS
from mindiffusion.data.mean_and_spread import image_statistics
from mindiffusion.data.training_data import TrainingData
from mindiffusion.errors import UserError
from mindiffusion.process import Model, stitched
from mindiffusion.runtime import SamplerRuntime, resolve_runtime
from mindiffusion.sampling import (
    load_weights,
    model_of,
    primary_weights,
    sample_images,
    sampling_network,
)
from mindiffusion.training import checkpoint
from mindiffusion.training.loop import Hooks
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.run_folder import run
from mindiffusion.training.trainer import Trainer

PRE = "process.parameterization=preconditioned"
BALANCED = "process.loss_weight={kind: balanced}"
CPU = torch.device("cpu")
SHORT = ("training.steps=12", "training.milestones=[6, 12]", "training.checkpoint_every=4")


def state(config, step=12):
    return checkpoint.load(checkpoint.checkpoint_path(config.run_dir, step))


def weights(config, step=12):
    return checkpoint.load(checkpoint.weights_path(config.run_dir, step))


def draw(model, sampler):
    return sample_images(model, model.process, PIXELS, sampler, 4, 32)


@pytest.mark.parametrize("words", [(PRE,), (PRE, BALANCED), (BALANCED,)], ids=str)
def test_resumed_in_the_middle_is_as_if_never_stopped(
    words, workdir, train_run, tiny_config, assert_same, log_lines
):
    whole, cut = (tiny_config("cs", *SHORT, *words, output=name) for name in ("whole", "cut"))
    train_run(whole)
    train_run(cut, stop_after=7)
    train_run(cut)
    assert_same(state(whole), state(cut))
    assert_same(weights(whole), weights(cut))
    assert log_lines(whole.run_dir) == log_lines(cut.run_dir)
    assert any(entry.get("channels_grown") for entry in state(cut)["stage_log"])


def test_a_run_of_eps_keeps_no_statistics(workdir, train_run, tiny_config):
    config = tiny_config("b", *SHORT, "process.loss_weight={kind: p2}")
    trainer = train_run(config)
    assert trainer.statistics is None
    assert "statistics" not in state(config) and "statistics" not in weights(config)


@pytest.mark.parametrize("arm", ["b", "cs", "cr"])
def test_a_weights_file_alone_samples_what_the_process_does(
    arm, workdir, train_run, tiny_config, avatars
):
    config = tiny_config(arm, *SHORT, PRE)
    trainer = train_run(config)
    content = weights(config)
    assert content["weights"]["raw"].keys() == trainer.network.state_dict().keys()
    own = draw(Model(trainer.network.eval(), trainer.process), config.sampler)
    assert np.array_equal(draw(model_of(content, "raw", CPU), config.sampler), own)
    # One that was made before any weights were known takes the statistics with them.
    network = sampling_network(config, SamplerRuntime(4, "fp32", False), CPU)
    assert np.array_equal(draw(load_weights(network, content, "raw"), config.sampler), own)
    found = image_statistics(avatars.train)
    assert content["statistics"]["std"] == found.std
    assert np.array_equal(content["statistics"]["mean"].numpy(), found.mean)


def test_the_first_loss_is_that_of_the_linear_denoiser_and_the_weighted_run_logs_it_too(
    workdir, train_run, tiny_config, log_lines
):
    """Of an untrained network: its last layer is small, so the skip alone is nearly what is seen.

    Plain ε-networks begin at an error of about 1.
    """
    words = ("training.steps=1", "training.milestones=[1]", "training.log_every=1")
    lines = []
    for name, more in (("eps", ()), ("pre", (PRE,)), ("weighted", (PRE, BALANCED))):
        config = tiny_config("b", *words, *more, output=name)
        train_run(config)
        lines.append(log_lines(config.run_dir)[0])
    eps, pre, weighted = lines
    assert pre["loss"] < 0.5 * eps["loss"]
    # The log has the plain error; the gradient has the weight.
    assert weighted["loss"] == pre["loss"] and weighted["loss_by_t"] == pre["loss_by_t"]
    assert weighted["grad_norm"] != pytest.approx(pre["grad_norm"], rel=0.01)


def test_sides_of_stitched_models_are_read_each_in_its_own_way(workdir, train_run, tiny_config):
    models, configs = [], []
    for name, words in (("eps", ()), ("pre", (PRE, BALANCED))):
        configs.append(tiny_config("b", *SHORT, *words, "sampler.steps=4", output=name))
        train_run(configs[-1])
        content = weights(configs[-1])
        models.append(model_of(content, primary_weights(configs[-1]), CPU))
    sampler = configs[0].sampler
    own = [draw(model, sampler) for model in models]
    first, mixed, last = (
        sample_images(stitched(*models, tau), models[0].process, PIXELS, sampler, 4, 32)
        for tau in (0.0, 0.5, 1.0)
    )
    assert np.array_equal(first, own[0]) and np.array_equal(last, own[1])
    assert not np.array_equal(mixed, own[0]) and not np.array_equal(mixed, own[1])


@pytest.mark.parametrize("word", [PRE, BALANCED, "process.loss_weight={kind: edm}"])
def test_images_that_are_all_the_same_are_refused_in_one_line(word, tiny_config, tmp_path):
    config = tiny_config("b", word, output=tmp_path / "run")
    same = np.full((64, 32, 32, 3), 7, np.uint8)
    with pytest.raises(UserError, match="64 training images are all the same") as error:
        run(config, TrainingData(same, "0123456789ab"), Ranks(), lambda trainer: Hooks())
    assert "\n" not in str(error.value) and not config.run_dir.joinpath("config.json").exists()


def test_a_state_of_other_images_is_refused(workdir, train_run, tiny_config, avatars):
    config = tiny_config("b", *SHORT, PRE)
    train_run(config, stop_after=5)
    others = np.array(avatars.train)
    others[0] = 255 - others[0]
    with pytest.raises(UserError, match="another mean picture or spread"):
        run(config, TrainingData(others, avatars.manifest_id), Ranks(), lambda trainer: Hooks())


def test_parts_of_a_process_are_moved_and_compiled_as_ever(tiny_config, avatars):
    """bf16 with exact ends, micro-batches, channels-last: the bare network is what they act on."""
    config = tiny_config("cr", PRE, "training.precision=bf16", "training.micro_batch=3")
    trainer = Trainer(config, resolve_runtime(config, 1), Ranks(), CPU, avatars.training)
    trainer.enter_stage(trainer.pacer.stages[0])
    trainer.train_step()
    assert trainer.watch.read(1) is None and trainer.is_finite()
    assert trainer.network.penalty() is not None
    memory = trainer.network.out.weight.is_contiguous(memory_format=torch.channels_last)
    assert memory and not trainer.process.state_dict()
    drawing = sampling_network(config, SamplerRuntime(4, "bf16", False), CPU)
    assert drawing.network.exact_ends
    model = Model(drawing, trainer.process)
    x, level = torch.zeros(2, 3, 32, 32), trainer.process.level(torch.ones(2))
    assert model(x, level).eps.dtype == torch.float32


def test_a_probe_is_read_as_the_training_is(tiny_config, avatars, monkeypatch):
    config = tiny_config("cs", PRE)
    trainer = Trainer(config, resolve_runtime(config, 1), Ranks(), CPU, avatars.training)
    probes = []
    monkeypatch.setattr(
        trainer.network, "enter_stage", lambda capacity, probe: probes.append(probe) or {}
    )
    trainer.enter_stage(trainer.pacer.stages[1])
    batch = next(iter(probes[0](1, 8)))
    assert batch.process is trainer.process
    with torch.no_grad():
        found = batch.process.predict(trainer.network, batch.x_t, batch.level).eps
        assert not torch.equal(found, trainer.network(batch.x_t, batch.level.t.float()))


def test_before_any_data_are_known_mean_and_spread_are_those_of_edm(tiny_config):
    made = build_process(tiny_config("b", PRE)).parameterization
    assert not made.mean.any() and made.std == 0.5
