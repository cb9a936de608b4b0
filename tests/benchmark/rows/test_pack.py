"""A study packed on one machine and unpacked on another: what travels, and what is never lost."""

import dataclasses
import gzip
import hashlib
import io
import json
import random
import re
import tarfile

import pytest

from benchmark.__main__ import main
from benchmark.rows import pack as packing
from benchmark.rows import parts
from benchmark.rows.file import append_rows, read_rows
from benchmark.rows.pack import pack, unpack
from benchmark.rows.row import Row
from mindiffusion.errors import UserError
from mindiffusion.files import exclusive_lock
from mindiffusion.outside import tars
from mindiffusion.outside.pictures import PNG_SIGNATURE

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
    (folder / "b" / "seed0" / "samples.png").write_bytes(PNG_SIGNATURE + b"strip")
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
        "rows.jsonl.xz", "study.json",
    ]  # fmt: skip
    for name in files(tmp_path / "there"):
        if name not in ("rows.jsonl.xz", "study.json"):
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
        with pytest.raises(UserError, match="of another run" if content else r"B/0, step 10") as no:
            unpack(tmp_path / "packed", other)
        assert files(other) == before
    # The files that the message names are there; none of them can be dropped.
    said = str(no.value)
    assert f"{tmp_path / 'packed'}: rows.jsonl has 2.0" in said
    assert f"{other / 'rows.jsonl'} has 3.0" in said
    assert "drop the other" not in said and "unpack into another folder" in said


def test_parts_are_small_checked_and_as_many_as_they_must_be(study, tmp_path, monkeypatch):
    for module in (packing, parts):
        monkeypatch.setattr(module, "PART_BYTES", 1500)
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
    noise = random.Random(1).randbytes(20_000)
    sealed(study / "c" / "seed0" / "ckpt-000000020.pt", noise)
    assert len(pack(study, packed)) > 13
    unpack(packed, tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "c/seed0/ckpt-000000020.pt").read_bytes() == noise


@pytest.mark.parametrize(("limit", "most"), [("MOST_BYTES", 9_000), ("MOST_MEMBER_BYTES", 7_000)])
def test_what_does_not_fit_is_said_by_name_and_size(study, tmp_path, monkeypatch, limit, most):
    pack(study, tmp_path / "packed")
    before = {path.name: path.read_bytes() for path in (tmp_path / "packed").iterdir()}
    sealed(study / "c" / "seed0" / "ckpt-000000020.pt", bytes(8_000))
    monkeypatch.setattr(packing, limit, most)
    with pytest.raises(UserError, match=r"not fit: c/seed0/ckpt-\d+20\.pt \(0\.008 MB\)\. Fini"):
        pack(study, tmp_path / "packed")
    # An earlier one is not lost.
    assert {path.name: path.read_bytes() for path in (tmp_path / "packed").iterdir()} == before
    sealed(study / "c" / "seed0" / "ckpt-000000020.pt", b"small")
    monkeypatch.setattr(packing, "MOST_BYTES", 0)
    with pytest.raises(UserError, match=r"and \d more\. Finish"):
        pack(study, tmp_path / "packed")


def test_a_study_that_unpacks_to_much_more_than_it_is_is_no_study(study, tmp_path, monkeypatch):
    sealed(study / "c" / "seed0" / "ckpt-000000020.pt", bytes(1_000_000))
    pack(study, tmp_path / "packed")
    monkeypatch.setattr(packing, "_EXPECTED_BYTES", 100_000)
    with pytest.raises(UserError, match="to pack or unpack"):
        unpack(tmp_path / "packed", tmp_path / "there")
    assert not (tmp_path / "there").exists()


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


