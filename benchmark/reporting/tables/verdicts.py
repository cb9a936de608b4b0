"""Claims with their verdicts, how fast arms learn, and how much of each noise level they train."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd

from benchmark.analysis.answer import interim_note
from benchmark.analysis.claims import Group
from benchmark.analysis.endpoint import Endpoint
from benchmark.analysis.exposure import exposure_table, order_information
from benchmark.analysis.findings import Finding
from benchmark.analysis.learning import curve_rows
from benchmark.analysis.learning import learning as learning_of
from benchmark.analysis.scales import SIGN_ALONE
from benchmark.analysis.sensitivity import sensitivity as sensitivity_of
from benchmark.analysis.statistics import ALPHA
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.analysis.verdict_words import (
    baseline_text,
    ratio_text,
    seeds_text,
)
from benchmark.reporting.tables.as_text import Table, written
from benchmark.reporting.tables.milestones import MISSING
from benchmark.study.arm_names import BASELINE

_GROUPS: dict[Group, str] = {
    "hypothesis": "Hypotheses",
    "decomposition": "What the effects are made of",
    "claim": "Claims that arms are better",
    "check": "Checks of the instrument",
}
_HEADER = (
    "question", "contrast", "effect", "95 % interval", "held-out ε-MSE", "seeds", "p", "p (Holm)",
    "p (sign flip)", "verdict", "seeds needed", f"equal to {BASELINE}'s final",
)  # fmt: skip
_SMOKE_NOTE = "Smoke: fewer than 2048 generated images, far too few to judge by."


def verdicts(study: StudyAnalysis) -> tuple[list[Table], pd.DataFrame]:
    """Every claim, in a table for each kind and each metric that claims are about."""
    if study.endpoint is None:
        return [], pd.DataFrame()
    first, *others = map(partial(_tables_about, study), study.by_measure)
    # What is claimed beforehand comes first, by whichever metric.
    is_first = sum(one.group == "hypothesis" for one in study.findings_about(study)) > 0
    tables = [*first[:is_first], *(one for some in others for one in some), *first[is_first:]]
    return tables, _full(study.findings)


def _tables_about(study: StudyAnalysis, part: StudyAnalysis) -> list[Table]:
    """The tables of the claims about one of a study's measures."""
    found, endpoint = study.findings_about(part), part.endpoint
    if endpoint is None:
        return [_unmeasured_table(part.terms.endpoint.metric, found)]
    state = [endpoint.declared, *([interim_note(part.absent)] if part.absent else [])]
    state += [endpoint.provisional] if endpoint.provisional else []
    about = "" if part is study else f" about {part.terms.endpoint.metric}"
    return [
        _finding_table(title + about, [f for f in found if f.group == group], endpoint, state)
        for group, title in _GROUPS.items()
        if any(one.group == group for one in found)
    ]


def secondary(study: StudyAnalysis) -> tuple[list[Table], pd.DataFrame]:
    """The same claims about other measures; none of them decides."""
    found = study.secondary
    if not found:
        return [], pd.DataFrame()
    caption = "Log ratios of other measures; exploratory whatever the primary endpoint says."
    body = tuple(_finding_line(one) for one in found)
    return [Table("Secondary measures", caption, _HEADER, body, _reasons(found))], _full(found)


def _finding_table(
    title: str, found: Sequence[Finding], endpoint: Endpoint, state: Sequence[str]
) -> Table:
    seeds, beside, scale = "", "", endpoint.scale
    if endpoint.is_of_images:
        count = len(endpoint.sampling_seeds)
        seeds = ", one sampling seed" if count == 1 else f", a mean of {count} sampling seeds"
        beside = "Held-out ε-MSE: the same change of the denoising error over all noise levels. "
    caption = (
        f"{endpoint.metric}, {endpoint.step_rule}{seeds}; {', '.join(state)}. Effects are changes "
        f"of the {endpoint.noun} in {scale.unit}: {scale.better_side} zero the first arm is "
        f"better. {beside}Last "
        f"column: the effect expressed as training time, that is the final share of {BASELINE}'s "
        f"own steps over which {BASELINE}'s {endpoint.noun} changes by the same amount."
    )
    body = tuple(_finding_line(one) for one in found)
    notes = (
        *_reasons(found),
        *([_SMOKE_NOTE] if endpoint.is_smoke else []),
        *endpoint.left_out,
    )
    return Table(title, caption, _HEADER, body, notes)


