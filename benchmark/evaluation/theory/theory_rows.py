"""One milestone of many runs of the theory → rows.

Where a number is what images have too (held-out ε-MSE by noise level, stages, exposure, what a mask
does), its row has the same name, so the same tables, figures and gates read it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from benchmark.evaluation.theory.without_network import linear_error, mean_error, weak_energy
from benchmark.rows.known_rows import PROOF
from benchmark.rows.metric_names import (
    BIRTH_EFFECT,
    EPS_MSE,
    EPS_MSE_LINEAR,
    EPS_MSE_MEAN,
    EXCESS,
    EXPOSURE,
    HIGH_ERROR,
    HIGH_EXCESS,
    LOW_ERROR,
    LOW_EXCESS,
    LOW_EXCESS_OF,
    NEURONS,
    ORACLE_ERRORS,
    REALISED_SPARSITY,
    SIMILARITY,
    TRAIN_GAP,
)
from benchmark.rows.provenance import git_revision, host, now, versions
from benchmark.rows.row import Row
from benchmark.study.kinds import hash_of_run
from benchmark.study.measure import ScaleName, allowed_scales
from benchmark.study.theory_study import TheoryStudy
from mindiffusion.curriculum.exposure import relative_exposure
from mindiffusion.curriculum.stages import stage_at, trained_on_all_levels
from mindiffusion.files import sha256_of_json
from mindiffusion.sparsity import active_count
from mindiffusion.theory.measures import low_and_high
from mindiffusion.theory.scores import Errors, errors, neurons
from mindiffusion.theory.setting import TheoryPlan, TheoryRun, planned
from mindiffusion.theory.simulation import Snapshot

METRIC_VERSION = 1
Direction = Literal["lower", "higher", "none"]
DATASET = "two features"
MANIFEST = "keyed"
"""Samples are functions of a run's seed and settings: there is no array to name."""
_TINY = 1e-60
"""The oracle's error at the lowest noise is e^{−10⁵}: what is smaller than this is 0 in rows."""
_NOTHING_TO_KNOW = 1e-20
"""Of a group's amplitude²: what its features vary by, below this, is rounding."""
_WEIGHTS = "raw"
_HIDDEN = "hidden"
"""Where the mask is, in the names of its rows."""
_NEURON_ROWS: Mapping[str, tuple[str, Direction]] = {
    "share-mixed": ("mixed-share", "lower"),
    "across-groups": ("across-groups-share", "lower"),
    "within-group": ("within-group-share", "lower"),
    "mixed-of-living": ("mixed-of-living-share", "lower"),
    "across-of-living": ("across-groups-of-living-share", "lower"),
    "share-pure1": ("pure-M1-share", "higher"),
    "share-pure2": ("pure-M2-share", "higher"),
    "share-outside": ("outside-share", "none"),
    "share-dead": ("dead-share", "none"),
    "feature-entropy": ("entropy", "lower"),
    "first-in-second": ("M1-in-M2", "lower"),
    "covered1": ("M1-covered-share", "higher"),
    "covered2": ("M2-covered-share", "higher"),
    "living": ("living-share", "none"),
    "effective": ("effective-share", "none"),
}
"""Numbers of ``scores.neurons``, as rows name them and with what is better."""
_ALIGNMENTS = ("M1-alignment", "M2-alignment")
"""The largest cosine of any neuron with each feature, a mean over the features of a group."""
_SUMMARIES = (LOW_EXCESS, HIGH_EXCESS, LOW_ERROR, HIGH_ERROR)


def _kept(value: float) -> float:
    """Six digits: a study has hundreds of thousands of rows, and samples scatter by far more."""
    return float(f"{value:.6g}") if abs(value) >= _TINY else 0.0


def deciding_metrics() -> dict[str, tuple[ScaleName, ...]]:
    """Rows that may decide a study of the theory, with the scales of each."""
    names = (*_SUMMARIES, *LOW_EXCESS_OF)
    errors_ = dict.fromkeys(names, allowed_scales("lower", is_positive=True))
    shares = {
        NEURONS + name: allowed_scales(direction, is_positive=False)
        for name, direction in _NEURON_ROWS.values()
    }
    return {name: scales for name, scales in (errors_ | shares).items() if scales}


def theory_proof(study: TheoryStudy) -> str:
    """Metric of the row that is written last and proves all others of a milestone."""
    settings = study.scoring | {"version": METRIC_VERSION}
    return f"{PROOF}own/{sha256_of_json(settings)[:12]}"


