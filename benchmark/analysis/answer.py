"""A study's answer in one sentence: for the screen, the paper and the report's first line."""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmark.analysis.claims import density_control
from benchmark.analysis.competence import Competence, competence
from benchmark.analysis.endpoint import Endpoint, missing_cells, primary_endpoint
from benchmark.analysis.findings import MARGIN, Finding, Verdict, findings
from benchmark.analysis.verdict_words import (
    baseline_text,
    change_text,
    margin_text,
    percent,
    seeds_text,
    span,
)
from benchmark.rows.file import ROWS_FILE, read_rows, rows_files
from benchmark.rows.frames import load_rows, to_frame
from benchmark.study.arm_names import BASELINE
from benchmark.study.index import read_index
from benchmark.study.terms import USUAL, Gate, Terms, terms_of

NOT_LEARNED = "not answered: the networks have not learned enough for the question"


def study_answer(study_dir: Path) -> str:
    """The answer of a study's folder.

    Raises:
        UserError: the study has no rows, or rows that contradict each other.
    """
    frame, index = load_rows(study_dir), read_index(study_dir)
    terms = terms_of(index)
    endpoint = primary_endpoint(frame, terms)
    absent = {} if endpoint is None else missing_cells(frame, endpoint, index)
    return headline(findings(frame, terms), endpoint, absent, gate_remarks(frame, terms.gate))


def gate_remarks(frame: pd.DataFrame, gate: Gate) -> list[str]:
    """What whoever reads an answer must know of the gate that let it pass.

    Args:
        frame: the frame of the study's rows.
        gate: the study's.
    """
    baseline = competence(frame)
    if baseline is None:
        return [f"how far {BASELINE} has learned was not measured"]
    if gate != Gate() and baseline.passed(gate) and not baseline.passed(Gate()):
        return [
            f"judged by a gate of the study's own, oracle ratio {gate.oracle_ratio:g} and mean "
            f"{gate.below_mean:g}, where the usual one would not answer"
        ]
    return []


def reservations(frame: pd.DataFrame, terms: Terms = USUAL) -> list[str]:
    """What whoever looks at one figure alone must know of the study's distances.

    Args:
        frame: the frame of the study's rows.
        terms: what the study's file fixed beforehand.
    """
    baseline, endpoint = competence(frame), primary_endpoint(frame, terms)
    has_learned = baseline is None or baseline.passed(terms.gate)
    notes = gate_remarks(frame, terms.gate) if has_learned else [NOT_LEARNED]
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
    state = "enough" if baseline.passed(gate) else "not yet enough"
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


def headline(
    found: Sequence[Finding],
    endpoint: Endpoint | None,
    absent: Mapping[str, Sequence[int]],
    remarks: Sequence[str] = (),
) -> str:
    """The answer, with its interval, the number of seeds and what weakens it.

    It is about the curriculum C, or, in a study without C, the first arm compared with B; with
    what its order adds, where the arm's own density control is there.

    Args:
        found: the result of ``findings``.
        endpoint: the result of ``primary_endpoint`` for the same rows.
        absent: the result of ``missing_cells`` for the same rows.
        remarks: the result of ``gate_remarks`` for the same rows.
    """
    totals = (f for f in found if f.group != "check" and f.contrast.endswith(f" − {BASELINE}"))
    compared = [f for f in totals if f.group in ("hypothesis", "claim") and f.seeds > 0]
    benefit = next((f for f in compared if f.verdict != "not tested"), None)
    if endpoint is not None and benefit is None and compared:
        return f"Not tested. {compared[0].contrast}: {compared[0].why}"
    if endpoint is None or benefit is None:
        return f"No arm has been compared with {BASELINE} at its last step, so there is no answer."
    arm = benefit.contrast.removesuffix(f" − {BASELINE}")
    sources = _sources(benefit, endpoint, absent, remarks)
    change = f"{percent(benefit.estimate).lstrip('+−')} {_side(benefit)} {BASELINE}'s"
    ends = f"the {endpoint.metric} of {arm} ends {change}"
    beside = f" ({', '.join(sources)}){_beside(benefit)}"
    if benefit.verdict == "not answered":
        return f"Not answered. {benefit.why} For the record: {ends}{beside}."
    if benefit.seeds == 1:
        return (
            f"One training seed decides nothing: {ends}, and another seed may say otherwise"
            f"{beside}."
        )
    failed = [f.contrast for f in found if f.passed is False]
    if failed:
        checks = ", ".join(failed)
        return (
            f"The instrument fails its own check ({checks}), so no verdict counts: {ends}{beside}."
        )
    if benefit.verdict == "mixed":
        return f"Mixed: {benefit.why} By the first, {ends}{beside}."
    order = next((f for f in found if f.contrast == f"{arm} − {density_control(arm)}"), None)
    return f"{_answer(benefit)}: {ends}{beside}{'' if order is None else _order_text(order)}."


def _sources(
    benefit: Finding,
    endpoint: Endpoint,
    absent: Mapping[str, Sequence[int]],
    remarks: Sequence[str],
) -> list[str]:
    """What an effect rests on: interval, seeds, and all that weakens it."""
    interval = [] if benefit.seeds == 1 else [f"95 % interval {_interval(benefit)}"]
    return [
        *interval,
        f"n = {seeds_text(benefit.seeds)}",
        *([] if benefit.declared else ["exploratory"]),
        *(["a smoke test with too few images"] if endpoint.is_smoke else []),
        *([endpoint.provisional] if endpoint.provisional else []),
        *([interim_note(absent)] if absent else []),
        *remarks,
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
    return span(finding.low, finding.high)


def _beside(finding: Finding) -> str:
    """What the held-out error says of the same arms, where it was measured."""
    if math.isnan(finding.held_out[0]):
        return ""
    return f"; held-out ε-MSE over all noise levels: {change_text(finding.held_out)}"


def _answer(benefit: Finding) -> str:
    if benefit.verdict == "undecided" and benefit.high < -MARGIN:
        return "Lower, but not beyond chance once all hypotheses are counted"
    if benefit.verdict == "undecided" and benefit.high < 0:
        return f"Lower, but perhaps by less than the {margin_text(MARGIN)} that matter"
    return _ANSWERS[benefit.verdict]


def _side(finding: Finding) -> str:
    return "above" if finding.estimate > 0 else "below"


def _order_text(order: Finding) -> str:
    if order.verdict not in _ORDER or math.isnan(order.low):
        return ""
    return f"; {_ORDER[order.verdict]} ({percent(order.estimate)}, {_interval(order)})"
