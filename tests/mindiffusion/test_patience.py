"""Patience: when it is out, what it remembers, and how far it is a clock."""

import numpy as np
import pytest

from mindiffusion.config.process import DDPMConfig
from mindiffusion.curriculum.pacer import RunFacts
from mindiffusion.curriculum.pacing import PACINGS
from mindiffusion.curriculum.patience import Patience, PatiencePacing, ProbePacing
from mindiffusion.curriculum.stages import StageConfig

FACTS = RunFacts(0, DDPMConfig())
LADDER = tuple(StageConfig(name=f"stage{i}", weight=1) for i in range(3))


def out_at(losses, **settings):
    """Number of the loss with which patience was out; None: never."""
    patience = Patience(**settings)
    return next((n for n, loss in enumerate(losses, 1) if patience.is_out(loss)), None)


def test_it_is_out_with_the_step_past_tau_that_has_no_new_least_loss():
    assert out_at([1.0, 1.0, 1.0, 1.0], tau=2) == 4  # one sets the least loss, three are too many
    assert out_at([1.0, 1.1, 0.9, 1.0, 0.95, 0.9], tau=2) == 6  # an equal loss is not new
    assert out_at([1.0, 0.9, 0.8, 0.7], tau=1) is None
    assert out_at([1.0, 0.9, 0.8, 0.7], tau=1, min_delta=0.3) == 3


def test_burn_in_sets_no_least_loss():
    assert out_at([0.1, 1.0, 1.0, 1.0], tau=1, burn_in=1) == 4
    assert out_at([0.1, 1.0, 1.0, 1.0], tau=1) == 3


def test_average_is_free_of_its_start():
    losses = [2.0, 4.0, 6.0]
    patience = Patience(tau=9, smoothing=0.5)
    for loss in losses:
        patience.is_out(loss)
    weights = np.array([0.125, 0.25, 0.5])
    state = patience.state_dict()
    assert state["average"] / (1 - 0.5**3) == pytest.approx(weights @ losses / weights.sum())
    assert state["least"] == 2.0 and state["waited"] == 2


def test_state_goes_on_as_if_nothing_had_been():
    losses = np.random.default_rng(1).normal(1, 0.1, 300).tolist()
    settings = {"tau": 40, "smoothing": 0.9, "burn_in": 10}
    whole = out_at(losses, **settings)
    assert 51 < whole < 300
    for cut in (1, 9, 10, 30, whole - 1):
        first, second = Patience(**settings), Patience(**settings)
        assert not any(first.is_out(loss) for loss in losses[:cut])
        second.load_state_dict(first.state_dict())
        assert next(n for n, x in enumerate(losses[cut:], cut + 1) if second.is_out(x)) == whole


def lengths(falling=None, **settings):
    """Median and the middle 80 % of 200 stages' lengths; losses have noise of 10 %.

    Args:
        falling: steps in which the part of the loss that can be learned falls to 1/e; None: the
            network learns nothing.
        settings: of the patience.
    """
    draw = np.random.default_rng(0)
    found = []
    for _ in range(200):
        noise = 1 + 0.1 * draw.standard_normal(6000)
        mean = 1.0 if falling is None else 1 + np.exp(-np.arange(6000) / falling)
        found.append(out_at((mean * noise).tolist(), **settings))
    return [float(x) for x in np.percentile(found, [10, 50, 90])]


def test_on_losses_of_batches_patience_is_a_clock():
    low, median, high = lengths(tau=200)
    assert 205 < low < 240 and 300 < median < 380 and 450 < high < 620
    assert 1400 < lengths(tau=1000)[1] < 1900
    # Learning makes it wait, but no more than the noise hides.
    assert 700 < lengths(falling=300, tau=200)[1] < 1100


def test_patience_of_two_steps_is_no_curriculum():
    assert lengths(tau=2, smoothing=0.99, min_delta=1e-4)[1] <= 6


def test_average_ends_a_stage_by_its_lucky_start_unless_it_burns_in():
    smooth = {"tau": 200, "smoothing": 0.99, "min_delta": 1e-4}
    assert lengths(**smooth)[0] == 202
    assert lengths(**smooth, burn_in=100)[0] > 302


@pytest.mark.parametrize("kind", [PatiencePacing, ProbePacing])
def test_pacer_counts_every_step_and_moves_on_at_a_look(kind):
    pacer = kind(tau=5, look_every=4).pacer(LADDER, 100, FACTS)
    probes = []

    def probed(images):
        probes.append(images)
        return 1.0

    begun = []
    for step in range(60):
        if pacer.look(step, probed):
            begun.append(step)
        pacer.take([1.0])
    # Out with the loss of step 7; a probe stands for four steps, so with the third one.
    by_loss = kind is PatiencePacing
    assert begun == ([8, 16] if by_loss else [12, 24])
    assert pacer.is_decided and probes == ([] if by_loss else [256] * 6)
    assert [stage.start for stage in pacer.stages] == [0, *begun]


def test_probe_that_falls_is_no_clock():
    pacer = ProbePacing(tau=10, look_every=5).pacer(LADDER, 10_000, FACTS)
    assert not any(pacer.look(step, lambda images, s=step: 1 / (1 + s)) for step in range(10_000))


def test_kinds_are_found_by_name():
    assert {name: kind.kind for name, kind in PACINGS.items()} == {name: name for name in PACINGS}
