"""The hypotheses' contrasts by every way to measure a study's end: a specification curve.

One way is the primary endpoint, and it alone decides. The others show how much the answer depends
on that choice: the feature net, the number of images, the average of the weights, the sampler, the
step, or an error in place of a distance. Source: Simonsohn, Simmons and Nelson 2020,
"Specification curve analysis", Nature Human Behaviour 4.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmark.analysis.claims import Claim, Direction, claims_about
from benchmark.analysis.endpoint import Endpoint, at_last_step, endpoint_of
from benchmark.analysis.findings import Finding, contrast_of
from benchmark.analysis.learning import curve_rows
from benchmark.rows.frames import CONDITION, cells_of, split_conditions
from benchmark.rows.metric_names import DISTANCES, VARIANT, base_name
from benchmark.study.hypotheses import Hypothesis


@dataclass(frozen=True)
class Specification:
    """One contrast, measured in one way.

    Attributes:
        way: how the end is measured, in words; no other way has these.
        key: the hypothesis.
        contrast: what is compared.
        direction: the sign that the contrast is claimed to have; 0 claims no difference.
        estimate, low, high: change on the endpoint's scale with its 95 % interval.
        seeds: training seeds that have all of its arms.
    """

    way: str
    key: str
    contrast: str
    direction: Direction
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

    A way counts if more than half of the endpoint's cells were measured by it, and all their values
    have a place on the endpoint's scale; other cells are left out. On a scale of ratios all
    distances and errors are comparable; on a plain one, whose unit is the metric's own, only that
    metric is.

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
        Other ways that have an estimate; those whose estimate has the first one's sign; those whose
        interval lies wholly on the other side of 0.
    """
    first, *others = ways
    others = [one for one in others if not math.isnan(one.estimate)]
    signs = [np.sign(first.estimate) * one.estimate > 0 for one in others]
    against = [
        max(np.sign(first.estimate) * end for end in (one.low, one.high)) < 0 for one in others
    ]
    return len(others), sum(map(bool, signs)), sum(map(bool, against))


def _measured(way: str, claim: Claim, endpoint: Endpoint) -> Specification:
    numbers = contrast_of(claim, endpoint)
    seeds = len(endpoint.values[list(claim.arms)].dropna())
    return Specification(way, claim.key, claim.contrast, claim.direction, *numbers, seeds=seeds)


def _other_ways(
    frame: pd.DataFrame, endpoint: Endpoint, arms: Collection[str]
) -> Iterator[tuple[str, Endpoint]]:
    """Other distances at the last step, drawn in other ways too; then the endpoint's, earlier."""
    last = at_last_step(frame)
    last = last[last["arm"].isin(arms)]
    names = last["metric"].map(lambda metric: metric.removeprefix(VARIANT).split("/")[-1])
    is_comparable = names.map(base_name) == base_name(endpoint.metric)
    if endpoint.scale.is_share:
        is_comparable |= names.str.startswith(DISTANCES)
    is_whole = (last["metric"] == names) | last["metric"].str.startswith(VARIANT)
    parts = split_conditions(last[is_comparable & is_whole])
    conditions = [{name: part[name].iloc[0] for name in CONDITION} for part in parts]
    for part, own in zip(parts, conditions, strict=True):
        if own != endpoint.condition:
            alike = [one for one in conditions if one["metric"] == own["metric"]]
            yield from _as_way(_named(own, alike), part, endpoint)
    if endpoint.is_of_images:
        yield from _earlier(frame, endpoint, arms)


def _named(condition: Mapping[str, object], alike: Sequence[Mapping[str, object]]) -> str:
    """The metric, and in what else one way differs from others of the same metric."""
    differing = [name for name in condition if len({str(one[name]) for one in alike}) > 1]
    told = [f"{name.replace('_', ' ')} {condition[name]}" for name in differing]
    return ", ".join([_in_words(str(condition["metric"])), *told])


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
    # Of milestones whose shares are written alike, each run's last one.
    is_last = rows["step"] == rows.groupby(["arm", "seed", shares])["step"].transform("max")
    for share in sorted(set(shares)):
        part = rows[(shares == share) & is_last]
        if set(part["arm"]) == set(arms):
            way = f"{100 * share:g} % of the steps, {part['metric'].iloc[0]}"
            yield from _as_way(way, part, endpoint)


def _as_way(way: str, rows: pd.DataFrame, endpoint: Endpoint) -> Iterator[tuple[str, Endpoint]]:
    """Nothing where too few of its arms' cells have it, or a value has no place on the scale."""
    counted = endpoint.values.reindex(columns=sorted(set(rows["arm"]))).stack().index
    own = pd.MultiIndex.from_frame(rows[["seed", "arm"]]).isin(counted)
    rows = rows[own]
    if 2 * len(cells_of(rows)) > len(counted) and endpoint.scale.takes(rows["value"]).all():
        yield way, endpoint_of(rows, endpoint.scale)
