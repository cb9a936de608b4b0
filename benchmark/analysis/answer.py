"""A study's answer in one sentence: for the screen, the paper and the report's first line."""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.analysis.claims import EXPECTED
from benchmark.analysis.competence import Competence, competence
from benchmark.analysis.endpoint import Endpoint
from benchmark.analysis.findings import Finding, Verdict
from benchmark.analysis.scales import SIGN_ALONE
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.analysis.verdict_words import (
    baseline_text,
    seeds_text,
)
from benchmark.rows.file import ROWS_FILE, read_rows, rows_files
from benchmark.rows.frames import to_frame
from benchmark.study.arm_catalogue import control_name
from benchmark.study.arm_names import BASELINE
from benchmark.study.hypotheses import MINUS, USUAL_HYPOTHESES
from benchmark.study.index import read_index
from benchmark.study.terms import Gate, terms_of

QUESTION = "Does a noise curriculum train better diffusion models?"
"""Of the usual hypotheses, short enough for a heading."""
NOT_LEARNED = "not answered: the networks have not learned enough for the question"


def gate_remarks(study: StudyAnalysis) -> list[str]:
    """What whoever reads an answer must know of the gate that let it pass."""
    gate, baseline = study.terms.gate, study.baseline
    if baseline is None:
        return [f"how far {BASELINE} has learned was not measured"]
    if gate != Gate() and baseline.passed(gate) and not baseline.passed(Gate()):
        return [
            f"judged by a gate of the study's own, oracle ratio {gate.oracle_ratio:g} and mean "
            f"{gate.below_mean:g}, where the usual one would not answer"
        ]
    return []


def reservations(study: StudyAnalysis) -> list[str]:
    """What whoever looks at one figure alone must know of the study's distances."""
    notes = [interim_note(study.absent)] if study.absent else []
    notes += gate_remarks(study) if study.has_learned else [NOT_LEARNED]
    endpoint = study.endpoint
    return [*notes, endpoint.provisional] if endpoint and endpoint.provisional else notes


def baseline_line(study_dir: Path) -> str:
    """How far the baseline has come, while the study runs; empty before its first profile.

    Raises:
        UserError: a file of the study is damaged.
    """
    path = study_dir / ROWS_FILE
    states = [one.lstat() for one in rows_files(path)]
    if not states:
        return ""
    baseline = _baseline(path, tuple((one.st_size, one.st_mtime_ns) for one in states))
    gate = terms_of(read_index(study_dir)).gate
    if baseline is None:
        return ""
    is_over = baseline.step >= baseline.total_steps
    state = "enough" if baseline.passed(gate) else "not enough" if is_over else "not yet enough"
    return (
        f"learned {state} for verdicts at step {baseline.step} of {baseline.total_steps}: "
        f"{baseline_text(baseline, gate)}"
    )


@functools.lru_cache(maxsize=1)
def _baseline(path: Path, state: tuple[tuple[int, int], ...]) -> Competence | None:
    """How far the baseline has come by files in that state: who watches a study asks often."""
    del state
    return competence(to_frame(row for row in read_rows(path) if row.arm == BASELINE))


def interim_note(absent: Mapping[str, Sequence[int]]) -> str:
    """``interim: 3 cells are not measured yet``, of what ``missing_cells`` returns."""
    count = sum(map(len, absent.values()))
    return f"interim: {count} {'cell is' if count == 1 else 'cells are'} not measured yet"


def headline(study: StudyAnalysis) -> str:
    """The answer, with its interval, the number of seeds and what weakens it.

    It is about the first of the study's hypotheses that compares an arm with B; without such a one
    about another hypothesis of the study's own, or about the first claim that an arm is better than
    B. With what the arm's order adds, where its own density control is there.
    """
    endpoint, compared = study.endpoint, _compared(study)
    benefit = _answering(compared)
    if endpoint is None and (metric := study.terms.endpoint.metric):
        return (
            f"No row has the study's primary metric, {metric}, of an arm at its last step, so "
            "there is no answer."
        )
    if endpoint is not None and benefit is None and compared:
        return f"Not tested. {compared[0].contrast}: {compared[0].why}"
    if endpoint is None or benefit is None:
        return f"No arm has been compared with {BASELINE} at its last step, so there is no answer."
    # A hypothesis may be about another metric than the endpoint.
    measured = study.about(benefit).endpoint or endpoint
    ends = _ends(benefit, measured)
    beside = f" ({', '.join(_sources(benefit, measured, study))}){_beside(benefit)}"
    if benefit.verdict == "not answered":
        return f"Not answered. {benefit.why} For the record: {ends}{beside}."
    if benefit.seeds == 1:
        return (
            f"One training seed decides nothing: {ends}, and another seed may say otherwise"
            f"{beside}."
        )
    failed = [f.contrast for f in study.findings if f.passed is False]
    if failed:
        checks = ", ".join(failed)
        return (
            f"The instrument fails its own check ({checks}), so no verdict counts: {ends}{beside}."
        )
    if benefit.declared and study.absent:
        return f"Not judged yet, as declared, while cells are missing: so far {ends}{beside}."
    if benefit.verdict == "mixed":
        return f"Mixed: {benefit.why} By the first, {ends}{beside}."
    answer = _answer(benefit)
    order = _order_text(benefit, study.findings_about(study.about(benefit)))
    return f"{answer}: {ends}{beside}{order}."


