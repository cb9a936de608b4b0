"""``python -m benchmark evaluate RUN|WEIGHTS``: milestones scored apart from any study.

Under torchrun the ranks share the drawing of images and the feature nets; numbers are the same.
Rows go to ``rows.jsonl`` beside the weights; what is there already is not measured again.
"""

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmark.evaluation.features_of.layers import layers_of
from benchmark.evaluation.milestone.cka_rows import Compared, Role
from benchmark.evaluation.milestone.class_scores import check_per_class
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.parts import Part, parts_of
from benchmark.evaluation.milestone.proof import check_finisher, finisher_key, proof
from benchmark.evaluation.milestone.score import score_milestone
from benchmark.evaluation.milestone.stitched_rows import key_of_finisher
from benchmark.evaluation.milestone.text_rows import check_text_metrics
from benchmark.evaluation.milestone.yardstick import NO_UNSEEN, Yardstick, make_yardstick
from benchmark.rows.file import ROWS_FILE
from benchmark.rows.keeper import Keeper
from benchmark.rows.known_rows import PROOF, known_rows
from benchmark.rows.metric_names import CKA, JACOBIAN, PROBE, SILHOUETTE, is_smoke
from benchmark.rows.row import Row
from benchmark.study.feature_settings import FEWEST_IMAGES, FEWEST_JACOBIANS
from benchmark.study.study import (
    FEWEST_PROFILE,
    EvaluationConfig,
    Study,
    check_fewest,
)
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.presets import apply_overrides
from mindiffusion.config.run import RunConfig, check
from mindiffusion.data.prepared import PreparedData
from mindiffusion.data.store import prepared_data
from mindiffusion.errors import UserError
from mindiffusion.exchange.by_path import is_weights, open_weights
from mindiffusion.kept_classes import check_num_classes
from mindiffusion.kept_text import check_told
from mindiffusion.outside.paths import refuse_links
from mindiffusion.runtime import Runtime, check_runtime
from mindiffusion.sampling import config_of
from mindiffusion.training.preflight import check_sampler
from mindiffusion.training.ranks import process_group, ranks_from_environment
from mindiffusion.training.run_folder import CONFIG_FILE
from mindiffusion.writable import try_folder

WEIGHTS = "weights-*.pt"
_SHOWN_BY_LEVEL = (
    *("stitched-", f"{SILHOUETTE}/", f"{PROBE}/", f"{JACOBIAN}/effective-rank", f"{CKA}/"),
)


def is_run_or_checkpoint(path: Path) -> bool:
    """Whether ``path`` is a run's folder, or weights as ``open_weights`` takes them."""
    is_run = path.is_dir() and ((path / CONFIG_FILE).is_file() or any(path.glob(WEIGHTS)))
    return is_run or is_weights(path)


def run_evaluation(
    metrics: Sequence[str] | None, nets: Sequence[str], overrides: Sequence[str]
) -> EvaluationConfig:
    """How a run is scored, from words of the command line; the rest is as in studies.

    Args:
        metrics: of ``benchmark.study.study.METRICS``; None: the default ones.
        nets: feature nets; none: the default one.
        overrides: ``--set`` words that begin with "evaluation.".

    Raises:
        UserError: a mistake in one of them.
    """
    content: dict[str, Any] = {}
    if metrics is not None:
        content["metrics"] = list(metrics)
    if nets:
        content["feature_nets"] = list(nets)
    whole = apply_overrides({"evaluation": content}, overrides)
    unknown = sorted(set(whole) - {"evaluation"})
    if unknown:
        raise UserError(
            f"--set {unknown[0]} says nothing of scoring; give evaluation.<name>=<value>."
        )
    return check(EvaluationConfig, whole["evaluation"], "evaluate")