@dataclass(frozen=True)
class _Milestone:
    """One run's milestone, and what its rows have in common."""

    study: TheoryStudy
    run: TheoryRun
    plan: TheoryPlan
    step: int
    common: Mapping[str, Any]

    def row(self, metric: str, value: float, **fields: Any) -> Row:
        """A row; ``fields`` replace what rows have by default."""
        stages, lowest = self.plan.stages, self.run.process.lowest_time
        base = Row(
            study=self.study.name,
            arm=self.run.arm,
            seed=self.run.seed,
            step=self.step,
            total_steps=self.plan.total_steps,
            metric=metric,
            value=_kept(value),
            level=None,
            error=None,
            direction="none",
            metric_version=METRIC_VERSION,
            n_generated=0,
            n_reference=0,
            weights="",
            sampler="",
            sampler_steps=0,
            sampling_seed=0,
            full_range=trained_on_all_levels(stages, self.step, lowest),
            stage=stage_at(stages, self.step - 1).config.name,
            samples=None,
            dataset=DATASET,
            manifest=MANIFEST,
            train_seconds=0.0,
            config_hash=hash_of_run(self.run),
            **self.common,
        )
        return replace(base, **fields)

    def measured(self, metric: str, value: float, direction: Direction = "lower") -> Row:
        """A row of one number about the weights."""
        return self.row(metric, value, direction=direction, weights=_WEIGHTS)

    def by_level(
        self, metric: str, times: np.ndarray, values: np.ndarray, weights: str = _WEIGHTS
    ) -> Iterator[Row]:
        """Rows over noise levels."""
        direction: Direction = "none" if metric == BIRTH_EFFECT else "lower"
        first = replace(self.measured(metric, 0.0, direction), weights=weights)
        for time, value in zip(times.tolist(), values.tolist(), strict=True):
            yield replace(first, level=time, value=_kept(value))


def theory_rows(
    study: TheoryStudy, snapshot: Snapshot, declared: str, in_full: int | None
) -> list[Row]:
    """The rows of all runs that have a milestone, each one's proof last.

    Args:
        study: the study.
        snapshot: their weights.
        declared: whether the study was declared before it was run, and where.
        in_full: the seed whose networks are shown neuron by neuron at their end; None: of none.
    """
    found, reduced = errors(snapshot, study.evaluation), _reduced(snapshot, study)
    of_neurons = neurons(snapshot, study.evaluation)
    # Runs of one snapshot have the same data.
    is_limited = snapshot.runs[0].data.num_train is not None
    trained = errors(snapshot, study.evaluation, "trained") if is_limited else None
    common: dict[str, Any] = _common(snapshot) | {"declared": declared}
    rows: list[Row] = []
    for place, run in enumerate(snapshot.runs):
        one = _Milestone(study, run, planned(run), snapshot.step, common)
        rows += _stage_rows(one)
        rows += _error_rows(one, found, place)
        if trained is not None:
            rows += _gap_rows(one, found, trained, place)
        if any(stage.config.sparsity for stage in one.plan.stages):
            rows += _mask_rows(one, found, reduced, snapshot, place)
        rows += [
            one.measured(NEURONS + name, of_neurons[key][place], direction)
            for key, (name, direction) in _NEURON_ROWS.items()
            if np.isfinite(of_neurons[key][place])
        ]
        groups = of_neurons["best-alignment"][place].reshape(2, -1).mean(axis=1)
        for name, value in zip(_ALIGNMENTS, groups, strict=True):
            rows.append(one.measured(NEURONS + name, value, "higher"))
        if run.seed == in_full and snapshot.step == one.plan.total_steps:
            rows += _similarity_rows(one, of_neurons["cosines-in"][place], snapshot, place)
        rows.append(one.row(theory_proof(study), 1.0))
    return rows


def _common(snapshot: Snapshot) -> dict[str, Any]:
    precision = snapshot.runs[0].training.precision
    return {
        "git": git_revision(),
        "versions": versions(),
        "device": f"cpu, {precision}, eager",
        "host": host(),
        "threads": torch.get_num_threads(),
        "time": now(),
    }


def _reduced(snapshot: Snapshot, study: TheoryStudy) -> Errors | None:
    """Errors with only the first stage's neurons on; None where there are no others.

    A neuron that is off has its small initial weights, so lifting the mask would change nothing.
    """
    is_first = snapshot.birth_stage == 0
    if not bool((snapshot.birth_stage > 0).any()):
        return None
    return errors(replace(snapshot, mask=snapshot.mask * is_first), study.evaluation)


def _as_eps(one: _Milestone, found: Errors, squared: np.ndarray) -> np.ndarray:
    """Squared errors of x₀ as ε-MSE, a mean over a sample's numbers: x̂₀ − x₀ = σ·(ε − ε̂)."""
    return squared / (np.square(found.sigma) * one.run.data.ambient_dim)


