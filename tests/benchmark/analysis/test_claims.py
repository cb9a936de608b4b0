import pytest

from benchmark.analysis.claims import about, claims_about
from benchmark.study.arm_catalogue import CATALOGUE
from benchmark.study.hypotheses import USUAL_HYPOTHESES, Hypothesis

ALL = [arm.name for arm in CATALOGUE if arm.look is not None]


def usual(arms):
    return claims_about(arms, USUAL_HYPOTHESES)


@pytest.mark.parametrize("claim", usual(ALL), ids=lambda claim: claim.key)
def test_weights_sum_to_zero_and_agree_with_the_text(claim):
    assert sum(weight for _, weight in claim.weights) == 0
    assert all(arm in claim.contrast for arm in claim.arms)
    assert claim.question.endswith("?")


def test_usual_claims_are_asked_in_the_order_of_the_tables():
    asked = [(claim.key, claim.group, claim.direction) for claim in usual(ALL)]
    decomposition = (
        "static-B", "density*-static", "density*-B", "C-shuffled*", "C-anti*", "C-flat-B", "S-B",
        "R-B",
    )  # fmt: skip
    assert asked == [
        *((key, "hypothesis", -1) for key in ("H1", "H2", "H3")),
        *((key, "decomposition", -1) for key in decomposition),
        *((key, "claim", -1) for key in ("C-B", "CS-B", "CR-B", "CS-C", "CR-C")),
        ("CS-CR", "claim", 0),
        ("A/A", "check", 0), ("B-80%", "check", 1), ("B-half", "check", 1),
    ]  # fmt: skip


def test_joint_effect_is_the_interaction_of_mask_and_curriculum():
    joint = next(claim for claim in usual(ALL) if claim.key == "H3")
    effects = {"B": 0.0, "C": -0.05, "S": 0.02, "CS": -0.03}
    # Additive effects of C and of the mask leave nothing to be joint.
    assert sum(weight * effects[arm] for arm, weight in joint.weights) == pytest.approx(0)
    effects["CS"] -= 0.1
    assert sum(weight * effects[arm] for arm, weight in joint.weights) == pytest.approx(-0.1)


def test_keys_are_unique():
    keys = [claim.key for claim in usual([*ALL, "mine", "mine-density*", "mirror"])]
    assert len(keys) == len(set(keys))


def test_only_claims_whose_arms_are_there_are_listed():
    assert [claim.key for claim in usual(["B", "C"])] == ["H2", "C-B"]
    assert [claim.key for claim in usual(["C", "density*"])] == ["H1"]
    assert usual(["B"]) == []


def test_an_arm_of_ones_own_is_compared_with_its_controls_too():
    arms = ["B", "mine", "mine-density*", "mine-shuffled*", "mine-anti*", "mine-flat"]
    assert [claim.contrast for claim in usual(arms)] == [
        "mine − B",
        "mine − mine-density*",
        "mine-density* − B",
        "mine − mine-shuffled*",
        "mine − mine-anti*",
        "mine-flat − B",
    ]


def test_no_pair_is_asked_about_twice_and_no_control_is_an_arm_of_ones_own():
    extra = ["S-silent", "mirror", "mirror-density*", "P2"]
    listed = usual([*ALL, *extra])[len(usual(ALL)) :]
    assert [claim.contrast for claim in listed] == [
        "P2 − B",
        "S-silent − B",
        "mirror − B",
        "mirror − mirror-density*",
        "mirror-density* − B",
    ]


def test_an_arm_named_like_a_control_of_nothing_is_an_arm():
    assert [claim.contrast for claim in usual(["B", "very-flat"])] == ["very-flat − B"]


def test_hypotheses_of_the_study_stand_in_the_place_of_the_usual_ones():
    own = (
        Hypothesis("order", "mine - mine-density*", title="Order", question="Does it help?"),
        Hypothesis("P2-B", "P2 - B", "equal"),
    )
    arms = ["B", "C", "density*", "P2", "mine", "mine-density*"]
    found = {claim.key: claim for claim in claims_about(arms, own)}
    assert [claim.key for claim in found.values() if claim.group == "hypothesis"] == [
        "order", "P2-B",
    ]  # fmt: skip
    assert (found["order"].title, found["order"].question) == ("Order", "Does it help?")
    assert (found["P2-B"].title, found["P2-B"].direction) == ("P2-B (expected: equal)", 0)
    # What a hypothesis asks is no part of something else; a claim of its name has another key.
    contrasts = [(claim.contrast, claim.group) for claim in found.values()]
    assert ("mine − mine-density*", "decomposition") not in contrasts
    assert found["P2-B (claim)"].contrast == "P2 − B"
    # Early order of C is no hypothesis here, but still a part of its effect.
    assert ("C − density*", "decomposition") in contrasts


def test_about_another_measure_changes_the_name_alone():
    first = usual(ALL)[0]
    claim = about(first, "eps-MSE/ELBO")
    assert (claim.key, claim.title) == ("H1 eps-MSE/ELBO", "Early order: eps-MSE/ELBO")
    assert claim.weights == first.weights


@pytest.mark.parametrize("contrast", ["static - B", "(static - B)", "static - (B - C) - C"])
def test_a_part_of_the_catalogue_that_a_hypothesis_asks_is_asked_once(contrast):
    claims = claims_about(ALL, [Hypothesis("H", contrast, "worse", title="Exposure")])
    (asked,) = (one for one in claims if set(one.arms) == {"static", "B"})
    assert (asked.group, asked.contrast) == ("hypothesis", "static − B")
    assert asked.title == "Exposure (expected: worse)"


def test_a_check_is_asked_whatever_a_hypothesis_says_of_it():
    claims = claims_about(["B", "A/A"], [Hypothesis("H", "A/A - B", "worse")])
    assert [(one.group, one.direction) for one in claims] == [("hypothesis", 1), ("check", 0)]