def evaluate_run(
    path: Path,
    evaluation: EvaluationConfig,
    finisher: Path | None,
    told: RunConfig | None = None,
    against: Path | None = None,
) -> int:
    """Score the milestones of a run, or one set of weights; prints a table, returns the exit code.

    Args:
        path: a run's folder, or weights as ``open_weights`` takes them.
        evaluation: how; reference, profile and feature images are at most what the data have.
        finisher: weights that finish stitched samples, likewise.
        told: the config of weights that are in a folder without one.
        against: a run's folder, or weights, whose layers are compared with this run's.

    Raises:
        UserError: no milestone there, stitched samples without a finisher, layers that nothing is
            there to be compared with, other classes in the network than in the data, or a layer
            that the network has not.
    """
    if "stitched" in evaluation.metrics and finisher is None:
        raise UserError("stitched samples need a finisher; give --finisher WEIGHTS.")
    contents = [_opened(file, told) for file in _files(path)]
    compared = _compared(contents, evaluation, against)
    folder = path if path.is_dir() else path.parent
    # Each fits its own network; what does not shape the training may have changed on the way.
    *_, config = [config_of(content) for content in contents]
    _check(config, evaluation)
    try_folder(folder)
    end = None
    if finisher is not None:
        end = _opened(finisher, told if finisher.is_dir() else None)
        check_finisher(config, config_of(end))
    data = prepared_data(config.data, show_progress=True)
    label = config.data.labels
    check_num_classes(config, None if label is None else len(data.classes(label).names))
    for content in contents:
        _refuse_other_data(folder, content["manifest"], data)
    evaluation = _within(evaluation, data)
    study = Study(folder.name, folder, (config,), evaluation)
    plan = resolve_plan(config, len(data.train))
    milestones = [
        Milestone(study, config, plan, data.manifest_id, content, folder) for content in contents
    ]
    ranks = ranks_from_environment()
    runtime = check(Runtime, contents[0]["runtime"], "checkpoint")
    check_runtime(runtime, ranks.local_world)
    with process_group(ranks, runtime.device, config.training.timeout_seconds) as device:
        yardstick = make_yardstick(evaluation, data, device, ranks)
        if ranks.is_main and "memorisation" in evaluation.metrics and not yardstick.has_unseen:
            print(NO_UNSEEN, file=sys.stderr)
        # Disabled but on the main rank, and where nobody watches.
        bar = tqdm(milestones, unit="milestone", disable=None if ranks.is_main else True)
        for milestone in bar:
            _score(milestone, yardstick, end, compared, bar)
    if ranks.is_main:
        print(results_text([row for one in milestones for row in _rows_of(folder, one)]))
        print(f"\nrows: {folder / ROWS_FILE}")
    return 0


def _check(config: RunConfig, evaluation: EvaluationConfig) -> None:
    """Refuse a run that can't be scored so; what data there are does not matter here.

    Raises:
        UserError: labels, captions, a sampler or a layer that the run can't have.
    """
    check_told(config)
    check_sampler(config)
    check_per_class(evaluation, config)
    check_text_metrics(evaluation, config)
    layers_of(config, evaluation.features.layers)


def _files(path: Path) -> list[Path]:
    """Weights, or all milestones' of a run.

    Raises:
        UserError: there are none, or a link is in the folder that rows are written to.
    """
    files = [path] if is_weights(path) else sorted(path.glob(WEIGHTS))
    if not files:
        raise UserError(f"{path} has no {WEIGHTS}; train until the first milestone.")
    if path.is_dir():
        refuse_links(path)
    return files


def _compared(
    contents: Sequence[Mapping[str, Any]], evaluation: EvaluationConfig, against: Path | None
) -> dict[str, Compared]:
    """The milestones that layers are compared with, by run, step and config.

    Raises:
        UserError: there is one milestone in all, or another run is named for nothing.
    """
    if "cka" not in evaluation.metrics:
        if against is not None:
            raise UserError("--against is for the metric cka; add it to --metrics, or remove it.")
        return {}
    beside = [] if against is None else [_opened(file, None) for file in _files(against)]
    roles: dict[Role, Sequence[Mapping[str, Any]]] = {"own": contents, "other": beside}
    found = {}
    for role, kept in roles.items():
        for content in kept:
            step = int(content["step"])
            name = f"{role} {finisher_key(config_of(content), step)}"
            found[name] = Compared(role, step, functools.partial(dict, content))
    if len(found) < 2:
        raise UserError(
            "cka compares the layers of milestones, but there is one alone; give a run's folder "
            "with several, or --against RUN."
        )
    return found


def _opened(path: Path, told: RunConfig | None) -> dict[str, Any]:
    """Weights of which it is known how long they were trained, as every row says.

    Raises:
        UserError: as ``open_weights``, or it is not known.
    """
    content = open_weights(path, told)
    if "step" not in content:
        raise UserError(
            f"{path} does not say after how many steps these weights were kept, and every row "
            "does; call the folder <step>.ckpt, such as 50000.ckpt."
        )
    return content


