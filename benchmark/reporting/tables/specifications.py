"""The hypotheses by every way to measure the end, one line a way."""

import dataclasses
import math

import pandas as pd

from benchmark.analysis.scales import Scale
from benchmark.analysis.specifications import Specification, agreeing
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.analysis.verdict_words import seeds_text
from benchmark.reporting.tables.as_text import Table
from benchmark.reporting.tables.milestones import MISSING

_WITH_LOGS = " and all their values are above 0"


def specifications(study: StudyAnalysis) -> tuple[list[Table], pd.DataFrame]:
    """Whether the answer depends on how it is measured; a study with one way has no such table."""
    found = study.specifications
    ways = list(dict.fromkeys(one.way for one in found))
    if len(ways) < 2:
        return [], pd.DataFrame()
    contrasts = {one.key: one.contrast for one in found}
    lines = {(one.way, one.key): one for one in found}
    scale = study.scale
    most = {key: lines[ways[0], key].seeds for key in contrasts}
    body = tuple(
        (way, *(_cell(lines.get((way, key)), most[key], scale) for key in contrasts))
        for way in ways
    )
    header = ("measured by", *(f"{contrast} ({key})" for key, contrast in contrasts.items()))
    caption = (
        "Each line measures the same networks in another way. The first line is the primary "
        f"endpoint, and it alone decides. Changes are in {scale.unit} with 95 % intervals over "
        f"training seeds; {scale.better_side} zero the first arm is better. A way is listed if "
        f"more than half of the endpoint's cells were measured by it{_WITH_LOGS * scale.is_share}. "
        "Lines of earlier steps are of the networks as they were then. The ways are not "
        "independent of each other."
    )
    notes = tuple(_note([one for one in found if one.key == key]) for key in contrasts)
    numbers = pd.DataFrame([_numbers(one, scale) for one in found])
    return [Table("The hypotheses by other ways to measure", caption, header, body, notes)], numbers


def _cell(one: Specification | None, most_seeds: int, scale: Scale) -> str:
    if one is None or math.isnan(one.estimate):
        return MISSING
    text = scale.interval((one.estimate, one.low, one.high))
    return text if one.seeds == most_seeds else f"{text}, {seeds_text(one.seeds)}"


def _numbers(one: Specification, scale: Scale) -> dict[str, object]:
    """All of it, in the metric's own direction."""
    shown = scale.shown((one.estimate, one.low, one.high))
    return dataclasses.asdict(one) | shown | {"direction": int(scale.turned(one.direction))}


def _note(ways: list[Specification]) -> str:
    others, same, against = agreeing(ways)
    if not ways[0].direction:
        rest = [one for one in ways[1:] if not math.isnan(one.low)]
        inside = sum(one.low <= 0 <= one.high for one in rest)
        return f"{ways[0].contrast}: the intervals of {inside} of {len(rest)} other ways contain 0."
    return (
        f"{ways[0].contrast}: {same} of {others} other ways have the sign of the primary one; "
        f"{against} have an interval that lies wholly on the other side of 0."
    )
