"""Runs whose network learns the variance: trained, resumed, sampled, scored, refused elsewhere."""

import math

import numpy as np
import pytest
import torch

from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.score import score_milestone
from benchmark.evaluation.milestone.yardstick import make_yardstick
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.presets import build_config, load_preset
from mindiffusion.config.run import config_hash, to_dict
from mindiffusion.config.sampler import SAMPLERS
from mindiffusion.curriculum.density import Window
from mindiffusion.data.codec import PIXELS
from mindiffusion.errors import UserError
from mindiffusion.runtime import resolve_runtime
from mindiffusion.sampling import model_of, sample_images
from mindiffusion.training import checkpoint
from mindiffusion.training.preflight import check_run, notes
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.trainer import Trainer

CPU = torch.device("cpu")
DIT = "model={network: dit, patch_size: 8, hidden_size: 16, depth: 2, num_heads: 2}"
LEARNED = "model.learn_sigma=true"
SHORT = ("training.steps=12", "training.milestones=[6, 12]", "training.checkpoint_every=4")
CHAIN = ("process={n_T: 12, beta1: 1.0e-3, beta2: 0.3}", "sampler.name=ddpm")
EVALUATION = EvaluationConfig(
    num_generated=8, num_reference=32, feature_nets=("effnet-lite0-64",), profile_images=4,
    profile_levels=5, strip=3, metrics=("profile", "fd"),
)  # fmt: skip


def kept(path, config, step):
    return checkpoint.load(path(config.run_dir, step))


def trainer_of(config, avatars):
    trainer = Trainer(config, resolve_runtime(config, 1), Ranks(), CPU, avatars.training)
    trainer.enter_stage(trainer.pacer.stages[0])
    return trainer


def test_resumed_in_the_middle_is_as_if_never_stopped(
    workdir, train_run, tiny_config, assert_same, log_lines
):
    words = (*SHORT, DIT, LEARNED)
    whole, cut = (tiny_config("c", *words, output=name) for name in ("whole", "cut"))
    train_run(whole)
    train_run(cut, stop_after=7)
    train_run(cut)
    for path in (checkpoint.checkpoint_path, checkpoint.weights_path):
        assert_same(kept(path, whole, 12), kept(path, cut, 12))
    assert log_lines(whole.run_dir) == log_lines(cut.run_dir)


def test_log_has_the_plain_error_and_all_weights_learn(workdir, train_run, tiny_config, log_lines):
    """Both networks begin with the answer 0, so their first errors are the same."""
    lines = []
    for name, more in (("plain", ()), ("learned", (LEARNED,))):
        words = ("training.steps=1", "training.milestones=[1]", "training.log_every=1")
        config = tiny_config("b", *words, DIT, *more, output=name)
        trainer = train_run(config)
        lines.append(log_lines(config.run_dir)[0])
    plain, learned = lines
    assert plain["loss"] == learned["loss"] and plain["loss_by_t"] == learned["loss_by_t"]
    assert learned["grad_norm"] > plain["grad_norm"]
    # Tokens end in a patch's places, then its channels: three of ε̂, three of the variance.
    last = trainer.network.final_layer.linear.bias.view(64, 6)
    assert bool((last[:, :3] != 0).all()) and bool((last[:, 3:] != 0).all())


def test_loss_is_the_weighted_error_and_the_bound_as_it_is(tiny_config, avatars):
    words = (DIT, LEARNED, "process.loss_weight={kind: min_snr}")
    trainer = trainer_of(tiny_config("b", *words), avatars)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    batch = trainer.source.batch(0, 0, 8)
    x_t, level = trainer.noisy(batch, trainer.density)
    with torch.no_grad():
        said = trainer.process.predict(trainer.network, x_t, level)
        error = (said.eps - batch.noise).square().flatten(1).mean(1)
        bound = trainer.process.variance_loss(said, batch.images)
        assert float(bound.min()) > 0 and float(level.weight.min()) < 1
        expected = (error * level.weight + bound).mean()
        assert float(trainer._loss(batch, 0)) == pytest.approx(float(expected), rel=1e-6)
        # A density that is drawn for its own sake counts neither part more often.
        trainer.density = Window(0.5, 1.0)
        whole = float(trainer._loss(batch, 0))
        trainer.pacer.is_unbiased = True
        often = 1000 / 501
        assert float(trainer._loss(batch, 0)) == pytest.approx(whole / often, rel=1e-6)


