import itertools
import math

import pytest
import torch

from mindiffusion.noise import Stream
from mindiffusion.theory.setting import TwoFeatureConfig
from mindiffusion.theory.two_features import codes, features_of

CONFIG = TwoFeatureConfig(3, 8, share=0.2)


def drawn(seed, index, step=0, variant=0, config=CONFIG):
    seeds = torch.as_tensor(seed).reshape(-1)
    return codes(config, seeds, Stream.FEATURE_SAMPLES, index, step, variant)


def test_directions_are_orthonormal_and_their_own_among_others():
    found = features_of(CONFIG, [3, 5]).directions
    for one in found:
        torch.testing.assert_close(one @ one.T, torch.eye(6).double(), rtol=0, atol=1e-14)
    assert torch.equal(features_of(CONFIG, [5]).directions[0], found[1])
    assert not torch.equal(found[0], found[1])


def test_sample_is_the_sum_of_its_features():
    features = features_of(CONFIG, [0])
    z = torch.tensor([[[1.0, 0, 1, 0, 1, 0]]]).double()
    rows = features.directions[0]
    expected = 5.0 * (rows[0] + rows[2]) + 0.5 * rows[4]
    torch.testing.assert_close(features.samples(z)[0, 0], expected)
    torch.testing.assert_close(features.parts(features.samples(z)), z * features.amplitudes)


def test_codes_have_the_law_of_rejection_of_each_group():
    """Every z ≠ 0 as often as p^k (1 − p)^(d − k)/(1 − (1 − p)^d) says, in both groups alike."""
    count, p, d = 40_000, CONFIG.share, 3
    z = drawn(1, torch.arange(count))
    assert z.shape == (count, 2 * d) and set(z.unique().tolist()) == {0.0, 1.0}
    pairs = []
    for group in z.view(-1, 2, d).unbind(1):
        places = (group * torch.tensor([1, 2, 4])).sum(1).long()
        counts = torch.bincount(places, minlength=8)
        assert counts[0] == 0
        for bits in itertools.product((0, 1), repeat=d):
            place, ones = sum(b << i for i, b in enumerate(bits)), sum(bits)
            if ones:
                share = p**ones * (1 - p) ** (d - ones) / (1 - (1 - p) ** d)
                error = math.sqrt(share * (1 - share) / count)
                assert abs(float(counts[place]) / count - share) < 4.5 * error
        pairs.append(places.double())
    assert abs(float(torch.corrcoef(torch.stack(pairs))[0, 1])) < 4.5 / math.sqrt(count)


@pytest.mark.parametrize(
    "config", [TwoFeatureConfig(1, 2, share=0.2), TwoFeatureConfig(3, 8, share=1.0)]
)
def test_where_there_is_one_code_only_it_is_drawn(config):
    assert bool((drawn(0, torch.arange(50), config=config) == 1).all())


def test_samples_depend_on_their_key_alone():
    whole = drawn(7, torch.arange(20), step=3)
    assert torch.equal(drawn(7, torch.arange(5, 9), step=3), whole[5:9])
    assert not torch.equal(drawn(7, torch.arange(20), step=4), whole)
    assert not torch.equal(drawn(7, torch.arange(20), step=3, variant=1), whole)
    index = torch.arange(20).repeat(2)
    both = drawn(torch.tensor([6, 7]).repeat_interleave(20), index, torch.full((40,), 3))
    assert torch.equal(both[20:], whole) and not torch.equal(both[:20], whole)
