"""A study: arms × seeds of one run, and how their milestones are scored; YAML in, data out."""

import operator
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, with_config
from pydantic.dataclasses import dataclass as checked_dataclass

from benchmark.study.arm_entries import resolve_entries, run_content
from benchmark.study.arm_names import BASELINE
from benchmark.study.feature_settings import FeatureSettings, check_attributes, image_counts
from benchmark.study.hypotheses import USUAL_HYPOTHESES, Hypotheses, check_hypotheses
from benchmark.study.kinds import KINDS, KindName
from benchmark.study.measure import PrimaryMetric, SmallestEffect, smallest_effect_of
from benchmark.study.metric_catalogue import (
    METRICS,
    USUAL_METRICS,
    metrics_needing,
    metrics_of_every_seed,
)
from benchmark.study.sweeps import Sweep, SweepValues, swept
from benchmark.study.terms import USUAL, Gate, Terms
from benchmark.study.theory_study import TheoryStudy
from benchmark.study.variants import Variant, check_variants
from mindiffusion.config.presets import apply_overrides, extended, merge
from mindiffusion.config.run import RunConfig, check
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.outside.documents import Name, read_yaml, shown_value
from mindiffusion.theory.setting import TheoryEvaluation, TheoryRun

PROTOCOLS = Path(__file__).parent / "protocols"
RESULTS = Path("results")
_LONGEST_NAME = 100
_MOST_RUNS = 10_000
_MOST_IMAGES = 100_000_000
FEWEST_REFERENCE = 8
"""Training images that a distance takes: two for each of its four groups."""
FEWEST_PROFILE = 2
"""Held-out images that the error of an ε-MSE takes."""
_STRICT = ConfigDict(extra="forbid", strict=True)
_STUDY_KEYS = (
    "evaluation.", "gate.", "endpoint.", "hypotheses=", "smallest_effect=", "runs_per_device=",
    "seeds=", "sweeps=",
)  # fmt: skip


@checked_dataclass(frozen=True, config=_STRICT)
class EvaluationConfig:
    """How a milestone is scored.

    Attributes:
        num_generated: images sampled from the primary average; n in the metrics' names. The
            jackknife of a distance takes 8 or more.
        num_curve: the first so many of them at every milestone, and all at the last one alone: a
            cheap curve with an end that counts; None: all at every milestone.
        num_sampling_seeds: sets of images at the last milestone. The first, of the run's sampling
            seed, is scored by all metrics, the others, of the seeds after it, by distances.
        num_reference: training images they are compared with.
        feature_nets: entries of ``features.nets.FEATURE_NETS``, the primary one first; "auto" is
            clean-fid's Inception where its weights are there, else EfficientNet-Lite0 at 224 px.
        metrics: what is measured, of ``metric_catalogue.METRICS``.
        finisher: arm whose last milestone, of the first seed, finishes stitched samples.
        stitch_levels: noise times τ at which samples are stitched.
        profile_images: held-out images behind the ε-MSE.
        profile_levels: noise levels of the ε-MSE.
        strip: images kept as a picture with every milestone.
        variants: other ways to draw the last milestone's images, each scored by distances.
        per_class: score each class of a network that knows classes apart too, by the metrics that
            are made of features, but for memorisation.
        features: how the features of the networks themselves are looked at.
    """

    num_generated: int = Field(default=10_000, ge=8, le=_MOST_IMAGES)
    num_curve: int | None = Field(default=None, ge=8, le=_MOST_IMAGES)
    num_sampling_seeds: int = Field(default=1, ge=1, le=1000)
    num_reference: int = Field(default=50_000, ge=FEWEST_REFERENCE, le=_MOST_IMAGES)
    feature_nets: tuple[Name, ...] = Field(default=("auto",), min_length=1, max_length=16)
    metrics: Annotated[tuple[Name, ...], Field(max_length=32)] = USUAL_METRICS
    profile_images: int = Field(default=1024, ge=FEWEST_PROFILE, le=_MOST_IMAGES)
    profile_levels: int = Field(default=20, ge=1, le=10_000)
    strip: int = Field(default=8, ge=1, le=1024)
    variants: Annotated[tuple[Variant, ...], Field(max_length=16)] = ()
    per_class: bool = False
    features: FeatureSettings = FeatureSettings()
    finisher: Name = BASELINE
    stitch_levels: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(max_length=100)
    ] = (0.2, 0.4, 0.6, 0.8)

    def __post_init__(self) -> None:
        """Refuse a metric that there is not, and a part that is larger than the whole."""
        if self.num_curve is not None and self.num_curve > self.num_generated:
            raise UserError(
                f"evaluation.num_curve is {self.num_curve}, more than num_generated "
                f"({self.num_generated}); give at most that, or null."
            )
        for name in self.metrics:
            if name not in METRICS:
                raise UserError(f"evaluation.metrics has {name!r}.{did_you_mean(name, METRICS)}")
        check_attributes(self.metrics, self.features)
        check_variants(self.variants, "evaluation.variants")
        if self.variants and not metrics_of_every_seed() & set(self.metrics):
            raise UserError(
                "evaluation.variants are scored by distances, but evaluation.metrics has neither "
                "fd nor kd; add one of these, or leave variants out."
            )

    @property
    def curve_size(self) -> int:
        """Images at every milestone."""
        return self.num_generated if self.num_curve is None else self.num_curve

    @property
    def settings(self) -> dict[str, Any]:
        """What hashes of it are made of: without younger fields, where these are not used."""
        whole = asdict(self) | {"variants": tuple(one.settings for one in self.variants)}
        whole |= {"features": self.features.settings}
        younger = ("variants", "per_class", "features")
        return {name: value for name, value in whole.items() if name not in younger or value}


