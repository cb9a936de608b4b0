"""From a study's folder to ``report.html``: gather the parts, fill in the template."""

import base64
import csv
import hashlib
import io
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from benchmark.analysis.answer import QUESTION, headline, question
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.reporting.page import effects, origins, words
from benchmark.reporting.page.checks import evidence, instrument_checks
from benchmark.reporting.page.overview import beyond_caution, cautions, main_table, scope
from benchmark.reporting.page.pictures import (
    MAIN_FIGURE,
    SAMPLES_FIGURE,
    Gallery,
    figures_of,
    gallery,
)
from benchmark.reporting.tables.as_text import Table, to_csv, to_latex
from benchmark.reporting.tables.build import TABLES, Built
from benchmark.reporting.tables.milestones import MISSING
from benchmark.study.arm_catalogue import arm_note
from benchmark.study.hypotheses import USUAL_HYPOTHESES
from mindiffusion.files import write_text
from mindiffusion.printable import spreadsheet_cell

REPORT_FILE = "report.html"
_ASSETS = Path(__file__).parent
_TRAINING_TABLES = ("arms", "training_cost", "exposure", "curriculum")
"""Table files shown in full beside the figures of what each arm is trained on."""
_TRAINING_FIGURE = "curriculum"
_NUMBER = re.compile(r"([<>] )?[-+−±]?[\d.]")
_LONGEST_NUMBER, _LONG = 36, 40
"""Characters up to which a cell that begins with a digit is a number, and a text needs no wrap."""


@dataclass(frozen=True)
class Shown:
    """A table with what its copy buttons copy; ``kinds`` are the attributes of its columns."""

    identifier: str
    table: Table
    kinds: tuple[dict[str, str], ...]
    latex: str
    csv: str


@dataclass(frozen=True)
class TableFile:
    """The tables of one of the study's files, and their full numbers as that file's csv."""

    name: str
    title: str
    tables: tuple[Shown, ...]
    numbers: str


def write_report(study: StudyAnalysis, built: Mapping[str, Built], study_dir: Path) -> Path:
    """Write ``<study_dir>/report.html`` from the study's rows, figures and strips.

    What is missing is named in the page. The same files give the same bytes.

    Args:
        study: what the report is about.
        built: its tables, of ``study_tables``.
        study_dir: its folder.
    """
    path = study_dir / REPORT_FILE
    write_text(path, _render(_page(study, built, study_dir)))
    return path


def _page(study: StudyAnalysis, built: Mapping[str, Built], study_dir: Path) -> dict[str, Any]:
    """What the template fills in."""
    # Inside, so that whoever imports the benchmark need not load matplotlib.
    from plots.build import legends

    frame, under = study.frame, legends(study)
    samples = gallery(frame, study_dir)
    # The figure of samples shows the strips that can be flicked through, where these are there.
    but = () if samples is None else (SAMPLES_FIGURE,)
    pictures = figures_of(study_dir, under, but)
    files = {
        entry.name: _table_file(entry.name, entry.title, *built[entry.name])
        for entry in TABLES
        if entry.name in built
    }
    main = main_table(study)
    drawn = [name for name in pictures if name not in (MAIN_FIGURE, _TRAINING_FIGURE)]
    return {
        "study": str(frame["study"].iloc[0]),
        # As a word of a command that somebody may copy.
        "study_word": shlex.quote(str(frame["study"].iloc[0])),
        "dataset": str(frame["dataset"].iloc[0]),
        "declared": ", ".join(sorted(set(frame["declared"]))),
        "seeds": words.counted(frame["seed"].nunique(), "training seed"),
        "words": words,
        "arm_note": arm_note,
        **_answered(study),
        "cautions": cautions(study) + beyond_caution(frame),
        "main_figure": pictures.get(MAIN_FIGURE),
        "main_table": None if main is None else shown("main", main),
        "checks": instrument_checks(study),
        "evidence": evidence(study),
        "missing": _missing(pictures, samples, under),
        "groups": effects.claim_groups(study),
        "training_figure": pictures.get(_TRAINING_FIGURE),
        "training_files": [files[name] for name in _TRAINING_TABLES if name in files],
        "figures": [pictures[name] for name in drawn],
        "files": [file for name, file in files.items() if name not in _TRAINING_TABLES],
        "gallery": samples,
        "facts": origins.facts(frame, study_dir),
        "configs": shown("configs", origins.config_table(frame)),
    }


def _answered(study: StudyAnalysis) -> dict[str, str]:
    """The page's question, what stands behind a usual one, the answer, and its terms in words."""
    asked = question(study)
    usual = {QUESTION, *(hypothesis.question for hypothesis in USUAL_HYPOTHESES)}
    return {
        "question": asked,
        "explained": " ".join(study.index.get("about", ()))
        or (words.QUESTION_IN_FULL if asked in usual else ""),
        "answer": headline(study),
        "scope": scope(study),
        "noun": study.noun,
        "noun_of_curves": study.noun_of_curves,
        "better_side": study.scale.better_side,
        "smallest_effect": study.scale.smallest,
    }


def _missing(
    pictures: Mapping[str, Any], samples: Gallery | None, legends: Mapping[str, Any]
) -> list[str]:
    """What this copy of the study has not, in sentences."""
    texts = []
    wanted = [name for name in legends if name != SAMPLES_FIGURE or samples is None]
    absent = [legends[name].title for name in wanted if name not in pictures]
    if absent:
        texts.append(f"Figures without rows or files: {words.listed(absent, 20)}.")
    if samples is None:
        texts.append("No sample strips: rows name none, or their files are not in this copy.")
    elif samples.missing:
        texts.append(f"Sample strips that are not in this copy: {words.listed(samples.missing)}.")
    return texts


def shown(identifier: str, table: Table) -> Shown:
    """A table with its LaTeX and its cells as csv."""
    text = io.StringIO()
    lines = ([spreadsheet_cell(cell) for cell in line] for line in (table.header, *table.body))
    csv.writer(text, lineterminator="\n").writerows(lines)
    columns = zip(*table.body, strict=True) if table.body else ((),) * len(table.header)
    kinds = tuple(map(_kind, columns))
    return Shown(identifier, table, kinds, to_latex(table, identifier), text.getvalue())


def _kind(cells: Sequence[str]) -> dict[str, str]:
    """The class of a column that is to be read as text: it stands left and may wrap."""
    filled = [cell for cell in cells if cell not in ("", MISSING)]
    longest = max(map(len, filled), default=0)
    if longest <= _LONGEST_NUMBER and all(_NUMBER.match(cell) for cell in filled):
        return {}
    return {"class": "text long" if longest > _LONG else "text"}


def _table_file(name: str, title: str, tables: Sequence[Table], numbers: pd.DataFrame) -> TableFile:
    return TableFile(
        name,
        title,
        tuple(shown(f"{name}_{index}", table) for index, table in enumerate(tables, 1)),
        to_csv(numbers),
    )


def _render(page: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["tied"] = words.tied
    assets = (_ASSETS / "page.css", _ASSETS / "page.js")
    style, script = (asset.read_text("utf-8") for asset in assets)
    template = environment.get_template("page.html.j2")
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )
    return template.render(page, style=style, script=script, policy=policy).lstrip()


def _digest(text: str) -> str:
    """The source expression that allows exactly this inline text (W3C CSP 3, §2.3.1)."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
