from dataclasses import replace

import numpy as np
import pytest
import torch

from mindiffusion.config.process import LinearPathConfig
from mindiffusion.errors import UserError
from mindiffusion.theory import measures
from mindiffusion.theory.networks import Weights
from mindiffusion.theory.resumable import simulate
from mindiffusion.theory.scores import errors, neurons
from mindiffusion.theory.setting import TheoryEvaluation
from mindiffusion.theory.simulation import Simulation, Snapshot
from mindiffusion.theory.two_features import features_of

SMALL = TheoryEvaluation(num_samples=200, num_levels=5)
DIRECTIONS = torch.eye(5).double()[None, :4]
"""Two features of each group, along the first four axes; the fifth is outside of all."""
NEURONS = torch.tensor([[
    [2.0, 0, 0, 0, 0],    # M₁, pure
    [0, 0, 0, -0.3, 0.1],  # M₂, pure, but against its direction
    [1, 0, 1, 0, 0],      # half of each
    [1, 0, 2, 0, 0],      # of M₂ with a fifth of M₁
    [0, 0.1, 0, 0, 1],    # outside
    [0, 0, 0, 0, 0],      # nothing
]]).double()  # fmt: skip


@pytest.fixture
def cosines():
    return measures.alignment(NEURONS, DIRECTIONS)


STRENGTHS = np.array([[1.0, 1.0, 1.0, 2.0, 1.0, 0.0]])


def test_alignment_is_the_cosine(cosines):
    assert cosines.shape == (1, 6, 4)
    np.testing.assert_allclose(cosines[0, 0], [1, 0, 0, 0])
    np.testing.assert_allclose(cosines[0, 2], [0.5**0.5, 0, 0.5**0.5, 0])
    assert cosines[0, 1, 3] == pytest.approx(-3 / 10**0.5)
    assert (cosines[0, 5] == 0).all()


def test_neurons_are_sorted_by_what_they_read(cosines):
    shares = measures.neuron_shares(cosines, STRENGTHS, 0.9)
    assert {name: round(6 * float(share[0]), 6) for name, share in shares.items()} == {
        "dead": 1, "outside": 1, "pure1": 1, "pure2": 1, "mixed": 2,
    }  # fmt: skip
    looser = measures.neuron_shares(cosines, STRENGTHS, 0.7)
    assert looser["pure2"][0] == pytest.approx(2 / 6)
    weak = np.where(STRENGTHS > 0, STRENGTHS, 0.0) * [[1, 1e-3, 1, 1, 1, 1]]
    assert measures.neuron_shares(cosines, weak, 0.9)["dead"][0] == pytest.approx(2 / 6)


def test_neurons_that_mix_the_groups_are_told_from_those_that_mix_one():
    within = torch.tensor([[[1.0, 1, 0, 0, 0], [1, 0, 1, 0, 0], [1, 0, 2, 0, 0]]]).double()
    cosines = measures.alignment(within, DIRECTIONS)
    for purity, share in ((0.9, 2 / 3), (0.7, 1 / 3)):
        assert measures.across_groups(cosines, np.ones((1, 3)), purity)[0] == pytest.approx(share)
    assert measures.neuron_shares(cosines, np.ones((1, 3)), 0.9)["mixed"][0] == 1


def test_entropy_needs_no_threshold(cosines):
    one = [measures.feature_entropy(cosines[:, [i]], np.ones((1, 1)))[0] for i in range(3)]
    np.testing.assert_allclose(one, [0, 0, 0.5], atol=1e-12)
    every = measures.alignment(torch.ones(1, 1, 5).double(), DIRECTIONS)
    assert measures.feature_entropy(every, np.ones((1, 1)))[0] == pytest.approx(1)
    assert measures.feature_entropy(cosines[:, [0, 2]], np.array([[1.0, 3]]))[0] == 0.375


def test_content_of_m1_is_that_of_m2_neurons_alone(cosines):
    # Neurons 2 (strength 1, nothing of M₁) and 4 (strength 2, a fifth); a tie is no M₂ neuron.
    assert measures.first_in_second(cosines, STRENGTHS)[0] == pytest.approx(2 / 3 * 0.2)
    assert np.isnan(measures.first_in_second(cosines[:, :1], STRENGTHS[:, :1])[0])


def test_features_are_covered_by_the_sign_that_fires(cosines):
    first, second = measures.features_covered(cosines, STRENGTHS, 0.75)
    assert (first[0], second[0]) == (0.5, 0.5)
    first, second = measures.features_covered(cosines, STRENGTHS, 0.9)
    assert (first[0], second[0]) == (0.5, 0)


def test_dead_neurons_align_with_nothing(cosines):
    best = measures.best_alignment(cosines, np.array([[0.0, 1, 1, 2, 1, 0]]))
    np.testing.assert_allclose(best, [[0.5**0.5, 0.1 / 1.01**0.5, 0.8**0.5, 0]], atol=1e-12)


