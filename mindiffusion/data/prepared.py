"""A prepared data set on disk: two uint8 arrays, their labels, and the manifest that names them."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mindiffusion.data.caption_file import read_captions
from mindiffusion.data.captions import Captions
from mindiffusion.data.classes import MOST_CLASSES, Classes
from mindiffusion.data.mean_and_spread import ImageSummary
from mindiffusion.data.training_data import TrainingData
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.files import atomic_write, sha256_of_json, write_json
from mindiffusion.outside.arrays import Wanted, map_open, read_npz
from mindiffusion.outside.documents import Name, first_fault, read_json, shown_value
from mindiffusion.outside.paths import is_file, open_file

FORMAT = 1
MANIFEST = "manifest.json"
LABELS = "labels.npz"
CAPTIONS = "captions.npz"
STATISTICS = "statistics"
LABEL_COUNTS = "label_counts"
SPLITS = ("train", "held_out")
AGAIN = "delete that folder and prepare it again."
_FILES = (*(f"{split}.npy" for split in SPLITS), LABELS)
_ANYTHING = TypeAdapter(dict[str, Any])
_Count = Annotated[int, Field(ge=0, le=2**31)]


class _CaptionsSaid(BaseModel):
    """What is used of what a manifest says of captions."""

    model_config = ConfigDict(strict=True, extra="ignore")

    source: Name


class _Manifest(BaseModel):
    """What is used of a manifest; sources add what describes them."""

    model_config = ConfigDict(strict=True, extra="ignore")

    size: Annotated[int, Field(ge=1, le=4096)]
    counts: dict[str, _Count]
    label_names: Annotated[
        dict[Name, Annotated[list[Name], Field(max_length=MOST_CLASSES)]], Field(max_length=400)
    ]
    sha256: dict[str, str]
    file_bytes: dict[str, int]
    captions: _CaptionsSaid | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files beside the manifest."""
        return _FILES if self.captions is None else (*_FILES, CAPTIONS)

    def shape(self, split: str) -> tuple[int, int, int, int]:
        """Of a split's array."""
        return (self.counts[split], self.size, self.size, 3)


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
        stated: what is stated beside the manifest of the training images' colours; None: nothing.
        captions: of the images, where they were asked for.
    """

    folder: Path
    train: np.ndarray
    held_out: np.ndarray
    train_labels: dict[str, np.ndarray]
    held_out_labels: dict[str, np.ndarray]
    label_names: dict[str, list[str]]
    manifest: dict[str, Any]
    manifest_id: str
    stated: ImageSummary | None = None
    captions: Captions | None = None

    @property
    def training(self) -> TrainingData:
        """What a run is trained on whose network is told no label: images, and captions if any."""
        return TrainingData(self.train, self.manifest_id, captions=self.captions)

    def training_for(self, label: str | None) -> TrainingData:
        """What a run is trained on whose network is told one label of the images; None: no label.

        Raises:
            UserError: the data have no such label.
        """
        if label is None:
            return self.training
        classes = self.classes(label)
        labels = self.train_labels[label].astype(np.int64)
        return TrainingData(self.train, self.manifest_id, labels, classes)

    def classes(self, label: str) -> Classes:
        """The classes of a label.

        Raises:
            UserError: the data have no such label.
        """
        check_label(label, self.label_names, str(self.folder))
        names = self.label_names[label]
        counts = np.bincount(self.train_labels[label], minlength=len(names))
        return Classes(label, tuple(names), tuple(counts.tolist()))


def check_label(label: str, known: Collection[str], source: str) -> None:
    """Refuse a label that a source of images does not have.

    Raises:
        UserError: it has none, or others.
    """
    if label in known:
        return
    if not known:
        raise UserError(
            f"data.labels is {shown_value(label)}, but {source} has no labels; leave it out, or "
            "give data with labels (avatars, CelebA with its list of attributes, class folders)."
        )
    raise UserError(
        f"data.labels is {shown_value(label)}, which {source} does not have."
        + did_you_mean(label, known)
    )


def is_whole(folder: Path) -> bool:
    """Whether a preparation ended in ``folder``: its manifest, written last, is there."""
    return is_file(folder / MANIFEST)


def load_prepared(folder: Path) -> PreparedData:
    """Open a prepared data set after checking it byte by byte (a second or so for a gigabyte).

    Its arrays stay mapped: do not cut or overwrite them while a run uses them, for the system ends
    a process that reads what is no longer there (SIGBUS). Deleting or replacing them does no harm.

    Args:
        folder: may be a link; nothing in it may be one.

    Raises:
        UserError: the preparation did not end, or a file does not fit the manifest.
    """
    manifest, stated, counts = _read_manifest(folder)
    used = _used_of(manifest, folder / MANIFEST)
    _check_sizes(folder, used)
    train, held_out = (_open_split(folder, split, used) for split in SPLITS)
    train_labels, held_out_labels = _read_labels(folder, used)
    found = label_counts(used.label_names, (train_labels, held_out_labels))
    if counts not in (None, found):
        raise UserError(
            f"{folder / MANIFEST}: its {LABEL_COUNTS} are not those of {LABELS}; {AGAIN}"
        )
    return PreparedData(
        folder=folder,
        train=train,
        held_out=held_out,
        train_labels=train_labels,
        held_out_labels=held_out_labels,
        label_names=used.label_names,
        manifest=manifest,
        manifest_id=sha256_of_json(manifest)[:12],
        stated=stated,
        captions=_read_captions(folder, used),
    )


def label_counts(
    label_names: Mapping[str, Sequence[str]], codes: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, dict[str, list[int]]]:
    """How many images of each split have each value of each label: label → split → counts.

    Args:
        label_names: label to the names of its codes.
        codes: label to codes (N,), of both splits.
    """
    return {
        label: {
            split: np.bincount(own[label], minlength=len(names)).tolist()
            for split, own in zip(SPLITS, codes, strict=True)
        }
        for label, names in label_names.items()
    }


def write_manifest(
    folder: Path,
    manifest: dict[str, Any],
    summary: ImageSummary | None = None,
    counts: Mapping[str, Any] | None = None,
) -> None:
    """Write the manifest with its own id, so that an altered one gives itself away.

    The summary has a seal of its own, and counts of labels are counted again by who reads them:
    what follows from the arrays, whose hashes the manifest has, must not change the name of data
    that were prepared without it.
    """
    content = manifest | {"id": sha256_of_json(manifest)}
    if summary is not None:
        content[STATISTICS] = summary.model_dump() | {"sha256": _seal(content["id"], summary)}
    if counts:
        content[LABEL_COUNTS] = counts
    write_json(folder / MANIFEST, content)


def _seal(manifest_sha256: str, summary: ImageSummary) -> str:
    return sha256_of_json({"manifest": manifest_sha256, **summary.model_dump()})


def _check_sizes(folder: Path, used: _Manifest) -> None:
    """Compare sizes first: a cut file is named at once."""
    for name, size in used.file_bytes.items():
        path = folder / name
        found = path.stat().st_size if is_file(path) else "no"
        if found != size:
            raise UserError(f"{path} has {found} bytes, its manifest says {size}; {AGAIN}")


def _open_split(folder: Path, split: str, used: _Manifest) -> NDArray[np.uint8]:
    path = folder / f"{split}.npy"
    with open_file(path) as handle:
        if hashlib.file_digest(handle, "sha256").hexdigest() != used.sha256[path.name]:
            raise _damaged(path)
        array = map_open(handle, str(path))
    if array.dtype != np.uint8 or array.shape != used.shape(split):
        raise UserError(
            f"{path} holds {array.dtype} {array.shape}, its manifest says uint8 "
            f"{used.shape(split)}; {AGAIN}"
        )
    return array


def _read_labels(folder: Path, used: _Manifest) -> Iterable[dict[str, NDArray[np.int16]]]:
    """Label to codes, of both splits."""
    path = folder / LABELS
    _check_sha256(path, used)
    wanted = {
        f"{split}/{label}": Wanted("<i2", (used.counts[split],))
        for split in SPLITS
        for label in used.label_names
    }
    found = read_npz(path, wanted, used.file_bytes[LABELS]) if wanted else {}
    for label, names in used.label_names.items():
        for split in SPLITS:
            codes = found[f"{split}/{label}"]
            if len(codes) and not (codes.min() >= 0 and codes.max() < len(names)):
                raise UserError(
                    f"{path}: {split}/{label} has codes {codes.min()} to {codes.max()}, its "
                    f"manifest names {len(names)}; {AGAIN}"
                )
    return [{label: found[f"{s}/{label}"] for label in used.label_names} for s in SPLITS]


def _read_captions(folder: Path, used: _Manifest) -> Captions | None:
    if used.captions is None:
        return None
    path = folder / CAPTIONS
    _check_sha256(path, used)
    most = used.file_bytes[CAPTIONS]
    return read_captions(path, used.captions.source, used.counts, most, AGAIN)


def _check_sha256(path: Path, used: _Manifest) -> None:
    with open_file(path) as handle:
        if hashlib.file_digest(handle, "sha256").hexdigest() != used.sha256[path.name]:
            raise _damaged(path)


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged: wrong SHA-256; {AGAIN}")


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


def _read_manifest(folder: Path) -> tuple[dict[str, Any], ImageSummary | None, Any]:
    """The manifest, and what is stated beside it: of colours and, not checked yet, of labels."""
    path = folder / MANIFEST
    if not is_whole(folder):
        raise UserError(f"{folder} holds no whole prepared data set; run `benchmark prepare`.")
    manifest = read_json(path, _ANYTHING, AGAIN)
    if "format" not in manifest or "id" not in manifest:
        raise UserError(f"{path} is not a manifest; {AGAIN}")
    if manifest["format"] != FORMAT:
        found = shown_value(manifest["format"])
        raise UserError(f"{path} has format {found}, this is {FORMAT}; {AGAIN}")
    found, stated = manifest.pop("id"), manifest.pop(STATISTICS, None)
    counts = manifest.pop(LABEL_COUNTS, None)
    if found != sha256_of_json(manifest):
        raise UserError(f"{path} is damaged, or of an early version; {AGAIN}")
    return manifest, None if stated is None else _summary(stated, found, path), counts


def _summary(stated: object, manifest_sha256: str, path: Path) -> ImageSummary:
    """What is stated of the training images, if its seal is whole."""
    seal = stated.pop("sha256", None) if isinstance(stated, dict) else None
    try:
        summary = ImageSummary.model_validate(stated)
    except ValidationError as error:
        raise UserError(f"{path}: {STATISTICS}: {first_fault(error)}; {AGAIN}") from None
    if seal != _seal(manifest_sha256, summary):
        raise UserError(f"{path}: its {STATISTICS} are damaged; {AGAIN}")
    return summary


def _used_of(manifest: Mapping[str, Any], path: Path) -> _Manifest:
    """The checked part of a manifest.

    Raises:
        UserError: a field is missing or wrong, or other files are named than there are.
    """
    try:
        used = _Manifest.model_validate(manifest)
    except ValidationError as error:
        raise UserError(f"{path}: {first_fault(error)}; {AGAIN}") from None
    named = (set(used.counts), set(used.sha256), set(used.file_bytes))
    if named != (set(SPLITS), set(used.files), set(used.files)):
        raise UserError(
            f"{path} must count {', '.join(SPLITS)} and name the files "
            f"{', '.join(used.files)}, no others; {AGAIN}"
        )
    return used
