"""How the endpoint scales with the settings that a study sweeps."""

import dataclasses
import math

import pandas as pd

from benchmark.analysis.exponents import SMALLEST_EXPONENT, Exponent
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.reporting.tables.as_text import Table
from benchmark.reporting.tables.milestones import MISSING

_WORDS = {
    "constant": "does not change",
    "falls": "falls",
    "rises": "rises",
    "undecided": "undecided",
}
_OF_DIFFERENCES = {
    "constant": "no difference that matters",
    "falls": "below",
    "rises": "above",
    "undecided": "undecided",
}


def exponents(study: StudyAnalysis) -> tuple[list[Table], pd.DataFrame]:
    """A line for each setting and arm; a study without sweeps has no such table."""
    found = study.exponents
    if not found:
        return [], pd.DataFrame()
    metric = study.terms.endpoint.metric
    caption = (
        f"{metric} grows as the setting to this power: the slope of its logarithm over that of the "
        "setting, seed by seed, with the 95 % interval over seeds. As the setting grows, the error "
        f"falls or rises where the whole interval lies beyond ±{SMALLEST_EXPONENT:g}, and does not "
        "change where two one-sided tests at .05 put it within. Of a difference of two arms, over "
        "the seeds of both: whether the first one's exponent is below or above by as much. From "
        "the line: root mean square distance of the points' logarithm. Exploratory: none of these "
        "is a hypothesis of the study."
    )
    body = tuple(map(_line, found))
    header = ("setting", "arm", "exponent", "95 % interval", "seeds", "points", "from the line",
              "as it grows, the error")  # fmt: skip
    numbers = pd.DataFrame([dataclasses.asdict(one) for one in found])
    return [Table("How the error scales", caption, header, body)], numbers


def _line(one: Exponent) -> tuple[str, ...]:
    words = _OF_DIFFERENCES if math.isnan(one.residual) else _WORDS
    return (
        one.setting,
        one.arm,
        _signed(one.estimate),
        MISSING if math.isnan(one.low) else f"{_signed(one.low)} to {_signed(one.high)}",
        str(one.seeds),
        str(one.points),
        MISSING if math.isnan(one.residual) else f"{one.residual:.2f}",
        words[one.growth],
    )


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
