"""The study whose results are committed: its rows still make its tables, and its labels matter."""

import shutil
import subprocess
import sys

import numpy
import pandas
import pytest
import scipy

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.file import ROWS_FILE, rows_files
from benchmark.rows.frames import load_rows
from benchmark.study.arm_names import BASELINE
from benchmark.study.index import INDEX_FILE

STUDY = "results/avatars32-cpu"
WITHOUT_TORCH = """
import importlib.abc, sys
from pathlib import Path

class NoTorch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoTorch())
from benchmark.analysis.study_analysis import analyse
from benchmark.reporting.tables.build import study_tables, write_tables

folder = Path(sys.argv[1])
write_tables(study_tables(analyse(folder)), folder)
"""


@pytest.fixture(scope="module")
def study(repository):
    return repository / STUDY


@pytest.fixture(scope="module")
def frame(study):
    return load_rows(study)


def test_committed_rows_rebuild_the_committed_tables_without_torch(study, repository, tmp_path):
    for path in (*rows_files(study / ROWS_FILE), study / INDEX_FILE):
        shutil.copy(path, tmp_path / path.name)
    words = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)]
    done = subprocess.run(words, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    committed, rebuilt = (
        {path.name: path.read_text() for path in (folder / "tables").iterdir()}
        for folder in (study, tmp_path)
    )
    assert committed and rebuilt.keys() == committed.keys()
    pins = (repository / ".ci" / "constraints.txt").read_text().splitlines()
    here = {f"{one.__name__}=={one.__version__}" for one in (numpy, pandas, scipy)}
    is_tested = here <= set(pins)
    for name, text in committed.items():
        if is_tested or not name.endswith(".csv"):
            assert rebuilt[name] == text
        else:
            assert_same_cells(rebuilt[name], text)


def assert_same_cells(found, expected):
    """The same text, but for the last digits of numbers, which other versions may round anew."""
    for row, wanted in zip(*(text.splitlines() for text in (found, expected)), strict=True):
        for cell, other in zip(row.split(","), wanted.split(","), strict=True):
            assert cell == other or float(cell) == pytest.approx(float(other), rel=1e-9)


def test_committed_rows_are_small(study):
    assert sum(path.stat().st_size for path in rows_files(study / ROWS_FILE)) < 2_000_000


def test_instrument_passes_its_checks_wherever_they_were_run(frame):
    assert not [one.key for one in StudyAnalysis(frame).findings if one.passed is False]


def test_swapped_labels_change_the_verdicts(frame):
    names = {BASELINE: "C", "C": BASELINE}
    swapped = frame.assign(arm=frame["arm"].replace(names))
    first, second = ({one.key: one for one in StudyAnalysis(f).findings} for f in (frame, swapped))
    assert second["H2"].estimate == pytest.approx(-first["H2"].estimate)
    assert first["H2"].estimate != 0
    verdicts = [(one.verdict, one.why) for one in first.values()]
    assert verdicts != [(second[key].verdict, second[key].why) for key in first]
