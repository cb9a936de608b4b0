"""Results of several machines joined: any order gives the same bytes, contradictions nothing."""

import dataclasses
import itertools
import json

import pytest
from remade import tables_of

from benchmark.__main__ import main
from benchmark.rows.file import append_rows, read_rows
from benchmark.rows.merge import merge
from benchmark.rows.row import Row
from mindiffusion.errors import UserError
from mindiffusion.files import exclusive_lock
from mindiffusion.outside.pictures import PNG_SIGNATURE

ROW = Row(
    study="two", arm="B", seed=0, step=100, total_steps=200, metric="FD-Net@256", value=12.5,
    level=None, error=None, direction="lower", metric_version=1, n_generated=256,
    n_reference=512, weights="ema0.99", sampler="ddim", sampler_steps=50, sampling_seed=0,
    full_range=True, stage="", samples=None, dataset="avatars", manifest="abc", config_hash="c0",
    git="g", versions={"instrument": "w0"}, device="cpu", host="h", threads=1, train_seconds=1.5,
    time="2026-01-01T00:00:00", declared="exploratory",
)  # fmt: skip


def cells(arm, seed, **changes):
    """Two milestones of a cell with a picture each."""
    return [
        dataclasses.replace(
            ROW, arm=arm, seed=seed, step=step, value=step + seed + len(arm),
            samples=f"{arm.lower()}/seed{seed}/samples-{step}.png", config_hash=f"c-{arm}",
            **changes,
        )
        for step in (100, 20)
    ]  # fmt: skip


def folder(path, rows, arms=("B", "C")):
    append_rows(path / "rows.jsonl", rows)
    for row in rows:
        if row.samples:
            (path / row.samples).parent.mkdir(parents=True, exist_ok=True)
            (path / row.samples).write_bytes(PNG_SIGNATURE + row.samples.encode())
    index = {"study": "two", "proofs": ["p"], "arms": {arm: {"lr": 1.0} for arm in arms}}
    listed = [
        {"arm": row.arm, "seed": row.seed, "run": f"{row.arm}/{row.seed}", "milestones": []}
        for row in rows
    ]
    index["cells"] = [cell for k, cell in enumerate(listed) if cell not in listed[:k]]
    (path / "study.json").write_text(json.dumps(index))
    return path


@pytest.fixture
def machines(tmp_path):
    """Three folders: the second has a cell of the first, measured at another time elsewhere."""
    again = [
        dataclasses.replace(row, time="2026-02-01T00:00:00", host="other", train_seconds=9.0)
        for row in cells("B", 0)
    ]
    return [
        folder(tmp_path / "one", cells("B", 0) + cells("C", 10)),
        folder(tmp_path / "two", again + cells("C", 0)),
        folder(tmp_path / "three", cells("B", 10), arms=("B",)),
    ]


def content(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_any_order_gives_the_same_bytes(machines, tmp_path):
    found = []
    for number, order in enumerate(itertools.permutations(machines)):
        merge(order, tmp_path / f"out{number}")
        found.append(content(tmp_path / f"out{number}"))
    assert all(one == found[0] for one in found)
    rows = read_rows(tmp_path / "out0" / "rows.jsonl")
    assert [(row.seed, row.arm, row.step) for row in rows] == [
        (seed, arm, step) for seed in (0, 10) for arm in ("B", "C") for step in (20, 100)
    ]
    assert all((tmp_path / "out0" / row.samples).read_bytes() for row in rows)
    # Measured twice with the same result: the earlier one is kept.
    assert {row.host for row in rows} == {"h"}


def test_merging_again_or_into_one_of_them_changes_nothing(machines, tmp_path):
    merge(machines, tmp_path / "out")
    once = content(tmp_path / "out")
    merge([tmp_path / "out", machines[1]], tmp_path / "out")
    assert content(tmp_path / "out") == once
    merge(machines, machines[2])
    assert content(machines[2]) == once


def test_tables_of_the_whole_are_those_of_rows_from_one_machine(machines, tmp_path):
    merge(machines, tmp_path / "out")
    alone = cells("B", 0) + cells("C", 10) + cells("C", 0) + cells("B", 10)
    folder(tmp_path / "alone", alone)
    for where in ("out", "alone"):
        # Its arms hold no real config.
        (tmp_path / where / "study.json").unlink()
        tables_of(tmp_path / where)
    assert content(tmp_path / "out" / "tables") == content(tmp_path / "alone" / "tables")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": 13.0}, "FD-Net@256 of B/0, step 100, sampling seed 0: "),
        ({"error": 0.5}, "FD-Net@256 of B/0, step 100"),
        ({"manifest": "xyz"}, "data: "),
        ({"config_hash": "c1"}, "config of B/0: "),
        ({"config_hash": "c1", "step": 7}, "config of B/0: "),
        ({"study": "other", "seed": 3}, "study: "),
        ({"versions": {"instrument": "w1"}, "seed": 3}, "instrument of FD-Net@256: "),
    ],
)
def test_contradictions_name_both_files_and_write_nothing(changes, message, tmp_path):
    one = folder(tmp_path / "one", [ROW])
    two = folder(tmp_path / "two", [dataclasses.replace(ROW, **changes)])
    said = set()
    for order in ((one, two), (two, one)):
        with pytest.raises(UserError) as error:
            merge(order, tmp_path / "out")
        said.add(str(error.value))
    (line,) = said
    assert line.startswith(message) and "\n" not in line
    assert str(one / "rows.jsonl") in line and str(two / "rows.jsonl") in line
    assert not (tmp_path / "out").exists()


