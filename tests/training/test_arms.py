"""Every arm that comes with the project: it loads, it trains, and it ends where it should."""

import math

import numpy as np
import pytest

from mindiffusion.curriculum.stages import resolve_stages, trained_on_all_levels
from mindiffusion.training.presets import PRESETS, build_config, load_preset, merge

ARMS = sorted(path.stem for path in (PRESETS / "arms").glob("*.yaml"))
WITH_CS_LAST_STAGE = ("s", "r", "c", "cs", "cr")


def load(arm, /, **changes):
    content = merge(load_preset("runs/celeba_32"), load_preset(f"arms/{arm}"))
    return build_config(merge(content, changes), arm)


@pytest.mark.parametrize("arm", ARMS)
def test_arm_file_loads_and_covers_all_levels_at_its_end(arm):
    config = load(arm)
    stages = resolve_stages(config.curriculum, 1000)
    assert trained_on_all_levels(stages, 1000)
    assert math.fsum(s.weight for s in config.curriculum) == pytest.approx(80)
    last = config.curriculum[-1]
    assert last.density.bounds(config.process.n_T) == (1, config.process.n_T)
    assert (last.sparsity, last.penalty_lambda) == (0, 0)


@pytest.mark.parametrize("arm", WITH_CS_LAST_STAGE)
def test_arm_of_the_factorial_ends_in_the_curriculums_own_last_stage(arm):
    assert load(arm).curriculum[-1] == load("c").curriculum[-1]


def test_arms_have_names_of_their_own():
    assert len({load(arm).arm for arm in ARMS}) == len(ARMS)


@pytest.mark.parametrize(("arm", "of"), [("s", "cs"), ("r", "cr")])
def test_capacity_alone_is_the_joint_arm_at_all_noise_levels(arm, of):
    alone, joint = load(arm), load(of)
    assert alone.model == joint.model
    for a, b in zip(alone.curriculum, joint.curriculum, strict=True):
        assert (a.weight, a.sparsity, a.penalty_lambda) == (b.weight, b.sparsity, b.penalty_lambda)
        assert a.density.bounds(1000) == (1, 1000)


def test_checks_of_the_instrument_differ_from_b_in_one_thing():
    baseline = load("b")
    assert load("a_a", noise_stream=0, arm="B") == baseline
    assert load("b_80", training={"length": 1.0}, arm="B") == baseline
    assert load("b_half", model={"width": 1.0}, arm="B") == baseline
    assert (load("a_a").noise_stream, load("b_80").training.length) == (1, 0.8)
    assert load("b_half").model.base_width == 16


@pytest.mark.parametrize("arm", ARMS)
def test_arm_trains_for_a_step(arm, avatars, tiny_content):
    import torch

    from mindiffusion.training.distributed import Ranks
    from mindiffusion.training.runtime import resolve_runtime
    from mindiffusion.training.trainer import Trainer

    content = merge(tiny_content("b"), load_preset(f"arms/{arm}"))
    small = {"model": {"n_feat": 16}, "training": {"milestones": ["100%"]}}
    config = build_config(merge(content, small), arm)
    trainer = Trainer(
        config, resolve_runtime(config, 1), Ranks(), torch.device("cpu"), avatars.train
    )
    before = [p.detach().clone() for p in trainer.network.parameters()]
    trainer.enter_stage(trainer.plan.stages[0])
    trainer.train_step()
    assert trainer.watch.read(1) is None and trainer.is_finite()
    after = trainer.network.parameters()
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert np.mean(moved) > 0.5
    assert trainer.network.n_feat == config.model.base_width
