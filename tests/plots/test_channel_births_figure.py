import pytest
from matplotlib.figure import Figure

from benchmark.rows.frames import to_frame
from plots.figures.channel_births import (
    AGREEMENT,
    agreement,
    bars_of_births,
    births,
    effect_by_level,
    has_rows,
    masked_movement,
    movement,
    relative_effect,
)
from plots.style import arm_styles

pytestmark = pytest.mark.usefixtures("paper")


def test_births_are_the_channels_that_each_stage_adds(wide):
    born = births(wide)
    assert set(born["arm"]) == {"S", "CS"}
    own = born[born["arm"] == "CS"]
    assert own["stage"].tolist() == [1, 2, 3, 4, 5]
    assert own["born"].tolist() == [13, 13, 12, 13, 13]
    ax = bars_of_births(born, arm_styles(wide), Figure().subplots())
    assert [bar.get_height() for bar in ax.containers[0]] == [13, 13, 12, 13, 13]
    assert ax.get_legend_handles_labels()[1] == ["S, CS"]


def test_effect_is_relative_and_of_the_milestone_where_it_is_largest(wide):
    effect = relative_effect(wide)
    assert set(effect["arm"]) == {"S", "CS"} and set(effect["step"]) == {750}
    # Planted: 4 % of the error at no noise, none at pure noise.
    found = effect.groupby("level")["value"].mean()
    assert found[0.45] == pytest.approx(0.04 * 0.55)
    # CS trains no noise below .2 by then, S all of it.
    lowest = effect.groupby("arm")["level"].min()
    assert lowest["S"] == pytest.approx(0.05) and lowest["CS"] == pytest.approx(0.25)


def test_effect_is_drawn_in_percent_over_the_zone_of_no_effect(wide):
    ax = effect_by_level(relative_effect(wide), arm_styles(wide), Figure().subplots())
    line = next(line for line in ax.get_lines() if line.get_label() == "S, step 750")
    assert line.get_ydata()[0] == pytest.approx(100 * 0.04 * 0.95)
    (zone,) = ax.patches
    assert (zone.get_y(), zone.get_height()) == pytest.approx((-1, 2))


def test_movement_is_that_of_masked_channels_over_that_of_the_others(make):
    names = {"encoder-on": 0.2, "encoder-masked": 0.1, "up0-on": 0.4, "up0-masked": 0.4}
    rows = [make.row(arm="CS", metric=f"weight-movement-{name}", value=value)
            for name, value in names.items()]  # fmt: skip
    rows.append(make.row(arm="CS", step=750, metric="weight-movement-up0-on"))
    ratio = masked_movement(to_frame(rows))
    found = dict(zip(ratio["place"], ratio["value"], strict=True))
    assert found == pytest.approx({"encoder": 0.5, "up0": 1.0})
    ax = movement(ratio, arm_styles(ratio), Figure().subplots())
    labels = [line.get_label() for line in ax.get_lines()]
    assert labels[1:] == ["CS, encoder", "CS, up0"]


def test_agreement_shows_every_seed_and_the_mean(wide):
    rows = wide[wide["metric"] == AGREEMENT]
    ax = agreement(rows, arm_styles(rows), Figure().subplots())
    points = sorted(map(tuple, ax.collections[0].get_offsets().tolist()))
    assert len(points) == 2 * 4 * 8
    assert points == sorted(zip(rows["step"], rows["value"], strict=True))
    line = next(line for line in ax.get_lines() if line.get_label() == "CS")
    assert line.get_ydata() == pytest.approx([0.47, 0.57, 0.67, 0.77])


def test_study_without_a_mask_has_no_such_figure(make, wide):
    assert has_rows(wide)
    assert not has_rows(to_frame(make.rows(arms=("B", "CR"))))