def _unmeasured_table(metric: str, found: Sequence[Finding]) -> Table:
    caption = f"No row has {metric} of an arm at its last step, so nothing is tested."
    body = tuple(map(_finding_line, found))
    return Table(f"{_GROUPS['hypothesis']} about {metric}", caption, _HEADER, body, _reasons(found))


def _reasons(found: Sequence[Finding]) -> tuple[str, ...]:
    return tuple(f"{one.title} ({one.contrast}): {one.verdict}. {one.why}" for one in found)


def _finding_line(one: Finding) -> tuple[str, ...]:
    return (
        one.title,
        one.contrast,
        MISSING if math.isnan(one.estimate) else one.scale.estimate(one.interval),
        MISSING if math.isnan(one.low) else one.scale.span(one.low, one.high),
        MISSING if math.isnan(one.held_out[0]) else SIGN_ALONE.interval(one.held_out),
        str(one.seeds),
        *(_probability(p) for p in (one.p, one.p_holm, one.p_sign_flip)),
        one.verdict,
        MISSING if one.seeds_needed is None else str(one.seeds_needed),
        MISSING if one.steps_equivalent is None else f"{100 * one.steps_equivalent:.0f} % of steps",
    )


def _probability(p: float | None) -> str:
    if p is None or math.isnan(p):
        return MISSING
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _full(found: Sequence[Finding]) -> pd.DataFrame:
    """All that is known of the findings; changes, and the sign claimed, as people read them."""
    lines = []
    for one in found:
        line, scale = dataclasses.asdict(one), one.scale
        names = ("held_out", "held_out_low", "held_out_high")
        line |= dict(zip(names, line.pop("held_out"), strict=True))
        line |= scale.shown(one.interval)
        line |= {"direction": int(scale.turned(one.direction))}
        del line["scale"]
        lines.append(line)
    return pd.DataFrame(lines)


def learning(study: StudyAnalysis) -> tuple[list[Table], pd.DataFrame]:
    """Areas under the learning curves, steps to the baseline's end, steps-equivalents."""
    endpoint, numbers = study.endpoint, learning_of(study.frame, study.endpoint, study.curve)
    if endpoint is None or numbers.empty:
        return [], numbers
    scale = endpoint.scale
    numbers = numbers.assign(area=scale.turned(numbers["area"]))
    body = tuple(
        (
            str(one["arm"]),
            str(one["seeds"]),
            _with_half(one["area"], one["area_half_width"], scale.decimals),
            f"{one['reached']} of {one['seeds']}",
            _with_half(one["steps_to_reach"], one["steps_to_reach_half_width"], 0),
            _with_half(one["steps_equivalent"], one["steps_equivalent_half_width"], 3),
        )
        for _, one in numbers.iterrows()
    )
    header = (
        "arm", "seeds", f"mean {scale.difference} over steps", f"reached {BASELINE}'s end",
        "at step", f"worth {BASELINE}'s steps",
    )  # fmt: skip
    curve = curve_rows(study.frame, endpoint)["metric"].iloc[0]
    caption = (
        f"{curve} by step, {endpoint.metric} at the end. Each arm's curve beside {BASELINE}'s of "
        f"the same seed, at milestones valid in both; the step at which {BASELINE}'s end is "
        "reached, where all seeds get there. The last column is the share of "
        f"{BASELINE}'s steps that gives the {endpoint.noun} the arm ends with; {MISSING} where any "
        f"seed ends outside what {BASELINE}'s curve covers. ±: 95 % Student-t interval."
    )
    return [Table("How fast the arms learn", caption, header, body)], numbers


def sensitivity(study: StudyAnalysis) -> tuple[list[Table], pd.DataFrame]:
    """What the study's seeds can see: do pairs help, and how small an effect would be found?"""
    endpoint = study.endpoint
    numbers = pd.DataFrame() if endpoint is None else sensitivity_of(endpoint, study.alpha)
    if endpoint is None or numbers.empty:
        return [], numbers
    scale = endpoint.scale

    def text(change: float, write: Callable[[float], str]) -> str:
        return MISSING if math.isnan(change) else write(change)

    body = tuple(
        (
            str(one["arm"]),
            str(one["seeds"]),
            *(text(one[name], scale.change) for name in ("mean", "interquartile_mean")),
            text(one["sd"], scale.size),
            _number(one["correlation"]),
            text(one["minimum_detectable_effect"], scale.size),
            _number(one["probability_of_improvement"]),
        )
        for _, one in numbers.iterrows()
    )
    header = (
        "arm", "seeds", "mean change", "interquartile mean", "spread over seeds",
        f"correlation with {BASELINE}", "smallest effect found",
        f"P({scale.better_side} {BASELINE})",
    )  # fmt: skip
    caption = (
        f"{endpoint.metric} of each arm beside {BASELINE}'s of the same seeds, as a change. "
        "Pairing by seed makes intervals narrower where the correlation is above 0. Smallest "
        "effect found: the smallest effect whose sign these seeds would detect with 80 % power at "
        f"level {_level(study)} in a paired test; for the verdict supported, an effect must be "
        f"that much larger than {scale.smallest}. {MISSING}: too few seeds."
    )
    means = {name: scale.turned(numbers[name]) for name in ("mean", "interquartile_mean")}
    return [Table("What the seeds can see", caption, header, body)], numbers.assign(**means)


