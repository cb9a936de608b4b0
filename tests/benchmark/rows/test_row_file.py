import dataclasses
import errno
import json
import logging
import os
import re
import subprocess
import sys
import tracemalloc
import zlib

import pytest

from benchmark.rows import file as row_file
from benchmark.rows.file import Follower, append_rows, read_rows
from benchmark.rows.lines import Decoder
from benchmark.rows.row import FIELDS, Row, key
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


def test_rows_round_trip(tmp_path):
    path = tmp_path / "study" / "rows.jsonl"
    rows = [row(), row(step=200, value=1 / 3, error=0.1), row(metric="eps-MSE", level=0.025)]
    append_rows(path, rows[:1])
    append_rows(path, rows[1:])
    assert read_rows(path) == rows
    shared, *own = map(json.loads, path.read_text().splitlines())
    assert len(own) == 3 and all(line["of"] == [shared["id"]] for line in own)
    assert {*shared, *own[0]} == {*FIELDS, "format", "id", "of", "crc"}
    assert shared.keys() & own[0].keys() == {"crc"}


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
        assert ("the cut last line (line 3) cannot be read" in caplog.text) == (cut > 1)
        append_rows(path, [row(step=3)])
    assert read_rows(path) == [*expected, row(step=3)]
    assert path.read_bytes().startswith(first_line)
    assert caplog.text.count("removed a cut last line") == (cut > 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop("seed"), "seed is missing"),
        (lambda d: d.update(colour="red"), "colour is not known here"),
        (lambda d: d.update(step="100"), "step is '100': input should be a valid integer"),
        (lambda d: d.update(direction="up"), "direction is 'up': input should be 'lower'"),
        (lambda d: d.update(value=float("nan")), "value is nan: input should be a finite"),
    ],
)
def test_read_rows_names_file_line_and_field(tmp_path, damage, message):
    path = tmp_path / "rows.jsonl"
    lines = [dataclasses.asdict(row(step=step)) for step in (1, 2, 3)]
    damage(lines[1])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError) as caught:
        read_rows(path)
    assert f"{path}, line 2: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_read_rows_finds_any_flipped_bit_and_names_its_line(tmp_path, caplog):
    path = tmp_path / "rows.jsonl"
    rows = [row(step=1), row(step=2), row(step=3)]
    append_rows(path, rows)
    whole = path.read_bytes()
    # The shared line and the one that first takes from it.
    ends = [match.end() for match in re.finditer(b"\n", whole)]
    for offset in range(ends[1]):
        altered = bytearray(whole)
        altered[offset] ^= 1 << offset % 8
        path.write_bytes(altered)
        number = 1 + (offset >= ends[0])
        with pytest.raises(UserError, match=rf"rows\.jsonl, line {number}: .*from this line on"):
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


def test_equal_rows_collapse_whatever_clock_host_and_declaration_say(tmp_path):
    path = tmp_path / "rows.jsonl"
    again = row(time="later", host="other", device="gpu", train_seconds=9.0, threads=4, git="g2",
                declared="prereg-0123")  # fmt: skip
    append_rows(path, [row(), again])
    assert read_rows(path) == [row()]


@pytest.mark.parametrize("change", [{"value": 13.0}, {"error": 0.5}])
def test_two_values_for_one_key_are_a_conflict(tmp_path, change):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [row(), row(step=1), row(**change)])
    with pytest.raises(UserError) as caught:
        read_rows(path)
    text = str(caught.value)
    assert text.startswith(f"{path}, line 2, and {path}, line 4: two results")
    assert all(part in text for part in ("'B'", "seed 0", "step 100", "FID@10k", "12.5"))


def test_key_tells_apart_what_was_measured():
    changes = (
        {"arm": "C"}, {"seed": 1}, {"step": 1}, {"metric": "FID@50k"}, {"level": 0.5},
        {"metric_version": 2}, {"n_generated": 1}, {"n_reference": 1}, {"weights": "raw"},
        {"sampler": "x"}, {"sampler_steps": 1}, {"sampling_seed": 1}, {"manifest": "m"},
        {"config_hash": "c1"},
    )  # fmt: skip
    assert len({key(row(**change)) for change in changes} | {key(ROW)}) == len(changes) + 1


