"""Compressed rows: read in place, gone on with, and never lost on the way."""

import dataclasses
import json
import lzma
import os

import pytest
from test_row_file import row

from benchmark.__main__ import main
from benchmark.cells.status import read_status
from benchmark.rows import file as row_file
from benchmark.rows.file import (
    Follower,
    append_rows,
    compressed_file,
    read_loosely,
    read_rows,
    rows_files,
    write_rows,
)
from benchmark.rows.frames import load_rows
from benchmark.rows.merge import compress, merge
from mindiffusion.errors import UserError
from mindiffusion.files import exclusive_lock

FIRST, SECOND = [row(step=1), row(step=2)], [row(step=3)]


@pytest.fixture
def study(tmp_path):
    """A study of two rows, compressed."""
    append_rows(tmp_path / "study" / "rows.jsonl", FIRST)
    compress(tmp_path / "study")
    return tmp_path / "study"


@pytest.fixture
def path(study):
    return study / "rows.jsonl"


def test_compressed_rows_are_read_as_they_were(study, path):
    assert rows_files(path) == [study / "rows.jsonl.xz"]
    assert read_rows(path) == FIRST and len(load_rows(study)) == 2
    assert [line["step"] for line in read_loosely(path)] == [1, 2]


def test_a_study_that_goes_on_appends_beside_it(study, path):
    append_rows(path, SECOND)
    assert read_rows(path) == FIRST + SECOND
    # The appended file can be read without the other.
    compressed_file(path).rename(study / "away")
    assert read_rows(path) == SECOND
    (study / "away").rename(compressed_file(path))
    compress(study)
    assert read_rows(path) == FIRST + SECOND and not path.exists()


def test_whoever_is_killed_after_compressing_has_every_row_once(study, path):
    append_rows(path, FIRST + SECOND)
    assert read_rows(path) == FIRST + SECOND
    assert len(load_rows(study)) == 3


def test_what_is_appended_while_rows_are_compressed_stays(path):
    append_rows(path, SECOND)
    replaced, rows = row_file.appended_bytes(path), read_rows(path)
    append_rows(path, [row(step=4)])
    write_rows(path, rows, replaced)
    assert path.exists() and read_rows(path) == [*FIRST, *SECOND, row(step=4)]


def test_a_row_goes_into_the_file_that_has_the_name_once_it_is_locked(path, monkeypatch):
    append_rows(path, SECOND)
    flock, calls = row_file.fcntl.flock, []

    def replaced_meanwhile(descriptor, how):
        calls.append(how)
        if len(calls) == 1:
            os.unlink(path)
        flock(descriptor, how)

    monkeypatch.setattr(row_file.fcntl, "flock", replaced_meanwhile)
    append_rows(path, [row(step=4)])
    monkeypatch.undo()
    assert len(calls) == 2 and read_rows(path) == [*FIRST, row(step=4)]


def test_a_follower_sees_what_is_appended_and_that_rows_were_compressed(study, path):
    follower = Follower(path)
    assert follower.news() == (FIRST, True) and follower.news() == ([], False)
    append_rows(path, SECOND)
    assert follower.news() == (SECOND, False)
    compress(study)
    assert follower.news() == (FIRST + SECOND, True) and follower.news() == ([], False)


def test_two_files_that_contradict_each_other_are_named(study, path):
    append_rows(path, [row(step=1, value=7.0)])
    with pytest.raises(
        UserError, match=r"rows\.jsonl\.xz, line 2, and .*rows\.jsonl, line 2: two"
    ) as caught:
        read_rows(path)
    assert str(caught.value).endswith(
        "delete the other line. To change rows.jsonl.xz, unpack it in another folder (xz -d), then "
        "compress it (xz) and put it back."
    )
    before = [one.read_bytes() for one in rows_files(path)]
    with pytest.raises(UserError, match="two results"):
        compress(study)
    assert [one.read_bytes() for one in rows_files(path)] == before


def test_damage_is_told_with_file_and_line(study, path):
    lines = lzma.decompress(compressed_file(path).read_bytes()).splitlines(keepends=True)
    compressed_file(path).write_bytes(lzma.compress(lines[0] + b"{}\n" + lines[1]))
    with pytest.raises(UserError, match=r"rows\.jsonl\.xz, line 2: study is missing.* \(xz -d\)"):
        read_rows(path)
    compressed_file(path).write_bytes(b"no xz at all")
    for action in (lambda: load_rows(study), lambda: compress(study)):
        with pytest.raises(UserError, match=r"rows\.jsonl\.xz is damaged"):
            action()


