import pytest

from benchmark.analysis.claims import CLAIMS, about, claims_about

ALL = {arm for claim in CLAIMS for arm in claim.arms}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.key)
def test_weights_sum_to_zero_and_agree_with_the_text(claim):
    assert sum(weight for _, weight in claim.weights) == 0
    assert all(arm in claim.contrast for arm in claim.arms)
    assert claim.question.endswith("?")


def test_joint_effect_is_the_interaction_of_mask_and_curriculum():
    joint = next(claim for claim in CLAIMS if claim.key == "H3")
    effects = {"B": 0.0, "C": -0.05, "S": 0.02, "CS": -0.03}
    # Additive effects of C and of the mask leave nothing to be joint.
    assert sum(weight * effects[arm] for arm, weight in joint.weights) == pytest.approx(0)
    effects["CS"] -= 0.1
    assert sum(weight * effects[arm] for arm, weight in joint.weights) == pytest.approx(-0.1)


def test_keys_are_unique():
    keys = [claim.key for claim in claims_about([*ALL, "mine", "mine-density*", "mirror"])]
    assert len(keys) == len(set(keys))


def test_only_claims_whose_arms_are_there_are_listed():
    assert [claim.key for claim in claims_about(["B", "C"])] == ["H2", "C-B"]
    assert [claim.key for claim in claims_about(["C", "density*"])] == ["H1"]
    assert claims_about(["B"]) == []


def test_an_arm_of_ones_own_is_compared_with_its_controls_too():
    arms = ["B", "mine", "mine-density*", "mine-shuffled*", "mine-anti*", "mine-flat"]
    assert [claim.contrast for claim in claims_about(arms)] == [
        "mine − B",
        "mine − mine-density*",
        "mine-density* − B",
        "mine − mine-shuffled*",
        "mine − mine-anti*",
        "mine-flat − B",
    ]


def test_no_pair_is_asked_about_twice_and_no_control_is_an_arm_of_ones_own():
    extra = ["S-silent", "mirror", "mirror-density*", "P2"]
    listed = claims_about([*ALL, *extra])[len(CLAIMS) :]
    assert [claim.contrast for claim in listed] == [
        "P2 − B",
        "S-silent − B",
        "mirror − B",
        "mirror − mirror-density*",
        "mirror-density* − B",
    ]


def test_an_arm_named_like_a_control_of_nothing_is_an_arm():
    assert [claim.contrast for claim in claims_about(["B", "very-flat"])] == ["very-flat − B"]


def test_about_another_measure_changes_the_name_alone():
    claim = about(CLAIMS[0], "eps-MSE/ELBO")
    assert (claim.key, claim.title) == ("H1 eps-MSE/ELBO", "Early order: eps-MSE/ELBO")
    assert claim.weights == CLAIMS[0].weights
