"""Lines of format 2: what is shared stands once, a curve is one line, what does not fit is told."""

import dataclasses
import json
import zlib
from pathlib import Path

import pytest
from test_row_file import ROW, row

from benchmark.rows import lines as row_lines
from benchmark.rows.file import append_rows, read_rows
from benchmark.rows.lines import Decoder, ids_in, lines_of
from mindiffusion.errors import UserError

LEVELS = [k / 20 for k in range(1, 21)]


def curve(**changes):
    return [row(level=t, value=1 / t, error=t / 3, **changes) for t in LEVELS]


def decoded(lines):
    decoder = Decoder(Path("rows.jsonl"))
    return [one for number, line in enumerate(lines, 1) for one in decoder.rows_of(number, line)]


def own(rows):
    return [json.loads(line) for name, line in lines_of(rows) if not name]


def sealed(**content):
    line = json.dumps(content).encode()
    return b'%s, "crc": "%08x"}' % (line[:-1], zlib.crc32(line))


def test_any_rows_come_back_in_their_order():
    rows = [
        row(step=1), *curve(metric="eps-MSE"), *curve(metric="eps-MSE", weights="raw"),
        *curve(metric="eps-MSE-linear"), row(metric="eps-MSE", level=0.5), row(step=2, arm="C"),
        row(metric="amplitude/hair", error=0.25), row(time="later"), row(samples="b/x.png"),
        row(level=0.5, value=-0.0, error=None), row(level=0.6, value=5e-324, error=1e308),
    ]  # fmt: skip
    lines = [line.rstrip(b"\n") for _, line in lines_of(rows)]
    back = decoded(lines)
    assert back == rows and str(back) == str(rows)


def test_what_a_run_has_in_common_stands_once_in_a_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    for step in range(5):
        append_rows(path, [row(step=step), row(step=step, arm="C"), row(step=step, seed=1)])
    shared = [line for line in path.read_bytes().splitlines() if b'"versions"' in line]
    assert len(shared) == 3 and b'"config_hash"' in shared[0]
    assert len(path.read_bytes().splitlines()) == 3 + 15
    assert len(read_rows(path)) == 15


def test_what_the_data_alone_say_stands_once_in_a_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        one
        for arm in ("B", "C")
        for step in (1, 2)
        for one in curve(metric="eps-MSE-linear", arm=arm, step=step)
    ]
    for start in range(0, len(rows), 20):
        append_rows(path, rows[start : start + 20])
    assert path.read_bytes().count(b"eps-MSE-linear") == 1
    assert read_rows(path) == rows


def test_a_curve_is_a_line_and_a_long_one_is_several(monkeypatch):
    assert [len(line["level"]) for line in own(curve())] == [20]
    monkeypatch.setattr(row_lines, "_MOST_POINTS", 8)
    assert [len(line["level"]) for line in own(curve())] == [8, 8, 4]
    assert len(own([row(), row()])) == 2
    assert [type(line["level"]) for line in own([row(level=0.5), row(level=0.5, step=2)])] == [
        float,
        float,
    ]


def test_the_longest_lines_that_are_written_can_be_read(tmp_path):
    points = [row(level=k / 600 + 1e-9, value=-k / 7e-200, error=k / 7e200) for k in range(1, 601)]
    append_rows(tmp_path / "rows.jsonl", points)
    assert read_rows(tmp_path / "rows.jsonl") == points


def test_an_id_in_a_text_is_no_shared_line():
    text = '{"format": 2, "id": "0123456789ab"'
    content = b"".join(line for _, line in lines_of([row(stage=text), row(dataset=text)]))
    names = {name for name, _ in lines_of([row(stage=text), row(dataset=text)]) if name}
    assert ids_in(content) == names and len(names) == 2


def test_a_file_that_goes_on_is_of_both_formats(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(dataclasses.asdict(ROW)) + "\n")
    append_rows(path, [row(step=1)])
    assert read_rows(path) == [ROW, row(step=1)]


def test_a_newer_format_is_named_and_nothing_is_to_be_deleted(tmp_path):
    path = tmp_path / "rows.jsonl"
    line = sealed(format=3, id="0123456789ab", colour="red")
    path.write_bytes(line + b"\n")
    with pytest.raises(UserError, match="line 1: it is of format 3, here 2 is the newest") as one:
        read_rows(path)
    assert "another version" in str(one.value) and "elete" not in str(one.value)


