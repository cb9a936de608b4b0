"""What is kept of every step, and what it says when asked."""

import math

import numpy as np
import pytest
import torch

from mindiffusion.training.ranks import Ranks
from mindiffusion.training.watch import Divergence, Watch, first_divergence, summarise

TIMES = np.array([[0.001, 0.25, 0.251, 1.0], [0.5, 0.5, 0.75, 0.9]])


@pytest.fixture
def watch():
    return Watch(Ranks(), 3, 4, torch.device("cpu"), torch.float32)


def add_step(watch, losses, times, norm=1.0):
    for first in (0, 2):
        part = slice(first, first + 2)
        watch.add_losses(first, torch.tensor(losses[part]), torch.tensor(times[part]))
    watch.end_step(torch.tensor(norm))


def test_summarise_sorts_losses_by_quarter_of_t():
    rows = summarise(np.array([[1.0, 2.0, 4.0, 8.0], [1.0, 2.0, 4.0, 8.0]]), TIMES, np.ones(2))
    assert rows[:, :4].tolist() == [[3, 4, 0, 8], [0, 3, 4, 8]]
    assert rows[:, 4:8].tolist() == [[2, 1, 0, 1], [0, 2, 1, 1]]


def test_quarters_of_single_precision_times_are_those_of_their_levels():
    levels = np.arange(1, 1001)
    times = torch.tensor(levels, dtype=torch.float32).div(1000).double().numpy()[None]
    counts = summarise(np.ones_like(times), times, np.ones(1))[0, 4:8]
    assert counts.tolist() == [250, 250, 250, 250]


def test_least_times_of_continuous_levels_are_in_the_first_quarter():
    times = np.array([[2.0**-126, 1e-9, 2e-6, 1.0]])
    rows = summarise(np.array([[1.0, 2.0, 4.0, 8.0]]), times, np.ones(1))
    assert rows[0, :8].tolist() == [7, 0, 0, 8, 3, 0, 0, 1]


def test_entry_means_over_all_steps_since_the_last_one(watch):
    add_step(watch, [1.0, 2.0, 3.0, 6.0], [0.1, 0.2, 0.3, 0.4], 1.0)
    assert watch.read(1) is None
    add_step(watch, [3.0, 2.0, 3.0, 4.0], [0.1, 0.3, 0.3, 0.4], 3.0)
    assert watch.read(2) is None
    assert watch.entry() == {"loss": 3.0, "loss_by_t": [2.0, 3.6, None, None], "grad_norm": 2.0}
    assert len(watch.unlogged) == 0


def test_unlogged_steps_survive_in_another_watch(watch):
    add_step(watch, [1.0, 2.0, 3.0, 6.0], [0.1, 0.2, 0.3, 0.4], 1.0)
    watch.read(1)
    other = Watch(Ranks(), 3, 4, torch.device("cpu"), torch.float32)
    other.unlogged = watch.unlogged.clone()
    for each in (watch, other):
        add_step(each, [3.0, 2.0, 3.0, 4.0], [0.1, 0.3, 0.3, 0.4], 3.0)
        each.read(2)
    assert other.entry() == watch.entry()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_read_names_the_step_rank_and_times_of_bad_losses(bad, watch):
    add_step(watch, [1.0, 2.0, 3.0, 6.0], [0.1, 0.2, 0.3, 0.4])
    add_step(watch, [1.0, bad, bad, 6.0], [0.125, 0.25, 0.5, 0.75])
    add_step(watch, [bad] * 4, [0.1, 0.2, 0.3, 0.4])
    assert watch.read(12) == Divergence(step=11, rank=0, t_range=(0.25, 0.5))


def test_first_divergence_takes_the_rank_that_saw_it():
    good = summarise(np.ones((2, 4)), TIMES, np.ones(2))
    losses = np.ones((2, 4))
    losses[1, 2] = np.nan
    bad = summarise(losses, TIMES, np.ones(2))
    steps = np.array([5, 6])
    assert first_divergence(np.stack([good, good]), steps) is None
    assert first_divergence(np.stack([good, bad]), steps) == Divergence(6, 1, (0.75, 0.75))


def test_gradient_that_is_not_finite_belongs_to_all_ranks():
    rows = summarise(np.ones((2, 4)), TIMES, np.array([1.0, np.inf]))
    assert first_divergence(rows[None], np.array([5, 6])) == Divergence(6, None, None)
