"""The instrument's checks: what should be seen if it measures right, and what was seen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from benchmark.endpoint import Endpoint
from benchmark.manipulation import MANIPULATION_MINIMUM, MaskEffect, mask_effects
from benchmark.report.overview import cells_text, is_full_distance
from benchmark.report.words import counted, listed, percent_of
from benchmark.results import distance_rows
from benchmark.table_text import written
from benchmark.verdicts import Finding

State = Literal["passed", "failed", "cannot tell", "not run"]


@dataclass(frozen=True)
class Check:
    """One check; ``found`` says what the rows show, with numbers."""

    name: str
    expected: str
    found: str
    state: State


_ARM_CHECKS = {
    "A/A": ("Same arm, other draws (A/A)", "No difference from B."),
    "B-80%": ("Fewer steps (B-80%)", "Worse than B."),
    "B-half": ("Narrower network (B-half)", "Worse than B."),
}


def instrument_checks(
    frame: pd.DataFrame,
    endpoint: Endpoint | None,
    found: Sequence[Finding],
    absent: Mapping[str, Sequence[int]],
) -> list[Check]:
    """All checks, those not run included; ``absent`` is what ``missing_cells`` returns."""
    checks = [_arm_check(key, found) for key in _ARM_CHECKS]
    checks += [_mask_check(effect) for effect in mask_effects(frame).values()]
    if endpoint is not None:
        checks += [_images(endpoint), _sampling(endpoint), _complete(endpoint, absent)]
        checks.append(_declared(endpoint))
    return [*checks, _hollow(frame)]


def _arm_check(key: str, found: Sequence[Finding]) -> Check:
    name, expected = _ARM_CHECKS[key]
    finding = next((finding for finding in found if finding.key == key), None)
    if finding is None or math.isnan(finding.estimate):
        return Check(name, expected, f"The study has no results of an arm {key}.", "not run")
    text = f"{percent_of(finding.estimate)}. {finding.why}"
    if finding.passed is False:
        return Check(name, expected, text, "failed")
    return Check(name, expected, text, "cannot tell" if finding.seeds == 1 else "passed")


def _mask_check(effect: MaskEffect) -> Check:
    least = f"{100 * MANIPULATION_MINIMUM:g} %"
    return Check(
        f"The mask acts ({effect.arm})",
        f"Lifting the mask changes the held-out denoising error somewhere by {least} or more.",
        f"{written(effect.relative, '+.2%')} at t / n_T = {effect.level:g}, step {effect.step:,}; "
        f"{counted(effect.seeds, 'seed')}.".replace("%", " %").replace("-", "−"),
        "passed" if effect.passed else "failed",
    )


def _images(endpoint: Endpoint) -> Check:
    count = counted(int(str(endpoint.condition["n_generated"])), "image")
    of = "" if is_full_distance(endpoint.metric) else ", in features of another net than FID’s"
    state: State = "failed" if endpoint.is_smoke else "passed"
    expected = "At least 2,048 generated images; 10,000 to confirm."
    return Check("Enough images", expected, f"{count} ({endpoint.metric}{of}).", state)


def _sampling(endpoint: Endpoint) -> Check:
    seeds = len(endpoint.sampling_seeds)
    return Check(
        "Sampling repeated",
        "Two sampling seeds at the last step.",
        f"{counted(seeds, 'sampling seed')}.",
        "passed" if seeds >= 2 else "failed",
    )


def _complete(endpoint: Endpoint, absent: Mapping[str, Sequence[int]]) -> Check:
    cells = counted(int(endpoint.values.notna().sum().sum()), "cell")
    text = f"Not measured: {listed(cells_text(absent))}." if absent else f"{cells}, all there."
    expected = "Every cell of the study is measured at its last step."
    return Check("Complete", expected, text, "failed" if absent else "passed")


def _declared(endpoint: Endpoint) -> Check:
    return Check(
        "Declared beforehand",
        "Hypotheses, endpoint, smallest effect and seeds written down before the run.",
        f"Declaration {endpoint.declared}." if endpoint.is_declared else "Exploratory: it was not.",
        "passed" if endpoint.is_declared else "failed",
    )


def _hollow(frame: pd.DataFrame) -> Check:
    rows = distance_rows(frame)
    hollow = len(rows[~rows["full_range"]].drop_duplicates(["arm", "seed", "step"]))
    what = counted(hollow, "milestone")
    text = (
        f"{what} with untrained noise levels: marked †, in no area, test or verdict."
        if hollow
        else "Every milestone has all noise levels trained."
    )
    return Check(
        "Only trained noise levels count", "Others are marked and left out.", text, "passed"
    )
