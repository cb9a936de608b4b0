"""All outputs of a study: made of one analysis, by the study's own terms."""

import json

import pandas as pd
import pytest
from test_table_verdicts import study

from benchmark.analysis import study_analysis
from benchmark.reporting.outcome import write_outcome
from benchmark.rows import frames
from benchmark.rows.file import append_rows
from benchmark.rows.row import FIELDS, Row
from plots import build

DECLARED = {
    "hypotheses": [
        {"name": "H", "contrast": "mine - B", "title": "Mine helps", "question": "Does mine help?"},
        {"name": "twin", "contrast": "mine - other", "expected": "equal"},
    ],
    "endpoint": {"metric": "KD-Net"},
    "smallest_effect": 0.2,
}


@pytest.fixture
def folder(tmp_path):
    """A study of arms that no entry knows, which declares its own terms."""
    effects = {"B": 0.0, "mine": -0.5, "other": -0.5}
    frame = study(seeds=6, effect=effects).assign(declared="prereg-0123")
    kernel = frame[frame["metric"] == "FD-Net@4k"].assign(metric="KD-Net@4k")
    whole = pd.concat([frame, kernel]).astype(object)
    found = whole.where(whole.notna(), None).to_dict("records")
    rows = [Row(**{name: one[name] for name in FIELDS}) for one in found]
    append_rows(tmp_path / "rows.jsonl", rows)
    cells = [
        {"arm": arm, "seed": seed, "run": f"{arm}/{seed}", "milestones": [100]}
        for arm in effects
        for seed in range(6)
    ]
    index = {"study": "two", "cells": cells} | DECLARED
    (tmp_path / "study.json").write_text(json.dumps(index))
    return tmp_path


@pytest.fixture
def few_figures(monkeypatch):
    kept = [entry for entry in build.ENTRIES if entry.name in ("forest", "fid_vs_steps")]
    monkeypatch.setattr(build, "ENTRIES", kept)


@pytest.mark.usefixtures("few_figures")
def test_everything_is_made_of_one_analysis_by_the_studys_own_terms(folder, monkeypatch):
    calls = []

    def counted(module, name):
        function = getattr(module, name)

        def call(*arguments):
            calls.append(name)
            return function(*arguments)

        monkeypatch.setattr(module, name, call)

    parts = ("primary_endpoint", "competence", "known_masks", "baseline_curve", "findings",
             "secondary", "missing_cells", "held_out_endpoints")  # fmt: skip
    for name in parts:
        counted(study_analysis, name)
    counted(frames, "read_rows")
    told = write_outcome(study_analysis.analyse(folder), folder)
    assert sorted(calls) == sorted([*parts, "read_rows"])

    answer = told.splitlines()[1]
    assert answer.startswith("Yes: the KD-Net@4k of mine ends ")
    assert "exploratory" not in answer
    table = (folder / "tables" / "verdicts.md").read_text()
    assert "Mine helps" in table and "mine − other" in table and "Early order" not in table
    assert "smallest effect of 20 %" in table and "3 %" not in table
    assert "at level .05/2 in a paired test" in (folder / "tables" / "sensitivity.md").read_text()
    page = (folder / "report.html").read_text()
    assert "(grey: ±20 %)" in page and "Does mine help?" in page and "±3 %" not in page
    assert (folder / "figures" / "forest.png").exists()
