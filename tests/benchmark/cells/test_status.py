"""``python -m benchmark status`` on folders made by hand; on running studies in test_reproduce."""

import json
import os
import subprocess
import sys
import time

import pytest

from benchmark.__main__ import main
from benchmark.cells.duration import duration
from benchmark.cells.status import read_status
from mindiffusion.errors import UserError
from mindiffusion.files import exclusive_lock
from mindiffusion.training.run_files import is_running


def cell(arm, folder, seed=0):
    run = f"{folder}/seed{seed}"
    return {"arm": arm, "seed": seed, "run": run, "total_steps": 200, "milestones": [100, 200]}


@pytest.fixture
def study(tmp_path):
    """A study of B and C with nothing done."""
    content = {"study": "tiny", "cells": [cell("B", "b"), cell("C", "c")]}
    (tmp_path / "study.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def make(tmp_path):
    """A function that writes files of a run as training would."""

    def write(name, *, saved=None, logged=(), log=None, age=0.0, plan=True):
        run = tmp_path / name
        run.mkdir(parents=True, exist_ok=True)
        training = {"global_batch": 8}
        content = {"config": {"arm": "X", "seed": 0, "training": training}, "runtime": {}}
        if plan:
            content["plan"] = {"total_steps": 200, "milestones": [100, 200]}
        (run / "config.json").write_text(json.dumps(content))
        if saved is not None:
            (run / f"ckpt-{saved:09d}.json").write_text("{}")
        entries = [
            {"step": s, "stage": "low", "loss": 0.25, "images_per_second": 80.0} for s in logged
        ]
        (run / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
        if log is not None:
            (run / "cell.log").write_text(log)
        for path in run.iterdir():
            os.utime(path, (time.time() - age,) * 2)
        return run

    return write


@pytest.fixture
def rows(tmp_path):
    """A function that writes rows of (arm, step), the proof of a part last."""

    def write(*pairs, proof="scored-own/0a"):
        lines = [
            json.dumps({"arm": arm, "seed": 0, "step": step, "metric": metric}) + "\n"
            for arm, step in pairs
            for metric in ("eps-MSE", "FD-EffNet-Lite0-64px@12", proof)
        ]
        (tmp_path / "rows.jsonl").write_text("".join(lines))

    return write


def states(folder):
    return {c.name: c.state for c in read_status(folder)}


def test_a_study_that_has_not_begun_is_to_do(study):
    assert states(study) == {"B/0": "to do", "C/0": "to do"}
    first = read_status(study)[0]
    assert (first.step, first.total_steps, first.seconds_since) == (0, 200, None)


def test_a_locked_run_is_training_from_its_log(study, make):
    run = make("b/seed0", saved=50, logged=(40, 80), age=30)
    with exclusive_lock(run / ".lock"):
        found = read_status(study)[0]
    assert (found.state, found.step, found.entry["stage"]) == ("training", 80, "low")
    # 120 steps of 8 images at 80 images a second.
    assert found.seconds_left == pytest.approx(12.0)


def test_a_locked_run_without_a_step_is_starting(study, make):
    run = make("b/seed0")
    with exclusive_lock(run / ".lock"):
        assert states(study)["B/0"] == "starting"


def test_a_stopped_run_shows_the_step_it_goes_on_from(study, make):
    make("b/seed0", saved=50, logged=(40, 80), age=100)
    found = read_status(study)[0]
    assert (found.state, found.step, found.seconds_left) == ("stopped", 50, None)
    assert found.seconds_since == pytest.approx(100, abs=30)


def test_scored_milestones_are_counted(study, make, rows):
    run = make("b/seed0", saved=200, logged=(200,))
    rows(("B", 100), ("C", 100), ("C", 200))
    assert states(study)["B/0"] == "trained 1/2"
    with exclusive_lock(run / ".lock"):
        assert states(study)["B/0"] == "scoring 1/2"
    rows(("B", 100), ("B", 200))
    assert states(study)["B/0"] == "scored 2/2"


def test_rows_count_where_there_are_no_checkpoints(study, make, rows):
    rows(("B", 100), ("B", 200), ("C", 100))
    assert states(study) == {"B/0": "scored 2/2", "C/0": "scored 1/2"}
    assert [cell.step for cell in read_status(study)] == [200, 0]
    # One that is trained again here is.
    run = make("b/seed0", saved=50, logged=(40, 80))
    with exclusive_lock(run / ".lock"):
        assert states(study)["B/0"] == "training"


@pytest.mark.parametrize(
    ("log", "state", "note"),
    [
        ("warning\nerror: the disk is full\n", "failed", "the disk is full"),
        ("Traceback (most recent call last):\n  x\nTypeError: y\n", "failed", "TypeError: y"),
        ("stopped; run the same command again to go on.\n", "stopped", ""),
        ("", "stopped", ""),
    ],
)
def test_a_failed_cell_shows_its_last_line(study, make, log, state, note):
    run = make("b/seed0", saved=50, log=log)
    found = read_status(study)[0]
    assert (found.state, found.note) == (state, note)
    with exclusive_lock(run / ".lock"):
        assert states(study)["B/0"] == "training"


def test_runs_the_study_does_not_list_are_shown_too(study, make):
    make("old/seed3", saved=10)
    assert list(states(study)) == ["B/0", "C/0", "X/0"]


def test_folder_of_a_train_script_and_one_run_are_shown(tmp_path, make):
    make("checkpoints_c_32/seed0", saved=200, logged=(200,))
    make("checkpoints_c_32/seed1", saved=20, plan=False)
    folder = tmp_path / "checkpoints_c_32"
    assert [c.state for c in read_status(folder)] == ["trained", "stopped"]
    assert [c.state for c in read_status(folder / "seed0")] == ["trained"]
    assert [c.total_steps for c in read_status(folder)] == [200, None]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b'{"config": 3, "plan": 4}']
)
@pytest.mark.parametrize(
    "name", ["config.json", "metrics.jsonl", "cell.log", "ckpt-000000050.json", "ckpt-x.json"]
)
def test_damaged_files_of_a_run_are_passed_over(study, make, name, content):
    run = make("b/seed0", saved=50, logged=(40,))
    (run / name).write_bytes(content)
    for held in (False, True):
        if held:
            with exclusive_lock(run / ".lock"):
                assert states(study)["B/0"] == "training"
        else:
            assert states(study)["B/0"] == "stopped"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"cells": 3}', b'{"cells": [3, {}]}'])
