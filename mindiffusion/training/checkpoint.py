"""Checkpoints: rolling full states to go on from, and small weight files to score.

A checkpoint is ``ckpt-<step>.pt`` (plain tensors and types, loads with ``weights_only=True``)
and, written after it, its seal ``ckpt-<step>.json`` with step and SHA-256: only where all agree is
it whole. Files are written beside their name, synced and renamed. The newest whole one wins.
"""

import hashlib
import io
import json
import logging
import pickle
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write, write_json
from mindiffusion.training.config import differences

FORMAT = 2
KEEP = 2
FILES = r"(ckpt|weights)-\d+\.(pt|json)"
"""Regular expression of the names of all checkpoints and seals."""

_log = logging.getLogger(__name__)


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
    write_json(path.with_suffix(".json"), _seal(content["step"], buffer.getbuffer()))


def _seal(step: int, content: bytes | memoryview) -> dict[str, Any]:
    return {"format": FORMAT, "step": step, "sha256": hashlib.sha256(content).hexdigest()}


def load(path: Path) -> dict[str, Any]:
    """Read a sealed checkpoint onto the CPU.

    Raises:
        UserError: it is missing, has no seal, was cut or changed, or is not one of ours.
    """
    if path.exists() and not re.fullmatch(FILES, path.name):
        raise UserError(
            f"{path.name} is no name of a checkpoint; give a weights-<step>.pt as it was written."
        )
    data = _sealed_bytes(path)
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise UserError(f"checkpoint {path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"checkpoint {path} is not of format {FORMAT} of this program.")
    if content["step"] != _step_of(path):
        raise UserError(f"checkpoint {path} holds step {content['step']}; it was renamed.")
    return content


def _sealed_bytes(path: Path) -> bytes:
    """The bytes of a checkpoint that match its seal.

    Raises:
        UserError: it is missing, has no seal, or was cut or changed.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"checkpoint {path} does not exist.") from None
    try:
        seal = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"checkpoint {path} has no readable seal ({path.stem}.json).") from None
    if seal != _seal(_step_of(path), data):
        raise UserError(
            f"checkpoint {path} is damaged: its step and SHA-256 are not those in its seal."
        )
    return data


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
            _sealed_bytes(path)
        except UserError as error:
            earlier = newest(run_dir, config, last_step=step)
            where = f"from the state of step {earlier['step']}" if earlier else "from the start"
            _log.warning("%s Training it anew %s.", error, where)
            return earlier
    return found


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is there and matches its seal."""
    try:
        _sealed_bytes(path)
    except UserError:
        return False
    return True


def prune(run_dir: Path, step: int) -> None:
    """Delete rolling states up to ``step`` but the newest ``KEEP`` sealed ones.

    Whatever a killed process left of a state goes as well. Later ones are not this run's doing
    and are left alone.
    """
    parts = [p for p in run_dir.glob("ckpt-*") if _is_rolling(p) and _step_of(p) <= step]
    sealed = sorted(
        {p.stem for p in parts if p.suffix == ".json" and p.with_suffix(".pt") in parts}
    )
    for path in parts:
        if path.stem not in sealed[-KEEP:]:
            path.unlink()


def _rolling(run_dir: Path) -> Iterator[Path]:
    """Rolling states, newest first."""
    named = [p for p in run_dir.glob("ckpt-*.pt") if _is_rolling(p)]
    return iter(sorted(named, key=_step_of, reverse=True))


def _is_rolling(path: Path) -> bool:
    return path.name.startswith("ckpt-") and re.fullmatch(FILES, path.name) is not None


def _step_of(path: Path) -> int:
    return int(path.stem.split("-")[1])
