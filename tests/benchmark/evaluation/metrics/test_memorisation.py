import numpy as np
import pytest

from benchmark.evaluation.metrics.memorisation import memorisation, unseen_images
from mindiffusion.errors import UserError


def draw(seed, n, dim=6):
    return np.random.default_rng(seed).normal(size=(n, dim))


TRAIN, HELD_OUT = draw(0, 500), draw(1, 300)


def images(seed, n):
    return np.random.default_rng(seed).integers(0, 256, size=(n, 4, 5, 3), dtype=np.uint8)


def test_memorisation_finds_planted_copies():
    generated = draw(2, 300)
    generated[[7, 50, 200]] = TRAIN[[3, 400, 41]] + 1e-6
    result = memorisation(generated, HELD_OUT, TRAIN, num_pairs=3)
    assert sorted(result.pairs.generated) == [7, 50, 200]
    train_row = dict(zip(result.pairs.generated, result.pairs.train, strict=True))
    assert train_row == {7: 3, 50: 400, 200: 41}
    np.testing.assert_allclose(result.pairs.distance, 1e-6 * np.sqrt(6), rtol=1e-4)


def test_memorisation_share_counts_the_copies():
    generated = draw(2, 300)
    clean = memorisation(generated, HELD_OUT, TRAIN)
    generated[:60] = TRAIN[:60]
    result = memorisation(generated, HELD_OUT, TRAIN)
    assert result.share == pytest.approx(0.2 + 0.8 * clean.share, abs=0.01)
    assert result.standard_error == pytest.approx(
        np.sqrt(result.share * (1 - result.share) / 300), rel=1e-12
    )
    assert result.share - result.expected > 5 * result.standard_error


def test_memorisation_of_a_generator_like_the_held_out_images_is_about_one_percent():
    results = [memorisation(draw([2, s], 200), draw([3, s], 200), TRAIN[:300]) for s in range(200)]
    shares = np.array([r.share for r in results])
    error = shares.std(ddof=1) / np.sqrt(len(shares))
    assert abs(shares.mean() - 0.01) < 3 * error
    assert error < 0.001
    assert {r.expected for r in results} == {0.01}


def test_memorisation_says_what_few_images_give_without_memory():
    result = memorisation(draw(4, 49), draw(5, 30), TRAIN)
    assert (result.n, result.n_train) == (30, 500)
    assert result.expected == pytest.approx(1 / 31)


def test_memorisation_threshold_is_the_held_out_quantile():
    result = memorisation(draw(2, 300), HELD_OUT, TRAIN)
    nearest = np.sqrt(((HELD_OUT[:, None] - TRAIN[None]) ** 2).sum(axis=2)).min(axis=1)
    low, high = np.sort(nearest)[2:4]
    assert low <= result.threshold <= high


def test_memorisation_is_the_same_for_any_unit():
    generated = draw(2, 300)
    generated[:30] = TRAIN[:30] + 0.001 * np.arange(1, 31)[:, None]
    one = memorisation(generated, HELD_OUT, TRAIN)
    other = memorisation(100 * generated, 100 * HELD_OUT, 100 * TRAIN)
    assert one.share == other.share and one.share > 0.1
    np.testing.assert_array_equal(one.pairs.generated, other.pairs.generated)


def test_memorisation_names_no_more_pairs_than_there_are_images():
    result = memorisation(draw(2, 5), HELD_OUT, TRAIN)
    assert len(result.pairs.generated) == 5
    assert (np.diff(result.pairs.distance) >= 0).all()


def test_memorisation_rejects_an_empty_set():
    with pytest.raises(UserError, match="0 held-out"):
        memorisation(TRAIN, HELD_OUT[:0], TRAIN)
    with pytest.raises(UserError, match="0 training"):
        memorisation(TRAIN, HELD_OUT, TRAIN[:0])


def test_unseen_images_drops_copies_and_mirrored_copies():
    train, held_out = images(0, 20), images(1, 10)
    held_out[2] = train[5]
    held_out[7] = train[9][:, ::-1]
    held_out[8] = train[9][::-1]  # upside down is another image
    expected = np.ones(10, dtype=bool)
    expected[[2, 7]] = False
    np.testing.assert_array_equal(unseen_images(held_out, train), expected)


def test_unseen_images_rejects_other_types_and_sizes():
    with pytest.raises(UserError, match="uint8"):
        unseen_images(images(0, 3).astype(float), images(1, 3))
    with pytest.raises(UserError, match="one size"):
        unseen_images(images(0, 3)[:, :3], images(1, 3))
    with pytest.raises(UserError, match="uint8"):
        unseen_images(images(0, 3)[0], images(1, 3)[0])