def test_a_damaged_index_leaves_the_runs_found(study, make, rows, content):
    make("b/seed0", saved=50)
    rows(("B", 100))
    (study / "study.json").write_bytes(content)
    with (study / "rows.jsonl").open("ab") as handle:
        handle.write(b'[3]\n{"step": "x", "metric": "scored-own/0a"}\n{"st')
    assert states(study) == {"X/0": "stopped"}


def test_asking_does_not_take_the_lock_away(tmp_path):
    lock = tmp_path / ".lock"
    assert not is_running(tmp_path)
    with exclusive_lock(lock):
        assert is_running(tmp_path)
        with pytest.raises(UserError, match="in use"), exclusive_lock(lock):
            pass
    assert not is_running(tmp_path)
    with exclusive_lock(lock):
        pass


def test_lines_are_aligned_under_a_header(study, make, call):
    run = make("b/seed0", saved=50, logged=(40, 80), age=200)
    with exclusive_lock(run / ".lock"):
        code, out, errors = call(main, ["status", str(study)])
    header, first, second = out.splitlines()
    assert (code, errors) == (0, "")
    assert first.split()[:7] == ["B/0", "training", "80/200", "40", "%", "low", "0.2500"]
    assert first.index("80/200") == header.index("step") == second.index("0/200")
    assert first.split()[7:9] == ["80", "12"]


def test_mistakes_are_one_line(tmp_path, call):
    for folder, message in ((tmp_path / "none", "is no folder"), (tmp_path, "has no runs")):
        code, out, errors = call(main, ["status", str(folder)])
        assert code == 2 and out == "" and len(errors.splitlines()) == 1 and message in errors


def test_watching_ends_with_ctrl_c(study, monkeypatch, call):
    rounds = []

    def sleep(seconds):
        rounds.append(seconds)
        if len(rounds) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("benchmark.cells.status.time.sleep", sleep)
    code, out, errors = call(main, ["status", str(study), "--watch"])
    assert (code, errors) == (0, "") and rounds == [2.0] * 3
    assert out.count("B/0") == 3


def test_status_needs_no_torch(study, repository):
    code = (
        "import sys; from benchmark.__main__ import main\n"
        "main(['status', sys.argv[1]])\n"
        "sys.exit('torch' in sys.modules or 'scipy.stats' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(study)], cwd=repository).returncode == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1:00 min"), (185, "3:05 min"), (7380, "2:03 h"),
     (400_000, "4 days")],
)  # fmt: skip
def test_durations_are_readable(seconds, text):
    assert duration(seconds) == text


def test_a_milestone_is_scored_once_all_parts_of_the_index_are(study, make, rows):
    make("b/seed0", saved=200, logged=(200,))
    index = json.loads((study / "study.json").read_text())
    index["proofs"] = ["scored-own/0a", "scored-stitched/0a"]
    (study / "study.json").write_text(json.dumps(index))
    rows(("B", 100), ("B", 200))
    before = (study / "rows.jsonl").read_text()
    assert states(study)["B/0"] == "trained 0/2"
    rows(("B", 100), proof="scored-stitched/0a")
    with (study / "rows.jsonl").open("a") as handle:
        handle.write(before)
    assert states(study)["B/0"] == "trained 1/2"