@pytest.mark.parametrize("metric", ["FID@10k", "amplitude/hair"])
def test_a_whole_number_is_written_as_it_is_read(tmp_path, metric):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [row(metric=metric, value=3, error=1, train_seconds=2)])
    (found,) = read_rows(path)
    assert (found.value, found.error, found.train_seconds) == (3.0, 1.0, 2.0)
    append_rows(path, [found])
    assert read_rows(path) == [found]


def test_shared_lines_are_bounded(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [row(), row(arm="C")])
    monkeypatch.setattr(row_lines, "_MOST_SHARED", 2)
    assert len(read_rows(path)) == 2
    append_rows(path, [row(arm="D")])
    with pytest.raises(UserError, match="line 5: the file has more than 2 lines with an id"):
        read_rows(path)


SHARED, OWN = (json.loads(line) for _, line in lines_of([row(), *curve()])[:2])
CURVE = json.loads(lines_of(curve())[1][1])
RUN, MEASUREMENT, OF_DATA = (
    json.loads(line) for _, line in lines_of(curve(metric="eps-MSE-linear"))
)
LONG = {name: [0.5] * 513 for name in ("level", "value", "error")}


def named(line, **changes):
    """A shared line with other fields, and the id that fits them."""
    fields = {k: v for k, v in (line | changes).items() if k not in ("format", "id", "crc")}
    return {"format": line["format"], "id": row_lines._id_of(fields)} | fields


def of(*shared, **own):
    """Shared lines, and a line that takes from them."""
    return [*shared, {"of": [line["id"] for line in shared]} | own]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([OWN], "line 1: the line with the id .* is not before it. Bring the whole file"),
        ([SHARED | {"arm": "C"}], "line 1: its fields are not those of the id"),
        ([SHARED | {"id": "C"}], "line 1: id is 'C'"),
        ([SHARED, OWN | {"of": []}], "line 2: study is missing"),
        ([SHARED, OWN | {"of": OWN["of"] * 3}], "line 2: of is .* at most 2 items"),
        ([SHARED, {k: v for k, v in OWN.items() if k != "step"}], "line 2: step is missing"),
        ([SHARED, OWN | {"colour": 1}], "line 2: colour is not known here"),
        ([SHARED, CURVE | {"level": [0.5]}], "line 2: level, value, error are not lists of one"),
        ([SHARED, CURVE | {"error": None}], "line 2: error is None: input should be a valid array"),
        ([SHARED, CURVE | {"level": 0.5}], "line 2: value is a list of 20: input should be a v"),
        ([SHARED, CURVE | {"value": ["1"] * 20}], "line 2: value.0 is '1': input sh"),
        ([SHARED, CURVE | {"value": [float("nan")] * 20}], "line 2: value.0 is nan"),
        ([SHARED, OWN | {"metric": "FID\x1b"}], "line 2: metric has characters"),
        ([SHARED, OWN | {"stage": "x" * 70_000}], "line 2: the line has more than 65536 bytes"),
        ([named(RUN, of=[RUN["id"]])], "line 1: of is not known here"),
        ([named(RUN, **LONG)], "line 1: value is a list of 513: list should have at most 512"),
        ([named(RUN, level=[1.0], value=[1.0], error=[1.0])], "line 1: its fields are neither"),
        ([named(MEASUREMENT, step=1)], "line 1: its fields are neither those of a run nor those"),
        ([{k: v for k, v in RUN.items() if k != "id"}], "line 1: id is missing"),
        ([RUN | {"format": 1}], "line 1: format is 1: input should be greater"),
        ([RUN, OF_DATA | {"id": RUN["id"]}], "line 2: id is not known here"),
        ([SHARED, CURVE | LONG], "line 2: value is a list of 513: list should have at most 512"),
        (of(RUN, named(RUN, arm="C")), "line 3: study stands in two of the lines"),
        (of(RUN, MEASUREMENT, arm="C"), "line 3: arm stands in two of the lines"),
        ([RUN | {"versions": dict.fromkeys(map(str, range(65)), "")}], "line 1: versions is a map"),
    ],
    ids=range(25),
)
def test_a_line_that_is_none_is_named(tmp_path, lines, message):
    path = tmp_path / "rows.jsonl"
    texts = [json.dumps({k: v for k, v in line.items() if k != "crc"}) for line in lines]
    path.write_text("".join(text + "\n" for text in texts))
    with pytest.raises(UserError, match=message) as caught:
        read_rows(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600
