import numpy as np
import pytest
import torch
from torch_fidelity.metric_isc import isc_features_to_metric

from benchmark.evaluation.metrics.inception_score import inception_score
from mindiffusion.errors import UserError


def logits(n=103, classes=12, scale=3.0, seed=0):
    return scale * np.random.default_rng(seed).normal(size=(n, classes))


@pytest.mark.parametrize(("splits", "seed"), [(10, 2020), (4, 7), (2, 0)])
def test_inception_score_equals_torch_fidelity(splits, seed):
    theirs = isc_features_to_metric(torch.from_numpy(logits()), splits=splits, rng_seed=seed)
    ours = inception_score(logits(), splits, seed)
    assert ours.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    assert ours.std == pytest.approx(theirs["inception_score_std"], rel=1e-9)
    assert (ours.splits, ours.n) == (splits, 103)


def test_inception_score_default_is_torch_fidelity_s_default():
    theirs = isc_features_to_metric(torch.from_numpy(logits()))
    assert inception_score(logits()).mean == pytest.approx(theirs["inception_score_mean"])


def test_inception_score_of_sure_and_balanced_classes_is_their_number():
    balanced = 1e4 * np.tile(np.eye(5), (20, 1))
    # Two parts of 50 cannot both hold each class equally often after a shuffle, so: few of many.
    score = inception_score(balanced, splits=2)
    assert 4.5 < score.mean <= 5


def test_inception_score_of_unsure_images_is_one():
    score = inception_score(np.zeros((40, 6)), splits=4)
    assert (score.mean, score.std) == (pytest.approx(1), pytest.approx(0, abs=1e-12))


def test_inception_score_stays_finite_where_a_probability_underflows():
    score = inception_score(np.array([[0.0, 1e5], [0.0, 1e5], [0.0, 1e5], [0.0, 1e5]]), splits=2)
    assert score.mean == pytest.approx(1)


def test_inception_score_falls_with_mode_collapse():
    healthy = 5 * np.tile(np.eye(8), (25, 1))
    collapsed = 5 * np.tile(np.eye(8)[:2], (100, 1))
    assert inception_score(collapsed).mean < 0.7 * inception_score(healthy).mean


def test_inception_score_standard_error_is_that_of_a_mean_over_parts():
    score = inception_score(logits(), splits=5)
    assert score.standard_error == pytest.approx(score.std * np.sqrt(5 / 4) / np.sqrt(5))


def test_inception_score_rejects_bad_input():
    with pytest.raises(UserError, match="allowed is 2 to 8"):
        inception_score(logits(8))
    with pytest.raises(UserError, match="allowed is 2 to 8"):
        inception_score(logits(8), splits=1)
    with pytest.raises(UserError, match="not finite"):
        inception_score(np.full((20, 3), np.nan))