@pytest.mark.parametrize("words", [(), ("process.parameterization=preconditioned",)], ids=str)
def test_a_weights_file_alone_samples_with_the_learned_variance(
    words, workdir, train_run, tiny_config
):
    config = tiny_config("b", *SHORT, DIT, LEARNED, *CHAIN, *words)
    train_run(config)
    content = kept(checkpoint.weights_path, config, 12)
    model = model_of(content, "raw", CPU)

    def without(x_t, level):
        said = model(x_t, level)
        return type(said)(x_t, level, said.eps)

    def draw(denoise):
        return sample_images(denoise, model.process, PIXELS, config.sampler, 4, 32)

    images = draw(model)
    assert images.shape == (4, 32, 32, 3) and np.array_equal(draw(model), images)
    assert not np.array_equal(draw(without), images)


def test_a_run_is_scored(workdir, train_run, tiny_config, avatars):
    config = tiny_config("b", *SHORT, DIT, LEARNED, *CHAIN, output=workdir / "results" / "run")
    train_run(config)
    content = kept(checkpoint.weights_path, config, 12)
    study = Study("s", workdir / "results", (config,), EVALUATION)
    plan = resolve_plan(config, len(avatars.train))
    milestone = Milestone(study, config, plan, avatars.manifest_id, content, config.run_dir)
    rows = list(score_milestone(milestone, make_yardstick(EVALUATION, avatars, "cpu")))
    assert rows and all(math.isfinite(row.value) for row in rows)
    assert {row.sampler_steps for row in rows if row.sampler} == {12}


def test_bf16_and_micro_batches_learn_it_too(tiny_config, avatars):
    words = ("training.precision=bf16", "training.micro_batch=3")
    trainer = trainer_of(tiny_config("b", DIT, LEARNED, *words), avatars)
    trainer.train_step()
    assert trainer.watch.read(1) is None and trainer.is_finite()
    assert bool((trainer.network.final_layer.linear.bias.view(64, 6)[:, 3:] != 0).all())


def test_setting_leaves_hashes_of_other_runs_as_they_were(tiny_config):
    plain, learned = (tiny_config("b", DIT, *more) for more in ((), (LEARNED,)))
    assert "learn_sigma" not in to_dict(plain)["model"]
    assert to_dict(learned)["model"]["learn_sigma"] is True
    assert config_hash(plain) != config_hash(learned)
    assert learned.model.words.endswith("heads 2, learned variance")
    # As it was before networks could learn a variance.
    preset = build_config(load_preset("imagenet64_dit_xl2"), "preset")
    assert config_hash(preset) == "d0a9fbcd1c40"


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_that_leaves_the_variance_unused_is_told(name, tiny_config):
    words = (DIT, f"sampler={{name: {name}, steps: 4}}")
    said = f"model.learn_sigma is true, but sampler.name {name} does not use the variance"
    told = [line for line in notes(tiny_config("b", *words, LEARNED), 256) if said in line]
    assert len(told) == (name != "ddpm")
    assert all("give sampler.name=ddpm" in line and "\n" not in line for line in told)
    assert notes(tiny_config("b", *words), 256) == []


@pytest.mark.parametrize("kind", ["vpsde", "edm"])
def test_process_without_a_chain_refuses_it_in_one_line(kind, tiny_config):
    words = (DIT, LEARNED, f"process={{kind: {kind}}}")
    with pytest.raises(UserError, match=f"learn_sigma is true, but process.kind {kind}") as error:
        check_run(tiny_config("b", *words), 256)
    assert "\n" not in str(error.value)
    check_run(tiny_config("b", DIT, f"process={{kind: {kind}}}"), 256)
    check_run(tiny_config("b", DIT, LEARNED), 256)
