"""The commands that write what people read: tables, report."""

import argparse
from pathlib import Path
from typing import Any


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
    from benchmark.reporting.tables.build import study_tables, write_tables

    for path in write_tables(study_tables(analyse(options.folder)), options.folder):
        print(path)
    return 0


def _report(options: argparse.Namespace) -> int:
    from benchmark.reporting.outcome import write_outcome

    print(write_outcome(options.folder))
    return 0
