"""A study's answer in one sentence: for the screen, the paper and the report's first line."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.claims import density_control
from benchmark.endpoint import Endpoint, missing_cells, primary_endpoint
from benchmark.index import read_index
from benchmark.results import BASELINE, load_study
from benchmark.verdict_text import margin_text, percent, seeds_text, span
from benchmark.verdicts import MARGIN, Finding, Verdict, findings


def study_answer(study_dir: Path) -> str:
    """The answer of a study's folder.

    Raises:
        UserError: the study has no rows, or rows that contradict each other.
    """
    frame = load_study(study_dir)
    endpoint = primary_endpoint(frame)
    absent = {} if endpoint is None else missing_cells(frame, endpoint, read_index(study_dir))
    return headline(findings(frame), endpoint, absent)


def interim_note(absent: Mapping[str, Sequence[int]]) -> str:
    """``interim: 3 cells are not measured yet``, of what ``missing_cells`` returns."""
    count = sum(map(len, absent.values()))
    return f"interim: {count} {'cell is' if count == 1 else 'cells are'} not measured yet"


def headline(
    found: Sequence[Finding], endpoint: Endpoint | None, absent: Mapping[str, Sequence[int]]
) -> str:
    """The answer in one sentence, with its interval, the number of seeds and what weakens it.

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
    if absent:
        sources.append(interim_note(absent))
    change = f"{percent(benefit.estimate).lstrip('+−')} {_side(benefit)} {BASELINE}'s"
    if benefit.seeds == 1:
        return (
            f"One training seed decides nothing: {what} ends {change}, and another seed may say "
            f"otherwise ({', '.join(sources)})."
        )
    failed = [f.contrast for f in found if f.passed is False]
    if failed:
        return (
            f"The instrument fails its own check ({', '.join(failed)}), so no verdict counts: "
            f"{what} ends {change} ({', '.join(sources)})."
        )
    sources.insert(0, f"95 % interval {span(benefit.low, benefit.high)}")
    order = next((f for f in found if f.contrast == f"{arm} − {density_control(arm)}"), None)
    return (
        f"{_answer(benefit)}: {what} ends {change} ({', '.join(sources)})"
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
}


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
    return f"; {_ORDER[order.verdict]} ({percent(order.estimate)}, {span(order.low, order.high)})"