def packed_by_a_stranger(folder, members, manifest=None):
    """What ``unpack`` is given: any members, with a manifest that fits unless one is given."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, content in members:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    whole = gzip.compress(tar.getvalue())
    folder.mkdir()
    (folder / "travel.tar.gz.0").write_bytes(whole)
    part = {"name": "travel.tar.gz.0", "sha256": hashlib.sha256(whole).hexdigest()}
    document = {"study": "x", "parts": [part]} if manifest is None else manifest
    (folder / "travel.json").write_text(json.dumps(document))
    return folder


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


INDEX = json.dumps(index()).encode()


def index_with(**changes):
    content = index()
    content["cells"][0] |= changes
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../evil.json", b"x")], "never packed"),
        ([("../ckpt-1.pt", b"x")], "names the file '../ckpt-1.pt'"),
        ([("/tmp/config.json", b"x")], "names the file"),
        ([("torch.py", b"x")], "'torch.py', which is never packed"),
        ([("f/0", b"")], "never packed"),
        ([(member("rows.jsonl", tarfile.SYMTYPE, "/etc/passwd"), b"")], "never packed"),
        ([(member("rows.jsonl", tarfile.LNKTYPE, "study.json"), b"")], "never packed"),
        ([(member("rows.jsonl", tarfile.FIFOTYPE), b"")], "never packed"),
        ([("study.json", INDEX), ("study.json", INDEX)], "never packed"),
        ([("study.json", b"[]")], "study.json: the document is"),
        ([("study.json", b'{"a":' * 500)], "no whole JSON"),
        ([("study.json", index_with(run="../../elsewhere"))], "names the file"),
        ([("study.json", index_with(run="c/seed0"))], "two cells in one folder"),
        ([("study.json", index_with(run="c//seed0"))], "names the file 'c//seed0'"),
        ([("study.json", index_with(run="c/./seed0"))], "names the file 'c/./seed0'"),
        ([("study.json", index_with(seed="0"))], "cells.0.seed is '0'"),
        ([("study.json", index_with(arm="B\x1b[2J"))], "cells.0.arm is"),
        ([("study.json", index_with(milestones=[10**30]))], "cells.0.milestones.0"),
        ([], "has no study.json"),
    ],
)
def test_what_pack_never_writes_is_refused_and_nothing_is_written(tmp_path, members, message):
    packed = packed_by_a_stranger(tmp_path / "packed", members)
    before = files(tmp_path)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        unpack(packed, tmp_path / "there")
    assert files(tmp_path) == before and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "manifest",
    [
        [],
        {},
        {"study": "x", "parts": []},
        {"study": "x", "parts": [{}]},
        {"study": "x", "parts": [{"name": 5}]},
        {"study": "x", "parts": [{"name": "../x", "sha256": "0" * 64}]},
        {"study": "x", "parts": [{"name": "travel.tar.gz.1", "sha256": "0" * 64}]},
        {"study": "x", "parts": [{"name": "travel.tar.gz.0", "sha256": "0" * 64}] * 10_000},
        {"study": "x", "parts": [{"name": "travel.tar.gz.0", "sha256": None}]},
        {"parts": [{"name": "travel.tar.gz.0", "sha256": "0" * 64}]},
    ],
    ids=lambda one: repr(one)[:60],
)
def test_a_wrong_manifest_is_one_line(tmp_path, manifest):
    packed = packed_by_a_stranger(tmp_path / "packed", [("study.json", INDEX)], manifest)
    with pytest.raises(UserError, match=r"travel\.json"):
        unpack(packed, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_declared_sizes_are_bounded_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "MOST_BYTES", 10_000)
    packed = packed_by_a_stranger(tmp_path / "packed", [("rows.jsonl", bytes(20_000))])
    with pytest.raises(UserError, match="to pack or unpack"):
        unpack(packed, tmp_path / "there")
    monkeypatch.setattr(tars, "MOST_BYTES", 30_000)
    monkeypatch.setattr(tars, "MOST_MEMBERS", 3)
    many = [(f"b/seed0/{k}.png", b"") for k in range(4)]
    with pytest.raises(UserError, match="to pack or unpack"):
        unpack(packed_by_a_stranger(tmp_path / "many", many), tmp_path / "there")


def test_pack_makes_nothing_that_unpack_refuses_and_keeps_what_it_made(
    study, tmp_path, monkeypatch
):
    before = [path.read_bytes() for path in pack(study, tmp_path / "packed")]
    for limit, most, message in (
        ("MOST_MEMBERS", 2, "have fewer cells under way"),
        ("MOST_PARTS", 2, "lies too deep"),
    ):
        monkeypatch.setattr(tars, limit, most)
        for output in (tmp_path / "packed", tmp_path / "new"):
            with pytest.raises(UserError, match=message):
                pack(study, output)
        monkeypatch.undo()
    assert not (tmp_path / "new").exists()
    kept = [tmp_path / "packed" / name for name in ("travel.tar.gz.0", "travel.json")]
    assert [path.read_bytes() for path in kept] == before


def test_a_name_that_does_not_fit_leaves_the_earlier_pack(study, tmp_path):
    before = [path.read_bytes() for path in pack(study, tmp_path / "packed")]
    long = "x" * 101 + ".png"
    (study / "b" / "seed0" / long).write_bytes(PNG_SIGNATURE)
    append_rows(study / "rows.jsonl", [dataclasses.replace(ROW, step=5, samples=f"b/seed0/{long}")])
    with pytest.raises(UserError, match=f"{long} can't be packed: name is too long"):
        pack(study, tmp_path / "packed")
    assert [path.read_bytes() for path in sorted((tmp_path / "packed").iterdir())][::-1] == before


@pytest.mark.parametrize("end", [0, 1, 100, 600, -1, -9])
def test_a_cut_or_damaged_archive_is_one_line(tmp_path, end):
    packed = packed_by_a_stranger(tmp_path / "packed", [("study.json", INDEX)])
    whole = gzip.decompress((packed / "travel.tar.gz.0").read_bytes())
    for content in (gzip.compress(whole[:512])[:end], gzip.compress(whole[: end % 1024]), whole):
        (packed / "travel.tar.gz.0").write_bytes(content)
        part = {"name": "travel.tar.gz.0", "sha256": hashlib.sha256(content).hexdigest()}
        (packed / "travel.json").write_text(json.dumps({"study": "x", "parts": [part]}))
        with pytest.raises(UserError, match="bring it again"):
            unpack(packed, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_private_files_stay_at_home(study, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(PNG_SIGNATURE + b"secret")
    append_rows(study / "rows.jsonl", [dataclasses.replace(ROW, step=5, samples="../secret.png")])
    with pytest.raises(UserError, match=r"names the file '\.\./secret\.png'"):
        pack(study, tmp_path / "packed")
    (study / "rows.jsonl").unlink()
    (study / "c" / "seed0" / "metrics.jsonl").unlink()
    (study / "c" / "seed0" / "metrics.jsonl").symlink_to(secret)
    with pytest.raises(UserError, match=r"metrics\.jsonl is a link"):
        pack(study, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_a_cell_that_went_on_elsewhere_comes_home(study, tmp_path):
    """Where it is written and how it is sampled may change on the way."""
    config = {"config": {"arm": "C", "output": "here", "sampler": {"steps": 50}}, "manifest": "m"}
    home = study / "c" / "seed0" / "config.json"
    home.write_text(json.dumps(config))
    pack(study, tmp_path / "packed")
    config["config"] |= {"output": "/scratch", "sampler": {"steps": 10}}
    home.write_text(json.dumps(config))
    assert "of 0 cells is new" in unpack(tmp_path / "packed", study)
    home.write_text(json.dumps(config | {"manifest": "other"}))
    with pytest.raises(UserError, match="of another run"):
        unpack(tmp_path / "packed", study)
