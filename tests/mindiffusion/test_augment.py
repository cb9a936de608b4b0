"""Non-leaking augmentation: each change beside a computation of its own, and the shares of all."""

import itertools
import math

import numpy as np
import pytest
import torch

from mindiffusion.augment import (
    _SYM6,
    LABELS,
    NUM_LABELS,
    augmented,
    composed,
    draw_augmentation,
    told_changes,
)

SIDE = 32
NOISE = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
P = 0.12  # of EDM on CIFAR-10


def changes(count=1, **given):
    """Changes of as many images, all alike; what is not given is left out."""
    usual = {"flip_x": False, "flip_y": False, "scale": 0.0, "turn": 0.0, "stretch": 0.0,
             "direction": 0.0, "shift": (0.0, 0.0)}  # fmt: skip
    assert given.keys() <= usual.keys()
    made = {}
    for name, value in (usual | given).items():
        one = torch.tensor(value)
        one = one.double() if one.is_floating_point() else one
        made[name] = one.expand(count, *one.shape)
    return composed(**made)


def picture(x, y):
    """A smooth picture without symmetry, of places in pixels from the centre; 0 far outside."""
    bump = np.exp(-((x - 3) ** 2) / 30 - (y + 2) ** 2 / 14 + 0.02 * (x - 3) * (y + 2))
    return bump + 0.5 * np.exp(-((x + 5) ** 2 + (y - 4) ** 2) / 18)


def drawn_picture():
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return torch.from_numpy(picture(x, y))[None, None]


def batch(step=0, count=2000, probability=P, seed=5, variant=0):
    return draw_augmentation(probability, seed, torch.arange(count), step, variant)


# -- the filter ----------------------------------------------------------------------------------


def test_filter_is_the_orthonormal_wavelet_with_six_vanishing_moments():
    taps = np.array(_SYM6)
    assert taps.sum() == pytest.approx(math.sqrt(2), abs=1e-12)
    for apart in range(6):  # orthogonal to itself two, four ... ten places on
        product = taps[: 12 - 2 * apart] @ taps[2 * apart :]
        assert product == pytest.approx(float(apart == 0), abs=1e-11)
    signed = taps * (-1.0) ** np.arange(12)
    moments = [abs(signed @ np.arange(12.0) ** power) for power in range(7)]
    assert max(moments[:6]) < 1e-8 and moments[6] > 100
    # Of the wavelets with these properties the one whose phase is nearest to a straight line.
    assert np.abs(taps[:10] - taps[10::-1][:10]).max() < 0.17


@pytest.mark.parametrize("side", [4, 7, 32])
def test_resampling_at_the_same_places_gives_the_image_back(side):
    image = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
    still = changes(2, shift=(1e-13, 0.0))
    assert still.is_moved.all()
    assert (augmented(image, still)[0] - image).abs().max() <= 2e-5
    exact = image.double()
    torch.testing.assert_close(augmented(exact, still)[0], exact, atol=1e-10, rtol=0)


# -- each change alone ---------------------------------------------------------------------------


def test_flips_are_exact():
    both = {"flip_x": True, "flip_y": True}
    for given, axes in (({"flip_x": True}, 3), ({"flip_y": True}, 2), (both, (2, 3))):
        assert torch.equal(augmented(NOISE, changes(4, **given))[0], NOISE.flip(axes))


@pytest.mark.parametrize("right", [0, 3, -9])
@pytest.mark.parametrize("down", [5, -2])
def test_shift_by_whole_pixels_moves_them_and_mirrors_at_the_edge(right, down):
    image = NOISE[:1].double()
    found, _ = augmented(image, changes(shift=(8 * right / SIDE, 8 * down / SIDE)))
    wide = np.pad(image[0].numpy(), ((0, 0), (9, 9), (9, 9)), mode="reflect")
    rows, columns = (slice(9 - moved, 9 - moved + SIDE) for moved in (down, right))
    np.testing.assert_allclose(found[0].numpy(), wide[:, rows, columns], atol=1e-9)


def test_quarter_turn_is_that_of_a_square():
    found, _ = augmented(drawn_picture(), changes(turn=math.pi / 2))
    expected = torch.rot90(drawn_picture(), 1, (2, 3))  # counter-clockwise
    assert (found - expected).abs().max() < 0.015
    assert (found - drawn_picture()).abs().max() > 0.3


