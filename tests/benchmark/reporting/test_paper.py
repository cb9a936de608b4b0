"""The paper's folder: all tables and figures, in LaTeX that compiles."""

import json
import re
import shutil
import subprocess

import pytest
from remade import paper_of, tables_of
from test_table_arms import CURRICULA, INDEX, REALISED
from test_table_verdicts import study

from benchmark.reporting.tables.as_text import Table, escape_latex, to_latex
from benchmark.rows.file import append_rows
from benchmark.rows.row import FIELDS, Row

# The smallest PDF: one empty page.
PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]>>endobj
trailer<</Root 1 0 R>>
"""
ODD = "density*_{1}/50% − ≥ 3 ∞ # & $ ~ ^ \\ | < > τ λ ± † ‡ ᾱ é ’ Ж →"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study with rows, an index, a figure, and its paper."""
    path = tmp_path_factory.mktemp("study")
    frame = study().astype(object)
    found = frame.where(frame.notna(), None).to_dict("records")
    rows = [Row(**{name: one[name] for name in FIELDS}) for one in found]
    # Both tests' rows tell the exposure of the same cells.
    rows += [row for row in (*CURRICULA, *REALISED) if row.metric != "exposure"]
    append_rows(path / "rows.jsonl", rows)
    (path / "study.json").write_text(json.dumps(INDEX))
    (path / "figures").mkdir()
    (path / "figures" / "forest.pdf").write_bytes(PDF)
    tables_of(path)
    paper_of(path)
    return path


def test_paper_has_the_studys_tables_and_figures_and_inputs_them_all(folder):
    paper = folder / "paper"
    tables = {path.name for path in (folder / "tables").glob("*.tex")}
    assert {path.name for path in (paper / "tables").iterdir()} == tables
    for name in tables:
        assert (paper / "tables" / name).read_bytes() == (folder / "tables" / name).read_bytes()
    text = (paper / "main.tex").read_text()
    assert {f"{name}.tex" for name in re.findall(r"\\input\{tables/(\w+)\}", text)} == tables
    assert re.findall(r"\{figures/(\w+)\}", text) == ["forest"]
    assert (paper / "figures" / "forest.pdf").read_bytes() == PDF


def test_paper_drops_what_the_study_has_no_more(folder):
    paper = folder / "paper"
    stale = paper / "tables" / "quality.tex", paper / "figures" / "closest.pdf"
    own = paper / "tables" / "mine.tex"
    for path in (*stale, own):
        path.write_bytes(b"old")
    assert not set(stale) & set(paper_of(folder))
    assert not any(path.exists() for path in stale) and own.read_bytes() == b"old"
    own.unlink()


def test_paper_is_the_same_on_a_rebuild(folder):
    first = {path: path.read_bytes() for path in paper_of(folder)}
    assert {path: path.read_bytes() for path in paper_of(folder)} == first
    assert len(first) == sum(path.is_file() for path in (folder / "paper").rglob("*"))


def test_all_latex_is_ascii_and_its_braces_and_environments_are_balanced(folder):
    for path in (folder / "paper").rglob("*.tex"):
        text = path.read_text()
        bare = re.sub(r"\\[{}]", "", text)
        assert text.isascii() and bare.count("{") == bare.count("}"), path
        assert text.count(r"\begin{") == text.count(r"\end{"), path
        # Unescaped, these begin a comment or mean something else than themselves.
        lines = [line for line in text.splitlines() if not line.startswith("%")]
        assert not any(re.search(r"(?<!\\)[#~%]", line) for line in lines), path


def test_every_odd_character_has_a_name():
    text = escape_latex(ODD)
    assert text.isascii() and r"density*\_\{1\}/50\% $-$ $\geq$ 3 $\infty$" in text
    assert r"\'{e} ' U+0416" in text and text.count("U+") == 1


def test_accented_letters_stay_letters():
    text = escape_latex("Ècole Fréchet hôte niño Möller Ångström Čech façade")
    assert text == (
        r"\`{E}cole Fr\'{e}chet h\^{o}te ni\~{n}o M\"{o}ller \r{A}ngstr\"{o}m \v{C}ech fa\c{c}ade"
    )
    # Two accents, or one over another letter than a Latin one, have no such command.
    assert escape_latex("ǖ й") == "U+01D6 U+0439"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_paper_compiles(folder):
    paper = folder / "paper"
    odd = Table(ODD, ODD, ("arm", ODD), ((ODD, "1"),), (ODD,))
    (paper / "odd.tex").write_text(to_latex(odd, "odd"))
    text = (paper / "main.tex").read_text()
    (paper / "all.tex").write_text(text.replace(r"\end{document}", r"\input{odd}\end{document}"))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=paper, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (paper / "all.pdf").stat().st_size > 1000