def question(study: StudyAnalysis) -> str:
    """What the answer answers: the hypothesis's own question where the study declares its own."""
    benefit = _answering(compared := _compared(study)) or next(iter(compared), None)
    if benefit is None or study.terms.hypotheses == USUAL_HYPOTHESES:
        return QUESTION
    return benefit.question


def _answering(compared: Sequence[Finding]) -> Finding | None:
    return next((f for f in compared if f.verdict != "not tested"), None)


def _compared(study: StudyAnalysis) -> list[Finding]:
    """What the answer may be about, the first choice first."""
    measured = [f for f in study.findings if f.seeds > 0]
    asked = [f for f in measured if f.group == "hypothesis"]
    claims = [f for f in measured if f.group == "claim"]
    totals, of_claims = ([f for f in some if _arm_of_total(f)] for some in (asked, claims))
    if study.terms.hypotheses == USUAL_HYPOTHESES:
        return [*totals, *of_claims]
    return [*totals, *(f for f in asked if f not in totals), *of_claims]


def _arm_of_total(finding: Finding) -> str:
    """The arm that a finding compares with B; empty if it compares something else."""
    arm, minus, last = finding.contrast.rpartition(f" {MINUS} ")
    # Of claims one arm is asked whatever its name; a hypothesis may weigh several.
    weighs_more = finding.group == "hypothesis" and any(sign in arm for sign in (minus, " + "))
    return "" if last != BASELINE or weighs_more else arm


def _ends(benefit: Finding, endpoint: Endpoint) -> str:
    """What the finding is, as a part of a sentence."""
    arm, scale = _arm_of_total(benefit), benefit.scale
    if not arm:
        return f"{benefit.contrast} of the {endpoint.metric} is {scale.change(benefit.estimate)}"
    change = f"{scale.size(benefit.estimate)} {scale.side(benefit.estimate)} {BASELINE}'s"
    return f"the {endpoint.metric} of {arm} ends {change}"


def _sources(benefit: Finding, endpoint: Endpoint, study: StudyAnalysis) -> list[str]:
    """What an effect rests on: interval, seeds, and all that weakens it."""
    interval = [] if benefit.seeds == 1 else [f"95 % interval {_interval(benefit)}"]
    return [
        *(["higher is better"] if endpoint.scale.more_is_better else []),
        *interval,
        f"n = {seeds_text(benefit.seeds)}",
        *([] if benefit.declared else ["exploratory"]),
        *(["a smoke test with too few images"] if endpoint.is_smoke else []),
        *([endpoint.provisional] if endpoint.provisional else []),
        *([interim_note(study.absent)] if study.absent else []),
        *gate_remarks(study),
    ]


_ANSWERS: dict[Verdict, str] = {
    "supported": "Yes",
    "refuted": "No",
    "equal": "No difference that matters",
    "undecided": "Undecided",
}
_ORDER: dict[Verdict, str] = {
    "supported": "its early order of noise levels helps",
    "refuted": "its early order of noise levels hurts",
    "equal": "its early order of noise levels makes no difference that matters",
    "undecided": "whether its early order of noise levels matters is undecided",
    "mixed": "of what its early order of noise levels does, two measures say opposite things",
}


def _interval(finding: Finding) -> str:
    return finding.scale.span(finding.low, finding.high)


def _beside(finding: Finding) -> str:
    """What the held-out error says of the same arms, where it was measured."""
    if math.isnan(finding.held_out[0]):
        return ""
    return f"; held-out ε-MSE over all noise levels: {SIGN_ALONE.interval(finding.held_out)}"


def _answer(benefit: Finding) -> str:
    scale = benefit.scale
    if benefit.direction != -1:
        return f"{_verdict_word(benefit)}: {benefit.contrast} is {EXPECTED[benefit.direction]}"
    if benefit.verdict == "undecided" and benefit.high < -scale.margin:
        return f"{scale.better.capitalize()}, but not beyond chance once all hypotheses are counted"
    if benefit.verdict == "undecided" and benefit.high < 0:
        return (
            f"{scale.better.capitalize()}, but perhaps by less than the {scale.smallest} that "
            "matter"
        )
    return _ANSWERS[benefit.verdict]


def _verdict_word(finding: Finding) -> str:
    """The verdict on a claim that is not "better": whether the claim holds, not which arm wins."""
    if finding.verdict != "equal":
        return finding.verdict.capitalize()
    return "No difference that matters, against the claim" if finding.direction else "Supported"


def _order_text(benefit: Finding, found: Sequence[Finding]) -> str:
    """What the order of the benefit's arm adds; empty where it was not measured."""
    arm = _arm_of_total(benefit)
    twin = f"{arm} {MINUS} {control_name('density', arm)}"
    order = next((f for f in found if f.contrast == twin), None)
    # A study may have claimed that its order hurts; then the words below would say the opposite.
    if order is None or order.direction != -1 or order.verdict not in _ORDER:
        return ""
    if math.isnan(order.low):
        return ""
    return f"; {_ORDER[order.verdict]} ({order.scale.change(order.estimate)}, {_interval(order)})"
