"""Checkpoints: rolling full states to go on from, and small weight files to score.

A checkpoint is ``ckpt-<step>.pt`` (plain tensors and types, loads with ``weights_only=True``)
and, written after it, ``ckpt-<step>.json`` with its SHA-256: only with a matching one is it whole.
Files are written beside their name, synced and renamed. The newest whole checkpoint wins.
"""

import hashlib
import io
import json
import logging
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write, sha256_of_file, write_json
from mindiffusion.training.config import differences

FORMAT = 1
KEEP = 2
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
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    seal = {"format": FORMAT, "step": content["step"], "sha256": digest}
    write_json(path.with_suffix(".json"), seal)


def load(path: Path) -> dict[str, Any]:
    """Read a sealed checkpoint onto the CPU.

    Raises:
        UserError: it is missing, has no seal, was cut or changed, or is not one of ours.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist.")
    try:
        seal = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        expected = seal["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"checkpoint {path} has no readable seal ({path.stem}.json).") from None
    if sha256_of_file(path) != expected:
        raise UserError(f"checkpoint {path} is damaged: its SHA-256 is not the one in its seal.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise UserError(f"checkpoint {path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"checkpoint {path} is not of format {FORMAT} of this program.")
    return content


def newest(run_dir: Path, config: dict[str, Any]) -> dict[str, Any] | None:
    """The newest whole state of this run, or None; says which files it had to pass over.

    Args:
        run_dir: the run's folder.
        config: the run's config as plain types; a state of another config is passed over.
    """
    for path in _rolling(run_dir):
        try:
            content = load(path)
        except UserError as error:
            _log.warning("%s Going on from an older one.", error)
            continue
        if not differences(content["config"], config):
            return content
        _log.warning("checkpoint %s belongs to another config; going on without it.", path)
    return None


def prune(run_dir: Path, step: int) -> None:
    """Delete the run's rolling states but the newest ``KEEP`` sealed ones up to ``step``.

    Files without a seal or of later steps are not this run's doing and are left alone.
    """
    own = [
        path
        for path in _rolling(run_dir)
        if path.with_suffix(".json").exists() and _step_of(path) <= step
    ]
    for path in own[KEEP:]:
        path.with_suffix(".json").unlink(missing_ok=True)
        path.unlink()


def _rolling(run_dir: Path) -> Iterator[Path]:
    """Rolling states, newest first."""
    named = [p for p in run_dir.glob("ckpt-*.pt") if re.fullmatch(r"ckpt-\d+\.pt", p.name)]
    return iter(sorted(named, key=_step_of, reverse=True))


def _step_of(path: Path) -> int:
    return int(path.stem.split("-")[1])
