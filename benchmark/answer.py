"""A study's answer in one sentence: for the screen, the paper and the report's first line."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.claims import density_control
from benchmark.competence import competence
from benchmark.endpoint import Endpoint, missing_cells, primary_endpoint
from benchmark.index import read_index
from benchmark.results import BASELINE, load_study, to_frame
from benchmark.rows import ROWS_FILE, read_rows
from benchmark.terms import terms_of
from benchmark.verdict_text import (
    baseline_text,
    change_text,
    margin_text,
    percent,
    seeds_text,
    span,
)
from benchmark.verdicts import MARGIN, Finding, Verdict, findings


def study_answer(study_dir: Path) -> str:
    """The answer of a study's folder.

    Raises:
        UserError: the study has no rows, or rows that contradict each other.
    """
    frame, index = load_study(study_dir), read_index(study_dir)
    terms = terms_of(index)
    endpoint = primary_endpoint(frame, terms)
    absent = {} if endpoint is None else missing_cells(frame, endpoint, index)
    return headline(findings(frame, terms), endpoint, absent)


def baseline_line(study_dir: Path) -> str:
    """How far the baseline has come, while the study runs; empty before its first profile.

    Raises:
        UserError: a file of the study is damaged.
    """
    rows = [row for row in read_rows(study_dir / ROWS_FILE) if row.arm == BASELINE]
    baseline, gate = competence(to_frame(rows)), terms_of(read_index(study_dir)).gate
    if baseline is None:
        return ""
    state = "enough" if baseline.passed(gate) else "not yet enough"
    return (
        f"learned {state} for verdicts at step {baseline.step} of {baseline.total_steps}: "
        f"{baseline_text(baseline, gate)}"
    )


def interim_note(absent: Mapping[str, Sequence[int]]) -> str:
    """``interim: 3 cells are not measured yet``, of what ``missing_cells`` returns."""
    count = sum(map(len, absent.values()))
    return f"interim: {count} {'cell is' if count == 1 else 'cells are'} not measured yet"


def headline(
    found: Sequence[Finding], endpoint: Endpoint | None, absent: Mapping[str, Sequence[int]]
) -> str:
    """The answer, with its interval, the number of seeds and what weakens it.

    It is about the curriculum C, or, in a study without C, the first arm compared with B; with
    what its order adds, where the arm's own density control is there.

    Args:
        found: the result of ``findings``.
        endpoint: the result of ``primary_endpoint`` for the same rows.
        absent: the result of ``missing_cells`` for the same rows.
    """
    totals = (f for f in found if f.group != "check" and f.contrast.endswith(f" − {BASELINE}"))
    benefit = next((f for f in totals if f.group in ("hypothesis", "claim")), None)
    if endpoint is None or benefit is None or benefit.seeds == 0:
        return f"No arm has been compared with {BASELINE} at its last step, so there is no answer."
    arm = benefit.contrast.removesuffix(f" − {BASELINE}")
    what = f"the {endpoint.metric} of {arm}"
    sources = [f"n = {seeds_text(benefit.seeds)}", *([] if benefit.declared else ["exploratory"])]
    if endpoint.is_smoke:
        sources.append("a smoke test with too few images")
    if endpoint.provisional:
        sources.append(endpoint.provisional)
    if absent:
        sources.append(interim_note(absent))
    change = f"{percent(benefit.estimate).lstrip('+−')} {_side(benefit)} {BASELINE}'s"
    beside = _beside(benefit)
    if benefit.verdict == "not answered":
        interval = () if benefit.seeds == 1 else (f"95 % interval {_interval(benefit)}",)
        return (
            f"Not answered. {benefit.why} For the record: {what} ends {change} "
            f"({', '.join([*interval, *sources])}){beside}."
        )
    if benefit.seeds == 1:
        return (
            f"One training seed decides nothing: {what} ends {change}, and another seed may say "
            f"otherwise ({', '.join(sources)}){beside}."
        )
    failed = [f.contrast for f in found if f.passed is False]
    if failed:
        return (
            f"The instrument fails its own check ({', '.join(failed)}), so no verdict counts: "
            f"{what} ends {change} ({', '.join(sources)}){beside}."
        )
    if benefit.verdict == "mixed":
        return f"Mixed. {benefit.why} ({', '.join(sources)})."
    sources.insert(0, f"95 % interval {_interval(benefit)}")
    order = next((f for f in found if f.contrast == f"{arm} − {density_control(arm)}"), None)
    return (
        f"{_answer(benefit)}: {what} ends {change} ({', '.join(sources)}){beside}"
        f"{'' if order is None else _order_text(order)}."
    )


_ANSWERS: dict[Verdict, str] = {
    "supported": "Yes",
    "refuted": "No",
    "equal": "No difference that matters",
    "undecided": "Undecided",
}
_ORDER: dict[Verdict, str] = {
    "supported": "its order of noise levels helps",
    "refuted": "its order of noise levels hurts",
    "equal": "its order of noise levels makes no difference that matters",
    "undecided": "whether its order of noise levels matters is undecided",
    "mixed": "of what its order of noise levels does, two measures say opposite things",
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
