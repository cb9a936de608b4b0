"""A prepared data set on disk: two uint8 arrays, their labels, and the manifest that names them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write, sha256_of_file, sha256_of_json, write_json

FORMAT = 1
MANIFEST = "manifest.json"
LABELS = "labels.npz"
SPLITS = ("train", "held_out")
AGAIN = "delete that folder and prepare it again."


@dataclass(frozen=True)
class PreparedData:
    """The images of one data set, for training and for reference statistics alike.

    Attributes:
        folder: where they are.
        train: (N, H, W, 3) uint8, memory-mapped, read-only.
        held_out: (M, H, W, 3) uint8, memory-mapped, read-only; never trained on.
        train_labels: label to (N,) int16 codes; empty for data without labels.
        held_out_labels: label to (M,) int16 codes.
        label_names: label to the names of its codes.
        manifest: source, split, crop, filter, size, counts, hashes, versions; no path, no clock.
        manifest_id: 12 hex digits of the manifest's SHA-256: what stands in every result row.
    """

    folder: Path
    train: np.ndarray
    held_out: np.ndarray
    train_labels: dict[str, np.ndarray]
    held_out_labels: dict[str, np.ndarray]
    label_names: dict[str, list[str]]
    manifest: dict[str, Any]
    manifest_id: str


def is_whole(folder: Path) -> bool:
    """Whether a preparation ended in ``folder``: its manifest, written last, is there."""
    return (folder / MANIFEST).is_file()


def load_prepared(folder: Path) -> PreparedData:
    """Open a prepared data set after checking it byte by byte (a second or so for a gigabyte).

    Raises:
        UserError: the preparation did not end, or a file does not fit the manifest.
    """
    manifest = _read_manifest(folder)
    _check_files(folder, manifest)
    train, held_out = (np.load(folder / f"{split}.npy", mmap_mode="r") for split in SPLITS)
    label_names = manifest["label_names"]
    with np.load(folder / LABELS) as labels:
        train_labels, held_out_labels = (
            {label: labels[f"{split}/{label}"] for label in label_names} for split in SPLITS
        )
    return PreparedData(
        folder=folder,
        train=train,
        held_out=held_out,
        train_labels=train_labels,
        held_out_labels=held_out_labels,
        label_names=label_names,
        manifest=manifest,
        manifest_id=sha256_of_json(manifest)[:12],
    )


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest with its own id, so that an altered one gives itself away."""
    write_json(folder / MANIFEST, manifest | {"id": sha256_of_json(manifest)})


def _check_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Compare sizes first: a cut file is named at once."""
    for name, size in manifest["file_bytes"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            found = path.stat().st_size if path.is_file() else "no"
            raise UserError(f"{path} has {found} bytes, its manifest says {size}; {AGAIN}")
    for name, expected in manifest["sha256"].items():
        if sha256_of_file(folder / name) != expected:
            raise UserError(f"{folder / name} is damaged: wrong SHA-256; {AGAIN}")


def write_array(path: Path, chunks: Iterable[np.ndarray], shape: tuple[int, ...]) -> None:
    """Write a uint8 ``.npy`` file chunk by chunk, atomically and with flat memory.

    Args:
        path: the file.
        chunks: parts along the first axis, together of shape ``shape``.
        shape: of the whole array.
    """
    written = 0
    with atomic_write(path) as handle:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(handle, header)
        for chunk in chunks:
            handle.write(np.ascontiguousarray(chunk).data)
            written += len(chunk)
        assert written == shape[0], (written, shape)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} holds no whole prepared data set; run `benchmark prepare`.")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        known = manifest["format"] == FORMAT
        is_whole = manifest.pop("id", None) == sha256_of_json(manifest)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is not a manifest; {AGAIN}") from None
    if not known:
        raise UserError(f"{path} has format {manifest['format']}, this is {FORMAT}; {AGAIN}")
    if not is_whole:
        raise UserError(f"{path} is damaged, or of an early version; {AGAIN}")
    return manifest
