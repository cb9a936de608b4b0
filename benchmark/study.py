"""A study: arms × seeds of one run, and how their milestones are scored; YAML in, data out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from benchmark.results import BASELINE
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.training.config import RunConfig, check
from mindiffusion.training.presets import (
    apply_overrides,
    build_config,
    merge,
    read_yaml,
    resolve_extends,
)

PROTOCOLS = Path(__file__).parent / "protocols"
RESULTS = Path("results")
INDEX_FILE = "study.json"
"""In a study's folder: which cells it has, for those who look on."""
SAMPLE_METRICS = ("fd", "kd", "prdc", "is", "memorisation", "attributes")
"""Metrics of generated images."""
METRICS = ("profile", *SAMPLE_METRICS, "emergence", "stitched")
_STRICT = ConfigDict(extra="forbid", strict=True)
_STUDY_KEYS = ("evaluation.", "runs_per_device=")


@checked_dataclass(frozen=True, config=_STRICT)
class EvaluationConfig:
    """How a milestone is scored.

    Attributes:
        num_generated: images sampled from the primary average; n in the metrics' names. The
            jackknife of a distance takes 8 or more.
        num_reference: training images they are compared with.
        feature_nets: entries of ``benchmark.features.nets.FEATURE_NETS``, the primary one first;
            "auto" is clean-fid's Inception where its weights are there, else EfficientNet-Lite0 at
            224 px.
        metrics: what is measured, of ``METRICS``.
        finisher: arm whose last milestone, of the first seed, finishes stitched samples.
        stitch_levels: noise levels τ = t / n_T at which samples are stitched.
        profile_images: held-out images behind the ε-MSE.
        profile_levels: noise levels of the ε-MSE.
        strip: images kept as a picture with every milestone.
    """

    num_generated: int = Field(default=10_000, ge=8)
    num_reference: int = Field(default=50_000, ge=8)
    feature_nets: tuple[str, ...] = Field(default=("auto",), min_length=1)
    metrics: tuple[str, ...] = ("profile", "fd", "kd", "prdc", "memorisation")
    profile_images: int = Field(default=1024, ge=2)
    profile_levels: int = Field(default=20, ge=1)
    strip: int = Field(default=8, ge=1)
    finisher: str = BASELINE
    stitch_levels: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.2, 0.4, 0.6, 0.8)

    def __post_init__(self) -> None:
        """Refuse a metric that there is not."""
        for name in self.metrics:
            if name not in METRICS:
                raise UserError(f"evaluation.metrics has {name!r}.{did_you_mean(name, METRICS)}")


@checked_dataclass(frozen=True, config=_STRICT)
class _StudyFile:
    """What a protocol file holds."""

    seeds: tuple[int, ...]
    arms: dict[str, dict[str, Any]]
    run: dict[str, Any]
    evaluation: EvaluationConfig = EvaluationConfig()
    runs_per_device: int = Field(default=1, ge=1)


@dataclass(frozen=True)
class Study:
    """A resolved study.

    Attributes:
        name: of the protocol.
        folder: where rows, tables, figures and runs go.
        runs: one config per arm and seed; seed by seed, so that pairs finish together.
        evaluation: how milestones are scored.
        runs_per_device: runs that share a GPU, or the CPU where ``training.threads`` is null.
        finisher: the run whose last milestone finishes stitched samples, of the first seed of the
            file whatever seeds are run; None if no arm is called so.
    """

    name: str
    folder: Path
    runs: tuple[RunConfig, ...]
    evaluation: EvaluationConfig
    runs_per_device: int = 1
    finisher: RunConfig | None = None


SMOKE_RUN = {
    "data": {"num_train": 256, "num_held_out": 32},
    "training": {
        "steps": 8,
        "epochs": None,
        "global_batch": 16,
        "milestones": ["100%"],
        "compile": "off",
    },
    "sampler": {"steps": 5, "chunk": 8},
}
SMOKE_EVALUATION = {"num_generated": 16, "num_reference": 64, "profile_images": 8}


def study_names() -> list[str]:
    """Studies that come with the project."""
    return sorted(path.stem for path in PROTOCOLS.glob("*.yaml"))


def load_study(
    name: str,
    *,
    output: str | None = None,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    smoke: bool = False,
) -> Study:
    """Read a study by name, or from a YAML file of one's own.

    Args:
        name: a protocol's name, or a path that ends in .yaml.
        output: folder instead of ``results/<name>``.
        overrides: ``--set`` arguments; "evaluation.…" goes to the scoring, "runs_per_device=…" to
            the study, the rest to each run.
        seeds: training seeds instead of the file's.
        smoke: a few steps and images, to see the whole path work.

    Raises:
        UserError: no such study, or a mistake in it.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else PROTOCOLS / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"unknown study {name!r}.{did_you_mean(name, study_names())}")
    content = read_yaml(path)
    own = [text for text in overrides if text.strip().startswith(_STUDY_KEYS)]
    content = apply_overrides(content, own)
    if smoke:
        content = merge(content, {"evaluation": SMOKE_EVALUATION})
    parsed: _StudyFile = check(_StudyFile, content, str(path))
    title = path.stem + ("-smoke" if smoke else "")
    folder = Path(output) if output else RESULTS / title
    rest = [text for text in overrides if text not in own]
    runs = []
    for seed in seeds if seeds is not None else parsed.seeds:
        for arm, fields in parsed.arms.items():
            base = merge({"arm": arm}, resolve_extends(parsed.run))
            run = merge(base, resolve_extends(fields))
            run = apply_overrides(run, rest)
            if smoke:
                run = merge(run, SMOKE_RUN)
            where: Mapping[str, Any] = {"output": str(folder / arm), "samples": None, "seed": seed}
            runs.append(build_config(merge(run, where), f"{path}, arm {arm}"))
    if not runs:
        raise UserError(f"{path} has no runs; give at least one arm and one seed.")
    for (name, seed), count in Counter((run.arm, run.seed) for run in runs).items():
        if count > 1:
            raise UserError(
                f"{path}: {count} runs are called {name!r} with seed {seed}; give each arm a name "
                "of its own (arm: …) and each seed once."
            )
    named = (run for run in runs if run.arm == parsed.evaluation.finisher)
    finisher = next((replace(run, seed=parsed.seeds[0]) for run in named), None)
    study = Study(title, folder, tuple(runs), parsed.evaluation, parsed.runs_per_device, finisher)
    if "stitched" in study.evaluation.metrics and study.finisher is None:
        raise UserError(
            f"{path}: evaluation.finisher is {study.evaluation.finisher!r}, which is none of the "
            f"arms ({', '.join(sorted({run.arm for run in runs}))}); name one of them."
        )
    return study
