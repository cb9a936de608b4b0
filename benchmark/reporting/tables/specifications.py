"""The hypotheses by every way to measure the end, one line a way."""

import dataclasses
import math

import pandas as pd

from benchmark.analysis.specifications import Specification, agreeing
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.analysis.verdict_words import digits_for, percent, span
from benchmark.reporting.tables.as_text import Table
from benchmark.reporting.tables.milestones import MISSING


def specifications(study: StudyAnalysis) -> tuple[list[Table], pd.DataFrame]:
    """Whether the answer depends on how it is measured; a study with one way has no such table."""
    found = study.specifications
    ways = list(dict.fromkeys(one.way for one in found))
    if len(ways) < 2:
        return [], pd.DataFrame()
    contrasts = {one.key: one.contrast for one in found}
    lines = {(one.way, one.key): one for one in found}
    body = tuple((way, *(_cell(lines.get((way, key))) for key in contrasts)) for way in ways)
    header = ("measured by", *(f"{contrast} ({key})" for key, contrast in contrasts.items()))
    caption = (
        "Each line measures the same networks in another way. The first line is the primary "
        "endpoint, and it alone decides. Changes are in percent with 95 % intervals over training "
        "seeds; below zero the first arm is better. A way is listed if more than half of the cells "
        "were measured by it and all its values are above 0. The ways are not independent of each "
        "other."
    )
    notes = tuple(_note([one for one in found if one.key == key]) for key in contrasts)
    numbers = pd.DataFrame([dataclasses.asdict(one) for one in found])
    return [Table("The hypotheses by other ways to measure", caption, header, body, notes)], numbers


def _cell(one: Specification | None) -> str:
    if one is None or math.isnan(one.estimate):
        return MISSING
    change = percent(one.estimate, digits_for(one.high - one.low))
    return change if math.isnan(one.low) else f"{change} ({span(one.low, one.high)})"


def _note(ways: list[Specification]) -> str:
    others, same, against = agreeing(ways)
    return (
        f"{ways[0].contrast}: {same} of {others} other ways have the sign of the primary one; "
        f"{against} have an interval that lies wholly on the other side of 0."
    )
