"""What is known of arms: one entry each."""

import pytest

from benchmark.study.arm_catalogue import (
    CATALOGUE,
    KNOWN_CONTROLS,
    PANELS,
    arm_note,
    by_importance,
    checks_that_are,
    control_name,
    in_order,
    is_control,
    known_arm,
)
from mindiffusion.curriculum.controls import CONTROLS
from plots.style import COLOURS


@pytest.mark.parametrize(
    ("arm", "note"),
    [
        ("C", "noise curriculum, high noise first"),
        ("density*", "C’s exposure and last stage, else no order"),
        ("my arm-density*", "my arm’s exposure and last stage, else no order"),
        ("mirror-shuffled*", "mirror’s stages, shuffled"),
        ("C-flat", "C’s order, uniform exposure"),
        ("my arm", ""),
    ],
)
def test_arm_note_knows_controls_of_any_arm(arm, note):
    assert arm_note(arm) == note


def test_every_arm_and_every_kind_of_control_has_one_entry():
    names = [arm.name for arm in CATALOGUE]
    assert len(set(names)) == len(names)
    assert sorted(control.kind for control in KNOWN_CONTROLS) == sorted(CONTROLS)
    assert all(arm_note(name) for name in names)


def test_entries_name_panels_colours_and_arms_that_there_are():
    names = {arm.name for arm in CATALOGUE}
    for arm in CATALOGUE:
        assert arm.panel in ("", *PANELS)
        assert arm.look is None or arm.look.colour in COLOURS
        assert all(set(comparison.arms) <= names for comparison in arm.comparisons)
        is_check = any(comparison.group == "check" for comparison in arm.comparisons)
        assert is_check == (arm.check is not None)


def test_checks_are_told_apart_by_what_is_expected_of_them():
    assert checks_that_are("equal") == ["A/A"]
    assert checks_that_are("worse") == ["B-80%", "B-half"]
    assert checks_that_are("better") == []


def test_an_arm_without_an_entry_stands_behind_the_placed_ones():
    assert in_order(["mine", "A/A", "CS", "B", "P2"]) == ["B", "CS", "A/A", "P2", "mine"]
    assert by_importance(["mine", "CS", "density*", "C", "B"])[:3] == ["B", "C", "density*"]
    assert known_arm("mine").comparisons == () and known_arm("mine").look is None


def test_a_control_is_known_by_its_name_and_its_arm():
    assert is_control("density*", []) and is_control("mine-flat", ["mine"])
    assert not is_control("very-flat", ["mine"]) and not is_control("mirror", ["C"])
    assert control_name("density", "C") == "density*" and control_name("flat", "C") == "C-flat"
