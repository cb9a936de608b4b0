import pandas as pd
import pytest

from benchmark.reporting.tables.as_text import (
    Table,
    escape_markdown,
    to_csv,
    to_latex,
    to_markdown,
    written,
)


def table(*cells, **changes):
    body = tuple((cell, "1.0") for cell in cells)
    return Table(**{"title": "A", "caption": "b.", "header": ("arm", "x"), "body": body} | changes)


@pytest.mark.parametrize("name", ["[2cm]", "*", "[", "*x"])
def test_a_row_of_latex_is_no_option_of_the_one_before(name):
    latex = to_latex(table("B", name), "t")
    assert f"\n{{}}{name} & 1.0" in latex
    assert "\nB & 1.0" in latex


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[x](http://y)", r"[x\](http\://y)"),
        ("![x](y)", r"![x\](y)"),
        ("<img src=x>", r"\<img src=x>"),
        ("`code`", r"\`code\`"),
        ("&lt;b>", r"\&lt;b>"),
        ("# heading", r"\# heading"),
        ("1. item", r"1\. item"),
        ("- item", r"\- item"),
        (r"a\b", r"a\\b"),
        ("[x]: y", r"[x\]: y"),
        ("*loud*", r"\*loud*"),
        ("C − density*: p < .001, 95 % [1, 2]", "C − density*: p < .001, 95 % [1, 2]"),
    ],
)
def test_text_of_a_stranger_stays_text_in_markdown(text, shown):
    assert escape_markdown(text) == shown
    assert shown in to_markdown(table("B", caption=text))


def test_a_cell_of_markdown_stays_one_cell():
    assert to_markdown(table(r"a\|b`<b>")).splitlines()[-1] == r"| a\\\|b\`\<b> | 1.0 |"


def test_no_cell_or_heading_of_csv_is_a_formula():
    frame = pd.DataFrame({"arm": ["=cmd()", "B"], "+x": [-1.5, 2.0]})
    assert to_csv(frame) == "arm,'+x\n'=cmd(),-1.5\nB,2.0\n"


def test_numbers_keep_their_decimals_until_they_are_enormous():
    assert written(1234.5678, ".1f") == "1234.6"
    assert written(-3e70, ".4f") == "-3.00e+70" and written(1e20, "+.2%") == "1.00e+22%"
