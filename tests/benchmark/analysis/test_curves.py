import numpy as np
import pytest

from benchmark.analysis.curves import area_ratio, steps_equivalent, steps_to_reach
from benchmark.analysis.scales import USUAL_SCALE
from mindiffusion.errors import UserError

STEPS = np.array([100.0, 200.0, 400.0, 800.0, 1600.0])
ALL = np.ones(5, dtype=bool)


def area_under(steps, values, valid, scale):
    """The area of a curve is that of its ratio to a flat curve of ones."""
    return area_ratio((steps, values, valid), (steps, np.ones(len(steps)), valid), scale)


def test_area_of_an_exponential_is_the_log_at_the_middle():
    values = 50 * np.exp(-0.001 * STEPS)
    assert area_under(STEPS, values, ALL, USUAL_SCALE) == pytest.approx(np.log(50) - 0.001 * 850)


def test_area_leaves_out_what_is_not_valid():
    values = np.array([9e9, 9e9, 20.0, 20.0, 20.0])
    valid = STEPS >= 400
    assert area_under(STEPS, values, valid, USUAL_SCALE) == pytest.approx(np.log(20))
    assert np.isnan(area_under(STEPS, values, STEPS > 800, USUAL_SCALE))


def test_area_does_not_depend_on_the_order_of_milestones():
    values = np.array([90.0, 60, 45, 30, 28])
    shuffle = [3, 0, 4, 2, 1]
    assert area_under(STEPS[shuffle], values[shuffle], ALL, USUAL_SCALE) == area_under(
        STEPS, values, ALL, USUAL_SCALE
    )


def test_area_ratio_is_the_constant_ratio_of_two_curves_over_their_common_span():
    values = 50 * np.exp(-0.001 * STEPS)
    late = STEPS >= 400
    curve = (STEPS, np.where(late, 0.9 * values, 1e9), late)
    assert area_ratio(curve, (STEPS, values, ALL), USUAL_SCALE) == pytest.approx(np.log(0.9))
    # Milestones need not be the same: log-linear curves are known in between.
    other = np.array([150.0, 700.0, 1200.0])
    other_curve = (other, 45 * np.exp(-0.001 * other), np.ones(3))
    assert area_ratio(other_curve, (STEPS, values, ALL), USUAL_SCALE) == pytest.approx(np.log(0.9))


def test_area_ratio_without_a_common_span_is_open():
    early, late = STEPS < 300, STEPS > 300
    values = np.full(5, 20.0)
    assert np.isnan(area_ratio((STEPS, values, early), (STEPS, values, late), USUAL_SCALE))


def test_steps_to_reach_inverts_an_exponential():
    values = 50 * np.exp(-0.001 * STEPS)
    assert steps_to_reach(STEPS, values, 50 * np.exp(-0.6), ALL, USUAL_SCALE) == pytest.approx(600)
    assert steps_to_reach(STEPS, values, float(values[3]), ALL, USUAL_SCALE) == pytest.approx(800)


def test_steps_to_reach_waits_for_valid_milestones():
    values = np.array([90.0, 10, 45, 30, 28])
    assert steps_to_reach(STEPS, values, 40.0, STEPS >= 400, USUAL_SCALE) > 400
    assert steps_to_reach(STEPS, values, 50.0, STEPS >= 400, USUAL_SCALE) == 400
    assert np.isnan(steps_to_reach(STEPS, values, 5.0, ALL, USUAL_SCALE))


def test_steps_equivalent_inverts_an_exponential():
    logs = np.log(50) - 0.001 * STEPS
    assert steps_equivalent(0.4, STEPS, logs) == pytest.approx(1200 / 1600)
    assert steps_equivalent(0.0, STEPS, logs) == 1.0


def test_steps_equivalent_is_open_outside_what_was_measured():
    logs = np.log(50) - 0.001 * STEPS
    assert np.isnan(steps_equivalent(-0.01, STEPS, logs))
    assert np.isnan(steps_equivalent(1.6, STEPS, logs))
    assert np.isnan(steps_equivalent(0.1, [], []))


def test_steps_equivalent_reads_the_last_falling_stretch_only():
    logs = np.array([3.0, 2.0, 2.5, 2.2, 2.0])
    assert steps_equivalent(0.3, STEPS, logs) == pytest.approx((400 + 400 * 2 / 3) / 1600)
    assert np.isnan(steps_equivalent(0.6, STEPS, logs))


@pytest.mark.parametrize(
    ("steps", "values"), [([1, 2], [3.0]), ([1, 1], [3.0, 2.0]), ([1, 2], [3.0, -1.0])]
)
def test_curves_refuse_what_is_no_curve(steps, values):
    with pytest.raises(UserError) as caught:
        area_under(steps, values, np.ones(len(steps)), USUAL_SCALE)
    assert "give" in str(caught.value) and "\n" not in str(caught.value)