WRITER = """
import dataclasses, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_row_file import ROW
from benchmark.rows.file import append_rows
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

    monkeypatch.setattr(row_file.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        append_rows(path, [row(step=1), row(step=2)])
    assert len(calls) == 2
    assert path.read_bytes() == before


def test_a_follower_decodes_every_line_once(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    follower = Follower(path)
    assert follower.news() == ([], True)
    append_rows(path, [row(step=1), row(step=2)])
    assert follower.news() == ([row(step=1), row(step=2)], True)
    decode, numbers = Decoder.rows_of, []

    def counted(self, number, line):
        numbers.append(number)
        return decode(self, number, line)

    monkeypatch.setattr(Decoder, "rows_of", counted)
    append_rows(path, [row(step=3)])
    assert follower.news() == ([row(step=3)], False)
    assert follower.news() == ([], False)
    assert numbers == [4]


def test_a_follower_reads_a_line_that_was_cut_when_it_is_whole(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [row(step=1), row(step=2)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    follower = Follower(path)
    assert follower.news() == ([row(step=1)], True)
    path.write_bytes(whole)
    assert follower.news() == ([row(step=2)], False)


@pytest.mark.parametrize("steps", [[7], [7, 8, 9]], ids=["shorter", "longer"])
def test_a_follower_starts_over_with_another_file(tmp_path, steps):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [row(step=1), row(step=2)])
    follower = Follower(path)
    follower.news()
    path.unlink()
    append_rows(path, [row(step=step) for step in steps])
    assert follower.news() == ([row(step=step) for step in steps], True)


def test_a_follower_names_the_line_in_the_whole_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [row(step=1), row(step=2)])
    follower = Follower(path)
    follower.news()
    with path.open("ab") as handle:
        handle.write(b"{}\n")
    for _ in range(2):
        with pytest.raises(UserError, match="line 4"):
            follower.news()


def test_a_follower_forgets_no_row_over_an_error(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [row(step=1)])
    follower = Follower(path)
    follower.news()
    append_rows(path, [row(step=2)])
    whole = path.read_bytes()
    path.write_bytes(whole + b"{}\n")
    with pytest.raises(UserError, match="line 4"):
        follower.news()
    path.write_bytes(whole)
    assert follower.news() == ([row(step=1), row(step=2)], True)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.replace(b"\n", b"\r\n"),
        lambda d: b"\xef\xbb\xbf" + d,
        lambda d: d.replace(b"\n", b"\n\n"),
        lambda d: b"\n \n" + d,
        lambda d: b"\xef\xbb\xbf" + d.replace(b"\n", b"\r\n")[:-2],
    ],
    ids=["crlf", "bom", "blank lines", "begins blank", "bom, crlf, no end"],
)
def test_what_other_systems_do_to_line_ends_costs_nothing(tmp_path, change):
    path = tmp_path / "rows.jsonl"
    rows = [row(step=1), row(step=2)]
    append_rows(path, rows)
    path.write_bytes(change(path.read_bytes()))
    assert read_rows(path) == rows
    append_rows(path, [row(step=3)])
    assert read_rows(path) == [*rows, row(step=3)]


def test_a_follower_reads_on_behind_other_line_ends(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [row(step=1)])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    follower = Follower(path)
    assert follower.news() == ([row(step=1)], True)
    append_rows(path, [row(step=2)])
    assert follower.news() == ([row(step=2)], False)


def test_a_field_of_a_newer_version_is_no_damage(tmp_path):
    path = tmp_path / "rows.jsonl"
    values = json.dumps(dataclasses.asdict(ROW) | {"colour": "red"}).encode()
    path.write_bytes(b'%s, "crc": "%08x"}\n' % (values[:-1], zlib.crc32(values)))
    with pytest.raises(UserError, match="colour is not known here") as caught:
        read_rows(path)
    assert "another version" in str(caught.value) and "elete" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"arm": "B\x1b[2J"},
        {"arm": "B\nC"},
        {"metric": "FID\u202e"},
        {"arm": "B" * 201},
        {"versions": {"torch\x07": "2"}},
        {"samples": "b/seed0/torch.py"},
        {"samples": "/etc/secret.png"},
        {"seed": 10**30},
        {"step": -1},
    ],
    ids=repr,
)
def test_texts_of_rows_can_be_shown_and_numbers_are_counts(tmp_path, change):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(dataclasses.asdict(ROW) | change) + "\n")
    with pytest.raises(UserError, match=next(iter(change))) as caught:
        read_rows(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600
    with pytest.raises(UserError, match="Row"):
        append_rows(path, [row(**change)])


def test_a_line_without_end_takes_no_memory(tmp_path):
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as handle:
        handle.truncate(1 << 30)
    with pytest.raises(UserError, match="line 1: the line has more than 65536 bytes"):
        read_rows(path)
    with path.open("ab") as handle:
        handle.write(b"\n")
    with pytest.raises(UserError, match=r"rows\.jsonl has more than 1,073,741,824 bytes"):
        read_rows(path)


def test_rows_are_neither_read_nor_written_through_a_link_or_pipe(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("precious")
    linked, pipe = tmp_path / "linked.jsonl", tmp_path / "pipe.jsonl"
    linked.symlink_to(mine)
    os.mkfifo(pipe)
    for path, kind in ((linked, "a link"), (pipe, "a pipe")):
        for action in (lambda p: append_rows(p, [ROW]), read_rows):
            with pytest.raises(UserError, match=kind):
                action(path)
    assert mine.read_text() == "precious"


def test_a_row_takes_little_memory_beside_its_values():
    tracemalloc.start()
    rows = [row() for _ in range(100)]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 400 * len(rows)


def test_a_data_set_may_lie_deep(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [row(dataset="/gpfs/" + "x" * 400)]
    append_rows(path, rows)
    assert read_rows(path) == rows
