import dataclasses
import errno
import json
import logging
import os
import subprocess
import sys

import pandas as pd
import pytest

from benchmark import results
from benchmark.results import (
    FIELDS,
    Row,
    append_rows,
    arm_order,
    curriculum_frame,
    distance_rows,
    is_smoke,
    kernel_distance_rows,
    key,
    load_study,
    mean_over_levels,
    metric_label,
    over_seeds,
    read_rows,
    split_conditions,
    to_frame,
)
from mindiffusion.errors import UserError

ROW = Row(
    study="demo", arm="B", seed=0, step=100, total_steps=200, metric="FID@10k", value=12.5,
    level=None, error=None, direction="lower", metric_version=1, n_generated=10_000,
    n_reference=50_000, weights="ema0.999", sampler="ddim", sampler_steps=50, sampling_seed=0,
    full_range=True, stage="", samples=None, dataset="celeba", manifest="abc", config_hash="c0",
    git="g", versions={"torch": "2.15", "ε": "1"}, device="cpu", host="h", threads=1,
    train_seconds=1.5, time="2027-01-01T00:00:00+00:00",
)  # fmt: skip


def row(**changes):
    return dataclasses.replace(ROW, **changes)


def frame_of(*rows):
    return to_frame(rows)


# --- the file ---


def test_rows_round_trip(tmp_path):
    path = tmp_path / "study" / "rows.jsonl"
    rows = [row(), row(step=200, value=1 / 3, error=0.1), row(metric="eps-MSE", level=0.025)]
    append_rows(path, rows[:1])
    append_rows(path, rows[1:])
    assert read_rows(path) == rows
    assert path.read_text().count("\n") == 3
    assert set(json.loads(path.read_text().splitlines()[0])) == {*FIELDS, "crc"}


def test_read_rows_of_no_file_is_empty(tmp_path):
    assert read_rows(tmp_path / "rows.jsonl") == []


@pytest.mark.parametrize("cut", [1, 2, 50, 200])
def test_a_cut_last_line_is_skipped_and_then_removed(tmp_path, caplog, cut):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [row(step=1), row(step=2)])
    whole = path.read_bytes()
    first_line = whole[: whole.index(b"\n") + 1]
    # One byte less than everything takes only the newline: that line is still whole.
    path.write_bytes(whole[:-cut])
    expected = [row(step=1), row(step=2)] if cut == 1 else [row(step=1)]
    with caplog.at_level(logging.WARNING):
        assert read_rows(path) == expected
        assert ("cut last line" in caplog.text) == (cut > 1)
        append_rows(path, [row(step=3)])
    assert read_rows(path) == [*expected, row(step=3)]
    assert path.read_bytes().startswith(first_line)
    assert caplog.text.count("removed a cut last line") == (cut > 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop("seed"), "seed: Field required"),
        (lambda d: d.update(colour="red"), "colour: Unexpected"),
        (lambda d: d.update(step="100"), "step: Input should be a valid integer"),
        (lambda d: d.update(direction="up"), "direction: Input should be 'lower'"),
        (lambda d: d.update(value=float("nan")), "value: "),
    ],
)
def test_read_rows_names_file_line_and_field(tmp_path, damage, message):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [row(step=1), row(step=2), row(step=3)])
    lines = path.read_text().splitlines()
    values = json.loads(lines[1])
    del values["crc"]
    damage(values)
    lines[1] = json.dumps(values)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError) as caught:
        read_rows(path)
    assert f"{path}, line 2: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_read_rows_finds_any_flipped_bit_and_names_its_line(tmp_path, caplog):
    path = tmp_path / "rows.jsonl"
    rows = [row(step=1), row(step=2), row(step=3)]
    append_rows(path, rows)
    whole = path.read_bytes()
    length = whole.index(b"\n") + 1
    for offset in range(length, 2 * length):
        altered = bytearray(whole)
        altered[offset] ^= 1 << offset % 8
        path.write_bytes(altered)
        with pytest.raises(UserError, match=r"rows\.jsonl, line 2: .*from this line on"):
            read_rows(path)
    # A last line that lost its end is passed over, as a cut one is.
    path.write_bytes(whole[:-1] + b"J")
    assert read_rows(path) == rows[:2] and "cut last line" in caplog.text


def test_read_rows_takes_lines_of_older_files_without_a_checksum(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(dataclasses.asdict(ROW)) + "\n")
    assert read_rows(path) == [ROW]


