import numpy as np
import pytest
import torch
from scipy import stats

from mindiffusion import noise
from mindiffusion.noise import Stream, normals, permutation, philox, random_bits, uniforms

SEED = 7


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (
            "ffffffff ffffffff ffffffff ffffffff",
            "ffffffff ffffffff",
            "408f276d 41c83b0e a20bc7c6 6d5451fd",
        ),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, expected):
    counter = tuple(torch.tensor([word]) for word in words(counter))
    result = philox(counter, tuple(words(key)))
    assert [int(word) for word in result] == words(expected)


def test_random_bits_are_philox_blocks_of_the_documented_counter_and_key():
    bits = random_bits(5, Stream.NOISE, torch.tensor([3, 2**32 - 1]), step=11, count=6)
    for row, index in enumerate((3, 2**32 - 1)):
        blocks = []
        for block in (0, 1):
            counter = tuple(torch.tensor([c]) for c in (block, index, 11, 0))
            blocks += [int(word) for word in philox(counter, (5, int(Stream.NOISE)))]
        assert bits[row].tolist() == blocks[:6]


def test_stream_values_never_change():
    # They key every result ever written: a new one is appended, none is renumbered.
    assert {s.name: s.value for s in Stream} == {
        "ORDER": 1,
        "FLIP": 2,
        "TIME": 3,
        "NOISE": 4,
        "CHANNELS": 5,
        "PROBE_TIME": 6,
        "PROBE_NOISE": 7,
        "SAMPLE_START": 8,
        "SAMPLE_STEP": 9,
        "EVALUATION_NOISE": 10,
        "CLASSIFIER_WEIGHTS": 11,
        "CLASSIFIER_NOISE": 12,
        "STAGE_ORDER": 13,
        "LABEL_DROP": 14,
        "AUGMENT": 15,
        "AUGMENT_SIZE": 16,
        "CAPTION": 17,
        "LATENT": 20,
        "EVALUATION_LATENT": 21,
        "JACOBIAN": 24,
        "ABLATION": 25,
        "FEATURE_DIRECTIONS": 40,
        "FEATURE_SAMPLES": 41,
        "FIXED_SAMPLES": 42,
        "HELD_OUT_SAMPLES": 43,
        "TWO_LAYER_WEIGHTS": 44,
    }


