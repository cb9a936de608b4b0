"""Which class an image shows follows from its index alone."""

import pytest
import torch

from mindiffusion.class_conditions import a_class_a_row, class_conditions, one_class
from mindiffusion.data.classes import Classes

CLASSES = Classes("hair", ("none", "a", "b", "c"), (0, 1, 700, 299))


@pytest.mark.parametrize("how", ["shares", "balanced"])
def test_an_image_shows_the_same_class_in_any_chunk(how):
    of = class_conditions(CLASSES, how)
    whole = of(torch.arange(1000))
    assert whole.dtype == torch.int64
    for start, stop in ((0, 7), (7, 500), (500, 1000)):
        assert torch.equal(of(torch.arange(start, stop)), whole[start:stop])
    assert torch.equal(of(torch.tensor([2**32 - 1, 3])), of(torch.tensor([3, 2**32 - 1])).flip(0))


@pytest.mark.parametrize("start", [0, 12_345, 2**31])
def test_shares_are_met_by_any_run_of_images_up_to_a_few(start):
    of = class_conditions(CLASSES, "shares")
    for n in (10, 100, 5000):
        counts = torch.bincount(of(torch.arange(start, start + n)), minlength=4)
        wanted = n * torch.tensor(CLASSES.counts) / 1000
        assert counts[0] == 0 and (counts - wanted).abs().max() <= 4


def test_balanced_takes_all_that_are_shown_in_turn():
    assert class_conditions(CLASSES, "balanced")(torch.arange(5)).tolist() == [1, 2, 3, 1, 2]


def test_rows_of_a_picture_and_single_classes():
    assert a_class_a_row(CLASSES, 2)(torch.arange(8)).tolist() == [1, 1, 2, 2, 3, 3, 1, 1]
    assert one_class(3)(torch.arange(3)).tolist() == [3, 3, 3]


def test_all_classes_of_many_are_drawn_by_their_shares():
    many = Classes("x", tuple(map(str, range(1000))), tuple(range(1, 1001)))
    counts = torch.bincount(class_conditions(many, "shares")(torch.arange(500_500)))
    assert (counts - torch.tensor(many.counts)).abs().max() <= 4
