import os
from unittest import mock

import numpy as np
import pytest

from benchmark.evaluation.features_of.balanced import balanced, chosen_images
from benchmark.evaluation.features_of.grouped import leaving_groups_out
from benchmark.evaluation.features_of.probe import probe
from benchmark.evaluation.features_of.silhouette import (
    cosine_distances,
    mean_silhouette,
    silhouette,
)
from benchmark.study.feature_settings import FeatureSettings
from mindiffusion.errors import UserError

CODES = np.repeat([4, 1, 7], [30, 21, 9])  # the last class is too rare


def clouds(separation, n=60, dim=8, classes=2, seed=0):
    """Features around as many centres, image by image in turn, and their classes."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    centres = separation * np.eye(classes, dim)
    return rng.standard_normal((n, dim)) + centres[codes], codes


def test_classes_are_balanced_by_their_first_images_and_rare_ones_left_out():
    chosen = balanced(CODES, "hair")
    assert chosen.num_classes == 2 and len(chosen.index) == 42
    assert [list(np.unique(CODES[chosen.index[chosen.classes == k]])) for k in (0, 1)] == [[1], [4]]
    assert list(chosen.index[chosen.classes == 1]) == list(range(21))
    assert list(chosen.place[chosen.classes == 0]) == list(range(21))


@pytest.mark.parametrize("codes", [np.zeros(50, int), np.repeat([0, 1], [50, 9]), np.zeros(0, int)])
def test_attribute_without_two_classes_is_refused_in_one_line(codes):
    with pytest.raises(UserError, match=r"'glasses', of which . of . classes have 10") as error:
        balanced(codes, "glasses")
    assert "\n" not in str(error.value) and "evaluation.features.images" in str(error.value)


def test_label_that_the_data_have_not_is_refused_with_a_near_one():
    labels = {"hair": CODES}
    assert list(chosen_images(FeatureSettings(attributes=("hair",)), labels)) == ["hair"]
    with pytest.raises(UserError, match=r"no label of the data\. Did you mean 'hair'\?"):
        chosen_images(FeatureSettings(attributes=("hairs",)), labels)
    with pytest.raises(UserError, match="They have no labels"):
        chosen_images(FeatureSettings(attributes=("hair",)), {})


@pytest.mark.parametrize("classes", [2, 4])
def test_silhouette_is_that_of_scikit_learn(classes):
    # Importing it sets variables, which would go on to every process that a later test starts.
    with mock.patch.dict(os.environ):
        metrics = pytest.importorskip("sklearn.metrics")
    features, codes = clouds(1.5, classes=classes)
    expected = metrics.silhouette_score(features, codes, metric="cosine")
    assert mean_silhouette(cosine_distances(features), codes) == pytest.approx(expected, abs=1e-12)


def test_silhouette_of_a_case_by_hand():
    """Two classes on a line; the image between them has a = 2 and b = 1."""
    places = np.array([0.0, 2.0, 3.0, 3.0])
    distances = np.abs(places[:, None] - places)
    first = (3 - 2) / 3, (1 - 2) / 2, (2 - 0) / 2, (2 - 0) / 2
    assert mean_silhouette(distances, np.array([0, 0, 1, 1])) == pytest.approx(np.mean(first))


def test_features_of_length_zero_are_as_far_from_all_as_orthogonal_ones():
    distances = cosine_distances(np.array([[0.0, 0.0], [2.0, 0.0], [3.0, 0.0], [0.0, 1.0]]))
    assert list(distances[0]) == [0, 1, 1, 1] and distances[1, 2] == 0 and distances[1, 3] == 1


def test_error_of_a_mean_is_its_standard_error_over_groups():
    values = np.random.default_rng(1).standard_normal(50)
    groups = np.arange(50) % 10
    found = leaving_groups_out(lambda kept: float(values[kept].mean()), groups)
    means = [values[groups == g].mean() for g in range(10)]
    assert found.value == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(np.std(means, ddof=1) / np.sqrt(10))


def test_silhouette_has_an_error_of_the_size_of_its_spread():
    def of_seed(seed):
        features, codes = clouds(1.5, seed=seed)
        return silhouette(features, balanced(codes, "x"))

    drawn = [of_seed(seed) for seed in range(40)]
    spread = np.std([one.value for one in drawn], ddof=1)
    assert np.mean([one.standard_error for one in drawn]) == pytest.approx(spread, rel=0.35)


def test_probe_reads_separable_classes_and_guesses_where_there_are_none():
    features, codes = clouds(12.0, n=120, classes=3)
    chosen = balanced(codes, "x")
    apart = probe(features, chosen)
    assert apart.value == 1.0 and apart.standard_error == 0.0
    # 60 images are read; a guess is right with 1/3, give or take .061.
    none = probe(np.random.default_rng(5).standard_normal((120, 30)), chosen)
    assert abs(none.value - 1 / 3) < 3.5 * 0.061
    assert none.standard_error == pytest.approx(np.sqrt(none.value * (1 - none.value) / 60))


def test_probe_is_free_of_scale_and_of_features_that_do_not_vary():
    features, codes = clouds(2.5, n=100)
    chosen = balanced(codes, "x")
    wider = np.hstack([1e3 * features + 7, np.full((100, 3), 2.0)])
    assert probe(wider, chosen).value == probe(features, chosen).value < 1


def test_probe_does_not_see_what_it_is_scored_on():
    """Classes that only the unseen half shows can't be read."""
    features, codes = clouds(0.0, n=200, dim=4)
    chosen = balanced(codes, "x")
    unseen = chosen.index[chosen.place % 2 == 1]
    features[unseen, 0] += 20.0 * codes[unseen]
    assert probe(features, chosen).value < 0.75