def test_read_rows_refuses_a_cut_line_in_the_middle(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [row(step=1), row(step=2)])
    path.write_text("{" + path.read_text())
    with pytest.raises(UserError, match="line 1"):
        read_rows(path)


def test_a_missing_declaration_means_exploratory(tmp_path):
    path = tmp_path / "rows.jsonl"
    values = dataclasses.asdict(ROW)
    del values["declared"]
    path.write_text(json.dumps(values) + "\n")
    assert read_rows(path)[0].declared == "exploratory"


@pytest.mark.parametrize("bad", [{"value": float("inf")}, {"seed": 1.5}, {"direction": "down"}])
def test_append_rows_writes_nothing_when_one_row_is_bad(tmp_path, bad):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(UserError, match=next(iter(bad))):
        append_rows(path, [row(), row(**bad)])
    assert not path.exists()


def test_equal_rows_collapse_whatever_clock_and_host_say(tmp_path):
    path = tmp_path / "rows.jsonl"
    again = row(time="later", host="other", device="gpu", train_seconds=9.0, threads=4, git="g2")
    append_rows(path, [row(), again])
    assert read_rows(path) == [row()]


@pytest.mark.parametrize("change", [{"value": 13.0}, {"error": 0.5}])
def test_two_values_for_one_key_are_a_conflict(tmp_path, change):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [row(), row(step=1), row(**change)])
    with pytest.raises(UserError) as caught:
        read_rows(path)
    text = str(caught.value)
    assert "lines 1 and 3" in text
    assert all(part in text for part in ("'B'", "seed 0", "step 100", "FID@10k", "12.5"))


def test_key_tells_apart_what_was_measured():
    changes = (
        {"arm": "C"}, {"seed": 1}, {"step": 1}, {"metric": "FID@50k"}, {"level": 0.5},
        {"metric_version": 2}, {"n_generated": 1}, {"n_reference": 1}, {"weights": "raw"},
        {"sampler": "x"}, {"sampler_steps": 1}, {"sampling_seed": 1}, {"manifest": "m"},
        {"config_hash": "c1"}, {"declared": "sha"},
    )  # fmt: skip
    assert len({key(row(**change)) for change in changes} | {key(ROW)}) == len(changes) + 1


WRITER = """
import dataclasses, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_results import ROW
from benchmark.results import append_rows
for step in range(25):
    rows = [dataclasses.replace(ROW, arm=sys.argv[1], step=step, level=k / 40) for k in range(40)]
    append_rows(Path({path!r}), rows)
"""


