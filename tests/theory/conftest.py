from dataclasses import replace

import pytest

from mindiffusion.curriculum.density import Window
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.theory.setting import TheoryRun, TheoryTraining, TwoFeatureConfig, TwoLayerConfig

PLAIN = (StageConfig("full_range", 1.0),)
LADDER = (
    StageConfig("high", 1.0, Window(0.6)),
    StageConfig("middle", 1.0, Window(0.3)),
    StageConfig("full_range", 2.0),
)
_CAPACITY = (0.6, 0.3, 0.0)
MASKED = tuple(replace(s, sparsity=c) for s, c in zip(LADDER, _CAPACITY, strict=True))
PENALISED = tuple(
    replace(s, penalty_lambda=1e-3 * c) for s, c in zip(LADDER, _CAPACITY, strict=True)
)
CURRICULA = {"B": PLAIN, "C": LADDER, "CS": MASKED, "CR": PENALISED}


def make_run(arm="B", seed=0, training=None, **changes):
    """A run of an arm and seed, d = 2 and 40 steps; words change its training, or all of it."""
    usual = TheoryTraining(steps=40, global_batch=16, lr=1e-2, precision="fp64")
    model = TwoLayerConfig(
        width=8, init_std=0.3, use_bias=True, time_input=True, probe_batches=2,
        probe_batch_size=8,
    )  # fmt: skip
    run = TheoryRun(
        arm, CURRICULA[arm], seed, data=TwoFeatureConfig(num_features=2, ambient_dim=6, share=0.3),
        model=model, training=replace(usual, **(training or {})),
    )  # fmt: skip
    return replace(run, **changes)


@pytest.fixture
def tiny_run():
    """``make_run``."""
    return make_run


@pytest.fixture(scope="module")
def tiny_runs():
    """All arms of two seeds."""
    return [make_run(arm, seed) for seed in range(2) for arm in CURRICULA]
