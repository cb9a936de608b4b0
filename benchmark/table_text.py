"""A table as text: Markdown and LaTeX of the same cells, and how many decimals they need."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

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
}


_IS_NUMBER = re.compile(r"[-−+<]? ?[.\d]|–$|$")


@dataclass(frozen=True)
class Table:
    """A table as text: a title, what it shows, cells and footnotes."""

    title: str
    caption: str
    header: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


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


def _plain(cell: str) -> str:
    """Arm names such as ``density*`` must not become Markdown."""
    return "".join(f"\\{character}" if character in "|*_" else character for character in cell)


def to_markdown(table: Table) -> str:
    """The table as a Markdown section."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_plain(cell) for cell in cells) + " |"

    rule = "|" + "".join(" ---: |" if side == "r" else " --- |" for side in alignment(table))
    rows = [line(table.header), rule, *(line(row) for row in table.body)]
    parts = [f"### {table.title}", table.caption, "\n".join(rows), *table.notes]
    return "\n\n".join(parts) + "\n"


def escape_latex(text: str) -> str:
    """Text as ASCII LaTeX; a character that it has no name for becomes its code, as U+00E9."""
    return "".join(_LATEX.get(one, one if one.isascii() else f"U+{ord(one):04X}") for one in text)


def to_latex(table: Table, label: str) -> str:
    """The table as a LaTeX float; needs the package booktabs and no other."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(escape_latex(cell) for cell in cells) + r" \\"

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
