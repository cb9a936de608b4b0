import numpy as np
import pytest

from mindiffusion.data.avatars import (
    BACKGROUND_RANGE,
    FIRST_HELD_OUT,
    AvatarSource,
    background,
    label_names,
    plan_avatars,
)
from mindiffusion.data.names import AVATAR_STYLES
from mindiffusion.data.spec import DataConfig


@pytest.mark.parametrize("style", AVATAR_STYLES)
def test_avatar_is_a_function_of_its_index(style):
    source = AvatarSource((style,), 32)
    forward = [source.draw(index) for index in (0, 1, 2)]
    backward = [source.draw(index) for index in (2, 1, 0)][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert one.pixels.shape == (32, 32, 3) and one.pixels.dtype == np.uint8
        assert np.array_equal(one.pixels, other.pixels)
        assert one.codes == other.codes and one.digest == other.digest
    assert len({sample.digest for sample in forward}) == 3


@pytest.mark.parametrize("style", AVATAR_STYLES)
def test_avatar_face_covers_the_centre_and_leaves_the_upper_corner(style):
    source = AvatarSource((style,), 32)
    # Per pixel: in what share of the portraits the background shows through untouched.
    untouched = np.mean(
        [(source.draw(i).pixels == background(i, 32)).all(-1) for i in range(24)], axis=0
    )
    assert untouched[12:20, 12:20].max() < 0.1
    assert untouched[:4, :4].mean() > 0.7


def test_background_is_smooth_mid_tone_and_varied():
    images = np.stack([background(index, 32) for index in range(200)]).astype(float)
    corner = images[:, :8, :8]
    down, right = (np.abs(np.diff(corner, axis=axis)) for axis in (1, 2))
    assert 0.5 < (down.mean() + right.mean()) / 2 < 1.2  # grey levels
    assert max(down.max(), right.max()) <= 6
    assert images.min() >= BACKGROUND_RANGE[0] and images.max() <= BACKGROUND_RANGE[1]
    assert images.mean((1, 2)).std(0).min() > 20


def test_background_ramp_is_linear_between_opposite_corners():
    ramp = background(7, 33).astype(float)
    # Point symmetry about the centre: a + b is the same for every pixel and its opposite.
    assert np.abs(ramp + ramp[::-1, ::-1] - 2 * ramp[16, 16]).max() <= 2  # rounding


def test_mixed_takes_the_styles_in_turn():
    plan = plan_avatars(DataConfig(style="mixed", num_train=6))
    column = list(plan.label_names).index("style")
    codes = [plan.source.draw(item).codes[column] for item in plan.train]
    assert codes == [0, 1, 2, 0, 1, 2]
    assert plan.label_names["style"] == list(AVATAR_STYLES)


def test_plan_train_and_held_out_indices_are_disjoint():
    plan = plan_avatars(DataConfig())
    assert len(plan.train) == 50_000 and plan.train[-1] < plan.held_out[0] == FIRST_HELD_OUT


def test_labels_name_what_is_drawn():
    """Equal backgrounds aside, portraits differ exactly where the labels say they may."""
    names = label_names(("personas",))
    source = AvatarSource(("personas",), 32)
    samples = [source.draw(index) for index in range(60)]
    codes = np.array([sample.codes for sample in samples])
    for column, values in enumerate(names.values()):
        assert codes[:, column].max() < len(values)
    skin = list(names).index("skinColor")
    tones = {
        code: np.mean([s.pixels[17, 12:20].mean() for s in samples if s.codes[skin] == code])
        for code in np.unique(codes[:, skin])
    }
    brightness = {code: _luma(names["skinColor"][code]) for code in tones}
    ranks = [np.argsort(np.argsort(list(values.values()))) for values in (tones, brightness)]
    assert np.corrcoef(*ranks)[0, 1] > 0.8


def _luma(color: str) -> float:
    return float(np.mean([int(color[start : start + 2], 16) for start in (1, 3, 5)]))


def test_plan_credits_each_style():
    description = plan_avatars(DataConfig(style="mixed")).description
    licences = {style: meta["license"]["name"] for style, meta in description["styles"].items()}
    assert licences == {
        "personas": "CC BY 4.0",
        "toon-head": "CC BY 4.0",
        "open-peeps": "CC0 1.0",
    }
    assert all("https://" in meta["license"]["text"] for meta in description["styles"].values())
