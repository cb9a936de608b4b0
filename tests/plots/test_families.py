import pandas as pd

from benchmark.study.arm_catalogue import CATALOGUE
from plots.arm_groups import CROWDED, alike, families, listed, main_arms, selection_note

# Arms with a place and a look of their own.
PLACED = [arm.name for arm in CATALOGUE if arm.look is not None]


def test_few_arms_share_one_panel_without_a_title():
    (family,) = families(["B", "C", "density*", "mine"])
    assert (family.title, family.arms) == ("", ("B", "C", "density*", "mine"))


def test_many_arms_are_shown_beside_the_baseline_each_at_least_once():
    arms = [*PLACED, "P2", "SpeeD", *(f"x{k}" for k in range(7))]
    found = families(arms)
    assert all(family.arms[0] == "B" and len(family.arms) <= CROWDED for family in found)
    assert {arm for family in found for arm in family.arms} == set(arms)
    assert [family.title for family in found] == [
        "factorial", "controls of C", "instrument checks", "related methods", "other arms",
        "other arms",
    ]  # fmt: skip


def test_c_alone_is_no_family():
    others = [f"x{k}" for k in range(6)]
    without = families(["B", "C", "CS", *others])
    assert "controls of C" not in [family.title for family in without]
    only = families(["B", "C", "density*", *others])
    assert "factorial" not in [family.title for family in only]
    alone = families(["B", "C", *others])
    assert [family.arms for family in alone if "C" in family.arms] == [("B", "C")]


def test_the_only_variant_of_an_arm_that_is_not_there_takes_its_place():
    controls = ["density*", "static", "A/A", "B-80%"]
    (factorial, *others) = families(["B", "C", "CR", *controls, "CS-down1"])
    assert (factorial.title, factorial.arms) == ("factorial", ("B", "C", "CR", "CS-down1"))
    assert [family.title for family in others] == ["controls of C", "instrument checks"]


def test_a_variant_beside_its_arm_or_another_variant_has_a_panel_of_variants():
    for arms in (["CS", "CS-down1"], ["CS-silent", "CS-down1"]):
        found = families(["B", "C", "CR", "density*", "static", "A/A", *arms])
        variants = next(family for family in found if family.title == "variants")
        assert variants.arms == ("B", *(arm for arm in arms if arm != "CS"))


def test_without_a_baseline_families_have_none():
    assert families(list(PLACED[1:]))[0].arms == ("S", "R", "C", "CS", "CR")


def test_arms_with_equal_values_stand_together_in_arm_order():
    rows = pd.DataFrame({"arm": ["S", "C", "B", "C", "S"], "x": [2, 1, 1, 3, 3], "y": 0.0})
    rows = pd.concat([rows, pd.DataFrame({"arm": ["B"], "x": [3], "y": 0.0})])
    assert alike(rows, ["x", "y"]) == [["B", "C"], ["S"]]


def test_names_of_arms_are_not_cut():
    assert listed(["EDM-lognormal", "B"], 14) == "EDM-lognormal,\nB"
    assert listed(["EDM-lognormal", "B"], 8) == "EDM-lognormal,\nB"


def test_main_arms_are_those_of_the_question_in_arm_order():
    arms = ["B", "S", "C", "CS", "CR", "density*", "A/A", "mine"]
    assert main_arms(arms, 4) == ["B", "C", "CS", "density*"]
    assert main_arms(arms[:3], 4) == ["B", "S", "C"]
    assert selection_note(arms[:2], arms) == ["2 of 8 arms shown, all are in the tables"]
    assert selection_note(arms, arms) == []
