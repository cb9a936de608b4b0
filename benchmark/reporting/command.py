"""The commands that write what people read: tables, report."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.analysis.study_analysis import StudyAnalysis

LOGGER = logging.getLogger(__name__)


def add_commands(commands: Any) -> None:
    """Add this room's commands to the parser's."""
    tables = commands.add_parser("tables", help="rebuild tables from rows alone")
    tables.add_argument("folder", type=Path, help="a study's folder, such as results/demo")
    report = commands.add_parser("report", help="rebuild tables, figures, paper, report from rows")
    report.add_argument("folder", type=Path, help="a study's folder, such as results/demo")
    tables.set_defaults(run=_tables)
    report.set_defaults(run=_report)


def _tables(options: argparse.Namespace) -> int:
    from benchmark.analysis.study_analysis import analyse
    from benchmark.reporting.page.build import REPORT_FILE
    from benchmark.reporting.tables.build import study_tables, write_tables

    folder, study = options.folder, analyse(options.folder)
    _tell_of_missing_rows(study, folder)
    for path in write_tables(study_tables(study), folder):
        print(path)
    if (folder / REPORT_FILE).exists():
        LOGGER.warning(
            "%s and the figures are as they were; python -m benchmark report %s makes them anew.",
            folder / REPORT_FILE, folder,
        )  # fmt: skip
    return 0


def _report(options: argparse.Namespace) -> int:
    from benchmark.analysis.study_analysis import analyse
    from benchmark.reporting.outcome import write_outcome

    study = analyse(options.folder)
    _tell_of_missing_rows(study, options.folder)
    print(write_outcome(study, options.folder))
    return 0


def _tell_of_missing_rows(study: "StudyAnalysis", folder: Path) -> None:
    """Say how many of the study's milestones have not all their rows, and what to do."""
    from benchmark.rows.frames import milestones_without_rows
    from benchmark.study.index import INDEX_FILE

    index = study.index
    missing = milestones_without_rows(study.frame, index)
    if missing:
        arm, seed, step = missing[0]
        LOGGER.warning(
            "%s: %d of the %d milestones in %s are not scored yet or have lost rows, the first is "
            "%s/%d at step %d; give the study's command again, which measures what is missing.",
            folder, len(missing), sum(len(cell["milestones"]) for cell in index["cells"]),
            INDEX_FILE, arm, seed, step,
        )  # fmt: skip
