"""Text, JSON and YAML of a stranger: what is refused, and how it is said."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from mindiffusion.errors import UserError
from mindiffusion.outside import documents, yaml_core
from mindiffusion.outside.documents import (
    Name,
    parse_json,
    parse_yaml,
    read_json,
    read_json_lines,
    read_text,
    read_yaml,
    shown_value,
)


class Cell(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    arm: Name
    steps: list[int]
    loss: float = 0.0


# Each list stands for eight of the one before.
BOMB = "\n".join(
    ["l0: &l0 [1, 1, 1, 1, 1, 1, 1, 1]"]
    + [f"l{k}: &l{k} [{', '.join([f'*l{k - 1}'] * 8)}]" for k in range(1, 8)]
)
# Each mapping merges the one before twice.
MERGES = "m0: &m0 {k: 1}\n" + "".join(
    f"m{k}: &m{k} {{<<: [*m{k - 1}, *m{k - 1}]}}\n" for k in range(1, 40)
)
GOOD = {"arm": "density*", "steps": [1, 2]}


def parse(content):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return parse_json(data, Cell, "here.json", "write it anew.")


def test_a_document_is_what_its_schema_says():
    assert parse(GOOD) == Cell(**GOOD)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no whole JSON document"),
        (b"{", "no whole JSON document"),
        (b"[" * 100_000, "no whole JSON document (recursion"),
        (b"\xff\xfe{}", "no whole JSON document"),
        (b"1" * 5_000, "no whole JSON document (number out of range"),
        (b'{"arm": "\\ud800", "steps": []}', "no whole JSON document"),
        ([], "the document is []"),
        ({"arm": "B"}, "steps is missing"),
        (GOOD | {"colour": 1}, "colour is not known here"),
        (GOOD | {"arm": 5}, "arm is 5: input should be a valid string"),
        (GOOD | {"arm": "\x1b[2J"}, r"arm is '\x1b[2J': give at most 200 characters"),
        (GOOD | {"arm": "x" * 201}, "arm is '" + "x" * 78 + "…: give at most 200"),
        (GOOD | {"steps": ["1"]}, "steps.0 is '1': input should be a valid integer"),
        (GOOD | {"loss": float("nan")}, "loss is nan: input should be a finite number"),
        (GOOD | {"steps": {str(k): k for k in range(99)}}, "steps is a mapping of 99 keys"),
        (GOOD | {"x\x1b" * 100: 1}, r"x\x1bx\x1b"),
    ],
)
def test_a_wrong_document_is_one_line_that_names_file_field_and_what_came(content, message):
    with pytest.raises(UserError) as caught:
        parse(content)
    text = str(caught.value)
    assert text.startswith("here.json: ") and message in text and text.endswith("write it anew.")
    assert text.isprintable() and len(text) < 600


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8,
))  # fmt: skip
def test_any_value_is_shown_within_bounds(value):
    assert len(shown_value(value)) <= 90 and shown_value(value).isprintable()


@given(
    st.binary(max_size=60)
    | st.text("{}[]\"':,0123456789.eE-truefalsn\\u ", max_size=60).map(str.encode)
)
def test_any_bytes_are_a_document_or_one_line(content):
    try:
        parse(content)
    except UserError as error:
        assert "\n" not in str(error)


def test_bytes_are_bounded_before_they_are_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "MOST_JSON_BYTES", 20)
    (tmp_path / "x.json").write_text(json.dumps(GOOD))
    with pytest.raises(UserError, match="more than 20 bytes"):
        read_json(tmp_path / "x.json", Cell, "")


def test_text_is_utf8_with_or_without_a_mark(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfone\ntwo \xc3\xa9")
    assert read_text(path) == "one\ntwo é"
    path.write_bytes(b"one\ntwo \xe9")
    with pytest.raises(UserError, match="line 2: byte 0xe9 is not UTF-8; save the file as UTF-8"):
        read_text(path)


def test_lines_that_are_no_objects_are_passed_over(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b'{"step": 1}\n[2]\n\xff\n' + b"[" * 10_000 + b'\n{"step": 2}\n{"ste')
    assert list(read_json_lines(path)) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not valid YAML"),
        ("a: &x [*x]", "nested too deep"),
        ("a: " + "[" * 3_000, "nested too deep"),
        ("1: 2", "the key 1 is no text"),
        ("a: 1\nb: !!binary aGVsbG8=", "line 2: could not determine a constructor for the tag"),
        ("a: !!set {x}", "line 1: could not determine a constructor for the tag"),
        ("x:\n  a: 1\n  'a': 2", "line 3: the key 'a' stands there twice"),
        ("a: !mine 1", "line 1: could not determine a constructor for the tag '!mine'; take"),
        ("a:\n\tb: 1", "indent with spaces, not with a tab"),
        ("seeds [0]\nrun: {}", "is a colon missing, here or in the line before?"),
        ("a: &x {<<: *x}", "nested too deep"),
        ("- " * 100_000, "nested too deep"),
        (MERGES, "more than 20,000 values"),
        ("a: !!python/object/apply:os.system [id]", "is not valid YAML"),
        ('a: "\\ud800"', "line 1: found invalid Unicode character escape code"),
        ('a: "\\x1b[2J"', "characters that can't be shown"),
        ('"a\\eb": 1', "characters that can't be shown"),
        ("a: " + "9" * 30, "too many digits"),
        ("a: " + "9" * 5_000, "is not valid YAML"),
        (BOMB, "more than 20,000 values"),
    ],
)  # fmt: skip
def test_yaml_is_plain_and_bounded(text, message):
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "mine.yaml")
    assert str(caught.value).startswith("mine.yaml") and message in str(caught.value)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


def test_honest_yaml_may_use_aliases_and_many_lines():
    text = (
        "base: &b {lr: 2e-5, on: no}\narms: {one: *b, two: {<<: *b, lr: 1.0}}\nnote: |\n  a\n  b\n"
    )
    base = {"lr": 2e-5, "on": "no"}
    arms = {"one": base, "two": base | {"lr": 1.0}}
    assert parse_yaml(text, "mine.yaml") == {"base": base, "arms": arms, "note": "a\nb\n"}


def test_a_yaml_file_is_a_mapping_that_is_there(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(UserError, match="must hold a mapping"):
        read_yaml(tmp_path / "list.yaml")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1e-4", 1e-4),
        ("-.5", -0.5),
        ("2.", 2.0),
        (".inf", float("inf")),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("on", "on"),
        ("no", "no"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
        ("", None),
        ("'5'", "5"),
    ],
)
def test_words_read_as_yaml_1_2_says(word, value):
    found = parse_yaml(f"a: {word}", "mine.yaml")["a"]
    assert found == value and type(found) is type(value)


def test_flat_yaml_is_counted_before_it_is_built(monkeypatch):
    monkeypatch.setattr(yaml_core._Loader, "get_single_node", lambda self: pytest.fail("built"))
    for text in ("a: [" + "a," * 50_000, "- b\n" * 50_000):
        with pytest.raises(UserError, match="more than 20,000 values"):
            parse_yaml(text, "mine.yaml")


def test_a_line_longer_than_any_of_ours_is_passed_over(tmp_path):
    path = tmp_path / "log"
    long = b'{"step": 2, "a": "' + b"x" * 300_000 + b'"}\n'
    path.write_bytes(b'{"step": 1}\n' + long + b'{"step": 3}\n' + long[:-1])
    assert [entry["step"] for entry in read_json_lines(path)] == [1, 3]
    with pytest.raises(UserError, match="more than 20 bytes"):
        list(read_json_lines(path, 20))
