"""All outputs of a study: made of one analysis, by the study's own terms."""

import json

import numpy as np
import pandas as pd
import pytest
from test_table_verdicts import study

from benchmark.analysis import study_analysis
from benchmark.reporting.outcome import write_outcome
from benchmark.reporting.tables.build import study_tables
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


EFFECTS = {"B": 0.0, "C": -0.3, "density*": 0.0, "A/A": 0.0, "B-80%": 0.2}
# Of values of the metric by log distances: around 0 for one, in the other direction for the other.
PLAIN = {
    "KD-Net": ("lower", lambda log: 0.05 * (log - 4.1)),
    "precision-Net": ("higher", lambda log: 0.6 - 0.05 * (log - 4.1)),
}
WORDS = {
    "KD-Net": (
        "Yes: the KD-Net@4k of C ends 0.0148", " below B&#39;s", "(95 % interval −0.0",
        "below zero is better", "← better", "worse →", "Distance by training step",
        "Distance and held-out error agree",
    ),
    "precision-Net": (
        "Yes: the precision-Net@4k of C ends 0.0148", " above B&#39;s",
        "(higher is better, 95 % interval +0.0", "above zero is better", "← worse", "better →",
        "Score by training step", "Higher is better; in brackets", "has the higher score",
        "A band of changes that lies above the grey zone of ±0.004",
        "A higher score than B&#39;s is better", "Score and held-out error agree",
    ),
}  # fmt: skip
_FIGURES = ("forest", "fid_vs_steps", "order_exposure", "cost_vs_quality")


@pytest.fixture(params=list(PLAIN))
def plain_folder(request, tmp_path):
    """A study whose primary metric is compared on the plain scale, by the usual hypotheses."""
    direction, value = PLAIN[request.param]
    frame = study(seeds=6, effect=EFFECTS)
    is_distance = frame["metric"] == "FD-Net@4k"
    own = frame[is_distance].assign(
        metric=f"{request.param}@4k", direction=direction,
        value=value(np.log(frame.loc[is_distance, "value"])),
    )  # fmt: skip
    error = frame[is_distance].assign(metric="eps-MSE/L_simple", n_generated=0, sampler="")
    error["value"] = 0.01 * np.log(error["value"])
    whole = pd.concat([frame, own, error]).astype(object)
    found = whole.where(whole.notna(), None).to_dict("records")
    append_rows(tmp_path / "rows.jsonl", [Row(**{n: one[n] for n in FIELDS}) for one in found])
    index = {
        "study": "plain", "cells": [], "smallest_effect": 0.004,
        "endpoint": {"metric": request.param, "scale": "plain"},
    }  # fmt: skip
    (tmp_path / "study.json").write_text(json.dumps(index))
    return tmp_path, request.param


def test_everything_is_made_on_the_plain_scale_with_its_own_words(plain_folder, monkeypatch):
    folder, metric = plain_folder
    monkeypatch.setattr(build, "ENTRIES", [e for e in build.ENTRIES if e.name in _FIGURES])
    told = write_outcome(study_analysis.analyse(folder), folder)
    page = (folder / "report.html").read_text().replace("\u00a0", " ")
    for words in WORDS[metric]:
        assert words in page, words
    assert "(grey: ±0.004)" in page and "±3 %" not in page and "in percent" not in page
    for name in _FIGURES:
        assert (folder / "figures" / f"{name}.png").exists(), name
    main = (folder / "paper" / "main.tex").read_text()
    assert "ends 0.0148" in main and "percent" not in main
    assert told.splitlines()[1].startswith(f"Yes: the {metric}@4k of C ends 0.0148")


def test_numbers_of_a_plain_study_are_in_the_metrics_own_direction(plain_folder):
    folder, metric = plain_folder
    tables = study_tables(study_analysis.analyse(folder))
    (first, *_), numbers = tables["verdicts"]
    sign = 1 if metric == "precision-Net" else -1
    line = numbers.set_index("key").loc["H2"]
    assert line["estimate"] * sign == pytest.approx(0.015, abs=0.001)
    assert line["low"] < line["estimate"] < line["high"] and line["direction"] == sign
    cells = next(row for row in first.body if row[1] == "C − B")
    assert cells[2] == f"{'−+'[sign > 0]}0.0148"
    side = "above" if sign > 0 else "below"
    assert f"in its own unit: {side} zero the first arm is better" in first.caption
    (table,), numbers = tables["sensitivity"]
    assert table.header[-1] == f"P({side} B)" and table.body[0][2] == cells[2]
    assert numbers["mean"].iloc[0] * sign > 0 and numbers["sd"].iloc[0] > 0
    (table,), numbers = tables["learning"]
    assert table.header[2] == "mean difference over steps"
    assert numbers.set_index("arm").loc["C", "area"] * sign == pytest.approx(0.015, abs=0.001)
    (table,), numbers = tables["specifications"]
    assert {one["way"].split(", ")[-1] for one in numbers.to_dict("records")} == {f"{metric}@4k"}
    line = numbers.set_index("key").loc[["H2"]].iloc[0]
    assert line["estimate"] * sign == pytest.approx(0.015, abs=0.001)
    assert line["low"] < line["estimate"] < line["high"] and line["direction"] == sign
    assert table.body[0][2].startswith(cells[2]) and f"{side} zero" in table.caption


def test_axes_of_a_plain_study_run_in_the_metrics_own_direction(plain_folder):
    folder, metric = plain_folder
    whole, better = study_analysis.analyse(folder), metric == "precision-Net"
    entries = {entry.name: entry for entry in build.ENTRIES}
    forest, steps, order, cost = drawn = [entries[name].draw(whole) for name in _FIGURES]
    for figure in drawn:
        figure.draw_without_rendering()
    ax = forest.axes[0]
    end = "right" if better else "left"
    assert ax.get_xlabel() == f"change of {metric}@4k ({end} is better)"
    assert "grey zone: ±0.004, too small to matter" in forest.get_supxlabel().replace("\n", " ")
    for one, axis in ((ax, "x"), (steps.axes[1], "y"), (order.axes[0], "y"), (order.axes[1], "x"),
                      (cost.axes[1], "y")):  # fmt: skip
        limits = getattr(one, f"get_{axis}lim")()
        assert (limits[0] > limits[1]) == better
        texts = [t.get_text() for t in getattr(one, f"get_{axis}ticklabels")()]
        values = [float(text.replace("−", "-")) for text in texts]
        places = getattr(one, f"get_{axis}ticks")()
        # Read along the paper, labels rise: left to right, or from below.
        along = sorted(zip(places, values, strict=True), reverse=better)
        assert [value for _, value in along] == sorted(values) and 0 in values
    words = [text for text in ax.texts if text.get_text() in ("6", "+0.0148 [+0.0144, +0.0153]")]
    boxes = [text.get_window_extent() for text in words]
    assert len(words) > 2 and not any(
        one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k]
    )
    assert steps.axes[0].get_ylabel().startswith(f"{metric}@4k")
    assert steps.axes[1].get_ylabel() == "against B"
