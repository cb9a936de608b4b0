import pytest
from matplotlib.figure import Figure

from benchmark.rows.frames import to_frame
from plots.figures.capacity import by_stage, capacity_stages, figure
from plots.style import arm_styles

pytestmark = pytest.mark.usefixtures("paper")


def test_arms_that_use_no_mask_or_penalty_are_left_out(wide):
    parts = capacity_stages(wide)
    assert set(parts["active_channels"]["arm"]) == {"S", "CS"}
    assert set(parts["penalty_lambda"]["arm"]) == {"CR"}
    assert set(parts["penalty_lambda"]["seed"]) == {0}


def test_study_without_either_has_no_such_figure(make):
    assert capacity_stages(to_frame(make.rows(arms=("B", "C")))) == {}


def test_lines_are_the_values_by_stage_and_equal_ones_are_one(wide):
    stages = capacity_stages(wide)["active_channels"]
    ax = by_stage(stages, "active_channels", arm_styles(wide), Figure().subplots())
    (patch,) = ax.patches
    values, edges, _ = patch.get_data()
    assert values.tolist() == [13, 26, 38, 51, 64]
    assert edges.tolist() == [0, 94, 281, 563, 938, 1500]
    assert patch.get_label() == "S, CS"


def test_axes_name_their_quantities(wide):
    assert [ax.get_ylabel() for ax in figure(wide).axes] == ["active channels", "penalty λ"]
