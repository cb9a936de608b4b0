"""``python -m benchmark merge A B … --output C``: the results of several machines as one folder.

Rows, the pictures they name and the study's index are joined; checkpoints stay where they are. The
order of the folders changes no byte. What contradicts itself is refused, and nothing is written.
"""

import json
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.rows.file import (
    ROWS_FILE,
    appended_bytes,
    compressed_file,
    read_rows,
    rows_files,
    write_rows,
)
from benchmark.rows.keeper import INSTRUMENT
from benchmark.rows.row import IDENTITY, Row, key
from benchmark.study.index import (
    DECLARED,
    EXPLORATORY,
    FLOPS,
    INDEX_FILE,
    NETWORKS,
    read_index,
)
from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write, write_json
from mindiffusion.outside.paths import inside, is_file, refuse_links
from mindiffusion.outside.pictures import png_bytes
from mindiffusion.training.run_files import is_running
from mindiffusion.writable import gigabytes

_but_level = operator.attrgetter(*(name for name in IDENTITY if name != "level"))
CHOOSE = "Find out which is right and drop the other."
"""How a message about two folders that contradict each other ends."""


@dataclass(frozen=True)
class _Said:
    """What one row says of something that all rows about it must agree in."""

    value: object
    file: Path


def merge(folders: Sequence[Path], output: Path) -> str:
    """Join results folders of one study; returns a line that says what came of it.

    Args:
        folders: each with a ``rows.jsonl``.
        output: where the whole goes; may be one of them.

    Raises:
        UserError: a folder without rows or with a run at work in it, or two folders that contradict
            each other: other data, config or instrument, two values of one measurement, two
            pictures of one name.
    """
    refuse_links(output)
    if output not in folders and rows_files(output / ROWS_FILE):
        raise UserError(f"{output} has rows already; name it among the folders to join as well.")
    for folder in folders:
        _refuse(folder)
    replaced = appended_bytes(output / ROWS_FILE)
    rows = merged_rows(folders)
    index = merged_index(folders)
    pictures = dict(_pictures(rows, folders))
    for name, source in pictures.items():
        target = inside(output, name)
        if source != target:
            with atomic_write(target) as handle:
                handle.write(png_bytes(source))
    if index:
        write_json(output / INDEX_FILE, index)
    # Last: rows name only pictures that are there.
    write_rows(output / ROWS_FILE, rows, replaced)
    return (
        f"{output}: {len(rows)} rows, {len(pictures)} pictures of {len(folders)} folders; for the "
        f"tables: python -m benchmark tables {output}"
    )


def compress(folder: Path) -> str:
    """Keep a study's rows in one compressed file; returns a line that says what came of it.

    Raises:
        UserError: a folder without rows or with a run at work in it, or rows that contradict each
            other.
    """
    _refuse(folder)
    path = folder / ROWS_FILE
    before = sum(one.stat().st_size for one in rows_files(path))
    replaced = appended_bytes(path)
    rows = read_rows(path)
    write_rows(path, rows, replaced)
    after = sum(one.stat().st_size for one in rows_files(path))
    return (
        f"{compressed_file(path)}: {len(rows)} rows, {gigabytes(before)} before and "
        f"{gigabytes(after)} now; for the report: python -m benchmark report {folder}"
    )


def _refuse(folder: Path) -> None:
    refuse_links(folder)
    if not rows_files(folder / ROWS_FILE):
        raise UserError(f"{folder} has no {ROWS_FILE}; give a study's folder, as results/demo.")
    for lock in folder.glob("*/*/.lock"):
        if is_running(lock.parent):
            raise UserError(
                f"{lock.parent} is being run; wait for it to end, then give the command again."
            )


def merged_rows(folders: Sequence[Path]) -> list[Row]:
    """The distinct rows of all folders, by seed, arm and step.

    Of rows that differ in clock or host alone, the earliest is kept.

    Raises:
        UserError: rows that contradict each other; the line names both files.
    """
    kept: dict[tuple[object, ...], Row] = {}
    said: dict[tuple[object, ...], _Said] = {}
    for folder in sorted(folders):
        path = folder / ROWS_FILE
        for row in read_rows(path):
            for about, value in _claims(row):
                first = said.setdefault(about, _Said(value, path))
                if first.value != value:
                    raise UserError(
                        f"{about[0]}: {first.file} has {first.value}, {path} has {value}. {CHOOSE}"
                    )
            name = key(row)
            kept[name] = min(kept[name], row, key=_age) if name in kept else row
    return sorted(kept.values(), key=_place)


