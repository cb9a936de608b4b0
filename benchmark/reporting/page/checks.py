"""Is the instrument right, and how strong is the evidence: what is asked, and what was found."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmark.analysis.agreement import AGREEMENT, over_cells, over_milestones
from benchmark.analysis.competence import Competence
from benchmark.analysis.endpoint import Endpoint
from benchmark.analysis.findings import Finding
from benchmark.analysis.mask_check import MANIPULATION_MINIMUM, MaskEffect
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.analysis.verdict_words import ratio_text
from benchmark.reporting.page.overview import cells_text
from benchmark.reporting.page.words import counted, listed, percent_of
from benchmark.reporting.tables.as_text import written
from benchmark.rows.frames import distance_rows
from benchmark.study.arm_catalogue import CATALOGUE, KnownArm
from benchmark.study.arm_names import BASELINE
from benchmark.study.terms import Gate

State = Literal["passed", "failed", "cannot tell", "not run", "met", "not met"]


@dataclass(frozen=True)
class Check:
    """One check; ``found`` says what the rows show, with numbers.

    Checks of the instrument pass or fail, demands on the evidence are met or not.
    """

    name: str
    expected: str
    found: str
    state: State


def instrument_checks(study: StudyAnalysis) -> list[Check]:
    """Does it see what is there, and nothing where there is nothing? Checks not run included."""
    checks = [_arm_check(arm, study.findings) for arm in CATALOGUE if arm.check is not None]
    checks += [_mask_check(effect) for effect in study.masks.values() if effect is not None]
    return [*checks, _hollow(study)]


def evidence(study: StudyAnalysis) -> list[Check]:
    """How much a right instrument was given to see: nothing without an endpoint."""
    endpoint = study.endpoint
    if endpoint is None:
        return []
    return [
        _learned(study.baseline, study.terms.gate),
        *([_images(endpoint), _sampling(endpoint)] if endpoint.is_of_images else []),
        _complete(endpoint, study.absent),
        _declared(endpoint),
        _committed(endpoint),
        *(_agreement(study, endpoint) if endpoint.is_of_images else []),
    ]


def _met(is_met: bool) -> State:
    return "met" if is_met else "not met"


def _learned(baseline: Competence | None, gate: Gate) -> Check:
    name = "The networks have learned enough"
    word = "mean picture" if baseline is None else baseline.mean_word
    expected = (
        f"Held-out ε-MSE of {BASELINE} at most {gate.oracle_ratio:g} times that of the best linear "
        f"denoiser (geometric mean over the noise levels), and below that of the {word} at "
        f"{100 * gate.below_mean:g} % of the levels."
    )
    if baseline is None:
        return Check(name, expected, f"No row says how far {BASELINE} has come.", "not run")
    count = len(baseline.level)
    text = (
        f"{ratio_text(baseline.oracle_ratio)} times; below the linear denoiser at "
        f"{round(baseline.below_oracle * count)} of {count} levels "
        f"({100 * baseline.below_oracle_on_path:.0f} % of the sampler’s way), below the "
        f"{word} at {round(baseline.below_mean * count)} "
        f"({100 * baseline.below_mean_on_path:.0f} %)."
    )
    if not math.isnan(baseline.slope):
        text += f" Over its last tenth of steps the ratio changed by {percent_of(baseline.slope)}."
    return Check(name, expected, text, _met(baseline.passed(gate)))


def _arm_check(arm: KnownArm, found: Sequence[Finding]) -> Check:
    assert arm.check is not None
    name, expected = arm.check
    contrast = f"{arm.name} − {BASELINE}"
    own = (one for one in found if (one.group, one.contrast) == ("check", contrast))
    finding = next(own, None)
    if finding is None or math.isnan(finding.estimate):
        return Check(name, expected, f"The study has no results of an arm {arm.name}.", "not run")
    text = f"{finding.scale.change(finding.estimate, percent_of)}. {finding.why}"
    if finding.passed is False:
        return Check(name, expected, text, "failed")
    return Check(name, expected, text, "cannot tell" if finding.seeds == 1 else "passed")


def _mask_check(effect: MaskEffect) -> Check:
    least = f"{100 * MANIPULATION_MINIMUM:g} %"
    return Check(
        f"The mask acts ({effect.arm})",
        f"{effect.deed} changes the held-out denoising error somewhere by {least} or more.",
        f"{written(effect.relative, '+.2%')} at noise time {effect.level:g}, step {effect.step:,}; "
        f"{counted(effect.seeds, 'seed')}.".replace("%", " %").replace("-", "−"),
        "passed" if effect.passed else "failed",
    )


def _images(endpoint: Endpoint) -> Check:
    count = counted(int(str(endpoint.condition["n_generated"])), "image")
    is_other = endpoint.metric.startswith(("FD-", "KD-"))
    of = ", using other features than FID" if is_other else ""
    expected = "At least 2,048 generated images; 10,000 to confirm."
    if endpoint.is_declared:
        expected += " Declared: 1,024, if the error of each set is below 1 % of its distance."
    text = " ".join([f"{count} ({endpoint.metric}{of}).", *endpoint.left_out])
    return Check("Enough images", expected, text, _met(not endpoint.is_smoke))


def _sampling(endpoint: Endpoint) -> Check:
    seeds = len(endpoint.sampling_seeds)
    return Check(
        "Sampling repeated",
        "Two sampling seeds at the last step.",
        f"{counted(seeds, 'sampling seed')}.",
        _met(seeds >= 2),
    )


def _complete(endpoint: Endpoint, absent: Mapping[str, Sequence[int]]) -> Check:
    cells = counted(int(endpoint.values.notna().sum().sum()), "cell")
    text = f"Not measured: {listed(cells_text(absent))}." if absent else f"{cells}, all there."
    expected = "Every cell of the study is measured at its last step."
    return Check("Complete", expected, text, _met(not absent))


def _declared(endpoint: Endpoint) -> Check:
    return Check(
        "Declared beforehand",
        "Hypotheses, endpoint, smallest effect and seeds written down before the run.",
        f"Declaration {endpoint.declared}." if endpoint.is_declared else "Exploratory: it was not.",
        _met(endpoint.is_declared),
    )


def _committed(endpoint: Endpoint) -> Check:
    note = endpoint.provisional
    return Check(
        "Measured by committed code",
        "Every cell’s code can be looked up by its commit.",
        f"{note[:1].upper()}{note[1:]}." if note else "All cells.",
        _met(not note),
    )


def _agreement(study: StudyAnalysis, endpoint: Endpoint) -> list[Check]:
    """Do the metric and the held-out error rank milestones, and cells at their end, alike?"""
    pairs = [
        (over_milestones(study.frame, endpoint), "milestone"),
        (None if study.held_out is None else over_cells(endpoint, study.held_out), "cell"),
    ]
    shown = [(found, what) for found, what in pairs if found is not None]
    if not shown:
        return []
    text = "; ".join(
        f"{correlation:.2f} over {counted(count, what)}".replace("0.", ".").replace("-", "−")
        for (correlation, count), what in shown
    )
    return [
        Check(
            f"{endpoint.noun.capitalize()} and held-out error agree",
            "A high rank correlation of the two, over milestones and over the cells at their end.",
            f"{text}.",
            _met(all(correlation >= AGREEMENT for (correlation, _), _ in shown)),
        )
    ]


def _hollow(study: StudyAnalysis) -> Check:
    # Of a study without distances its primary metric.
    rows = distance_rows(study.frame) if study.has_images else study.curves
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