def check_counts(
    evaluation: EvaluationConfig, num_train: int, num_held_out: int, source: str
) -> None:
    """Refuse data of which milestones could not be scored.

    Args:
        evaluation: how they are scored.
        num_train: training images.
        num_held_out: held-out images.
        source: the data, named in the message.

    Raises:
        UserError: fewer images than any scoring takes, or than the settings ask for.
    """
    check_fewest(evaluation.metrics, num_train, num_held_out, source)
    asked = [("num_reference", num_train, "training")]
    if metrics_needing("held-out") & set(evaluation.metrics):
        asked += [("profile_images", num_held_out, "held-out")]
        asked += [("profile_images", num_train, "training")]
    counts = image_counts(evaluation.metrics)
    asked += [(f"features.{name}", num_held_out, "held-out") for name in counts]
    for name, count, kind in asked:
        wanted = operator.attrgetter(name)(evaluation)
        if wanted > count:
            raise UserError(
                f"evaluation.{name} is {wanted}, but the data has {count} {kind} images; ask for "
                "at most that many."
            )


def check_fewest(metrics: Sequence[str], num_train: int, num_held_out: int, source: str) -> None:
    """Refuse data of which no milestone could be scored, whatever the settings.

    Args:
        metrics: what is measured, of ``metric_catalogue.METRICS``.
        num_train: training images.
        num_held_out: held-out images.
        source: the data, named in the message.

    Raises:
        UserError: fewer than any scoring takes.
    """
    if num_train < FEWEST_REFERENCE:
        raise UserError(
            f"{source} has {num_train} training images; scoring compares samples with "
            f"{FEWEST_REFERENCE} or more, so give more images."
        )
    if metrics_needing("held-out") & set(metrics) and num_held_out < FEWEST_PROFILE:
        raise UserError(
            f"{source} has {num_held_out} held-out image; scoring takes {FEWEST_PROFILE} or more. "
            "Give more images (a folder's tenth is held out at most), a higher data.num_held_out, "
            "or evaluation.metrics that need no held-out images."
        )


@checked_dataclass(frozen=True, config=_STRICT)
class _StudyFile:
    """What a protocol file holds, whatever is trained."""

    seeds: Annotated[tuple[int, ...], Field(max_length=1000)]
    arms: Annotated[dict[Name, dict[str, Any]], Field(max_length=1000)]
    run: dict[str, Any]
    kind: KindName = "images"
    about: Annotated[tuple[Name, ...], Field(max_length=20)] = ()
    controls_of: tuple[Name, ...] = ()
    sweeps: Annotated[dict[Name, SweepValues], Field(max_length=100)] = field(default_factory=dict)
    gate: Gate = Gate()
    endpoint: PrimaryMetric = PrimaryMetric()
    hypotheses: Hypotheses | None = None
    smallest_effect: SmallestEffect | None = None


