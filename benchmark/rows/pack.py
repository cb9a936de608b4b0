"""``pack`` and ``unpack``: an unfinished study in a few files, from one machine to the next.

What travels: rows, the pictures they name, the index, and of each cell with milestones left to
score its config, its log, its newest whole checkpoint and the weights of those milestones. Scored
cells need no more than their rows. States of any size travel: files are packed and unpacked piece
by piece. What ``unpack`` takes is bounded, and ``pack`` makes no more. Never imports torch.
"""

import contextlib
import gzip
import hashlib
import io
import itertools
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from benchmark.rows.file import COMPRESSED, ROWS_FILE, read_rows, rows_files
from benchmark.rows.merge import CHOOSE, merge
from benchmark.rows.parts import PART_BYTES, PartsReader, PartsWriter, part_name
from benchmark.rows.row import Row
from benchmark.study.index import INDEX_FILE, read_index, unproved_milestones
from mindiffusion.config.run import differences
from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write, sha256_of_file, write_json
from mindiffusion.outside.documents import Name, read_json
from mindiffusion.outside.paths import inside, is_file, open_file, read_file, refuse_links
from mindiffusion.outside.pictures import png_bytes
from mindiffusion.outside.tars import (
    MOST_BYTES,
    MOST_MEMBER_BYTES,
    add_files,
    members_of,
    read_files,
)
from mindiffusion.training.metrics_log import METRICS_FILE
from mindiffusion.training.run_files import is_running
from mindiffusion.writable import gigabytes

_MOST_PARTS = 2 * MOST_BYTES // PART_BYTES
"""What does not compress takes a little more room packed."""
_EXPECTED_BYTES, _EXPECTED_RATIO = 1 << 30, 50
"""What unpacks to more than so many bytes, and so many times its size, is no study of ours."""
_MOST_SHOWN = 5
MANIFEST = "travel.json"
_STEM = "travel.tar.gz"
_CONFIG = "config.json"
_OF_A_RUN = re.compile(r"(ckpt|weights)-\d+\.(pt|json)|config\.json|metrics\.jsonl")
_PICTURE = ".png"
_CHOOSE = (
    "Find out which is right: unpack into another folder, or correct the folder that was packed "
    "and pack it again."
)