def _level(study: StudyAnalysis) -> str:
    """The strictest level that Holm may ask of a hypothesis: ``.05/3``."""
    count, level = len(study.terms.hypotheses), f"{ALPHA:g}".removeprefix("0")
    return f"{level}/{count}" if count > 1 else level


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else written(value, ".2f").replace("-", "−")


def _gain(value: float) -> str:
    """A share of the possible gain; where next to nothing can be gained, losses are enormous."""
    return "< −99" if value < -99 else _number(value)


def _share(value: float) -> str:
    return MISSING if math.isnan(value) else written(value, ".3f")


def _with_half(value: float, half: float, decimals: int) -> str:
    if math.isnan(value):
        return MISSING
    form = f".{decimals}f"
    text = written(value, form)
    return text if math.isnan(half) else f"{text} ± {written(half, form)}"


def exposure(frame: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """How much of each fifth of the noise range the arms train, relative to plain training.

    Args:
        frame: the frame of a study's rows.
    """
    shares = exposure_table(frame)
    if shares.empty:
        return [], pd.DataFrame()
    edges = [0.0, *shares.columns]
    names = [f"{low:g}–{high:g}" for low, high in itertools.pairwise(edges)]
    order = order_information(frame).reindex(shares.index)
    body = tuple(
        (str(arm), *(_share(value) for value in values), _share(order[arm]))
        for arm, values in zip(shares.index, shares.to_numpy(), strict=True)
    )
    caption = (
        "How often a noise level is drawn, averaged over the whole run, relative to drawing all "
        "levels equally often. A column is one fifth of the noise time; 1 is pure noise. Order: "
        "mutual information of step and noise level in nats; 0 if the probabilities of the levels "
        "are the same at every step."
    )
    numbers = shares.set_axis(names, axis="columns").assign(order_nats=order)
    header = ("arm", *names, "order (nats)")
    table = Table("Exposure to the noise levels", caption, header, body)
    return [table], numbers.rename_axis("arm").reset_index()


def competence(study: StudyAnalysis) -> tuple[list[Table], pd.DataFrame]:
    """How far the baseline has come, by noise level, beside denoisers without a network."""
    baseline, gate = study.baseline, study.terms.gate
    if baseline is None:
        return [], pd.DataFrame()
    numbers = pd.DataFrame(
        {
            "level": baseline.level,
            "eps_mse": baseline.error,
            "linear": baseline.linear,
            "mean": baseline.mean,
            "oracle_ratio": baseline.error / baseline.linear,
            "mean_ratio": baseline.error / baseline.mean,
            "gain": baseline.gain,
            "path": baseline.path,
        }
    )
    body = tuple(
        (
            f"{one['level']:g}",
            *(f"{one[name]:.3g}" for name in ("eps_mse", "linear", "mean")),
            *(ratio_text(one[name]) for name in ("oracle_ratio", "mean_ratio")),
            _gain(one["gain"]),
            written(one["path"], ".3f"),
        )
        for _, one in numbers.iterrows()
    )
    header = (
        "noise time t", f"ε-MSE of {BASELINE}", "best linear denoiser", baseline.mean_word,
        "to the linear", "to the mean", "share of the gain", "share of the way",
    )  # fmt: skip
    state = "enough" if baseline.passed(gate) else "not enough"
    text = baseline_text(baseline, gate)
    caption = (
        f"Held-out ε-MSE of {BASELINE} at step {baseline.step:,}, {seeds_text(baseline.seeds)}: "
        f"{state} for verdicts. {text[0].upper()}{text[1:]}. Ratios below 1 are better. Share of "
        f"the gain: 0 is the error of the {baseline.mean_word}, 1 that of the best linear "
        "denoiser. Share of the way: the part of the sampler’s way in ln σ that belongs to this "
        "level."
    )
    return [Table("Has the baseline learned enough?", caption, header, body)], numbers
