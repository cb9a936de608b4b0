"""A table as text: Markdown and LaTeX of the same cells, and how many decimals they need."""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mindiffusion.printable import spreadsheet_cell

_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "ε": r"$\varepsilon$",
    "λ": r"$\lambda$",
    "|": r"\textbar{}",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "∞": r"$\infty$",
    "τ": r"$\tau$",
    "→": r"$\to$",
    "<": r"$<$",
    ">": r"$>$",
    "≤": r"$\leq$",
    "Σ": r"$\Sigma$",
    "σ": r"$\sigma$",
    "γ": r"$\gamma$",
    "η": r"$\eta$",
    "ᾱ": r"$\bar\alpha$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "²": r"$^2$",
    "−": r"$-$",
    "–": "--",
    "’": "'",
}
# Grave, acute, circumflex, tilde, diaeresis, ring, caron, cedilla: LaTeX's command takes the letter
# in braces.
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0308\u030a\u030c\u0327", "`'^~\"rvc", strict=True))


_IS_NUMBER = re.compile(r"[-−+<>]? ?[.\d]|–$|$")
_ENORMOUS = 1e9
# What begins like this after the end of a row is taken for an option of that.
_LIKE_AN_OPTION = ("[", "*")
# What is Markdown by itself, or with what stands beside it: HTML, links, pictures, code, emphasis.
_MARKDOWN = (
    r"[\\`]|<(?=[A-Za-z/!?])|\](?=[(\[:])|&(?=#?\w+;)|~(?=~)|(?<=tps|ttp|ftp):(?=//)"
    r"|(?<=www)\.|(?<!\w)_(?=\w)|\*(?=\w)"
)
_IN_TEXT, _IN_CELL = re.compile(_MARKDOWN), re.compile(rf"[|*_]|{_MARKDOWN}")
# What begins a heading, a quotation, a list or a block of code, after the number of its item.
_AT_START = re.compile(r"\d+(?=[.)])|(?=[#>+*=~-])")


@dataclass(frozen=True)
class Table:
    """A table as text: a title, what it shows, cells and footnotes."""

    title: str
    caption: str
    header: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def written(value: float, form: str) -> str:
    """A number by a format with fixed decimals (``.1f``); an enormous one with its exponent."""
    if abs(value) < _ENORMOUS or math.isnan(value):
        return f"{value:{form}}"
    return f"{100 * value:.2e}%" if form.endswith("%") else f"{value:.2e}"


def decimals_for(values: Sequence[float]) -> int:
    """Decimals that give the largest value four digits and the smallest two; 6 at most."""
    sizes = [abs(value) for value in values if value != 0]
    if not sizes:
        return 1
    largest, smallest = math.floor(math.log10(max(sizes))), math.floor(math.log10(min(sizes)))
    return min(6, max(0, 3 - largest, 1 - smallest))


def alignment(table: Table) -> str:
    """A letter for each column: "r" for numbers, "l" for words, and for the first one."""
    columns = list(zip(*table.body, strict=True))[1:]
    sides = ["r" if all(map(_IS_NUMBER.match, column)) else "l" for column in columns]
    return "l" + "".join(sides or "r" * (len(table.header) - 1))


def _with_backslash(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


def escape_markdown(text: str) -> str:
    """A paragraph of which nothing becomes a link, a picture, HTML, a list or another mark."""
    text = _IN_TEXT.sub(_with_backslash, text.strip())
    start = _AT_START.match(text)
    return text if start is None else f"{text[: start.end()]}\\{text[start.end() :]}"


def _plain(cell: str) -> str:
    """Arm names such as ``density*`` must not become Markdown."""
    return _IN_CELL.sub(_with_backslash, cell)


def to_markdown(table: Table) -> str:
    """The table as a Markdown section."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_plain(cell) for cell in cells) + " |"

    rule = "|" + "".join(" ---: |" if side == "r" else " --- |" for side in alignment(table))
    rows = [line(table.header), rule, *(line(row) for row in table.body)]
    notes = map(escape_markdown, table.notes)
    title = _IN_TEXT.sub(_with_backslash, table.title)
    parts = [f"### {title}", escape_markdown(table.caption), "\n".join(rows), *notes]
    return "\n\n".join(parts) + "\n"


def _latex_of(character: str) -> str:
    if character in _LATEX or character.isascii():
        return _LATEX.get(character, character)
    parts = unicodedata.normalize("NFD", character)
    letter, accent = parts[0], parts[1:]
    if letter.isascii() and accent in _ACCENTS:
        return f"\\{_ACCENTS[accent]}{{{letter}}}"
    return f"U+{ord(character):04X}"


def escape_latex(text: str) -> str:
    """Text as ASCII LaTeX; a character that it has no name for becomes its code, as U+0416."""
    return "".join(map(_latex_of, text))


def to_latex(table: Table, label: str) -> str:
    """The table as a LaTeX float; needs the package booktabs and no other."""

    def line(cells: Sequence[str]) -> str:
        text = " & ".join(escape_latex(cell) for cell in cells) + r" \\"
        return "{}" * text.startswith(_LIKE_AN_OPTION) + text

    caption = escape_latex(f"{table.title}. {table.caption}")
    notes = [rf"\par\smallskip {escape_latex(note)}\par" for note in table.notes]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\footnotesize",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{alignment(table)}}}",
        r"\toprule",
        line(table.header),
        r"\midrule",
        *(line(row) for row in table.body),
        r"\bottomrule",
        r"\end{tabular}",
        *notes,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_csv(numbers: pd.DataFrame) -> str:
    """A frame as csv, its numbers with twelve digits: further ones differ between processors.

    No text in it is taken for a formula by a spreadsheet.
    """
    shown = numbers.rename(columns=_cell_of_csv).map(_cell_of_csv)
    return str(shown.to_csv(index=False, lineterminator="\n"))


def _cell_of_csv(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.12g}")
    return spreadsheet_cell(value) if isinstance(value, str) else value
