r"""``paper/`` of a study: its tables as LaTeX and its figures as PDF, and a file that inputs them.

Needs the packages booktabs, geometry and graphicx. Compile with ``pdflatex main.tex``, or take
single files over with ``\input{tables/fid_vs_steps}``.
"""

from collections.abc import Mapping
from pathlib import Path

from benchmark.analysis.answer import headline
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.reporting.tables.as_text import escape_latex, to_latex
from benchmark.reporting.tables.build import TABLES, Built
from mindiffusion.files import atomic_write, remove_stale, write_text
from mindiffusion.outside.paths import is_file, read_file

PAPER = "paper"
_MOST_OF_FIGURE = 64_000_000
"""Bytes."""
_HEAD = r"""% All tables and figures of a study, made from its rows. Run twice: pdflatex main.tex
\documentclass{{article}}
\usepackage[a4paper,landscape,margin=1.5cm]{{geometry}}
\usepackage{{booktabs}}
\usepackage{{graphicx}}
% More floats than pages of text.
\extrafloats{{500}}
\setlength{{\tabcolsep}}{{4pt}}
\begin{{document}}
\section*{{The study {name}}}
{answer}
\listoftables
\listoffigures
\clearpage
"""
_FIGURE = r"""\begin{{figure}}[htbp]
\centering
\includegraphics[width=\linewidth,height=0.8\textheight,keepaspectratio]{{figures/{name}}}
\caption{{{caption}}}
\label{{fig:{name}}}
\end{{figure}}
\clearpage
"""


def write_paper(study: StudyAnalysis, built: Mapping[str, Built], study_dir: Path) -> list[Path]:
    """Write ``<study_dir>/paper/{main.tex, tables/*.tex, figures/*.pdf}``.

    Figures are those that have been drawn, in ``<study_dir>/figures``. What an earlier paper had
    beyond these figures and tables is removed.

    Args:
        study: what the paper is about.
        built: its tables, of ``study_tables``.
        study_dir: its folder.
    """
    # Inside, so that whoever imports the benchmark need not load matplotlib.
    from plots.build import legends

    folder, title = study_dir / PAPER, str(study.frame["study"].iloc[0])
    written: list[Path] = []
    body: list[str] = []
    for name, legend in legends(study).items():
        drawn = study_dir / "figures" / f"{name}.pdf"
        if is_file(drawn):
            written.append(folder / "figures" / drawn.name)
            with atomic_write(written[-1]) as handle:
                handle.write(read_file(drawn, _MOST_OF_FIGURE))
            body.append(_FIGURE.format(name=name, caption=escape_latex(legend.caption)))
    for name, (tables, _) in built.items():
        latex = [to_latex(table, f"{name}_{number}") for number, table in enumerate(tables, 1)]
        written.append(folder / "tables" / f"{name}.tex")
        write_text(written[-1], "\n".join(latex))
        body.append(rf"\input{{tables/{name}}}" + "\n" + r"\clearpage" + "\n")
    owned = [folder / "figures" / f"{name}.pdf" for name in legends(study)]
    remove_stale([*owned, *(folder / "tables" / f"{one.name}.tex" for one in TABLES)], written)
    head = _HEAD.format(name=escape_latex(title), answer=escape_latex(headline(study)))
    written.append(folder / "main.tex")
    write_text(written[-1], head + "".join(body) + r"\end{document}" + "\n")
    return written