def test_a_quarter_turn_and_back_changes_nothing_far_from_the_edge():
    there, _ = augmented(drawn_picture(), changes(turn=math.pi / 2))
    back, _ = augmented(there, changes(turn=-math.pi / 2))
    assert (back - drawn_picture()).abs().max() < 0.02


@pytest.mark.parametrize(
    ("given", "place"),
    [
        # Where (x, y) of the changed picture comes from, in pixels from the centre, y down.
        ({"scale": 1.5}, lambda x, y: (x / 2**0.3, y / 2**0.3)),
        ({"scale": -2.0}, lambda x, y: (x * 2**0.4, y * 2**0.4)),
        ({"stretch": 1.5}, lambda x, y: (x / 2**0.3, y * 2**0.3)),
        ({"stretch": 1.5, "direction": math.pi / 2}, lambda x, y: (x * 2**0.3, y / 2**0.3)),
        ({"shift": (1.0, -0.5)}, lambda x, y: (x - 4, y + 2)),
        ({"turn": 0.3}, lambda x, y: (math.cos(0.3) * x - math.sin(0.3) * y,
                                      math.sin(0.3) * x + math.cos(0.3) * y)),
    ],
    ids=["larger", "smaller", "wider", "taller", "shifted", "turned"],
)  # fmt: skip
def test_each_change_is_that_of_a_picture_given_by_a_formula(given, place):
    found, _ = augmented(drawn_picture(), changes(**given))
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    expected = picture(*place(x, y))
    inner = slice(6, -6)  # what lies outside is mirrored
    assert np.abs(found[0, 0].numpy() - expected)[inner, inner].max() < 0.02
    assert np.abs(drawn_picture()[0, 0].numpy() - expected)[inner, inner].max() > 0.05


