"""Text of a stranger, made fit to be shown."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindiffusion.printable import is_printable, printable, spreadsheet_cell

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT, st.integers(2, 700))
def test_what_is_shown_moves_no_terminal_and_is_bounded(text, most):
    shown = printable(text, most)
    assert is_printable(shown) and len(shown) <= most
    shown.encode("utf-8")
    assert not set(shown) & set("\x1b\x07\b\r\n\t\x7f\x9b\u202e\u2028\ud800")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("density* − é → 中 😀", "density* − é → 中 😀"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("x" * 601, "x" * 599 + "…"),
        (12.5, "12.5"),
    ],
)
def test_what_is_fit_stays_and_the_rest_is_named(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "@SUM(A1)",
        "+cmd|' /C calc'!A0",
        "-2+3+cmd|'x'!A0",
        "\t=1",
        "\r=1",
        "=",
        "-A1",
        "+A1*2",
    ],
)
def test_a_formula_becomes_text(text):
    assert spreadsheet_cell(text) == f"'{text}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "C",
        "density*",
        "-4.2 %",
        "+15.5 % (+6.7 to +25.0)",
        "-1e-05",
        "-0.5 ± 0.1",
        "1=2",
        "−3 %",
    ],
)
def test_amounts_and_words_stay_as_they_are(text):
    assert spreadsheet_cell(text) == text


@given(ANY_TEXT)
def test_no_cell_begins_as_a_formula_with_letters_in_it(text):
    cell = spreadsheet_cell(text)
    assert cell in (text, f"'{text}")
    if cell.startswith(("=", "@", "\t", "\r")):
        pytest.fail(f"{cell!r} is a formula")
    if cell.startswith(("+", "-")):
        assert not set(cell) & set("=|!&'\"") and not any(
            c.isalpha() and c not in "toe" for c in cell
        )
    # What is written can be read again as one cell.
    if is_printable(text):
        file = io.StringIO()
        csv.writer(file).writerow([cell])
        assert next(csv.reader([file.getvalue()]), [""]) == [cell]
