"""Checkpoints: rolling full states to go on from, and small weight files to score.

A checkpoint is ``ckpt-<step>.pt`` (plain tensors and types, loads with ``weights_only=True``)
and, written after it, its seal ``ckpt-<step>.json`` with step and SHA-256: only where all agree is
it whole. Files are written beside their name, synced and renamed. The newest whole one wins.
"""

import hashlib
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from mindiffusion.config.run import differences
from mindiffusion.curriculum.pacing import pacing_of
from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write, write_json
from mindiffusion.kept_classes import KeptClasses
from mindiffusion.kept_latents import KeptLatents
from mindiffusion.kept_text import KeptText
from mindiffusion.outside.documents import MOST_NAME, Name, check_plain, first_fault, read_json
from mindiffusion.outside.paths import open_file
from mindiffusion.outside.weights import check_tensors, named_tensors, read_tensors

FORMAT = 2
KEEP = 2
FILES = r"(ckpt|weights)-\d+\.(pt|json)"
"""Regular expression of the names of all checkpoints and seals."""

_log = logging.getLogger(__name__)
_Step = Annotated[int, Field(ge=0, le=2**53)]


class _Seal(BaseModel):
    """What stands beside a checkpoint."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: int
    step: _Step
    sha256: str


class _StageEntry(BaseModel):
    """What is used of an entry of a run's log of stages."""

    model_config = ConfigDict(strict=True)

    step: _Step
    stage: Name
    active_channels: float | None = None
    penalty_lambda: float | None = None
    saliency_split_half_correlation: float | None = None


class _Statistics(BaseModel):
    """Of the training images: see ``mindiffusion.kept_statistics`` for the mean picture."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    mean: Any
    std: Annotated[float, Field(gt=0)]


class _Described(BaseModel):
    """What every checkpoint says beside its tensors."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    step: _Step
    config: dict[str, Any]
    runtime: dict[str, Any]
    train_seconds: Annotated[float, Field(ge=0, le=1e12)]
    stage_log: Annotated[list[_StageEntry], Field(max_length=10_000)]
    statistics: _Statistics | None = None
    latents: KeptLatents | None = None
    text: KeptText | None = None


class _MilestoneFile(_Described):
    """A milestone's file: its weights by name are looked at where they are used.

    What it keeps of its pacer stands beside them, under names that the kind of pacing knows.
    """

    weights: dict[Name, Any]
    classes: KeptClasses | None = None


class _StateFile(_Described):
    """A state to go on from: see ``check_state`` for its tensors."""

    manifest: Annotated[str, Field(max_length=MOST_NAME)]
    log: str
    network: Any
    averages: dict[str, Any]
    optimizer: dict[str, Any]
    unlogged: Any
    pacing: dict[str, Any] | None = None


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """File of the full state after ``step`` optimizer steps."""
    return run_dir / f"ckpt-{step:09d}.pt"


