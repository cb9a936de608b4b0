import dataclasses

import numpy as np
import pytest

from benchmark.evaluation.attributes.classifier import Attribute, Readings
from benchmark.evaluation.attributes.frequencies import attribute_frequencies, total_variation
from mindiffusion.errors import UserError

HAIR = Attribute("hair", ("a", "b", "c"), (0, 1, 2), (0.3, 0.3, 0.4), 1.0, 0.9, 0.01, 0.01)
EYES = Attribute("eyes", ("open", "shut"), (1, 2), (0.5, 0.5), 1.0, 0.9, 0.01, 0.01)


def readings(hair, eyes, rejected=None):
    """Readings that are sure of the given classes."""
    columns = {"hair": np.eye(3)[hair], "eyes": np.eye(2)[eyes]}
    rejected = np.zeros(len(hair), dtype=bool) if rejected is None else rejected
    return Readings({name: c.astype(np.float32) for name, c in columns.items()}, rejected)


def drawn(n, seed, hair=(0.3, 0.3, 0.4)):
    rng = np.random.default_rng(seed)
    return readings(rng.choice(3, n, p=hair), rng.integers(0, 2, n))


def test_frequencies_of_training_images_are_their_labels_frequencies(classifier, squares):
    read = classifier.read_uint8(squares.train)
    found = attribute_frequencies(read, read, classifier.attributes)
    assert found.n == found.n_training == 600
    for attribute, entry in zip(classifier.attributes, found.single, strict=True):
        classes = attribute.classes_of(squares.train_labels[attribute.name])
        labelled = np.bincount(classes, minlength=2) / 600
        np.testing.assert_allclose(entry.generated, labelled, atol=0.02)
        assert entry.names == (attribute.name,) and entry.value == 0
    codes = [a.classes_of(squares.train_labels[a.name]) for a in classifier.attributes]
    (pair,) = found.pairs
    joint = np.histogram2d(*codes, bins=(2, 2))[0] / 600
    np.testing.assert_allclose(pair.generated, joint, atol=0.02)


def test_total_variation_is_half_the_summed_difference():
    value, _, _ = total_variation(np.array([5, 5, 0]), np.array([20, 20, 40]))
    assert value == pytest.approx(0.5)
    found = attribute_frequencies(
        readings([0, 0, 1, 1], [0, 0, 1, 1]), readings([0, 0, 1, 1], [0, 1, 0, 1]), (HAIR, EYES)
    )
    assert [entry.value for entry in found.single] == [0, 0]
    # Each attribute has its share, but the two no longer come independently.
    assert found.pairs[0].names == ("hair", "eyes") and found.pairs[0].value == 0.5
    assert found.pairs[0].generated.shape == (3, 2)


def test_total_variation_error_is_the_spread_over_redrawn_images():
    rng = np.random.default_rng(0)
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.3, 0.4])
    pairs = [total_variation(rng.multinomial(800, p), rng.multinomial(500, q)) for _ in range(800)]
    values, errors, _ = np.array(pairs).T
    assert values.std() == pytest.approx(np.sqrt((errors**2).mean()), rel=0.1)


def test_total_variation_floor_is_the_mean_of_equal_distributions():
    rng = np.random.default_rng(1)
    p = np.array([0.4, 0.3, 0.2, 0.1])
    pairs = [total_variation(rng.multinomial(400, p), rng.multinomial(600, p)) for _ in range(800)]
    values, _, floors = np.array(pairs).T
    assert values.mean() == pytest.approx(floors.mean(), rel=0.05)


def test_lost_mode_raises_the_distance_above_its_floor():
    training = drawn(1000, 0)
    same = attribute_frequencies(drawn(1000, 1), training, (HAIR,)).single[0]
    lost = attribute_frequencies(drawn(1000, 1, (0.0, 0.5, 0.5)), training, (HAIR,)).single[0]
    assert same.value < 2 * same.floor
    assert lost.value - 5 * lost.standard_error > lost.floor
    assert lost.generated[0] == 0


def test_rejected_images_are_counted_and_left_out():
    hair, eyes = [0] * 6 + [2] * 4, [0] * 10
    rejected = np.array([False] * 6 + [True] * 4)
    found = attribute_frequencies(
        readings(hair, eyes, rejected), readings([0] * 8, [0] * 8), (HAIR,)
    )
    assert found.rejected == 0.4 and found.rejected_training == 0
    assert found.rejected_error == pytest.approx(np.sqrt(0.4 * 0.6 / 10))
    assert found.single[0].value == 0 and found.n == 10


def test_images_that_are_all_rejected_leave_their_share_alone():
    good = drawn(5, 0)
    bad = dataclasses.replace(good, rejected=np.array([True] * 4 + [False]))
    found = attribute_frequencies(bad, good, (HAIR, EYES))
    assert found.rejected == 0.8 and found.single == found.pairs == ()
    with pytest.raises(UserError, match="1 of 5 training images are not rejected"):
        attribute_frequencies(good, bad, (HAIR,))