def test_a_line_that_is_a_curve_is_named_as_one(path):
    points = [row(step=5, level=level, value=level) for level in (0.25, 0.5, 0.75)]
    append_rows(path, points)
    append_rows(path, [dataclasses.replace(points[1], value=7.0)])
    with pytest.raises(
        UserError, match=r"line 2 \(a curve of 3 rows\), and .*, line 3: two"
    ) as one:
        read_rows(path)
    assert str(one.value).endswith("delete the other line.")


def test_the_rows_of_a_study_are_bounded(path, monkeypatch):
    append_rows(path, SECOND)
    follower = Follower(path)
    monkeypatch.setattr(row_file, "MOST_ROWS", 3)
    assert len(read_rows(path)) == 3
    follower = Follower(path)
    follower.news()
    append_rows(path, [row(step=4)])
    for action in (follower.news, lambda: read_rows(path)):
        with pytest.raises(UserError, match="study has more than 3 rows"):
            action()


def test_nothing_is_replaced_by_what_would_not_be_read(study, path, monkeypatch):
    append_rows(path, SECOND)
    before = [one.read_bytes() for one in rows_files(path)]
    lines_of = row_file.lines_of
    for changed in (lambda rows: lines_of(rows)[:-1], lambda rows: [("", b"{}\n")]):
        monkeypatch.setattr(row_file, "lines_of", changed)
        with pytest.raises(UserError, match=r"rows\.jsonl\.xz"):
            compress(study)
    monkeypatch.undo()
    monkeypatch.setattr(row_file, "MOST_ROWS", 2)
    with pytest.raises(UserError, match=r"3 rows in a way that can be read \(at most 2\)"):
        write_rows(path, FIRST + SECOND, row_file.appended_bytes(path))
    assert [one.read_bytes() for one in rows_files(path)] == before


def test_damage_of_one_file_hides_no_row_of_the_other(path):
    append_rows(path, SECOND)
    compressed_file(path).write_bytes(b"no xz at all")
    assert [line["step"] for line in read_loosely(path)] == [3]


def test_status_reads_compressed_rows(study, path):
    index = {
        "study": "demo",
        "proofs": ["scored-own/p"],
        "cells": [
            {"arm": "B", "seed": 0, "run": "b/seed0", "total_steps": 200, "milestones": [1, 2]}
        ],
    }
    (study / "study.json").write_text(json.dumps(index))
    append_rows(path, [row(step=1, metric="scored-own/p")])
    compress(study)
    (study / "b" / "seed0").mkdir(parents=True)
    (study / "b" / "seed0" / "ckpt-000000200.json").write_text("{}")
    append_rows(path, [row(step=2, metric="scored-own/p")])
    assert [cell.state for cell in read_status(study)] == ["scored 2/2"]


def test_compress_says_what_came_of_it_and_refuses_a_run_at_work(study, path, call, tmp_path):
    append_rows(path, SECOND)
    code, said, _ = call(main, ["compress", str(study)])
    assert code == 0 and said.startswith(f"{study / 'rows.jsonl.xz'}: 3 rows, ")
    (study / "b" / "seed0").mkdir(parents=True)
    with exclusive_lock(study / "b" / "seed0" / ".lock"):
        code, _, errors = call(main, ["compress", str(study)])
    assert code == 2 and "seed0 is being run" in errors
    code, _, errors = call(main, ["compress", str(tmp_path)])
    assert code == 2 and "has no rows.jsonl" in errors


def test_curves_stay_whole_when_rows_are_merged(tmp_path):
    levels = [k / 20 for k in range(1, 21)]
    rows = [
        row(metric="eps-MSE", level=level, weights=weights, seed=seed)
        for seed in (1, 0)
        for weights in ("raw", "ema")
        for level in levels
    ]
    append_rows(tmp_path / "one" / "rows.jsonl", rows)
    merge([tmp_path / "one"], tmp_path / "out")
    merged = compressed_file(tmp_path / "out" / "rows.jsonl")
    assert len(lzma.decompress(merged.read_bytes()).splitlines()) == 2 + 4
    assert sorted(map(repr, read_rows(tmp_path / "out" / "rows.jsonl"))) == sorted(map(repr, rows))