def test_capacity_in_use_counts_neurons_by_strength():
    found = measures.capacity_in_use(np.array([[1.0, 1, 1, 1], [1, 0, 0, 0]]))
    assert found["living"].tolist() == [1, 0.25] and found["effective"].tolist() == [1, 0.25]
    weights = Weights(torch.ones(1, 2, 4), 3 * torch.ones(1, 2, 4))
    np.testing.assert_allclose(measures.strength(weights, torch.tensor([[1.0, 0]])), [[12, 0]])


def test_low_and_high_are_means_of_their_levels():
    times = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    by_level = np.array([[1.0, 3, 100, 5, 9]])
    assert measures.low_and_high(by_level, times, 0.3, 0.7).tolist() == [[2, 7]]
    for low, high in ((0.05, 0.7), (0.3, 0.95), (1.0, 0.7)):
        with pytest.raises(UserError, match="with a level beyond it") as error:
            measures.low_and_high(by_level, times, low, high)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("purity", [0.0, 1.0, -1, 2])
def test_threshold_outside_is_refused(purity, cosines):
    with pytest.raises(UserError, match=r"give a share of a neuron's length in \(0, 1\)"):
        measures.neuron_shares(cosines, STRENGTHS, purity)


@pytest.fixture(scope="module")
def last(tiny_runs):
    found = []
    simulate(tiny_runs, found.append)
    return found[-1]


def test_oracle_beats_trained_networks_at_every_level(last):
    """On the same samples, and by the excess; both errors are what the three parts add up to."""
    found = errors(last, SMALL)
    assert found.excess.shape == found.oracle.shape == (len(last.runs), 5)
    assert (found.error > found.oracle).all() and (found.excess > 0).all()
    np.testing.assert_allclose(found.parts.sum(2), found.excess, rtol=1e-9)
    spread = 5 * found.error / SMALL.num_samples**0.5
    assert (np.abs(found.error - found.oracle - found.excess) < spread).all()
    assert (np.abs(found.oracle - found.oracle_expected) < spread).all()
    assert (np.diff(found.sigma) > 0).all() and found.times[0] == 0.1


def test_scores_of_a_run_are_those_it_has_among_others(last):
    place = 3
    alone = Snapshot(
        last.step, last.runs[place : place + 1], last.weights.of([place]), last.mask[[place]],
        last.birth_stage[[place]], last.penalty[[place]],
    )  # fmt: skip
    for one, many in ((errors(alone, SMALL), errors(last, SMALL)),):
        assert (one.excess[0] == many.excess[place]).all()
    one, many = neurons(alone, SMALL), neurons(last, SMALL)
    assert all(np.array_equal(one[name][0], many[name][place], equal_nan=True) for name in many)


def test_network_that_is_the_oracle_has_no_excess(tiny_run):
    """One feature a group: both are always there, so the constant α₁M₁ + α₂M₂ is the best."""
    run = tiny_run()
    run = replace(run, data=replace(run.data, num_features=1), model=replace(run.model, width=1))
    simulation = Simulation([run])
    simulation.advance(1)
    features = features_of(run.data, [0])
    constant = features.samples(torch.ones(1, 1, 2).double())[0]
    zero = torch.zeros(1, 1, 6).double()
    weights = Weights(zero, zero, zero[..., 0], zero[..., 0], constant)
    snapshot = replace(_snapshot_of(simulation), weights=weights)
    found = errors(snapshot, SMALL)
    assert found.excess.max() < 1e-20 and found.error.max() < 1e-20


def test_excess_of_an_answer_of_nothing_is_the_length_of_the_oracles(tiny_run):
    """Where noise hides all, the oracle says the mean of x, of length² m² Σα²."""
    run = tiny_run()
    data = replace(run.data, alpha1=0.5)
    run = replace(run, data=data, process=LinearPathConfig(lowest=1e-3))
    simulation = Simulation([run])
    snapshot = _snapshot_of(simulation)
    nothing = Weights(**{n: 0 * w for n, w in snapshot.weights.named().items()})
    found = errors(replace(snapshot, weights=nothing), SMALL)
    mean = 0.3 / (1 - 0.7**2)
    assert found.excess[0, -1] == pytest.approx(mean**2 * 4 * 0.25, rel=0.05)
    assert found.error[0, -1] == pytest.approx(mean * 4 * 0.25, rel=0.05)


def _snapshot_of(simulation):
    simulation.advance(40)
    return simulation.snapshot()


def test_overfitting_shows_as_trained_against_fresh_error(tiny_run):
    run = tiny_run(training={"steps": 300})
    data = replace(run.data, num_features=3, num_train=3)
    run = replace(run, data=data, model=replace(run.model, width=32))
    simulation = Simulation([run])
    simulation.advance(300)
    fresh, trained = (errors(simulation.snapshot(), SMALL, of) for of in ("fresh", "trained"))
    assert trained.error[0, :2].mean() < 0.7 * fresh.error[0, :2].mean()