def test_stretch_is_along_its_direction_counter_clockwise():
    """A disc becomes longer towards the upper right corner, and narrower across it."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    disc = torch.from_numpy(np.exp(-(x**2 + y**2) / 18))[None, None]
    found, _ = augmented(disc, changes(stretch=2.0, direction=math.pi / 4))
    image = found[0, 0].numpy() / found.sum().item()
    along, across = (x - y) / 2**0.5, (x + y) / 2**0.5
    assert (image * along**2).sum() == pytest.approx(9 * 2**0.8, rel=0.02)
    assert (image * across**2).sum() == pytest.approx(9 / 2**0.8, rel=0.02)


def test_changes_follow_one_another_as_told():
    """Flipped, scaled, turned, stretched, shifted: each alone, in this order, is all at once."""
    order = ({"flip_x": True}, {"scale": -1.0}, {"turn": 0.7}, {"stretch": 1.0, "direction": 0.4},
             {"shift": (0.4, -0.3)})  # fmt: skip
    image = drawn_picture()
    for one in order:
        image, _ = augmented(image, changes(**one))
    together = {name: value for one in order for name, value in one.items()}
    found, _ = augmented(drawn_picture(), changes(**together))
    inner = slice(8, -8)
    assert (image - found)[..., inner, inner].abs().max() < 0.03
    turned_first = ({"turn": 0.7}, {"flip_x": True})
    other = drawn_picture()
    for one in turned_first:
        other, _ = augmented(other, changes(**one))
    both, _ = augmented(drawn_picture(), changes(flip_x=True, turn=0.7))
    assert (other - both)[..., inner, inner].abs().max() > 0.1


def test_what_is_outside_is_mirrored_as_often_as_needed():
    image = drawn_picture()
    far, _ = augmented(image, changes(shift=(8.0 * 4, 0.0)))  # four sides to the right
    wide = np.pad(image[0].numpy(), ((0, 0), (0, 0), (4 * SIDE, 0)), mode="reflect")
    np.testing.assert_allclose(far[0].numpy(), wide[..., :SIDE], atol=0.02)


# -- what is told --------------------------------------------------------------------------------


def test_labels_are_the_nine_numbers_of_the_public_code():
    given = changes(flip_x=True, scale=0.3, turn=2.0, stretch=-1.2, direction=0.5, shift=(0.7, -2))
    expected = [1, 0, 0.3, math.cos(2) - 1, math.sin(2), -1.2 * math.cos(0.5),
                -1.2 * math.sin(0.5), 0.7, -2]  # fmt: skip
    assert NUM_LABELS == len(LABELS) == 9
    _, labels = augmented(NOISE[:1], given)
    assert labels.dtype == NOISE.dtype and labels.shape == (1, 9)
    assert labels[0].tolist() == pytest.approx(expected)
    assert not augmented(NOISE, changes(4))[1].any()


def test_network_is_told_only_where_something_is_changed():
    def network(x, told, **more):
        return more

    assert told_changes(network, None) is network
    labels = torch.zeros(2, 9)
    assert told_changes(network, labels)(0, 0, condition=1) == {
        "condition": 1, "augment_labels": labels,
    }  # fmt: skip


# -- draws ---------------------------------------------------------------------------------------


def test_shares_of_changes_are_the_closed_form():
    labels = torch.cat([batch(step).labels for step in range(50)])
    found = (labels != 0).double().mean(0)
    expected = torch.tensor([0.5, P / 2, P, P, P, P, P / 2, P, P]).double()
    error = (expected * (1 - expected) / len(labels)).sqrt()
    assert ((found - expected).abs() < 4.5 * error).all(), found
    untouched = (labels[:, 1:] == 0).all(1).double().mean()
    closed = (1 - P) ** 4 * (1 - P / 2)
    assert abs(untouched - closed) < 4.5 * (closed * (1 - closed) / len(labels)) ** 0.5


def test_sizes_of_changes_are_those_of_the_paper():
    labels = torch.cat([batch(step, probability=1.0).labels for step in range(20)])
    normals = labels[:, [2, 7, 8]]
    assert (normals.mean(0).abs() < 0.025).all() and (normals.std(0) - 1).abs().max() < 0.02
    size = labels[:, 5:7].norm(dim=1)
    assert size.square().mean() == pytest.approx(1, abs=0.04)
    angle = torch.atan2(labels[:, 4], labels[:, 3] + 1)
    counts = torch.histc(angle, 8, -math.pi, math.pi) / len(labels)
    assert (counts - 1 / 8).abs().max() < 0.01
    straight = (labels[:, 6] == 0).double().mean()
    assert straight == pytest.approx(0.5, abs=0.012)
    assert torch.corrcoef(labels.T).fill_diagonal_(0).abs().max() < 0.03


def test_nothing_is_changed_without_a_chance():
    none = batch(probability=0.0)
    assert not none.labels.any()
    assert torch.equal(augmented(NOISE, batch(probability=0.0, count=4))[0], NOISE)


def test_draws_do_not_depend_on_the_batch_split():
    whole = draw_augmentation(0.5, 5, torch.arange(32), 3)
    images = torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    expected, told = augmented(images, whole)
    assert whole.is_moved.sum() > 20
    for start, stop in itertools.combinations(range(0, 33, 3), 2):
        part = draw_augmentation(0.5, 5, torch.arange(start, stop), 3)
        assert torch.equal(part.labels, whole.labels[start:stop])
        assert torch.equal(part.origin, whole.origin[start:stop])
        found, labels = augmented(images[start:stop], part)
        torch.testing.assert_close(found, expected[start:stop], atol=1e-6, rtol=0)
        assert torch.equal(labels, told[start:stop])


def test_draws_differ_by_seed_step_and_variant():
    base = batch(count=64, probability=1.0).labels
    for other in ({"seed": 6}, {"step": 1}, {"variant": 1}):
        found = batch(**{"count": 64, "probability": 1.0} | other).labels
        assert not (found[:, [2, 3, 4, 5, 7, 8]] == base[:, [2, 3, 4, 5, 7, 8]]).any()


def test_a_higher_chance_keeps_every_change_of_a_lower_one():
    low, high = (batch(probability=p).labels for p in (0.1, 0.4))
    kept = low != 0
    # A straight stretch has no sine, whatever the chance.
    assert torch.equal(low[kept], high[kept])
    assert (high != 0).sum() > kept.sum()


def test_images_that_are_not_moved_keep_their_values_and_memory():
    images = NOISE.contiguous(memory_format=torch.channels_last)
    some = draw_augmentation(0.3, 1, torch.arange(4), 11)
    assert some.is_moved.any() and not some.is_moved.all()
    found, _ = augmented(images, some)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for image, before, moved, flips in zip(
        found, images, some.is_moved, some.labels[:, :2], strict=True
    ):
        axes = [axis for axis, flipped in ((2, flips[0]), (1, flips[1])) if flipped]
        assert torch.equal(image, before.flip(axes)) != bool(moved)