@checked_dataclass(frozen=True, config=_STRICT)
class _ImageStudyFile(_StudyFile):
    """That of a study of images."""

    evaluation: EvaluationConfig = EvaluationConfig()
    runs_per_device: int = Field(default=1, ge=1, le=1024)


@checked_dataclass(frozen=True, config=_STRICT)
class _TheoryStudyFile(_StudyFile):
    """That of a study of the two-feature theory."""

    evaluation: TheoryEvaluation = TheoryEvaluation()


@with_config(_STRICT)
@dataclass(frozen=True)
class Study:
    """A resolved study.

    Attributes:
        name: of the protocol.
        folder: where rows, tables, figures and runs go.
        runs: one config per arm and seed; seed by seed, so that pairs finish together.
        evaluation: how milestones are scored.
        terms: how it is judged.
        runs_per_device: runs that share a GPU, or the CPU where ``training.threads`` is null.
        finisher: the run whose last milestone finishes stitched samples, of the study's first
            seed; None if no arm is called so.
        sweeps: which of the runs' arms are points of which setting.
        about: sentences for whoever reads its report; nothing depends on them.
    """

    name: str
    folder: Path
    runs: tuple[RunConfig, ...]
    evaluation: EvaluationConfig
    terms: Terms = USUAL
    runs_per_device: int = 1
    finisher: RunConfig | None = None
    sweeps: tuple[Sweep, ...] = ()
    about: tuple[str, ...] = ()

    @property
    def scoring(self) -> dict[str, Any]:
        """How milestones are scored, as plain types."""
        return self.evaluation.settings


AnyStudy = Study | TheoryStudy
SMOKE_EVALUATION = {
    # With the few steps of a smoke run one may be what the run does anyway.
    "variants": [],
    "num_generated": 16,
    "num_curve": None,
    "num_reference": 64,
    "profile_images": 8,
}
_FILES: dict[str, tuple[type[_StudyFile], Mapping[str, Any]]] = {
    "images": (_ImageStudyFile, SMOKE_EVALUATION),
    "theory": (_TheoryStudyFile, {"num_samples": 64}),
}
"""By kind: what its file holds, and how a quick check is scored."""


def study_names() -> list[str]:
    """Studies that come with the project."""
    return sorted(path.stem for path in PROTOCOLS.glob("*.yaml"))


def _study_path(name: str) -> Path:
    """The file of a study: one of ours by its name, or one's own by its path."""
    if name in study_names():
        return PROTOCOLS / f"{name}.yaml"
    path = Path(name)
    if name.endswith((".yaml", ".yml")) and path.is_file():
        return path
    if name.endswith((".yaml", ".yml")):
        raise UserError(
            f"there is no file {shown_value(name, 400)}; give a YAML file that is there, or one of "
            f"{', '.join(study_names())}."
        )
    near = did_you_mean(name, study_names())
    raise UserError(f"unknown study {shown_value(name, 400)}.{near}")


