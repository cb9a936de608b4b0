import pytest

from benchmark.reporting.page.words import (
    counted,
    listed,
    p_value,
    percent,
    percent_of,
    ranges,
    size_text,
    slug,
    tied,
)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (-4.53, "−4.5 %"),
        (4.0, "+4.0 %"),
        (0.0, "0.0 %"),
        (-0.04, "0.0 %"),
        (120.4, "+120 %"),
        (-99.96, "−100 %"),
    ],
)
def test_percent_has_a_sign_unless_it_is_zero(change, text):
    assert percent(change) == text


def test_percent_of_turns_a_log_ratio_into_a_change():
    assert percent_of(0.6931471805599453) == "+100 %"
    assert percent_of(float("nan")) == "–"


@pytest.mark.parametrize(
    ("p", "text"), [(0.0001, "p < .001"), (0.0123, "p = .012"), (1.0, "p = 1.000")]
)
def test_p_value_has_three_decimals(p, text):
    assert p_value(p) == text


def test_numbers_and_lists_read_well():
    assert counted(1, "seed") == "1 seed"
    assert counted(1200, "seed") == "1,200 seeds"
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"
    assert ranges([3, 0, 1, 2, 5, 5]) == "0–3, 5"
    assert size_text(1_250_000) == "1.2 MB"
    assert size_text(17_400) == "17 kB"


def test_tied_keeps_numbers_with_their_signs():
    assert tied("3 % of n = 8, p < .1") == "3\u00a0% of n\u00a0=\u00a08, p <\u00a0.1"


def test_slug_keeps_what_an_anchor_may_have():
    assert slug("A/A") == "A-A"
    assert slug("density*-B") == "density-star-B"