def weights_path(run_dir: Path, step: int) -> Path:
    """File of the milestone's weights after ``step`` optimizer steps."""
    return run_dir / f"weights-{step:09d}.pt"


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint and, last, its seal."""
    # Through memory: on a full disk torch's own writer hides the OSError behind a RuntimeError.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    with atomic_write(path) as handle:
        handle.write(buffer.getbuffer())
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    write_json(path.with_suffix(".json"), _seal(content["step"], digest))


def _seal(step: int, digest: str) -> dict[str, Any]:
    return {"format": FORMAT, "step": step, "sha256": digest}


def load(path: Path) -> dict[str, Any]:
    """Read a sealed checkpoint onto the CPU.

    Raises:
        UserError: it is missing, has no seal, was cut or changed, or is not one of ours.
    """
    if path.exists() and not re.fullmatch(FILES, path.name):
        raise UserError(
            f"{path.name} is not a checkpoint file name; expected weights-<step>.pt, not renamed."
        )
    source = f"checkpoint {path}"
    with _sealed(path) as handle:
        content = read_tensors(handle, source)
    if not isinstance(content, dict) or not _is_number(content.get("format"), FORMAT):
        raise UserError(f"{source} is not of format {FORMAT} of this program.")
    _check_described(_StateFile if _is_rolling(path) else _MilestoneFile, content, source)
    if content["step"] != _step_of(path):
        raise UserError(f"{source} holds step {content['step']}; it was renamed.")
    return content


def check_milestone(content: Mapping[str, Any], source: str) -> None:
    """Refuse what is no milestone's content, whatever kind of file it is from.

    Args:
        content: what a milestone's file says, and its tensors; these are looked at where they are
            used.
        source: where it is from, for messages.

    Raises:
        UserError: a part is missing, or is not what a milestone has.
    """
    _check_described(_MilestoneFile, content, source)


def _check_described(kind: type[_Described], content: Mapping[str, Any], source: str) -> None:
    try:
        described = kind.model_validate(content)
        for part in (described.config, described.runtime, *content["stage_log"]):
            check_plain(part, source)
        _check_stages(kind, content, source)
    except ValidationError as error:
        raise UserError(f"{source}: {first_fault(error)}; it is not one of ours.") from None


def _check_stages(kind: type[_Described], content: Mapping[str, Any], source: str) -> None:
    """Hold what a file keeps of its run's pacer against the schemas of its kind.

    Files that were made before there were pacers have nothing of it: their tables were fixed.

    Raises:
        ValidationError: it does not fit.
        UserError: there is no such kind of pacing.
    """
    try:
        pacing = pacing_of(content["config"])
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    if content.get("pacing") is not None:
        pacing.state_schema.model_validate(content["pacing"])
    is_told = kind is _MilestoneFile and not pacing.is_table
    if is_told or content.get("begun") is not None:
        pacing.kept_schema.model_validate(kept_stages(content))


def kept_stages(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a milestone's content keeps of its run's pacer, by the names that its kind knows.

    Raises:
        UserError: there is no such kind of pacing.
    """
    names = pacing_of(content["config"]).kept_schema.model_fields
    return {name: content[name] for name in names if name in content}


def _is_number(value: object, number: int) -> bool:
    return type(value) is int and value == number


def _sealed(path: Path) -> io.BufferedReader:
    """A checkpoint, open, whose bytes match its seal; hashed in blocks.

    Raises:
        UserError: it is missing, has no seal, or was cut or changed.
    """
    try:
        handle = open_file(path, follow=True)
    except FileNotFoundError:
        raise UserError(f"checkpoint {path} does not exist.") from None
    try:
        seal = read_json(path.with_suffix(".json"), _Seal, "", follow=True)
    except (OSError, UserError):
        handle.close()
        raise UserError(f"checkpoint {path} has no readable seal ({path.stem}.json).") from None
    digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if seal.model_dump() != _seal(_step_of(path), digest):
        handle.close()
        raise UserError(
            f"checkpoint {path} is damaged: its step and SHA-256 are not those in its seal."
        )
    return handle


def check_state(
    state: Mapping[str, Any],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    averages: Sequence[str],
    unlogged: Tensor,
) -> None:
    """Refuse a state whose tensors are not those of the run that is to go on from it.

    Args:
        state: as ``load`` gives it.
        network: the run's, without wrappers.
        optimizer: the run's.
        averages: names of the run's averages.
        unlogged: losses, as the run keeps them.

    Raises:
        UserError: another name or shape of a tensor, or another optimizer.
    """
    source = f"the state of step {state['step']}"
    parameters = dict(network.named_parameters())
    check_tensors(named_tensors(state["network"], source), network.state_dict(), source)
    kept = state["averages"].get("averages")
    losses = state["unlogged"]
    is_ours = (
        isinstance(kept, dict)
        and isinstance(state["averages"].get("num_updates"), int)
        and isinstance(losses, Tensor)
        and (losses.dtype, losses.shape[1:]) == (unlogged.dtype, unlogged.shape[1:])
        and _is_of_optimizer(state["optimizer"], optimizer, list(parameters.values()))
    )
    if not is_ours:
        raise UserError(f"{source} is not one of this run; delete its files, or start anew.")
    for name in averages:
        check_tensors(named_tensors(kept.get(name), source), parameters, source)


