import math

import pytest

from benchmark.analysis.findings import Finding
from benchmark.analysis.scales import SIGN_ALONE, USUAL_SCALE
from benchmark.reporting.page.effects import HALF, WIDTH, claimed, reach_of


def finding(estimate, low=math.nan, high=math.nan, **changes):
    values = dict(
        key="H2", group="hypothesis", title="Benefit", question="?", contrast="C − B",
        estimate=estimate, low=low, high=high, p=0.0123, p_holm=0.0369, p_sign_flip=0.0078,
        seeds=8, verdict="undecided", why="because", seeds_needed=None, steps_equivalent=0.2,
        declared=True, direction=-1,
    )  # fmt: skip
    return Finding(**values | changes)


def test_positions_are_linear_in_the_log_ratio():
    drawing = claimed(finding(-0.1, -0.15, -0.05), 0.2).drawing
    assert drawing.point == WIDTH / 2 - HALF / 2
    assert drawing.interval == (WIDTH / 2 - 0.75 * HALF, WIDTH / 2 - 0.25 * HALF)
    assert drawing.zone[0] + drawing.zone[1] == pytest.approx(WIDTH)
    assert drawing.clear and drawing.cut == ()


def test_an_interval_that_leaves_the_scale_is_cut_and_says_so():
    drawing = claimed(finding(0.5, -0.1, 1.0), 0.2).drawing
    assert drawing.interval == (WIDTH / 2 - HALF / 2, WIDTH / 2 + HALF)
    assert drawing.cut == ("right",) and not drawing.clear


def test_only_intervals_beyond_the_smallest_effect_are_clear():
    assert not claimed(finding(-0.05, -0.1, -0.9 * USUAL_SCALE.margin), 0.2).drawing.clear
    ends = -0.05, -0.1, -0.9 * USUAL_SCALE.margin
    assert claimed(finding(*ends, scale=SIGN_ALONE), 0.2).drawing.clear
    assert claimed(finding(*ends, scale=SIGN_ALONE), 0.2).drawing.zone is None


def test_one_seed_has_a_point_and_no_interval():
    item = claimed(finding(0.1, seeds=1, p=None, p_holm=None, p_sign_flip=None), 0.2)
    assert item.drawing.interval is None and not item.drawing.clear
    assert (item.effect, item.interval) == ("+10.5 %", "n=1")
    assert item.remarks == "1 seed; as large as B’s own change over the last 20 % of its training"


def test_what_was_not_tested_is_not_drawn():
    item = claimed(finding(math.nan, steps_equivalent=None, verdict="not tested"), 0.2)
    assert item.drawing is None and item.effect == "–"


def test_remarks_name_every_p_value():
    text = claimed(finding(-0.1, -0.2, 0.0), 0.2).remarks
    assert text == (
        "8 seeds; p = .012; Holm p = .037; sign-flip p = .008; "
        "as large as B’s own change over the last 20 % of its training; declared"
    )


def test_scale_holds_all_intervals_within_its_limits():
    assert reach_of([finding(0.01, 0.0, 0.02)]) == math.log(1.06)
    assert reach_of([finding(0.1, -0.2, 0.0)]) == pytest.approx(0.22)
    assert reach_of([finding(2.0), finding(math.nan)]) == math.log(1.5)