def load_study(
    name: str,
    *,
    output: str | None = None,
    overrides: Sequence[str] = (),
    smoke: bool = False,
) -> AnyStudy:
    """Read a study by name, or from a YAML file of one's own.

    Args:
        name: a protocol's name, or a path that ends in .yaml.
        output: folder instead of ``results/<name>``.
        overrides: ``--set`` arguments; "evaluation.…" goes to the scoring, "gate.…",
            "endpoint.…", "hypotheses=[…]", "smallest_effect=…", "runs_per_device=…",
            "sweeps={…}" and "seeds=[…]" to the study, the rest to each run.
        smoke: a few steps and images, to see the whole path work.

    Raises:
        UserError: no such study, or a mistake in it.
    """
    path = _study_path(name)
    own = [text for text in overrides if text.strip().startswith(_STUDY_KEYS)]
    rest = [text for text in overrides if text not in own]
    parsed = _parsed(apply_overrides(read_yaml(path), own), path, smoke)
    title = path.stem + ("-smoke" if smoke else "")
    folder = Path(output) if output else RESULTS / title
    kind, base = KINDS[parsed.kind], extended(parsed.run, f"{path}, run")
    entries = resolve_entries(parsed.arms, parsed.controls_of, base, str(path), kind)
    entries, sweeps = swept(entries, parsed.sweeps, base, rest, f"{path}, sweeps", kind)
    if len(parsed.seeds) * len(entries) > _MOST_RUNS:
        raise UserError(
            f"{path} has {len(entries)} arms with {len(parsed.seeds)} seeds each; a study has at "
            f"most {_MOST_RUNS} runs, so give fewer."
        )
    runs = []
    for seed in parsed.seeds:
        for entry in entries:
            run = run_content(base, entry.content, kind, rest)
            if smoke:
                run = merge(run, kind.smoke_run)
            placed = kind.placed(run, folder / entry.folder, seed)
            config = kind.built(placed, f"{path}, arm {entry.key}")
            runs.append(kind.controlled(config, entry, str(path)))
    _refuse_twins(runs, path)
    kind.check_runs(parsed.run, rest, runs, str(path))
    swept_arms = {point.arms[arm] for one in sweeps for point in one.points for arm in point.made}
    terms = _terms(parsed, {run.arm for run in runs} - swept_arms, str(path))
    if isinstance(parsed, _TheoryStudyFile):
        made = tuple(runs)
        return TheoryStudy(title, folder, made, parsed.evaluation, terms, sweeps, parsed.about)
    assert isinstance(parsed, _ImageStudyFile)
    study = Study(title, folder, tuple(runs), parsed.evaluation, terms, sweeps=sweeps)
    return _of_images(parsed, replace(study, about=parsed.about), path)


def _parsed(content: Mapping[str, Any], path: Path, smoke: bool) -> _StudyFile:
    """A study's file, checked as that of its kind."""
    kind = content.get("kind", "images")
    if kind not in _FILES:
        raise UserError(f"{path}: kind is {shown_value(kind)}.{did_you_mean(str(kind), _FILES)}")
    schema, smoke_evaluation = _FILES[kind]
    if smoke:
        content = merge(content, {"evaluation": smoke_evaluation})
    parsed: _StudyFile = check(schema, content, str(path))
    return parsed


def _of_images(parsed: _ImageStudyFile, study: Study, path: Path) -> Study:
    """A study of images with what only those have.

    Raises:
        UserError: no arm is the finisher of stitched samples.
    """
    wanted = parsed.evaluation.finisher
    named = (run for run in study.runs if run.arm == wanted)
    finisher = next((replace(run, seed=parsed.seeds[0]) for run in named), None)
    if "stitched" in study.evaluation.metrics and finisher is None:
        raise UserError(
            f"{path}: evaluation.finisher is {wanted!r}, which is none of the "
            f"arms ({', '.join(sorted({run.arm for run in study.runs}))}); name one of them."
        )
    return replace(study, runs_per_device=parsed.runs_per_device, finisher=finisher)


def _terms(parsed: _StudyFile, arms: Collection[str], source: str) -> Terms:
    """How a study of these arms is judged: as its file declares, else as usual."""
    if parsed.hypotheses is not None:
        check_hypotheses(parsed.hypotheses, arms, source)
    # Of a kind that draws no images nothing is declared of them.
    images = parsed.evaluation.num_generated if isinstance(parsed, _ImageStudyFile) else None
    try:
        smallest_effect = smallest_effect_of(parsed.endpoint, parsed.smallest_effect)
        return Terms(
            num_generated=images,
            gate=parsed.gate,
            endpoint=parsed.endpoint,
            hypotheses=USUAL_HYPOTHESES if parsed.hypotheses is None else parsed.hypotheses,
            smallest_effect=smallest_effect,
        )
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _refuse_twins(runs: Sequence[RunConfig | TheoryRun], path: Path) -> None:
    if not runs:
        raise UserError(f"{path} has no runs; give at least one arm and one seed.")
    for (name, seed), count in Counter((run.arm, run.seed) for run in runs).items():
        if count > 1:
            raise UserError(
                f"{path}: {count} runs are called {name!r} with seed {seed}; give each arm a name "
                "of its own (arm: …) and each seed once."
            )
