"""Documents of a study's processes."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def write_job():
    """A function: ``--set`` words → the document of a job that does all cells of ``mine.yaml``.

    A job makes no tables and figures, whose drawing takes longer than such a study. It is handed no
    data: what is handed to this process would stay with it.
    """
    from benchmark.cells.assignment import Assignment, write_assignment
    from benchmark.cells.tasks import graph_of
    from benchmark.study.study import load_study

    def write(*overrides):
        study = load_study("mine.yaml", overrides=overrides)
        told = Assignment(study=study, data=(), tasks=tuple(graph_of(study)))
        write_assignment(Path("job.json"), told)
        return "job.json"

    return write
