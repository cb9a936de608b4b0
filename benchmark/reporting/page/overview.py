"""The first screen: what to be careful about, and each arm's distance against plain training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from benchmark.analysis.endpoint import Endpoint, at_last_step, of_sampling_seeds, rows_like
from benchmark.analysis.findings import Finding
from benchmark.analysis.over_seeds import over_seeds
from benchmark.analysis.scales import Scale
from benchmark.analysis.statistics import paired
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.reporting.page.words import counted, listed, percent_of, ranges
from benchmark.reporting.tables.arms import network_of, number_of, part_of
from benchmark.reporting.tables.as_text import Table, decimals_for, written
from benchmark.rows.frames import LARGEST, SMALLEST, arm_order, beyond_bounds
from benchmark.study.arm_names import BASELINE

_NONE_OF = {
    "distance": "No arm has a distance",
    "score": "No arm has a score",
    "error": "No arm has an error",
    "share": "No arm has a share",
}
FEW_SEEDS = 5
"""Below it an exact sign-flip test cannot reach p < .05, whatever the effect."""


@dataclass(frozen=True)
class Effect:
    """An arm's change from B over ``seeds`` seeds with its 95 % interval, NaN with one seed."""

    estimate: float
    low: float
    high: float
    seeds: int
    scale: Scale


def cautions(study: StudyAnalysis) -> list[str]:
    """What a reader must know before believing the first screen, most serious first."""
    endpoint = study.endpoint
    if endpoint is None:
        return [
            f"{_NONE_OF[study.noun]} at its last step with all noise "
            "levels trained: there is nothing to compare yet."
        ]
    texts = [_seed_caution(endpoint), _smoke_caution(endpoint)]
    if study.absent:
        texts.append(f"Not measured yet: {listed(cells_text(study.absent))}.")
    texts += [
        f"No row has {part.terms.endpoint.metric} of an arm at its last step, so "
        f"{listed([one.name for one in part.terms.hypotheses])} cannot be judged."
        for part in study.by_measure
        if part.endpoint is None
    ]
    texts += endpoint.left_out
    if study.baseline is None:
        texts.append(
            f"How far {BASELINE} has learned was not measured (no held-out ε-MSE beside that of "
            "the best linear denoiser), so the networks may not have learned enough."
        )
    failed = [finding.key for finding in study.findings if finding.passed is False]
    if failed:
        texts.append(f"The instrument fails a check of its own: {listed(failed)}.")
    return [text for text in texts if text]


def scope(study: StudyAnalysis) -> str:
    """What all was measured with: B's network, data and length; empty without the index's B."""
    entry = part_of(study.index, "arms", BASELINE)
    training, data = (part_of(entry, "config", name) for name in ("training", "data"))
    parameters, batch = number_of(entry, "parameters"), number_of(training, "global_batch")
    own = study.frame[study.frame["arm"] == BASELINE]
    if own.empty or math.isnan(parameters) or math.isnan(batch):
        return ""
    size = number_of(data, "size")
    pixels = "" if math.isnan(size) else f" of {size:.0f} pixels"
    return (
        f"Measured with {network_of(BASELINE, study.index)} ({parameters:,.0f} parameters) on "
        f"{own['dataset'].iloc[0]}{pixels}, in runs of {own['total_steps'].max():,} steps of "
        f"{batch:.0f} examples. Other networks, data or lengths may answer otherwise."
    )


def beyond_caution(frame: pd.DataFrame) -> list[str]:
    """That some numbers are not shown as they were measured, if so."""
    count = beyond_bounds(frame)
    if not count:
        return []
    return [
        f"{counted(count, 'row')} with numbers beyond {LARGEST:g} or below {SMALLEST:g}: they are "
        "taken as these, here and in every table."
    ]


def _seed_caution(endpoint: Endpoint) -> str:
    seeds = int(endpoint.values.notna().sum().max())
    if seeds == 1:
        return (
            "One training seed: a difference between arms cannot be distinguished from the luck "
            "of a seed, so nothing here is decided."
        )
    if seeds <= FEW_SEEDS:
        return (
            f"Only {seeds} training seeds: intervals are wide and assume that "
            "seeds scatter normally."
        )
    return ""


def _smoke_caution(endpoint: Endpoint) -> str:
    if not endpoint.is_smoke:
        return ""
    count = counted(int(str(endpoint.condition["n_generated"])), "generated image")
    return (
        f"Smoke: {endpoint.noun}s from {count}, fewer than 2,048. They are too biased to be "
        "compared with other work and too noisy for small differences."
    )


def cells_text(cells: Mapping[str, Sequence[int]]) -> list[str]:
    """Arms with their seeds, ``B (seed 0–3, 5)``, in the order of tables."""
    in_order = arm_order(pd.DataFrame({"arm": list(cells)}))
    return [f"{arm} (seed {ranges(cells[arm])})" for arm in in_order]