def test_two_processes_append_to_one_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    code = WRITER.format(tests=os.path.dirname(__file__), path=str(path))  # noqa: PTH120
    writers = [subprocess.Popen([sys.executable, "-c", code, arm]) for arm in ("C", "CS")]
    assert [writer.wait() for writer in writers] == [0, 0]
    rows = read_rows(path)
    assert len(rows) == 2 * 25 * 40
    cells = [(r.arm, r.step) for r in rows]
    # The rows of one call stand together.
    assert all(len(set(cells[k : k + 40])) == 1 for k in range(0, len(cells), 40))


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [row()])
    before = path.read_bytes()
    write, calls = os.write, []

    def full(descriptor, data):
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data[: len(data) // 2]))

    monkeypatch.setattr(results.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        append_rows(path, [row(step=1), row(step=2)])
    assert len(calls) == 2
    assert path.read_bytes() == before


# --- names ---


@pytest.mark.parametrize(
    ("n", "label"), [(256, "@256"), (2048, "@2048"), (10_000, "@10k"), (50_000, "@50k")]
)
def test_metric_label_carries_n(n, label):
    assert metric_label("FID", n) == "FID" + label


def test_metric_label_refuses_no_images():
    with pytest.raises(UserError, match="n >= 1"):
        metric_label("FID", 0)


def test_smoke_is_fewer_than_2048():
    assert (is_smoke(2047), is_smoke(2048)) == (True, False)


# --- frames ---


def test_to_frame_is_free_of_row_order():
    rows = [row(arm=a, seed=s, step=t) for a in ("B", "C") for s in (0, 1) for t in (1, 2)]
    rows.append(row(metric="eps-MSE", level=0.5))
    pd.testing.assert_frame_equal(to_frame(rows), to_frame(rows[::-1]))


def test_to_frame_of_no_rows_has_all_columns():
    assert list(to_frame([]).columns) == list(FIELDS)


def test_arm_order_puts_the_known_arms_first():
    arms = ("zeta", "CR", "C", "alpha", "B")
    assert arm_order(frame_of(*(row(arm=a) for a in arms))) == ["B", "C", "CR", "alpha", "zeta"]


def test_distance_rows_prefer_fid_to_other_nets():
    other = row(metric="FD-EffNet-Lite0-64px@256")
    assert set(distance_rows(frame_of(row(), other))["metric"]) == {"FID@10k"}
    assert set(distance_rows(frame_of(other))["metric"]) == {other.metric}
    assert distance_rows(frame_of(row(metric="t_min"))).empty


@pytest.mark.parametrize(
    "change",
    [{"metric": "FID@50k"}, {"weights": "raw"}, {"sampler_steps": 9}, {"metric_version": 2},
     {"n_generated": 9}, {"n_reference": 9}, {"sampler": "ddpm"}],
)  # fmt: skip
def test_split_conditions_never_joins_unlike_numbers(change):
    assert len(split_conditions(frame_of(row(), row(arm="C", **change)))) == 2
    assert len(split_conditions(frame_of(row(), row(arm="C")))) == 1


def test_over_seeds_averages_sampling_seeds_within_a_training_seed():
    values = {(0, 0): 1.0, (0, 1): 3.0, (1, 0): 5.0, (1, 1): 7.0}
    rows = [row(seed=s, sampling_seed=k, value=v) for (s, k), v in values.items()]
    summary = over_seeds(to_frame(rows)).iloc[0]
    assert summary["seeds"] == 2
    assert summary["mean"] == 4.0
    # Seed means are 2 and 6: half width t(.975, 1) * sd / sqrt(2) = 12.706 * 2.
    assert summary["half_width"] == pytest.approx(25.412, abs=1e-3)


def test_over_seeds_keeps_the_error_of_a_lone_measurement_only():
    lone = [row(arm="B", error=0.3)]
    again = [row(arm="C", error=0.3, sampling_seed=k) for k in (0, 1)]
    several = [row(arm="D", error=0.3, seed=seed) for seed in (0, 1)]
    summary = over_seeds(to_frame(lone + again + several))
    assert summary["error"].iloc[0] == 0.3
    assert summary["error"].iloc[1:].isna().all()


def test_kernel_distance_rows_are_those_of_any_net():
    names = ["KID@256", "KD-EffNet-Lite0-64px@256", "FID@256", "eps-MSE"]
    found = kernel_distance_rows(to_frame([row(metric=name) for name in names]))
    assert set(found["metric"]) == set(names[:2])


def test_over_seeds_is_hollow_if_one_seed_is():
    rows = [row(seed=0), row(seed=1, full_range=False)]
    assert not over_seeds(to_frame(rows))["full_range"].iloc[0]


def test_mean_over_levels_averages_each_measurement():
    rows = [
        row(metric="eps-MSE", arm=arm, level=level, value=value)
        for arm, values in (("B", (1.0, 3.0)), ("C", (2.0, 6.0)))
        for level, value in zip((0.25, 0.75), values, strict=True)
    ]
    mean = mean_over_levels(to_frame(rows))
    assert dict(zip(mean["arm"], mean["value"], strict=True)) == {"B": 2.0, "C": 4.0}


def test_mean_over_levels_refuses_unlike_levels():
    rows = [row(metric="eps-MSE", level=0.1), row(metric="eps-MSE", arm="C", level=0.2)]
    with pytest.raises(UserError, match="sets of noise levels"):
        mean_over_levels(to_frame(rows))


def test_curriculum_frame_ends_each_stage_where_the_next_begins():
    rows = [
        row(metric="t_min", value=value, step=step, stage=name)
        for value, step, name in ((0.8, 0, "one"), (0.4, 30, "two"), (0.0, 90, "three"))
    ]
    stages = curriculum_frame(to_frame(rows))
    assert stages["stage"].tolist() == ["one", "two", "three"]
    assert stages["from_step"].tolist() == [0, 30, 90]
    assert stages["to_step"].tolist() == [30, 90, 200]
    assert stages["t_min"].tolist() == [0.8, 0.4, 0.0]
    assert stages["penalty_lambda"].isna().all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(), row(arm="C", manifest="other")], "2 prepared data sets"),
        ([row(), row(config_hash="c1", value=3.0)], "configs c0, c1"),
        ([], "no rows yet"),
    ],
)
def test_load_study_refuses_rows_that_do_not_belong_together(tmp_path, rows, message):
    (tmp_path / "rows.jsonl").touch()
    append_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError, match=message):
        load_study(tmp_path)


def test_load_study_names_the_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"rows\.jsonl does not exist"):
        load_study(tmp_path / "nowhere")
