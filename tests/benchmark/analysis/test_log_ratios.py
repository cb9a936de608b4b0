import math

import numpy as np
import pandas as pd
import pytest

from benchmark.analysis.log_ratios import (
    BEYOND,
    is_beyond,
    log_quotient,
    percent,
    percent_change,
    quotient,
)
from benchmark.analysis.scales import USUAL_SCALE
from benchmark.reporting.page.words import percent_of


@pytest.mark.parametrize("show", [percent, percent_of])
@pytest.mark.parametrize("log_ratio", [5.0, 700.0, 1e6, 1e300])
def test_an_enormous_change_says_so_and_never_overflows(show, log_ratio):
    assert show(log_ratio) == BEYOND


@pytest.mark.parametrize("show", [percent, percent_of])
def test_a_ratio_of_almost_nothing_is_a_hundred_percent_less(show):
    assert show(-1e300).replace("−", "-") in ("-100.0 %", "-100 %")


def test_an_interval_of_two_seeds_far_apart_reads_as_one():
    assert USUAL_SCALE.span(-8000.0, 8000.0) == "−100.0 % to > 9999 %"


def test_changes_are_finite_and_a_missing_one_stays_missing():
    assert math.isfinite(percent_change(1e308))
    assert math.isnan(percent_change(math.nan)) and not is_beyond(math.nan)


def test_quotients_without_a_number_are_missing():
    values, by = pd.Series([1.0, 0.0, 4.0]), pd.Series([0.0, 0.0, 2.0])
    assert quotient(values, by).tolist()[2] == 2.0 and quotient(values, by).isna().sum() == 2
    logs = log_quotient(pd.Series([1.0, -1.0, 0.0, 3.0]), pd.Series([1.0, 1.0, 1.0, 0.0]))
    assert logs[0] == 0.0 and np.isnan(logs[1:]).all()
