import numpy as np
import pytest

from benchmark.evaluation.attributes.amplitude import counterfactual_amplitudes
from mindiffusion.data.avatars import AvatarSource, label_names
from mindiffusion.data.names import AVATAR_STYLES
from mindiffusion.errors import UserError

PERSONAS = AvatarSource(("personas",), 32)


@pytest.fixture(scope="module")
def amplitudes():
    return counterfactual_amplitudes(PERSONAS, range(12))


def attributes_of(source, sample):
    names = label_names(source.styles)
    return {
        key: values[code] for (key, values), code in zip(names.items(), sample.codes, strict=True)
    }


@pytest.mark.parametrize("style", AVATAR_STYLES)
def test_counterfactual_changes_one_option_alone(style):
    source = AvatarSource((style,), 32)
    before = attributes_of(source, source.draw(3))
    for name, values in source.values_of(3).items():
        value = next(value for value in values if value != before[name])
        after = attributes_of(source, source.counterfactual(3, name, value))
        changed = {key for key in before if after[key] != before[key]}
        # A part may bring its colour's label with it, or take it away; a colour that nothing
        # shows has no label.
        assert {key for key in changed if not key.endswith("Color")} <= {name}
        if name.endswith("Color"):
            assert changed <= {name} and after[name] in (value, "none")
        else:
            assert after[name] == value
            assert all("none" in (before[key], after[key]) for key in changed - {name})


def test_counterfactual_of_the_own_value_is_the_portrait_itself():
    before = attributes_of(PERSONAS, PERSONAS.draw(5))
    for name in PERSONAS.values_of(5):
        if before[name] == "none" and name.endswith("Color"):
            continue
        same = PERSONAS.counterfactual(5, name, before[name])
        assert np.array_equal(same.pixels, PERSONAS.draw(5).pixels), name


def test_counterfactual_keeps_the_background():
    portrait = PERSONAS.draw(2).pixels
    for name, values in PERSONAS.values_of(2).items():
        changed = PERSONAS.counterfactual(2, name, values[-1]).pixels
        assert np.array_equal(changed[:4, :4], portrait[:4, :4]), name


def test_counterfactual_refuses_what_the_style_lacks():
    with pytest.raises(UserError, match="mouth='beak' asked for portrait 1; its style allows"):
        PERSONAS.counterfactual(1, "mouth", "beak")
    with pytest.raises(UserError, match="no such attribute"):
        PERSONAS.counterfactual(1, "style", "personas")
    with pytest.raises(UserError, match="hair='none'"):
        PERSONAS.counterfactual(1, "hair", "none")


def test_amplitudes_fall_from_hair_to_nose(amplitudes):
    """Measured on 32 portraits: hair .203 ± .016, mouth .088 ± .004, nose .012 ± .001."""
    value = {amplitude.name: amplitude.value for amplitude in amplitudes}
    assert set(value) == set(PERSONAS.values_of(0))
    assert value["hair"] > 1.5 * value["mouth"] > 3 * value["nose"] > 0
    assert list(value.values()) == sorted(value.values(), reverse=True)


def distances_to_other_noses(item):
    before = PERSONAS.draw(item)
    own = attributes_of(PERSONAS, before)["nose"]
    others = [value for value in PERSONAS.values_of(item)["nose"] if value != own]
    pixels = [PERSONAS.counterfactual(item, "nose", value).pixels.astype(float) for value in others]
    return [np.sqrt(np.mean(((changed - before.pixels) / 127.5) ** 2)) for changed in pixels]


def test_amplitude_is_the_mean_rms_difference_with_its_error():
    found = {a.name: a for a in counterfactual_amplitudes(PERSONAS, [0, 1])}["nose"]
    expected = [
        ((one + other) / 2, abs(one - other) / 2)
        for one in distances_to_other_noses(0)
        for other in distances_to_other_noses(1)
    ]
    assert any(
        np.allclose((found.value, found.standard_error), pair, rtol=1e-9) for pair in expected
    )
    assert found.pairs == 2


def test_colour_that_nothing_shows_has_no_amplitude(amplitudes):
    found = {amplitude.name: amplitude for amplitude in amplitudes}
    chins = [attributes_of(PERSONAS, PERSONAS.draw(i))["facialHair"] for i in range(12)]
    assert found["facialHairColor"].moved == np.mean([chin != "none" for chin in chins]) < 1
    assert found["skinColor"].moved == 1
    bare = chins.index("none")
    red = PERSONAS.counterfactual(bare, "facialHairColor", "#e15c66")
    assert np.array_equal(red.pixels, PERSONAS.draw(bare).pixels)


def test_amplitudes_depend_on_the_portraits_alone(amplitudes):
    again = counterfactual_amplitudes(PERSONAS, range(12)[::-1])
    for one, other in zip(amplitudes, again, strict=True):
        assert one.name == other.name and one.value == pytest.approx(other.value, rel=1e-12)


def test_amplitudes_of_mixed_styles_are_over_portraits_that_have_the_attribute():
    mixed = AvatarSource(AVATAR_STYLES, 32)
    found = {a.name: a.pairs for a in counterfactual_amplitudes(mixed, range(6))}
    assert "style" not in found
    assert found["hair"] == 4 and found["beard"] == found["head"] == 2


def test_amplitude_of_one_portrait_has_no_error_and_is_refused():
    with pytest.raises(UserError, match="1 portraits leave 1 for one attribute"):
        counterfactual_amplitudes(PERSONAS, [0])
    with pytest.raises(UserError, match="0 portraits"):
        counterfactual_amplitudes(PERSONAS, [])
