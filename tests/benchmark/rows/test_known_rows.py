"""A file of rows as a process knows it: every line decoded once, whoever asks, in any order."""

from collections import Counter
from dataclasses import replace

import pytest

from benchmark.cells.cell import run_cell
from benchmark.cells.progress import scored_steps
from benchmark.cells.tasks import graph_of
from benchmark.rows.file import ROWS_FILE, append_rows
from benchmark.rows.keeper import Keeper
from benchmark.rows.known_rows import KnownRows, known_rows
from benchmark.rows.lines import Decoder
from benchmark.rows.row import Row, key
from benchmark.study.study import EvaluationConfig, Study

ROW = Row(
    study="demo", arm="C", seed=0, step=12, total_steps=24, metric="FD@8", value=1.0, level=None,
    error=None, direction="lower", metric_version=1, n_generated=8, n_reference=32, weights="ema",
    sampler="ddim", sampler_steps=2, sampling_seed=0, full_range=True, stage="all", samples=None,
    dataset="avatars", manifest="m", config_hash="c", git="g", versions={}, device="cpu", host="h",
    threads=1, train_seconds=1.0, time="",
)  # fmt: skip
PROVED = replace(ROW, metric="scored-own/x")
OTHER = replace(ROW, arm="B")


@pytest.fixture
def decoded(monkeypatch):
    """How often each line was decoded, by file, number and content."""
    counts, decode = Counter(), Decoder.rows_of

    def counting(self, number, line):
        counts[self._path, number, line] += 1
        return decode(self, number, line)

    monkeypatch.setattr(Decoder, "rows_of", counting)
    return counts


@pytest.fixture
def path(tmp_path):
    append_rows(tmp_path / ROWS_FILE, [ROW, OTHER, PROVED])
    return tmp_path / ROWS_FILE


def test_what_is_scored_and_a_runs_rows_come_of_one_reading(path, decoded):
    known = KnownRows(path)
    known.follow("C", 0)
    assert known.read_on().scored == {("C", 0, "c"): {"scored-own/x": {12}}}
    assert known.made_with == {("C", 0): {("c", "m")}, ("B", 0): {("c", "m")}}
    assert known.rows_of("C", 0) == {key(ROW): ROW, key(PROVED): PROVED}
    later = replace(PROVED, step=24)
    append_rows(path, [later])
    assert list(known.rows_of("C", 0).values()) == [ROW, PROVED, later]
    assert known.read_on().scored["C", 0, "c"] == {"scored-own/x": {12, 24}}
    lines = path.read_bytes().splitlines()
    assert {line for *_, line in decoded} == set(lines) and set(decoded.values()) == {1}


def test_a_run_that_is_followed_late_has_all_its_rows(path):
    known = KnownRows(path)
    known.read_on()
    assert list(known.rows_of("C", 0).values()) == [ROW, PROVED]
    assert list(known.rows_of("B", 0).values()) == [OTHER]
    assert known.scored == {("C", 0, "c"): {"scored-own/x": {12}}}


def test_a_file_that_is_another_one_leaves_nothing_of_the_first(path):
    known = KnownRows(path)
    assert len(known.rows_of("C", 0)) == 2
    path.unlink()
    assert not known.rows_of("C", 0) and not known.scored and not known.made_with
    append_rows(path, [OTHER])
    assert not known.rows_of("C", 0) and known.made_with == {("B", 0): {("c", "m")}}


def test_keepers_of_one_file_share_its_reader(path, decoded):
    keepers = [Keeper(path, arm, 0) for arm in ("C", "B")]
    for arm, keeper in zip(("C", "B"), keepers, strict=True):
        keeper.add([ROW, replace(ROW, arm=arm, step=24)])
    assert len(known_rows(path).rows_of("C", 0)) == 3
    assert set(decoded.values()) == {1}


def test_a_cell_decodes_every_line_once(workdir, tiny_config, avatars, decoded, capsys):
    """Its own rows and those of others, over training, scoring and what it asks in between."""
    words = ("training.steps=6", "training.milestones=[2,4,6]")
    config = tiny_config("b", *words, output=workdir / "t" / "b")
    scoring = EvaluationConfig(
        num_generated=8, num_reference=32, feature_nets=("effnet-lite0-64",), metrics=("fd",)
    )
    study = Study("t", workdir / "t", (config,), scoring)
    path = study.folder / ROWS_FILE
    append_rows(path, [replace(ROW, arm="B", seed=seed) for seed in (1, 2, 3)])
    # One cell a process: nobody has asked for the file before.
    known_rows.cache_clear()
    assert run_cell(study, list(graph_of(study)), 1) == 0
    assert scored_steps(study, config) == {2, 4, 6}
    lines = path.read_bytes().splitlines()
    assert len(lines) > 3 and set(decoded.values()) == {1}
    assert {line for _, _, line in decoded} == set(lines)