def effect_on(arm: str, endpoint: Endpoint, found: Sequence[Finding]) -> Effect | None:
    """The arm against B as the findings have it, else by a paired t; None where not paired."""
    for finding in found:
        if finding.contrast == f"{arm} − {BASELINE}" and not math.isnan(finding.estimate):
            return Effect(*finding.interval, finding.seeds, finding.scale)
    return _paired_effect(arm, endpoint)


def _paired_effect(arm: str, endpoint: Endpoint) -> Effect | None:
    values = endpoint.values
    if arm == BASELINE or not {arm, BASELINE} <= set(values.columns):
        return None
    differences = (values[arm] - values[BASELINE]).dropna().to_numpy()
    if not differences.size:
        return None
    result = paired(differences)
    return Effect(result.estimate, result.low, result.high, differences.size, endpoint.scale)


def _held_out_changes(study: StudyAnalysis) -> dict[str, Effect]:
    """By arm its held-out ε-MSE over all noise levels against B's; empty where not measured."""
    if study.held_out is None:
        return {}
    effects = {arm: _paired_effect(arm, study.held_out) for arm in study.held_out.values.columns}
    return {arm: effect for arm, effect in effects.items() if effect is not None}


def main_table(study: StudyAnalysis) -> Table | None:
    """Arms by last-step distance, each with its uncertainty, and its change against B.

    Seeds have a column where arms differ in them, else they are in the notes. None without an
    endpoint.
    """
    endpoint = study.endpoint
    if endpoint is None:
        return None
    rows = _endpoint_rows(study.frame, endpoint)
    summary = over_seeds(rows, ("arm",))
    differ = summary["seeds"].nunique() > 1
    decimals = decimals_for(list(summary["mean"]))
    held_out = _held_out_changes(study)
    better = endpoint.scale.better.capitalize()
    body = []
    by_arm = {row["arm"]: row for _, row in summary.iterrows()}
    for arm in (arm for arm in arm_order(study.frame) if arm in by_arm):
        effect = effect_on(arm, endpoint, study.findings_about(study))
        seeds = [str(by_arm[arm]["seeds"])] if differ else []
        beside = [_change(held_out.get(arm))] if held_out else []
        body.append((arm, _distance_text(by_arm[arm], decimals), _change(effect), *beside, *seeds))
    return Table(
        title=f"{endpoint.metric} at the end of training",
        caption=f"{better} is better; in brackets the 95 % interval of the change.",
        header=(
            "arm",
            endpoint.noun,
            f"against {BASELINE}",
            *([f"held-out ε-MSE against {BASELINE}"] if held_out else []),
            *(["seeds"] if differ else []),
        ),
        body=tuple(body),
        notes=tuple(_notes(endpoint, summary)),
    )


def _change(effect: Effect | None) -> str:
    if effect is None:
        return "–"
    return f"{effect.scale.change(effect.estimate, percent_of)} ({interval_text(effect)})"


def interval_text(effect: Effect | Finding) -> str:
    """``−6.1 to −2.9 %``; ``n=1`` where one seed gives none."""
    if effect.seeds == 1:
        return "n=1"
    if math.isnan(effect.low):
        return "–"
    ends = effect.scale.ends(effect.low, effect.high)
    low, high = (effect.scale.change(end, percent_of) for end in ends)
    return f"{low.removesuffix(' %')} to {high}"


def _endpoint_rows(frame: pd.DataFrame, endpoint: Endpoint) -> pd.DataFrame:
    """The rows behind the endpoint: each arm's last step, under its one condition."""
    return of_sampling_seeds(at_last_step(rows_like(frame, endpoint)), endpoint.sampling_seeds)


def _distance_text(row: pd.Series, decimals: int) -> str:
    form = f".{decimals}f"
    text = written(row["mean"], form)
    if row["seeds"] > 1:
        return f"{text} ± {written(row['half_width'], form)}"
    return text if math.isnan(row["error"]) else f"{text} ± {written(row['error'], form)} (se)"


def _notes(endpoint: Endpoint, summary: pd.DataFrame) -> list[str]:
    n_generated = int(str(endpoint.condition["n_generated"]))
    seeds = sorted(set(summary["seeds"]))
    images = (
        f"{counted(len(endpoint.sampling_seeds), 'sampling seed')}, "
        f"{counted(n_generated, 'generated image')}, "
        if endpoint.is_of_images
        else ""
    )
    notes = [
        f"{endpoint.step_rule[:1].upper()}{endpoint.step_rule[1:]}. "
        f"{counted(seeds[0], 'training seed') if len(seeds) == 1 else 'Training seeds as listed'}, "
        f"{images}{endpoint.condition['weights']} weights."
    ]
    if summary["seeds"].max() > 1:
        notes.append(
            "±: half width of the 95 % t-interval of the mean over training seeds. Changes are "
            "compared within seeds, so they can be sharper than the ± suggest."
        )
    if summary["error"].notna().any() and summary["seeds"].max() == 1:
        notes.append("(se): standard error over the images of one seed, not over seeds.")
    if endpoint.metric.startswith("FD-"):
        notes.append(
            "A Fréchet distance in this network’s features, not the FID of other papers: compare "
            "it within this study only."
        )
    return notes