def _error_rows(one: _Milestone, found: Errors, place: int) -> Iterator[Row]:
    """Errors by noise level beside those that need no network, and their means at both ends."""
    data, times = one.run.data, found.times
    known = {
        EPS_MSE_LINEAR: linear_error(data, found.sigma),
        EPS_MSE_MEAN: np.full(len(times), mean_error(data)),
    }
    for metric, squared in known.items():
        yield from one.by_level(metric, times, _as_eps(one, found, squared), weights="")
    yield from one.by_level(EPS_MSE, times, _as_eps(one, found, found.error[place]))
    energy = weak_energy(data) or 1.0
    yield from one.by_level(EXCESS, times, found.excess[place] / energy)
    evaluation = one.study.evaluation
    bounds = evaluation.low_up_to, evaluation.high_from
    whole = mean_error(data) or 1.0
    scales = ((found.excess, energy), (found.error, whole), (found.oracle_expected, whole))
    excess, error, best = (
        low_and_high(table[[place]] / scale, times, *bounds)[0] for table, scale in scales
    )
    by_group = low_and_high(_by_group(one, found, place), times, *bounds)[:, 0]
    values = (*excess, *error, *best, *by_group)
    names = (*_SUMMARIES, *ORACLE_ERRORS, *LOW_EXCESS_OF)
    for metric, value in zip(names, values, strict=True):
        yield one.measured(metric, value, "none" if metric in ORACLE_ERRORS else "lower")


def _by_group(one: _Milestone, found: Errors, place: int) -> np.ndarray:
    """The excess along M₁ and M₂, as shares of who knows nothing of them: (2, L).

    The share of M₂ alone does not change with α₂ where nothing of M₂ is learned. Of features that
    never vary it is the excess itself.
    """
    amplitudes = np.array([one.run.data.alpha1, one.run.data.alpha2])
    blind = found.blind[place]
    unit = np.where(blind > _NOTHING_TO_KNOW * amplitudes**2, blind, 1.0)
    return np.asarray((found.parts[place, :, :2] / unit).T)


def _gap_rows(one: _Milestone, found: Errors, trained: Errors, place: int) -> Iterator[Row]:
    """Over-fitting at low noise: errors over the oracle's on the same samples, in EXCESS's unit."""
    over = [table.error[[place]] - table.oracle[[place]] for table in (found, trained)]
    evaluation = one.study.evaluation
    bounds = evaluation.low_up_to, evaluation.high_from
    gap = low_and_high(over[0] - over[1], found.times, *bounds)[0, 0]
    yield one.measured(TRAIN_GAP, gap / (weak_energy(one.run.data) or 1.0), "none")


def _mask_rows(
    one: _Milestone, found: Errors, reduced: Errors | None, snapshot: Snapshot, place: int
) -> Iterator[Row]:
    """What the neurons do that the mask held back at first, and the share that is still off."""
    off = 1.0 - float(snapshot.mask[place].mean())
    gap = np.zeros(len(found.times))
    if reduced is not None:
        gap = reduced.error[place] - found.error[place]
    yield from one.by_level(BIRTH_EFFECT, found.times, _as_eps(one, found, gap))
    yield one.measured(f"{REALISED_SPARSITY}{_HIDDEN}", off, "none")


def _similarity_rows(
    one: _Milestone, cosines: np.ndarray, snapshot: Snapshot, place: int
) -> Iterator[Row]:
    """The network neuron by neuron: cosine of its incoming weights with each feature, (H, 2d).

    A feature's row is a curve over neurons: ``level`` is a neuron's place (k + ½)/H.
    """
    shown = np.where(snapshot.mask[place].numpy()[:, None] > 0, cosines, 0.0).round(3)
    places = (np.arange(len(shown)) + 0.5) / len(shown)
    d = shown.shape[1] // 2
    for number, column in enumerate(shown.T):
        name = f"{SIMILARITY}M{1 + number // d}-{number % d:03d}"
        first = one.measured(name, 0.0, "none")
        for at, value in zip(places.tolist(), column.tolist(), strict=True):
            yield replace(first, level=at, value=value)


def _stage_rows(one: _Milestone) -> Iterator[Row]:
    """What is trained when: rows of the stages begun since the milestone before."""
    before = [step for step in one.plan.milestones if step < one.step]
    first, stages = before[-1] if before else 0, one.plan.stages
    has_mask = any(stage.config.sparsity for stage in stages)
    has_penalty = any(stage.config.penalty_lambda for stage in stages)
    for stage in stages:
        if not first <= stage.start < one.step:
            continue
        where = {"step": stage.start, "stage": stage.config.name}
        lows, highs = zip(*stage.density.intervals, strict=True)
        numbers = {"t_min": min(lows), "t_max": max(highs)}
        if has_mask:
            width = one.run.model.width
            numbers["active_channels"] = float(active_count(width, stage.config.sparsity))
        if has_penalty:
            numbers["penalty_lambda"] = stage.config.penalty_lambda
        for name, value in numbers.items():
            yield one.row(name, value, **where)
        for level, value in relative_exposure(stage.density, one.run.process.num_levels):
            yield one.row(EXPOSURE, value, level=level, **where)
