"""The hypotheses' contrasts by every way to measure a study's end: a specification curve.

One way is the primary endpoint, and it alone decides. The others show how much the answer depends
on that choice: the feature net, the number of images, the average of the weights, the sampler, the
step, or an error in place of a distance. Source: Simonsohn, Simmons and Nelson 2020,
"Specification curve analysis", Nature Human Behaviour 4.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmark.analysis.claims import Claim, claims_about
from benchmark.analysis.endpoint import Endpoint, at_last_step, endpoint_of
from benchmark.analysis.findings import Finding
from benchmark.analysis.learning import curve_rows
from benchmark.analysis.statistics import paired
from benchmark.rows.frames import cells_of, split_conditions
from benchmark.rows.metric_names import VARIANT, base_name
from benchmark.study.hypotheses import Hypothesis

_DISTANCES = ("FID", "FD-", "FD∞-", "KID", "KD-")


@dataclass(frozen=True)
class Specification:
    """One contrast, measured in one way.

    Attributes:
        way: how the end is measured, in words.
        key: the hypothesis.
        contrast: what is compared.
        estimate, low, high: change on the endpoint's scale with its 95 % interval.
        seeds: training seeds that have all of its arms.
    """

    way: str
    key: str
    contrast: str
    estimate: float
    low: float
    high: float
    seeds: int


def specifications(
    frame: pd.DataFrame,
    endpoint: Endpoint,
    measures: Sequence[Endpoint],
    hypotheses: Sequence[Hypothesis],
    found: Sequence[Finding],
) -> tuple[Specification, ...]:
    """Every tested hypothesis by every way to measure the end, the primary endpoint first.

    A way counts if more than half of the endpoint's cells were measured by it, and all values have
    a place on the endpoint's scale. On a scale of ratios all distances and errors are comparable;
    on a plain one, whose unit is the metric's own, only that metric is.

    Args:
        frame: the frame of a study's rows.
        endpoint: the primary one.
        measures: summaries of the held-out error at the end.
        hypotheses: those of the study.
        found: their findings; one that is not tested is left out.
    """
    tested = {one.key for one in found if one.group == "hypothesis" and not math.isnan(one.low)}
    claims = claims_about(endpoint.values.columns, hypotheses)
    arms = {arm for claim in claims if claim.key in tested for arm in claim.arms}
    ways = [(endpoint.metric, endpoint), *_other_ways(frame, endpoint, arms)]
    if endpoint.scale.is_share:
        ways += [(f"held-out {one.metric}", one) for one in measures]
    return tuple(
        _measured(way, claim, own)
        for way, own in ways
        for claim in claims_about(own.values.columns, hypotheses)
        if claim.group == "hypothesis" and claim.key in tested
    )


def agreeing(ways: Sequence[Specification]) -> tuple[int, int, int]:
    """Of one hypothesis' ways, the primary endpoint first: how many of the others agree with it.

    Returns:
        Other ways; those whose estimate has the first one's sign; those whose interval lies
        wholly on the other side of 0.
    """
    first, *others = ways
    signs = [np.sign(first.estimate) * one.estimate > 0 for one in others]
    against = [
        max(np.sign(first.estimate) * end for end in (one.low, one.high)) < 0 for one in others
    ]
    return len(others), sum(map(bool, signs)), sum(map(bool, against))


def _measured(way: str, claim: Claim, endpoint: Endpoint) -> Specification:
    table = endpoint.values[list(claim.arms)].dropna()
    if table.empty:
        return Specification(way, claim.key, claim.contrast, math.nan, math.nan, math.nan, 0)
    weights = np.array([weight for _, weight in claim.weights])
    found = paired(table.to_numpy() @ weights)
    numbers = found.estimate, found.low, found.high
    return Specification(way, claim.key, claim.contrast, *numbers, len(table))


def _other_ways(
    frame: pd.DataFrame, endpoint: Endpoint, arms: Collection[str]
) -> Iterator[tuple[str, Endpoint]]:
    """Other distances at the last step, drawn in other ways too; then the endpoint's, earlier."""
    last = at_last_step(frame)
    last = last[last["arm"].isin(arms)]
    names = last["metric"].map(lambda metric: metric.removeprefix(VARIANT).split("/")[-1])
    is_comparable = names.map(base_name) == base_name(endpoint.metric)
    if endpoint.scale.is_share:
        is_comparable |= names.str.startswith(_DISTANCES)
    is_whole = (last["metric"] == names) | last["metric"].str.startswith(VARIANT)
    for part in split_conditions(last[is_comparable & is_whole]):
        if any(part[name].iloc[0] != value for name, value in endpoint.condition.items()):
            yield from _as_way(_in_words(str(part["metric"].iloc[0])), part, endpoint)
    if endpoint.is_of_images:
        yield from _earlier(frame, endpoint, arms)


def _in_words(metric: str) -> str:
    """``variant/20 steps/FD-…@2048`` → ``FD-…@2048, 20 steps``."""
    if not metric.startswith(VARIANT):
        return metric
    variant, _, name = metric.removeprefix(VARIANT).partition("/")
    return f"{name}, {variant}"


def _earlier(
    frame: pd.DataFrame, endpoint: Endpoint, arms: Collection[str]
) -> Iterator[tuple[str, Endpoint]]:
    """The endpoint's distance at earlier shares of the steps, if these arms all count there."""
    rows = curve_rows(frame, endpoint)
    rows = rows[rows["full_range"] & rows["arm"].isin(arms) & (rows["step"] < rows["total_steps"])]
    shares = (rows["step"] / rows["total_steps"]).round(3)
    for share in sorted(set(shares)):
        part = rows[shares == share]
        if set(part["arm"]) == set(arms):
            way = f"{100 * share:g} % of the steps, {part['metric'].iloc[0]}"
            yield from _as_way(way, part, endpoint)


def _as_way(way: str, rows: pd.DataFrame, endpoint: Endpoint) -> Iterator[tuple[str, Endpoint]]:
    """Nothing where too few of its arms' cells have it, or a value has no place on the scale."""
    cells = int(endpoint.values[sorted(set(rows["arm"]))].notna().sum().sum())
    if 2 * len(cells_of(rows)) > cells and endpoint.scale.takes(rows["value"]).all():
        yield way, endpoint_of(rows, endpoint.scale)
