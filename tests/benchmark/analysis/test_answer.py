"""The answer as the screen, the paper and the report give it: of a folder."""

import json

import pytest
from remade import paper_of, report_of
from test_findings import change, study

from benchmark.analysis.answer import headline, interim_note
from benchmark.analysis.study_analysis import analyse
from benchmark.rows.file import append_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study of B and C whose index has a third seed of C, which nobody has run."""
    path = tmp_path_factory.mktemp("interim")
    frame = study({"B": 0.0, "C": -0.2}, seeds=2)
    frame = frame.astype(object).where(frame.notna(), None)
    append_rows(path / "rows.jsonl", [change(**row) for row in frame.to_dict("records")])
    measured = [(arm, seed) for arm in "BC" for seed in range(2)]
    cells = [
        {"arm": arm, "seed": seed, "run": f"{arm}/seed{seed}", "milestones": []}
        for arm, seed in (*measured, ("C", 2))
    ]
    index = {"study": "two", "cells": cells, "evaluation": {"metrics": ["fd"]}}
    (path / "study.json").write_text(json.dumps(index))
    return path


def test_screen_paper_and_report_say_that_a_cell_is_missing(folder):
    note = interim_note({"C": [2]})
    assert note == "interim: 1 cell is not measured yet" and note in headline(analyse(folder))
    main = next(path for path in paper_of(folder) if path.name == "main.tex")
    assert note in main.read_text()
    assert note in report_of(folder).read_text()


def test_a_cell_that_ended_without_all_noise_levels_is_measured(folder, tmp_path):
    """It enters no verdict, but nothing more is to come from it."""
    rows = [
        change(arm=arm, seed=seed, full_range=(arm, seed) != ("C", 1))
        for arm in "BC"
        for seed in range(2)
    ]
    append_rows(tmp_path / "rows.jsonl", rows)
    assert "interim" not in headline(analyse(tmp_path))