def _is_of_optimizer(
    saved: Mapping[str, Any], optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]
) -> bool:
    """Whether settings are the optimizer's own, and moments have the shapes of the parameters."""
    groups, moments = saved.get("param_groups"), saved.get("state")
    own = optimizer.state_dict()["param_groups"]
    if not isinstance(groups, list) or not isinstance(moments, dict) or len(groups) != len(own):
        return False
    for group, ours in zip(groups, own, strict=True):
        # Another version of torch may know a setting more.
        if not isinstance(group, dict) or "params" not in group:
            return False
        if not all(_is_same(value, ours[key]) for key, value in group.items() if key in ours):
            return False
    return all(
        type(number) is int
        and 0 <= number < len(parameters)
        and isinstance(of_one, dict)
        and all(
            isinstance(tensor, Tensor) and tensor.shape in ((), parameters[number].shape)
            for tensor in of_one.values()
        )
        for number, of_one in moments.items()
    )


def _is_same(a: object, b: object) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_is_same, a, b))
    return not isinstance(a, Tensor) and type(a) is type(b) and a == b


def newest(
    run_dir: Path, config: dict[str, Any] | None = None, last_step: int | None = None
) -> dict[str, Any] | None:
    """The newest whole state of this run, or None; says which files it had to pass over.

    Args:
        run_dir: the run's folder.
        config: the run's config as plain types; a state of another config is passed over. None:
            any config will do.
        last_step: later states do not count.
    """
    for path in _rolling(run_dir):
        if last_step is not None and _step_of(path) > last_step:
            continue
        try:
            content = load(path)
        except UserError as error:
            _log.warning("%s Going on from an older one.", error)
            continue
        if config is None or not differences(content["config"], config):
            return content
        _log.warning("checkpoint %s belongs to another config; going on without it.", path)
    return None


def resume_point(
    run_dir: Path, config: dict[str, Any], milestones: Sequence[int]
) -> dict[str, Any] | None:
    """The state to go on from: the newest whole one that is not later than a damaged milestone.

    A milestone without a file is one that the user took away; it stays so.

    Args:
        run_dir: the run's folder.
        config: the run's config as plain types.
        milestones: steps at which weights are kept, rising.
    """
    found = newest(run_dir, config)
    if found is None:
        return None
    for step in milestones:
        path = weights_path(run_dir, step)
        if step > found["step"] or not path.exists():
            continue
        try:
            _sealed(path).close()
        except UserError as error:
            earlier = newest(run_dir, config, last_step=step)
            where = f"from the state of step {earlier['step']}" if earlier else "from the start"
            _log.warning("%s Training it anew %s.", error, where)
            return earlier
    return found


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is there and matches its seal."""
    try:
        _sealed(path).close()
    except UserError:
        return False
    return True


def prune(run_dir: Path, step: int) -> None:
    """Delete rolling states up to ``step`` but the newest ``KEEP`` sealed ones.

    Whatever a killed process left of a state goes as well. Later ones are not this run's doing
    and are left alone.
    """
    parts = [p for p in run_dir.glob("ckpt-*") if _is_rolling(p) and _step_of(p) <= step]
    seals = (p for p in parts if p.suffix == ".json")
    sealed = sorted({p.stem for p in seals if p.with_suffix(".pt") in parts})
    for path in parts:
        if path.stem not in sealed[-KEEP:]:
            path.unlink()


def delete(path: Path) -> None:
    """Delete a checkpoint and its seal, where they are there."""
    # In this order: without its seal a milestone counts as damaged, and would be trained anew.
    path.unlink(missing_ok=True)
    path.with_suffix(".json").unlink(missing_ok=True)


def _rolling(run_dir: Path) -> Iterator[Path]:
    """Rolling states, newest first."""
    named = [p for p in run_dir.glob("ckpt-*.pt") if _is_rolling(p)]
    return iter(sorted(named, key=_step_of, reverse=True))


def _is_rolling(path: Path) -> bool:
    return path.name.startswith("ckpt-") and re.fullmatch(FILES, path.name) is not None


def _step_of(path: Path) -> int:
    return int(path.stem.split("-")[1])