def test_pictures_of_one_name_must_be_one(machines, tmp_path):
    name = cells("B", 0)[0].samples
    (machines[1] / name).write_bytes(PNG_SIGNATURE + b"other")
    with pytest.raises(UserError, match="are different pictures"):
        merge(machines, tmp_path / "out")
    for machine in machines[:2]:
        (machine / name).unlink()
    with pytest.raises(UserError, match=f"{name}, a picture that rows name, is in none"):
        merge(machines, tmp_path / "out")


def test_indices_are_joined_or_refused(machines, tmp_path):
    merge(machines, tmp_path / "out")
    index = json.loads((tmp_path / "out" / "study.json").read_text())
    assert list(index["arms"]) == ["B", "C"]
    assert [cell["run"] for cell in index["cells"]] == ["B/0", "C/0", "B/10", "C/10"]
    other = json.loads((machines[2] / "study.json").read_text())
    other["arms"]["B"]["lr"] = 2.0
    (machines[2] / "study.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match=r"study\.json and .*study\.json differ in arm B"):
        merge(machines, tmp_path / "out2")
    for machine in machines:
        (machine / "study.json").unlink()
    merge(machines, tmp_path / "out3")
    assert not (tmp_path / "out3" / "study.json").exists()


def test_what_cannot_be_merged_is_refused(machines, tmp_path, call):
    with pytest.raises(UserError, match=r"has no rows\.jsonl"):
        merge([tmp_path / "nowhere"], tmp_path / "out")
    with pytest.raises(UserError, match="has rows already; name it among the folders"):
        merge(machines[:2], machines[2])
    (machines[0] / "b" / "seed0").mkdir(parents=True, exist_ok=True)
    with exclusive_lock(machines[0] / "b" / "seed0" / ".lock"):
        code, _, errors = call(main, ["merge", *map(str, machines), "--output", "out"])
    assert code == 2 and "seed0 is being run; wait for it to end" in errors


def test_command_says_what_came_of_it(machines, tmp_path, call):
    out = str(tmp_path / "out")
    code, said, _ = call(main, ["merge", *map(str, machines), "--output", out])
    assert code == 0
    assert said.startswith(f"{out}: 8 rows, 8 pictures of 3 folders; for the tables: python -m")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("flops_per_image", ({"B": 10}, {"B": 11, "C": 12})),
        ("networks", ({"B": {"words": "U-Net"}}, {"B": {"words": "Unet"}, "C": {"words": "DiT"}})),
    ],
)
def test_what_versions_count_and_say_is_joined_and_never_contradicts(
    name, said, machines, tmp_path
):
    """A folder of an earlier version has none, another torch may count otherwise."""
    for machine, by_arm in zip(machines[1:], said, strict=True):
        index = json.loads((machine / "study.json").read_text())
        (machine / "study.json").write_text(json.dumps(index | {name: by_arm}))
    merge(machines, tmp_path / "out")
    index = json.loads((tmp_path / "out" / "study.json").read_text())
    assert index[name] in (said[0] | said[1], said[1] | said[0])


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (("prereg-1", "prereg-1"), "prereg-1"),
        (("prereg-1", None), "prereg-1"),
        (("prereg-1", "exploratory"), "exploratory"),
        ((None, None), None),
    ],
)
def test_a_whole_is_declared_as_all_its_parts_that_say_so(machines, tmp_path, said, kept):
    for machine, declared in zip(machines[1:], said, strict=True):
        index = json.loads((machine / "study.json").read_text())
        index |= {} if declared is None else {"declared": declared}
        (machine / "study.json").write_text(json.dumps(index))
    merge(machines, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "study.json").read_text()).get("declared") == kept


@pytest.mark.parametrize(
    "name", ["../../torch.png", "/tmp/torch.png", "b/../../x.png", "b/seed0/../seed0/x.png", "."]
)
def test_pictures_go_nowhere_but_into_the_folder(tmp_path, name):
    source = folder(tmp_path / "in" / "theirs", cells("B", 0))
    rows = source / "rows.jsonl"
    rows.write_text(json.dumps(dataclasses.asdict(ROW) | {"samples": name}) + "\n")
    outside = tmp_path / "torch.png"
    outside.write_bytes(PNG_SIGNATURE)
    before = content(tmp_path)
    with pytest.raises(UserError, match=r"names the file|samples is"):
        merge([source], tmp_path / "out")
    assert content(tmp_path) == before


def test_a_picture_that_is_none_is_not_copied(machines, tmp_path):
    (machines[0] / cells("B", 0)[0].samples).write_bytes(b"import os")
    with pytest.raises(UserError, match="is no PNG"):
        merge(machines[:1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["in", "out"])
def test_links_in_results_are_refused_and_nothing_is_written(machines, tmp_path, place):
    mine = tmp_path / "mine"
    mine.mkdir()
    link = (machines[0] if place == "in" else tmp_path / "out") / "b" / "more"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(mine)
    with pytest.raises(UserError, match="more is a link"):
        merge(machines, tmp_path / "out")
    assert not list(mine.iterdir()) and not (tmp_path / "out" / "rows.jsonl").exists()