def _refuse_other_data(folder: Path, known: str | None, data: PreparedData) -> None:
    """Refuse to score a run by other data than it was trained on, say since its files changed.

    Raises:
        UserError: the manifest is another one.
    """
    if known is not None and known != data.manifest_id:
        raise UserError(
            f"{folder} was trained on data {known}, which are now {data.manifest_id}; restore the "
            "files that it was trained on."
        )


def _score(
    milestone: Milestone,
    yardstick: Yardstick,
    finisher: Mapping[str, Any] | None,
    compared: Mapping[str, Compared],
    bar: "tqdm[Milestone]",
) -> None:
    """Add the rows of the parts that are not scored yet; the ranks share the work.

    ``compared`` are the milestones whose layers are compared, by what tells them apart.
    """

    def on_progress(what: str, fraction: float) -> None:
        bar.set_postfix_str(f"{what} {fraction:.0%}")

    others = {
        name: one
        for name, one in compared.items()
        if one.role == "other" or one.step < milestone.step
    }
    keys: dict[Part, str] = {"own": "", "cka": ", ".join(others)}
    keys["stitched"] = "" if finisher is None else key_of_finisher(finisher)
    ranks = yardstick.ranks
    for part in parts_of(milestone.evaluation):
        key = keys[part]
        wanted = proof(milestone.evaluation, part, key, milestone.odd_sets)
        is_scored = any(row.metric == wanted for row in _rows_of(milestone.folder, milestone))
        # What the main rank saw counts: it alone writes.
        with ranks.phase("choice of what to score"):
            is_left = ranks.max(int(ranks.is_main and not is_scored))
        if is_left:
            beside = list(others.values())
            rows = score_milestone(milestone, yardstick, part, finisher, on_progress, beside, key)
            if ranks.is_main:
                _keep(milestone, rows)


def _keep(milestone: Milestone, rows: list[Row]) -> None:
    config = milestone.config
    Keeper(milestone.folder / ROWS_FILE, config.arm, config.seed).add(rows)


def _within(evaluation: EvaluationConfig, data: PreparedData) -> EvaluationConfig:
    """The scoring with counts that the data have.

    Raises:
        UserError: the data have fewer images than any scoring takes.
    """
    num_train, num_held_out = len(data.train), len(data.held_out)
    features = evaluation.features
    check_fewest(evaluation.metrics, num_train, num_held_out, str(data.folder))
    return replace(
        evaluation,
        num_reference=min(evaluation.num_reference, num_train),
        profile_images=max(FEWEST_PROFILE, min(evaluation.profile_images, num_held_out, num_train)),
        features=replace(
            features,
            images=max(FEWEST_IMAGES, min(features.images, num_held_out)),
            jacobian_images=max(FEWEST_JACOBIANS, min(features.jacobian_images, num_held_out)),
        ),
    )


def _rows_of(folder: Path, milestone: Milestone) -> list[Row]:
    """Rows that were measured of this very milestone, by these metrics' versions."""
    sample = milestone.row("", 0.0)
    same = ("arm", "seed", "step", "config_hash", "manifest", "metric_version")
    wanted = [getattr(sample, name) for name in same]
    rows = known_rows(folder / ROWS_FILE).rows_of(sample.arm, sample.seed)
    return [row for row in rows.values() if [getattr(row, name) for name in same] == wanted]


def results_text(rows: Sequence[Row]) -> str:
    """A line a number; of those at every noise level, the few that are asked for by name.

    Profiles, and other curves of many points, are in the rows alone.
    """
    shown = [
        row
        for row in rows
        if (row.level is None or row.metric.startswith(_SHOWN_BY_LEVEL))
        and not row.metric.startswith(PROOF)
    ]
    lines = [("step", "metric", "weights", "value", "± se", "n", "reference", "note")]
    for row in shown:
        counts = [n for n in (row.n_generated, row.n_reference) if n]
        notes = ["smoke"] if "@" in row.metric and is_smoke(min(counts, default=0)) else []
        if row.sampler and not row.full_range:
            notes.append("not all noise levels trained yet")
        at = "" if row.level is None else f" at {row.level:g}"
        error = "" if row.error is None else f"{row.error:.2g}"
        numbers = (str(row.n_generated or ""), str(row.n_reference or ""))
        name = row.metric + at
        line = (str(row.step), name, row.weights, f"{row.value:.5g}", error, *numbers)
        lines.append((*line, ", ".join(notes)))
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
