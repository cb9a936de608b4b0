import math

import pytest
from matplotlib.figure import Figure

from benchmark.analysis.log_ratios import percent_ticks
from benchmark.analysis.scales import USUAL_SCALE
from plots.change_axis import change_axis, covering, cut, is_wide, margin_zone


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.94, 1.04, (-6, -4, -2, 0, 2, 4)), (0.6, 2.2, (0, 50, 100))],
)
def test_ticks_stand_at_round_percentages(low, high, expected):
    ticks = percent_ticks(math.log(low), math.log(high))
    assert ticks == pytest.approx([math.log1p(value / 100) for value in expected])


@pytest.mark.parametrize("reach", [2.0, 5.0, 50.0, 700.0, 8000.0, 1e6])
def test_ticks_stay_few_however_far_the_limits_are(reach):
    for low, high in ((-reach, reach), (-0.1, reach), (-reach, 0.1)):
        ticks = percent_ticks(low, high)
        assert 1 <= len(ticks) <= 9 and all(low <= tick <= high for tick in ticks)


def test_far_ticks_are_named_by_factors():
    for reach, expected in ((1.5, "×2"), (7.0, "×100"), (100.0, "×10²⁰")):
        ax = Figure().subplots()
        change_axis(ax, "y", -reach, reach, USUAL_SCALE)
        ax.figure.draw_without_rendering()
        assert expected in [label.get_text() for label in ax.get_yticklabels()]


def test_limits_leave_room_for_no_more_than_a_factor_of_20():
    low, high = covering([-8000.0, 8000.0], USUAL_SCALE, room=0.0)
    assert (low, high) == pytest.approx((-math.log(20), math.log(20)))
    assert is_wide([0.1, 8000.0], USUAL_SCALE)
    assert not is_wide([0.1, float("nan")], USUAL_SCALE)


def test_a_bar_beyond_its_axis_ends_in_an_arrow():
    ax = Figure().subplots()
    ax.set_xlim(-1, 1)
    assert list(cut(ax, "x", 0.0, (-0.5, 0.5), "black")) == [-0.5, 0.5] and not ax.lines
    assert list(cut(ax, "x", 0.0, (-9.0, 9.0), "black")) == [-1.0, 1.0]
    assert [line.get_marker() for line in ax.lines] == ["<", ">"]


def test_axis_names_its_ticks_in_percent():
    ax = Figure().subplots()
    change_axis(ax, "x", math.log(0.85), math.log(1.12), USUAL_SCALE)
    ax.figure.draw_without_rendering()
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == ["−15 %", "−10 %", "−5 %", "0", "+5 %", "+10 %"]


def test_limits_hold_all_finite_values_and_the_zone():
    low, high = covering([0.2, float("nan"), float("inf")], USUAL_SCALE)
    assert low < -math.log(1.03) and high > 0.2


def test_zone_is_the_margin_to_both_sides():
    ax = Figure().subplots()
    margin_zone(ax, "y", USUAL_SCALE)
    (zone,) = ax.patches
    assert (zone.get_y(), zone.get_y() + zone.get_height()) == pytest.approx(
        (-math.log(1.03), math.log(1.03))
    )


@pytest.mark.parametrize("reach", [0.06, 0.3, 0.6, 1.0, 2.0, 2.5, 3.0, 5.0])
def test_a_narrow_axis_has_fewer_ticks(reach):
    for low, high in ((-reach, reach), (-0.02, reach), (-reach, 0.02)):
        ticks = USUAL_SCALE.ticks(low, high, most=3)
        assert 1 <= len(ticks) <= 4 and len(ticks) <= len(USUAL_SCALE.ticks(low, high))