_COPY_BYTES = 1 << 20


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    name: Annotated[str, Field(pattern=r"^travel\.tar\.gz\.\d{1,4}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Manifest(BaseModel):
    """What ``pack`` wrote: the parts, in order, with their checksums."""

    model_config = ConfigDict(strict=True, frozen=True)

    study: Name
    parts: Annotated[list[_Part], Field(min_length=1, max_length=_MOST_PARTS)]


class _RunFile(BaseModel):
    config: dict[str, Any]
    manifest: str


class _Seal(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    sha256: str


@dataclass(frozen=True)
class _Cell:
    """A cell as the index lists it.

    Attributes:
        arm: its arm.
        seed: its training seed.
        run: its folder, relative to the study's.
        milestones: steps that are scored.
    """

    arm: str
    seed: int
    run: str
    milestones: tuple[int, ...]


def pack(folder: Path, output: Path) -> list[Path]:
    """Write what must travel of a study into ``output``, in files of at most 16 MB.

    Args:
        folder: the study's folder, with its index.
        output: where the files go; those of an earlier ``pack`` are replaced.

    Returns:
        The files, the manifest with their checksums last.

    Raises:
        UserError: no index, a link in the folder, a run at work, or more than may travel; the line
            names the files that do not fit.
    """
    refuse_links(folder)
    cells = _cells(folder)
    busy = [cell.run for cell in cells if is_running(folder / cell.run)]
    if busy:
        raise UserError(f"{folder / busy[0]} is being run; wait for it to end, then pack.")
    names = sorted(set(_names(folder, cells)))
    _refuse_much(folder, names)
    # Before anything is deleted: an earlier pack stays where this one is refused.
    members = members_of(folder, names)
    # The manifest first: without it, no parts are taken for a packed study.
    for old in (output / MANIFEST, *output.glob(part_name(_STEM, "*"))):
        old.unlink(missing_ok=True)
    writer = PartsWriter(output, _STEM)
    # The same files give the same bytes.
    with gzip.GzipFile(fileobj=writer, mode="wb", mtime=0) as packed:
        add_files(packed, folder, members)
    writer.finish()
    manifest = {"study": read_index(folder)["study"], "parts": writer.parts}
    write_json(output / MANIFEST, manifest)
    return [*(output / part["name"] for part in writer.parts), output / MANIFEST]


def _refuse_much(folder: Path, names: Sequence[str]) -> None:
    """Refuse files that are more than may travel, by the names of those that do not fit."""
    sizes = sorted(((folder / name).lstat().st_size, name) for name in names)
    totals = itertools.accumulate(size for size, _ in sizes)
    left = [
        f"{name} ({gigabytes(size)})"
        for (size, name), total in zip(sizes, totals, strict=True)
        if size > MOST_MEMBER_BYTES or total > MOST_BYTES
    ]
    if left:
        shown = ", ".join(left[::-1][:_MOST_SHOWN])
        more = f" and {len(left) - _MOST_SHOWN} more" if len(left) > _MOST_SHOWN else ""
        raise UserError(
            f"{folder}: not all can travel, for a file may have {gigabytes(MOST_MEMBER_BYTES)} and "
            f"all together {gigabytes(MOST_BYTES)}. What does not fit: {shown}{more}. Finish those "
            "cells here, or copy the files by hand."
        )


def _cells(folder: Path) -> list[_Cell]:
    index = read_index(folder)
    if not index:
        raise UserError(f"{folder} has no {INDEX_FILE}; give a study's folder, as results/demo.")
    return [
        _Cell(cell["arm"], cell["seed"], cell["run"], tuple(cell["milestones"]))
        for cell in index["cells"]
    ]


def _names(folder: Path, cells: Sequence[_Cell]) -> Iterator[str]:
    """Files that must travel, relative to the study's folder."""
    yield INDEX_FILE
    rows = read_rows(folder / ROWS_FILE)
    if rows:
        yield from (one.name for one in rows_files(folder / ROWS_FILE))
        for name in sorted({row.samples for row in rows if row.samples is not None}):
            path = inside(folder, name)
            if not is_file(path):
                raise UserError(f"{path} is missing, which the rows name; restore it, then pack.")
            png_bytes(path)
            yield name
    left = _left(folder, cells, rows)
    for cell, milestones in left:
        run = inside(folder, cell.run)
        found = [run / _CONFIG, run / METRICS_FILE, *_newest_state(run)]
        for step in milestones:
            found += _sealed(run / f"weights-{step:09d}.pt")
        yield from (path.relative_to(folder).as_posix() for path in found if path.exists())
    if left:
        yield from _finisher_names(folder, cells)


def _left(
    folder: Path, cells: Sequence[_Cell], rows: Sequence[Row]
) -> list[tuple[_Cell, tuple[int, ...]]]:
    """Cells with milestones that lack a proof, and these milestones."""
    found = {(row.arm, row.seed, row.step, row.metric) for row in rows}
    lacking = set(unproved_milestones(read_index(folder), found))
    left = []
    for cell in cells:
        steps = tuple(s for s in cell.milestones if (cell.arm, cell.seed, s) in lacking)
        if steps:
            left.append((cell, steps))
    return left


def _finisher_names(folder: Path, cells: Sequence[_Cell]) -> Iterator[str]:
    """The weights that finish stitched samples, where a study has such."""
    evaluation = read_index(folder).get("evaluation", {})
    if "stitched" in evaluation.get("metrics", ()):
        runs = [cell for cell in cells if cell.arm == evaluation.get("finisher")]
        for cell in (cell for cell in runs[:1] if cell.milestones):
            path = folder / cell.run / f"weights-{cell.milestones[-1]:09d}.pt"
            yield from (one.relative_to(folder).as_posix() for one in _sealed(path))


def _sealed(path: Path) -> tuple[Path, ...]:
    """A checkpoint and its seal, where both are there and agree."""
    seal = path.with_suffix(".json")
    try:
        is_whole = read_json(seal, _Seal, "").sha256 == sha256_of_file(path)
    except (OSError, UserError):
        return ()
    return (path, seal) if is_whole else ()


def _newest_state(run: Path) -> tuple[Path, ...]:
    """The newest whole state to go on from, with its seal; nothing where there is none."""
    for path in sorted(run.glob("ckpt-*.pt"), reverse=True):
        found = _sealed(path)
        if found:
            return found
    return ()


def unpack(packed: Path, folder: Path) -> str:
    """Take a packed study into a folder; returns a line that says what came of it.

    Rows are joined with those that are there (``benchmark.rows.merge``). Of a cell that is further
    here than in the files, nothing is replaced; no other file that is there is, either.

    Args:
        packed: what ``pack`` wrote.
        folder: the study's folder; may be there already.

    Raises:
        UserError: a part is missing, damaged or holds what ``pack`` never writes, or what is there
            contradicts it; nothing is written then.
    """
    refuse_links(folder)
    with tempfile.TemporaryDirectory() as temporary, _named_as(packed, Path(temporary)):
        source = Path(temporary)
        parts = _whole(packed)
        size = sum(part.lstat().st_size for part in parts)
        most = max(_EXPECTED_BYTES, _EXPECTED_RATIO * size)
        with gzip.GzipFile(fileobj=io.BufferedReader(PartsReader(parts))) as stream:
            read_files(stream, str(packed), source, _is_packed, most)
        cells = _cells(source)
        for cell in cells:
            _refuse_other(source / cell.run, inside(folder, cell.run))
        with_rows = [one for one in (folder, source) if rows_files(one / ROWS_FILE)]
        if with_rows:
            merge(with_rows, folder)
        if not (folder / INDEX_FILE).exists():
            _copy(source / INDEX_FILE, folder / INDEX_FILE)
        taken = [cell for cell in cells if _take_state(source / cell.run, folder / cell.run)]
        rows = len(read_rows(folder / ROWS_FILE))
    return f"{folder}: {rows} rows, and the state of {len(taken)} cells is new."


@contextlib.contextmanager
def _named_as(packed: Path, temporary: Path) -> Iterator[None]:
    """Errors about unpacked files name what the user gave: the other folder is gone by then."""
    try:
        yield
    except UserError as error:
        text = str(error).replace(f"{temporary}/", f"{packed}: ")
        raise UserError(text.replace(CHOOSE, _CHOOSE)) from None


def _whole(packed: Path) -> list[Path]:
    """The parts of a packed study, which are all there and are what their manifest says."""
    advice = "give the folder that pack wrote, with all its files."
    try:
        manifest = read_json(packed / MANIFEST, _Manifest, advice)
    except OSError:
        raise UserError(f"{packed} has no readable {MANIFEST}; {advice}") from None
    if [part.name for part in manifest.parts] != [
        part_name(_STEM, number) for number in range(len(manifest.parts))
    ]:
        raise UserError(f"{packed / MANIFEST} names other parts than pack writes; {advice}")
    paths = [packed / part.name for part in manifest.parts]
    for path, part in zip(paths, manifest.parts, strict=True):
        try:
            piece = read_file(path, PART_BYTES)
        except FileNotFoundError:
            raise UserError(f"{path} is missing; bring all files that pack wrote.") from None
        if hashlib.sha256(piece).hexdigest() != part.sha256:
            raise UserError(f"{path} is damaged, its SHA-256 is another one; bring it again.")
    return paths


def _is_packed(name: str) -> bool:
    """Whether ``pack`` ever writes a file of that name."""
    last = name.rpartition("/")[2]
    return (
        name in (INDEX_FILE, ROWS_FILE, ROWS_FILE + COMPRESSED)
        or name.endswith(_PICTURE)
        or bool(_OF_A_RUN.fullmatch(last))
    )


def _copy(source: Path, target: Path) -> None:
    with open_file(source) as content, atomic_write(target) as handle:
        shutil.copyfileobj(content, handle, _COPY_BYTES)


def _refuse_other(source: Path, target: Path) -> None:
    """Refuse a cell that is being run here, or that is another run."""
    if is_running(target):
        raise UserError(f"{target} is being run; wait for it to end, then unpack.")
    ours, theirs = target / _CONFIG, source / _CONFIG
    if ours.exists() and theirs.exists() and not _is_same_run(ours, theirs):
        raise UserError(
            f"{ours} is of another run than the packed one; unpack into another folder, or delete "
            f"{target}."
        )


def _is_same_run(ours: Path, theirs: Path) -> bool:
    """Whether two config files are of one run; what may change while it goes on may differ."""
    try:
        first, second = (read_json(path, _RunFile, "") for path in (ours, theirs))
    except UserError:
        return read_file(ours, MOST_BYTES) == read_file(theirs, MOST_BYTES)
    return first.manifest == second.manifest and not differences(first.config, second.config)


def _take_state(source: Path, target: Path) -> bool:
    """Copy a cell's files that are new here; returns whether its checkpoint was among them."""
    here, there = _newest_state(target), _newest_state(source)
    is_newer = bool(there) and (not here or there[0].name > here[0].name)
    known = [path for path in source.glob("*") if _OF_A_RUN.fullmatch(path.name)]
    for path in sorted(known, key=lambda one: one.suffix == ".json"):
        # Seals come after what they seal. The log belongs to the checkpoint.
        of_state = path.name.startswith("ckpt-") or path.name == METRICS_FILE
        if is_file(path) and (is_newer if of_state else not (target / path.name).exists()):
            _copy(path, target / path.name)
    return is_newer