DRAWS = {
    "bits": lambda index: random_bits(SEED, Stream.NOISE, index, 4, 7),
    "uniforms": lambda index: uniforms(SEED, Stream.TIME, index, 4),
    "normals": lambda index: normals(SEED, Stream.NOISE, index, 4, (3, 5, 5)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("sizes", [[1] * 24, [5, 19], [8, 16], [23, 1]], ids=str)
def test_draws_do_not_depend_on_the_batch_split(draw, sizes):
    index = torch.arange(100, 124)
    parts = [draw(part) for part in index.split(sizes)]
    assert torch.equal(torch.cat(parts), draw(index))


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_draws_do_not_depend_on_the_order_or_on_earlier_calls(draw):
    index = torch.arange(24)
    first = draw(index)
    torch.manual_seed(0)
    order = torch.randperm(24)
    assert torch.equal(draw(index[order]), first[order])


def test_draws_differ_for_every_seed_stream_step_and_index():
    index = torch.arange(20)
    rows = [
        random_bits(seed, stream, index, step, 4)
        for seed in (0, 1, 2, 2**32 - 1)
        for stream in Stream
        for step in (0, 1, 2, 2**32 - 1)
    ]
    rows = torch.cat(rows)
    assert len(torch.unique(rows, dim=0)) == len(rows) == 4 * len(Stream) * 4 * 20


def test_uniforms_are_24_bit_numbers_in_the_unit_interval(monkeypatch):
    draws = uniforms(SEED, Stream.TIME, torch.arange(2000), 0, 10)
    assert draws.dtype == torch.float32 and draws.shape == (2000, 10)
    assert torch.equal(draws * 2**24, (draws * 2**24).floor())
    ends = torch.tensor([[0, 2**32 - 1]])
    monkeypatch.setattr(noise, "random_bits", lambda *_: ends)
    assert uniforms(0, Stream.TIME, torch.arange(1), 0, 2).tolist() == [[0.0, 1 - 2**-24]]


def test_normals_are_finite_at_the_ends_of_the_bits(monkeypatch):
    ends = torch.tensor([[0, 0, 2**32 - 1, 2**32 - 1, 0, 2**32 - 1, 0, 2**32 - 1]])
    monkeypatch.setattr(noise, "random_bits", lambda *_: ends)
    assert bool(normals(0, Stream.NOISE, torch.arange(1), 0, (8,)).isfinite().all())


@pytest.mark.parametrize("axis", ["index", "position", "step"])
def test_uniforms_and_normals_follow_their_distribution_along_every_axis(axis):
    n = 20_000
    if axis == "index":
        u = uniforms(SEED, Stream.TIME, torch.arange(n), 3)
        z = normals(SEED, Stream.NOISE, torch.arange(n), 3, (1,))
    elif axis == "position":
        u = uniforms(SEED, Stream.TIME, torch.arange(1), 3, n)
        z = normals(SEED, Stream.NOISE, torch.arange(1), 3, (n,))
    else:
        n = 2000
        one = torch.arange(1)
        u = torch.cat([uniforms(SEED, Stream.TIME, one, step) for step in range(n)])
        z = torch.cat([normals(SEED, Stream.NOISE, one, step, (1,)) for step in range(n)])
    u, z = (x.double().numpy().ravel() for x in (u, z))
    assert stats.kstest(u, "uniform").pvalue > 0.001
    assert stats.kstest(z, "norm").pvalue > 0.001
    assert abs(u.mean() - 0.5) < 4 / np.sqrt(12 * n) and abs(u.var() - 1 / 12) < 0.01
    assert abs(z.mean()) < 4 / np.sqrt(n) and abs(z.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 4 / np.sqrt(n)


def test_normals_of_both_box_muller_halves_are_normal_and_uncorrelated():
    z = normals(SEED, Stream.NOISE, torch.arange(10_000), 0, (2,)).double().numpy()
    for half in z.T:
        assert stats.kstest(half, "norm").pvalue > 0.001
    assert abs(stats.pearsonr(z[:, 0], z[:, 1]).statistic) < 0.04
    assert abs(stats.pearsonr(z[:, 0] ** 2, z[:, 1] ** 2).statistic) < 0.04


def test_normals_take_any_shape_also_an_odd_one():
    assert normals(0, Stream.NOISE, torch.arange(4), 0, (3, 3, 1)).shape == (4, 3, 3, 1)


@pytest.mark.parametrize("size", [1, 2, 33, 1000])
def test_permutation_visits_every_image_once(size):
    assert permutation(3, 0, size).sort().values.tolist() == list(range(size))


def test_permutation_is_keyed_by_seed_and_epoch():
    orders = {(s, e): tuple(permutation(s, e, 50).tolist()) for s in (0, 1) for e in (0, 1)}
    assert len(set(orders.values())) == 4
    assert orders[1, 0] == tuple(permutation(1, 0, 50).tolist())


def test_permutation_puts_every_image_first_about_equally_often():
    first = np.bincount([int(permutation(0, epoch, 5)[0]) for epoch in range(500)], minlength=5)
    assert stats.chisquare(first).pvalue > 0.001


@pytest.mark.parametrize(("seed", "step"), [(-1, 0), (2**32, 0), (0, -1), (0, 2**32)])
def test_random_bits_refuse_a_seed_or_step_out_of_range(seed, step):
    with pytest.raises(ValueError, match=r"must be in \[0, 2\^32\)"):
        random_bits(seed, Stream.TIME, torch.arange(1), step, 1)


@pytest.mark.parametrize("draw", [random_bits, uniforms, normals], ids=lambda draw: draw.__name__)
def test_draws_of_many_runs_at_once_are_those_of_each(draw):
    """Seed, step and variant may be one for each index."""
    shape = (5,) if draw is normals else 5
    keys = [(SEED, 3, 0), (8, 3, 0), (SEED, 4, 0), (SEED, 3, 1)]
    index = torch.arange(4, 9)
    seeds, steps, variants = (torch.tensor(k).repeat_interleave(5) for k in zip(*keys, strict=True))
    found = draw(seeds, Stream.NOISE, index.repeat(4), steps, shape, variants)
    each = [draw(seed, Stream.NOISE, index, step, shape, v) for seed, step, v in keys]
    assert torch.equal(found, torch.cat(each))
    assert len({tuple(one.flatten().tolist()) for one in each}) == 4