def _age(row: Row) -> tuple[str, str]:
    return row.time, repr(row)


def _place(row: Row) -> tuple[int, str, int, str, float]:
    # None beside numbers does not compare; as text it does. Levels come last: a curve's points
    # stand together, and become one line.
    level = -1.0 if row.level is None else row.level
    return (row.seed, row.arm, row.step, json.dumps(_but_level(row)), level)


def _claims(row: Row) -> Iterator[tuple[tuple[object, ...], object]]:
    """What a row says that others must agree with: (about what, its value)."""
    cell = f"{row.arm}/{row.seed}"
    yield ("study",), row.study
    yield ("data",), f"{row.dataset} ({row.manifest})"
    yield (f"config of {cell}",), row.config_hash
    if INSTRUMENT in row.versions:
        yield (f"instrument of {row.metric}",), row.versions[INSTRUMENT]
    level = "" if row.level is None else f" at {row.level:g}"
    name = f"{row.metric}{level} of {cell}, step {row.step}, sampling seed {row.sampling_seed}"
    error = "" if row.error is None else f" ± {row.error!r}"
    yield (name, *key(row)), f"{row.value!r}{error}"


def _pictures(rows: Sequence[Row], folders: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Pictures that rows name, and where each is.

    Raises:
        UserError: one is missing, or two folders have different ones of one name.
    """
    for name in sorted({row.samples for row in rows if row.samples is not None}):
        places = [inside(folder, name) for folder in sorted(folders)]
        found = [place for place in places if is_file(place)]
        if not found:
            raise UserError(f"{name}, a picture that rows name, is in none of the folders.")
        first = png_bytes(found[0])
        for other in found[1:]:
            if png_bytes(other) != first:
                raise UserError(f"{found[0]} and {other} are different pictures. {CHOOSE}")
        yield name, found[0]


def merged_index(folders: Sequence[Path]) -> dict[str, Any]:
    """The folders' indices as one; empty if none has one.

    Raises:
        UserError: two say different things of one cell, of an arm, or of how cells are scored.
    """
    joined: dict[tuple[str, str], _Said] = {}
    of_versions: dict[str, dict[str, Any]] = {FLOPS: {}, NETWORKS: {}}
    declared: set[str] = set()
    for folder in sorted(folders):
        path = folder / INDEX_FILE
        if path.exists():
            index = read_index(folder)
            for part, by_arm in of_versions.items():
                by_arm |= index.get(part, {})
            declared |= {index[DECLARED]} if DECLARED in index else set()
            for name, value in _entries(index):
                first = joined.setdefault(name, _Said(value, path))
                if first.value != value:
                    what = " ".join(name).strip()
                    raise UserError(f"{first.file} and {path} differ in {what}. {CHOOSE}")
    if not joined:
        return {}
    parts: dict[str, dict[str, Any]] = {"": {}, "arm": {}, "cell": {}}
    for kind, label in sorted(joined):
        parts[kind][label] = joined[kind, label].value
    cells = sorted(parts["cell"].values(), key=lambda cell: (cell["seed"], cell["run"]))
    told = {name: by_arm for name, by_arm in of_versions.items() if by_arm}
    # Folders may agree on the terms, and one of them be of before the study was declared.
    said = {DECLARED: declared.pop() if len(declared) == 1 else EXPLORATORY} if declared else {}
    return parts[""] | said | {"arms": parts["arm"]} | told | {"cells": cells}


def _entries(index: dict[str, Any]) -> Iterator[tuple[tuple[str, str], Any]]:
    """The parts of an index that are joined one by one, each with its kind and name."""
    for name, value in index.items():
        if name not in ("arms", "cells", DECLARED, FLOPS, NETWORKS):
            yield ("", name), value
    for name, value in index.get("arms", {}).items():
        yield ("arm", name), value
    for cell in index["cells"]:
        yield ("cell", cell["run"]), cell
