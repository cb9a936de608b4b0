"""What a trainer does with a stage, and what one step reports and clips."""

import pytest
import torch

from mindiffusion.process import eps_error
from mindiffusion.runtime import resolve_runtime
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.trainer import Trainer


@pytest.fixture
def make_trainer(avatars, tiny_config):
    """A function: arm and words → a fresh Trainer of a tiny run."""

    def make(arm, *words):
        config = tiny_config(arm, *words)
        runtime = resolve_runtime(config, 1)
        return Trainer(config, runtime, Ranks(), torch.device("cpu"), avatars.training)

    return make


def test_probe_is_drawn_in_the_window_of_the_new_stage(make_trainer):
    trainer = make_trainer("cs")
    seen = {}

    def enter(capacity, probe):
        seen[capacity.index] = torch.cat([batch.level.t for batch in probe(8, 64)])
        return {}

    trainer.network.enter_stage = enter
    for stage in trainer.pacer.stages:
        trainer.enter_stage(stage)
    for stage in trainer.pacer.stages[:-1]:
        low, high = stage.config.density.bounds(trainer.process.num_levels)
        t = seen[stage.index] * trainer.process.num_levels
        assert low - 0.5 < t.min() and t.max() < high + 0.5
        assert len(t) == 8 * 8  # no batch is larger than a step's
        # Some lie in the part by which this window is wider than the one before.
        assert t.min() < low + trainer.process.num_levels * 0.2


def test_enter_stage_hands_on_the_sparsity_and_lambda_of_the_stage(make_trainer):
    trainer = make_trainer("cr")
    handed = []
    trainer.network.enter_stage = lambda capacity, probe: handed.append(capacity) or {}
    for stage in trainer.pacer.stages:
        trainer.enter_stage(stage)
    expected = [(s.index, s.config.sparsity, s.config.penalty_lambda) for s in trainer.pacer.stages]
    assert [(c.index, c.sparsity, c.penalty_lambda) for c in handed] == expected
    assert len({c.penalty_lambda for c in handed}) == len(handed)


def test_entering_a_stage_again_changes_nothing(make_trainer):
    trainer = make_trainer("cs")
    for stage in trainer.pacer.stages[:3]:
        trainer.step = stage.start
        trainer.enter_stage(stage)
    masks = [trainer.network.channel_mask.clone()]
    trainer.step += 1
    trainer.enter_stage(trainer.pacer.stages[2])
    masks.append(trainer.network.channel_mask)
    assert torch.equal(*masks) and len(trainer.stage_log) == 3


def test_reported_loss_is_the_error_without_the_penalty(make_trainer):
    word = "curriculum=[{name: all, weight: 1, penalty_lambda: 10.0}]"
    trainer, fresh = make_trainer("cr", word), make_trainer("cr", word)
    trainer.enter_stage(trainer.pacer.stages[0])
    assert trainer.network.penalty().item() > 10
    trainer.train_step()
    assert trainer.watch.read(1) is None
    batch = fresh.source.batch(0, 0, 8)
    with torch.no_grad():
        x_t, level = fresh.noisy(batch, fresh.density)
        expected = eps_error(fresh.process.predict(fresh.network, x_t, level), batch.noise).mean()
    assert trainer.watch.entry()["loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("limit", [None, 1e-3])
def test_gradient_is_clipped_to_the_limit_and_reported_whole(limit, make_trainer):
    words = [] if limit is None else [f"training.clip_grad_norm={limit}"]
    trainer = make_trainer("c", *words)
    trainer.enter_stage(trainer.pacer.stages[0])
    trainer.train_step()
    trainer.watch.read(1)
    whole = trainer.watch.entry()["grad_norm"]
    # Adam's first moment after one step is a tenth of the gradient it was given.
    moments = [state["exp_avg"].flatten() for state in trainer.optimizer.state.values()]
    used = float(torch.cat(moments).norm()) * 10
    assert whole > 0.01 and used == pytest.approx(limit or whole, rel=1e-3)
