import numpy as np
import pytest
import torch

from benchmark.evaluation.features_of.ablation import ablations, chosen_at_random
from benchmark.evaluation.milestone.ablation_rows import Change, mean_change
from mindiffusion.network import Births

BORN = torch.tensor([0, 2, 1, 0, -1, 2, 1, 2])


def births(stage=BORN):
    return Births(stage, lambda on: pytest.fail("no network here"))


def test_units_of_each_stage_are_off_and_those_that_are_off_stay_so():
    found = ablations(births(), seed=3, draws=4)
    assert list(found) == [0, 1, 2] and [one.count for one in found.values()] == [2, 2, 3]
    for stage, one in found.items():
        assert torch.equal(one.own, (BORN >= 0) & (stage != BORN))
        assert len(one.random) == 4
        for on in one.random:
            assert int(on.sum()) == 7 - one.count and not bool(on[4])
            assert bool(on[stage == BORN].all())


def test_random_units_are_of_all_stages_where_the_others_have_too_few():
    stage = torch.tensor([0, 1, 1, 1, 1, -1])
    random = ablations(births(stage), seed=1, draws=20)[1].random
    assert all(int(on.sum()) == 1 and not bool(on[5]) for on in random)
    assert 0 < sum(bool(on[0]) for on in random) < 20


def test_random_units_are_a_function_of_seed_and_draw():
    among = torch.arange(40) % 4 > 0
    first = chosen_at_random(among, 10, seed=1, draw=0)
    assert int(first.sum()) == 10 and not bool(first[~among].any())
    assert torch.equal(first, chosen_at_random(among, 10, seed=1, draw=0))
    for seed, draw in ((1, 1), (2, 0)):
        assert not torch.equal(first, chosen_at_random(among, 10, seed=seed, draw=draw))
    often = sum(chosen_at_random(among, 10, 0, draw).double() for draw in range(300)) / 300
    np.testing.assert_allclose(often[among], 1 / 3, atol=0.12)


def test_network_whose_units_were_born_at_once_has_nothing_to_compare():
    assert ablations(births(torch.zeros(5, dtype=torch.int64)), seed=0, draws=2) == {}
    assert ablations(births(torch.full((5,), -1)), seed=0, draws=2) == {}


def test_mean_over_random_sets_has_the_errors_of_images_and_of_sets():
    levels, errors = (0.2, 0.8), np.array([0.3, 0.4])
    sets = [
        Change(levels, np.array([1.0, 5.0]), errors),
        Change(levels, np.array([3.0, 5.0]), errors),
    ]
    found = mean_change(sets)
    np.testing.assert_allclose(found.values, [2.0, 5.0])
    # The sets differ at the first level: variance 2 over 2 sets.
    np.testing.assert_allclose(found.errors, [np.sqrt(0.09 + 1.0), 0.4])
