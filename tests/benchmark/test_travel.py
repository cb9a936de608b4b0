"""A study packed on one machine and unpacked on another: what travels, and what is never lost."""

import dataclasses
import hashlib
import json
import random

import pytest

from benchmark import travel
from benchmark.__main__ import main
from benchmark.rows import Row, append_rows, read_rows
from benchmark.travel import pack, unpack
from mindiffusion.errors import UserError
from mindiffusion.files import exclusive_lock

ROW = Row(
    study="two", arm="B", seed=0, step=10, total_steps=20, metric="scored-own/p", value=2.0,
    level=None, error=None, direction="none", metric_version=1, n_generated=0, n_reference=0,
    weights="", sampler="", sampler_steps=0, sampling_seed=0, full_range=True, stage="",
    samples=None, dataset="avatars", manifest="abc", config_hash="c0", git="g", versions={},
    device="cpu", host="h", threads=1, train_seconds=1.5, time="2026-01-01T00:00:00",
)  # fmt: skip


def sealed(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    seal = {"format": 2, "step": 0, "sha256": hashlib.sha256(content).hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(seal))


def run_files(folder, steps, states, config="config"):
    """Weights at the milestones of ``steps`` and rolling states; content says what it is."""
    for step in steps:
        sealed(folder / f"weights-{step:09d}.pt", f"{folder.name} weights {step}".encode())
    for step in states:
        sealed(folder / f"ckpt-{step:09d}.pt", f"{folder.name} state {step}".encode())
    (folder / "config.json").write_text(config)
    (folder / "metrics.jsonl").write_text(f"log to {max(states)}")


def index(stitched=False):
    metrics = ["fd", "stitched"] if stitched else ["fd"]
    runs = [("B", 0, "b/seed0"), ("C", 0, "c/seed0"), ("C", 1, "c/seed1")]
    cells = [
        {"arm": arm, "seed": seed, "run": run, "total_steps": 20, "milestones": [10, 20]}
        for arm, seed, run in runs
    ]
    evaluation = {"metrics": metrics, "finisher": "B"}
    return {"study": "two", "proofs": ["scored-own/p"], "evaluation": evaluation, "cells": cells}


@pytest.fixture
def study(tmp_path):
    """B/0 is scored whole, C/0 at its first milestone and trained past it, C/1 not begun."""
    folder = tmp_path / "study"
    run_files(folder / "b" / "seed0", (10, 20), (10, 20))
    run_files(folder / "c" / "seed0", (10, 20), (15, 20))
    (folder / "b" / "seed0" / "samples.png").write_bytes(b"strip")
    rows = [
        dataclasses.replace(ROW, samples="b/seed0/samples.png"),
        dataclasses.replace(ROW, step=20),
        dataclasses.replace(ROW, arm="C"),
    ]
    append_rows(folder / "rows.jsonl", rows)
    (folder / "study.json").write_text(json.dumps(index()))
    return folder


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_only_what_the_next_machine_needs_travels(study, tmp_path):
    said = unpack_from(study, tmp_path, tmp_path / "there")
    assert said == f"{tmp_path / 'there'}: 3 rows, and the state of 1 cells is new."
    assert files(tmp_path / "there") == [
        "b/seed0/samples.png",
        "c/seed0/ckpt-000000020.json", "c/seed0/ckpt-000000020.pt",
        "c/seed0/config.json", "c/seed0/metrics.jsonl",
        "c/seed0/weights-000000020.json", "c/seed0/weights-000000020.pt",
        "rows.jsonl", "study.json",
    ]  # fmt: skip
    for name in files(tmp_path / "there"):
        if name not in ("rows.jsonl", "study.json"):
            assert (tmp_path / "there" / name).read_bytes() == (study / name).read_bytes()
    here, there = (read_rows(place / "rows.jsonl") for place in (study, tmp_path / "there"))
    assert len(here) == len(there) and all(row in there for row in here)


def unpack_from(study, tmp_path, target):
    pack(study, tmp_path / "packed")
    return unpack(tmp_path / "packed", target)


def test_finisher_travels_with_those_who_wait_for_it(study, tmp_path):
    (study / "study.json").write_text(json.dumps(index(stitched=True)))
    unpack_from(study, tmp_path, tmp_path / "there")
    assert (tmp_path / "there" / "b" / "seed0" / "weights-000000020.pt").is_file()
    assert not (tmp_path / "there" / "b" / "seed0" / "ckpt-000000020.pt").exists()


def test_a_damaged_state_stays_at_home_for_the_one_before(study, tmp_path):
    (study / "c" / "seed0" / "ckpt-000000020.pt").write_bytes(b"cut")
    (study / "c" / "seed0" / "weights-000000020.json").unlink()
    unpack_from(study, tmp_path, tmp_path / "there")
    found = [name for name in files(tmp_path / "there" / "c" / "seed0") if name.endswith(".pt")]
    assert found == ["ckpt-000000015.pt"]


def test_a_state_that_is_further_is_kept(study, tmp_path):
    run = tmp_path / "there" / "c" / "seed0"
    run_files(run, (), (20,))
    sealed(run / "ckpt-000000020.pt", b"ours")
    unpack_from(study, tmp_path, tmp_path / "there")
    assert (run / "ckpt-000000020.pt").read_bytes() == b"ours"
    (run / "ckpt-000000020.json").unlink()
    sealed(run / "ckpt-000000017.pt", b"older")
    (run / "metrics.jsonl").write_text("old log")
    assert "of 1 cells is new" in unpack(tmp_path / "packed", tmp_path / "there")
    assert (run / "ckpt-000000020.pt").read_bytes() == b"seed0 state 20"
    assert (run / "metrics.jsonl").read_text() == "log to 20"
    assert "of 0 cells is new" in unpack(tmp_path / "packed", tmp_path / "there")


def test_rows_are_joined_and_contradictions_change_nothing(study, tmp_path):
    there = tmp_path / "there"
    append_rows(there / "rows.jsonl", [dataclasses.replace(ROW, arm="C", seed=1, value=7.0)])
    unpack_from(study, tmp_path, there)
    assert len(read_rows(there / "rows.jsonl")) == 4
    for name, content in (("config.json", "other"), ("rows.jsonl", None)):
        other = tmp_path / name
        append_rows(other / "rows.jsonl", [dataclasses.replace(ROW, value=3.0)])
        if content:
            run_files(other / "c" / "seed0", (), (5,), config=content)
        before = files(other)
        with pytest.raises(UserError, match="of another run" if content else r"B/0, step 10"):
            unpack(tmp_path / "packed", other)
        assert files(other) == before


def test_parts_are_small_checked_and_few(study, tmp_path, monkeypatch):
    monkeypatch.setattr(travel, "PART_BYTES", 1500)
    noise = random.Random(0).randbytes(4000)
    sealed(study / "c" / "seed0" / "ckpt-000000020.pt", noise)
    packed = tmp_path / "packed"
    written = pack(study, packed)
    assert [path.name for path in written[:-1]] == [f"travel.tar.gz.{k}" for k in range(4)]
    assert written[-1].name == "travel.json" and files(packed) == sorted(p.name for p in written)
    assert max(path.stat().st_size for path in written) <= 1500
    first = {path.name: path.read_bytes() for path in written}
    assert {path.name: path.read_bytes() for path in pack(study, packed)} == first
    unpack(packed, tmp_path / "there")
    state = tmp_path / "there" / "c" / "seed0" / "ckpt-000000020.pt"
    assert state.read_bytes() == noise
    sealed(study / "c" / "seed0" / "ckpt-000000020.pt", b"small")
    pack(study, packed)
    assert len(files(packed)) < len(written)
    sealed(study / "c" / "seed0" / "ckpt-000000020.pt", random.Random(1).randbytes(16_000))
    with pytest.raises(UserError, match=r"more than 7 files of .* finish more cells"):
        pack(study, packed)


def test_missing_or_damaged_parts_are_named(study, tmp_path, call):
    packed, there = tmp_path / "packed", tmp_path / "there"
    assert call(main, ["pack", str(study), str(packed)])[0] == 0
    part = packed / "travel.tar.gz.0"
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for message in ("is damaged, its SHA-256", "is missing; bring all", "has no readable travel"):
        code, _, errors = call(main, ["unpack", str(packed), str(there)])
        assert code == 2 and message in errors and len(errors.splitlines()) == 1
        assert not there.exists()
        (part if part.exists() else packed / "travel.json").unlink(missing_ok=True)


def test_a_study_at_work_or_without_index_is_not_packed(study, tmp_path):
    with (
        exclusive_lock(study / "c" / "seed0" / ".lock"),
        pytest.raises(UserError, match="seed0 is being run; wait"),
    ):
        pack(study, tmp_path / "packed")
    (study / "b" / "seed0" / "samples.png").unlink()
    with pytest.raises(UserError, match=r"samples\.png is missing, which the rows name"):
        pack(study, tmp_path / "packed")
    (study / "study.json").unlink()
    with pytest.raises(UserError, match=r"has no study\.json"):
        pack(study, tmp_path / "packed")


def test_a_study_without_a_row_travels_too(study, tmp_path):
    (study / "rows.jsonl").unlink()
    unpack_from(study, tmp_path, tmp_path / "there")
    assert "c/seed0/weights-000000010.pt" in files(tmp_path / "there")
    assert not (tmp_path / "there" / "rows.jsonl").exists()
