"""What the commands make of a study's folder, each alone and in this process."""

from benchmark.analysis.study_analysis import analyse
from benchmark.reporting.page import write_report
from benchmark.reporting.paper import write_paper
from benchmark.reporting.tables.build import study_tables, write_tables


def tables_of(folder):
    """Write the folder's tables; their paths."""
    return write_tables(study_tables(analyse(folder)), folder)


def paper_of(folder):
    """Write the folder's paper; its paths."""
    study = analyse(folder)
    return write_paper(study, study_tables(study), folder)


def report_of(folder):
    """Write the folder's report; its path."""
    study = analyse(folder)
    return write_report(study, study_tables(study), folder)


def figures_of(folder):
    """Write the folder's figures; their paths."""
    from plots.build import write_figures

    return write_figures(analyse(folder), folder)
