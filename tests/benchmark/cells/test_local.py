"""The runner's decisions, on files made by hand; whole studies are in test_reproduce.py."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmark.cells import cell as cell_module
from benchmark.cells import children, local, walk
from benchmark.cells import slots as slots_module
from benchmark.cells.assignment import read_assignment
from benchmark.cells.cell import Scorer
from benchmark.cells.describe import write_index
from benchmark.cells.duration import duration
from benchmark.cells.local import Cell
from benchmark.cells.progress import title, work_of
from benchmark.cells.slots import device_slots
from benchmark.cells.tasks import Task, graph_of, in_order, key_of
from benchmark.cells.time_left import cell_states, print_dry_run, seconds_per_work
from benchmark.rows.file import append_rows, read_rows
from benchmark.rows.row import Row
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion import runtime
from mindiffusion.config.run import config_hash
from mindiffusion.errors import Terminated, ToldFault, UserError
from mindiffusion.training.signals import Interrupted, stop_signals

EVALUATION = EvaluationConfig(
    num_generated=16, num_reference=64, feature_nets=("effnet-lite0-64",), profile_images=8
)


@pytest.fixture
def study(workdir, tiny_config):
    """Arms B and C of 24 steps with milestones at 12 and 24; nothing is done yet."""
    runs = tuple(tiny_config(arm, output=f"results/tiny/{arm}") for arm in ("b", "c"))
    return Study("tiny", Path("results/tiny"), runs, EVALUATION)


@pytest.mark.parametrize(
    ("gpus", "visible", "threads", "device", "sharing", "slots"),
    [
        (0, None, 1, "auto", 1, [None] * 6),
        (0, None, 4, "auto", 1, [None]),
        (0, None, None, "auto", 1, [None]),
        (0, None, 99, "auto", 1, [None]),
        (2, None, 1, "auto", 1, ["0", "1"]),
        (2, "3,7", 1, "auto", 1, ["3", "7"]),
        (2, None, 2, "cpu", 1, [None] * 3),
        # Several runs on each GPU; on the CPU its threads decide, or it is one device.
        (2, None, 1, "auto", 3, ["0", "1"] * 3),
        (1, "3", None, "cuda", 2, ["3", "3"]),
        (0, None, 2, "auto", 2, [None] * 3),
        (2, None, None, "cpu", 3, [None] * 3),
        (0, None, None, "auto", 99, [None] * 6),
    ],
)
def test_slots_are_gpus_or_shares_of_the_cores(
    gpus, visible, threads, device, sharing, slots, monkeypatch, tiny_config
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(slots_module, "available_cores", lambda: 6)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    words = (f"training.threads={json.dumps(threads)}", f"training.device={device}")
    assert device_slots([tiny_config("c", *words)], sharing) == slots


@pytest.mark.parametrize(
    ("threads", "slots", "environment"),
    [
        ("null", [None, None], {"OMP_NUM_THREADS": "3"}),
        ("1", [None] * 6, {"OMP_NUM_THREADS": "1"}),
        ("null", ["0", "1", "0", "1"], {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "1"}),
        ("null", ["5"] * 8, {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "5"}),
    ],
)
def test_cells_side_by_side_never_ask_for_more_cores_than_there_are(
    threads, slots, environment, monkeypatch, tiny_config, workdir
):
    started, popen = [], subprocess.Popen

    def start(command, **how):
        started.append((command, how["env"]))
        return popen([sys.executable, "-c", ""], stdout=subprocess.PIPE, text=True)

    config = tiny_config("c", f"training.threads={threads}")
    study = Study("tiny", Path(), (config,), EVALUATION)
    tasks = (Task("train", "C", 0), Task("own", "C", 0))
    for module in (runtime, local):
        monkeypatch.setattr(module, "available_cores", lambda: 6)
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", start)
        cell = local._start(walk.Walk(study, tasks), tasks, (), slots, 1)
    cell.process.wait()
    ((command, given),) = started
    assert environment.items() <= given.items()
    # One document says all. The cell knows how many run beside it, and settles on as many threads.
    assert command[-2:] == ["benchmark.cells", "run/seed0/cell.json"]
    told = read_assignment(Path(command[-1]))
    assert (told.study, told.tasks, told.side_by_side) == (study, tasks, len(slots))
    settled = runtime.resolve_runtime(config, 1, runs_on_machine=len(slots))
    assert str(settled.threads) == environment["OMP_NUM_THREADS"]


def states_of(study, config):
    return [(one.step, one.state, one.work_left) for one in cell_states(study, config)]


def test_states_count_what_is_left(study):
    first, second = study.runs
    work = work_of(study, first)
    whole = 12 * work.step + work.milestone
    to_do = [(12, "to do", whole), (24, "to do", whole)]
    assert [states_of(study, config) for config in study.runs] == [to_do, to_do]
    first.run_dir.mkdir(parents=True)
    for step, expected in (
        (7, [("at step 7", 5 * work.step + work.milestone), ("to do", whole)]),
        (12, [("trained", work.milestone), ("to do", whole)]),
        (20, [("trained", work.milestone), ("at step 20", 4 * work.step + work.milestone)]),
        (24, [("trained", work.milestone), ("trained", work.milestone)]),
    ):
        (first.run_dir / f"ckpt-{step:09d}.json").write_text("{}")
        assert [found[1:] for found in states_of(study, first)] == expected
    assert states_of(study, second) == to_do


def test_dry_run_lists_cells_and_the_milestones_of_one_under_way(study, capsys):
    log = study.runs[1].run_dir / "metrics.jsonl"
    log.parent.mkdir(parents=True)
    work = work_of(study, study.runs[0])
    # A training step takes a minute.
    entry = {"step": 8, "train_seconds": 8 * 60.0}
    log.write_text(json.dumps(entry) + "\n")
    (study.runs[1].run_dir / "ckpt-000000008.json").write_text("{}")
    assert print_dry_run(study, study.runs, slots=2) == 0
    lines = capsys.readouterr().out.splitlines()
    scoring = 2 * work.milestone / work.step
    minutes = [24 + scoring, 16 + scoring, 4 + scoring / 2, 12 + scoring / 2]
    *lines, summary, declared = lines
    assert [line.split()[-2] for line in lines] == [f"{value:.1f}" for value in minutes]
    assert [" ".join(line.split()[:-2]) for line in lines] == [
        "B/0 to do", "C/0 scored 0/2", "step 12 at step 8", "step 24 to do"
    ]  # fmt: skip
    total = sum(minutes[:2])
    assert summary.startswith(f"2 cells, about {duration(total / 2 * 60)} in all, 2 at a time (")
    assert declared.startswith("exploratory; fingerprint of ")
    print_dry_run(study, study.runs[:1], slots=2)
    alone = capsys.readouterr().out.splitlines()
    assert alone[0].startswith("B/0") and len(alone) == 3
    assert f"about {duration(minutes[0] * 60)} in all, 1 at a time" in alone[-2]


def test_speed_is_taken_from_the_runs_own_log(study):
    log = study.runs[1].run_dir / "metrics.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"step": 4, "train_seconds": 1.0}\n{"step": 8, "train_seconds": 6.0}\n{"st')
    seconds, how = seconds_per_work(study)
    # 8 steps of 8 images, a backward pass counted as two forward passes.
    assert seconds == pytest.approx(6.0 / (8 * 8 * 3)) and "C/0" in how


def test_speed_without_a_log_is_measured(study):
    seconds, how = seconds_per_work(study)
    assert 0 < seconds < 1 and how == "three steps timed now"
    assert not study.folder.exists()


class Hollow:
    """Cells that do nothing and say that their tasks are done; notes what happens.

    Attributes:
        did: what was done: the tasks of each started cell, and "tables".
        done: tasks that count as done.
        ends: how many polls a cell lasts, by its title; others end at once.
        fails: tasks that are never done.
    """

    def __init__(self):
        self.did, self.done, self.ends, self.fails = [], set(), {}, set()

    def start(self, walk, tasks, records, slots, number):
        config = walk.runs[tasks[0].cell]
        self.did.append((title(config), *(task.what for task in tasks)))
        left = [self.ends.get(title(config), 0)]

        def poll():
            left[0] -= 1
            if left[0] < 0:
                self.done |= set(tasks) - self.fails
                return 0
            return None

        process = SimpleNamespace(poll=poll, returncode=0, terminate=list, wait=lambda seconds: 0)
        return Cell(config, process, Path("log"))


@pytest.fixture
def hollow(monkeypatch):
    """A ``Hollow`` in place of cells and tables."""
    cells = Hollow()
    monkeypatch.setattr(local, "make_yardstick", lambda *how: SimpleNamespace(fill_cache=list))
    monkeypatch.setattr(local, "finish", lambda study: cells.did.append("tables"))
    monkeypatch.setattr(local, "_start", cells.start)
    monkeypatch.setattr(local, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(walk, "is_done", lambda study, config, task: task in cells.done)
    # So that nothing is said of the tree that the tests run in.
    monkeypatch.setattr("benchmark.cells.preflight.git_revision", lambda: "0123456789ab")
    return cells


def test_only_chosen_cells_are_run_and_the_index_has_all(study, hollow):
    assert local.run_study(study, study.runs[1:]) == 0
    assert hollow.did == [("C/0", "train", "own"), "tables"]
    cells = json.loads((study.folder / "study.json").read_text())["cells"]
    assert [cell["arm"] for cell in cells] == ["B", "C"]


def test_a_job_does_its_tasks_and_leaves_tables_and_index_to_others(study, hollow):
    hollow.done = {Task("train", "B", 0)}
    assert local.run_job(study, [Task("train", "B", 0), Task("own", "B", 0)]) == 0
    assert hollow.did == [("B/0", "own")]
    assert not (study.folder / "study.json").exists()
    assert local.run_job(study, [Task("own", "B", 0)]) == 0
    assert len(hollow.did) == 1


@pytest.fixture
def stitching(study):
    """The study with stitched samples, which B finishes."""
    evaluation = dataclasses.replace(
        study.evaluation, metrics=(*study.evaluation.metrics, "stitched"), stitch_levels=(0.5,)
    )
    return dataclasses.replace(study, evaluation=evaluation, finisher=study.runs[0])


def test_a_finisher_that_nobody_trains_is_told_of_before_and_after(stitching, hollow, capsys):
    """A machine that does its share of a study need not wait for the one that has the finisher."""
    assert local.run_study(stitching, stitching.runs[1:]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "stitched" in line]
    assert len(said) == 2 and all("wait for B/0" in line and "copy" in line for line in said)
    assert hollow.did == [("C/0", "train", "own"), "tables"]
    # Where the finisher is trained too, there is nothing to say, and what waits for it is done.
    assert local.run_study(stitching, stitching.runs) == 0
    assert "wait" not in capsys.readouterr().err
    assert hollow.did[2:] == [
        ("B/0", "train", "own", "stitched"), ("C/0", "stitched"), "tables"
    ]  # fmt: skip


def test_a_finisher_that_another_machine_has_trained_is_taken(stitching, hollow, capsys):
    hollow.done = {Task("train", "B", 0)}
    assert local.run_study(stitching, stitching.runs[1:]) == 0
    assert hollow.did == [("C/0", "train", "own", "stitched"), "tables"]
    assert "wait" not in capsys.readouterr().err


def test_what_waits_for_a_cell_starts_when_that_has_ended_and_not_before(
    stitching, hollow, monkeypatch
):
    """Two at a time: C ends first, and is run once more when B, the finisher, is there."""
    monkeypatch.setattr(local, "device_slots", lambda runs, sharing: [None, None])
    hollow.ends = {"B/0": 3}
    assert local.run_study(stitching, stitching.runs) == 0
    assert hollow.did == [
        ("B/0", "train", "own", "stitched"), ("C/0", "train", "own"), ("C/0", "stitched"), "tables"
    ]  # fmt: skip


def test_a_control_that_follows_an_arms_training_is_started_after_it(study, hollow, monkeypatch):
    """As a yoked control does: B's training needs C's, which the study lists behind it."""
    graph = dict(graph_of(study)) | {Task("train", "B", 0): (Task("train", "C", 0),)}
    monkeypatch.setattr(walk, "graph_of", lambda study: in_order(graph))
    monkeypatch.setattr(local, "device_slots", lambda runs, sharing: [None, None])
    assert local.run_study(study, study.runs) == 0
    assert hollow.did == [("C/0", "train", "own"), ("B/0", "train", "own"), "tables"]


def test_a_cell_that_ends_without_its_tasks_done_is_not_started_for_ever(stitching, hollow):
    """As where somebody has deleted its weights, which are not made anew."""
    hollow.fails = {Task("train", "B", 0)}
    assert local.run_study(stitching, stitching.runs) == 0
    assert [title for title, *_ in hollow.did[:-1]] == ["B/0", "C/0"]


def test_rows_that_contradict_each_other_are_found_before_anything_is_trained(study, hollow):
    config = study.runs[0]
    write_rows(study, config, config_hash=config_hash(config))
    write_rows(study, config, config_hash=config_hash(config), value=2.0)
    with pytest.raises(UserError, match=r"line 2, and .*rows\.jsonl, line 3: two results"):
        local.run_study(study, study.runs)
    assert hollow.did == []


def test_a_part_ends_well_and_says_what_is_left(study, hollow, capsys):
    """The first cell is started in time, and the time is over before it ends."""
    hollow.ends = {"B/0": 1_000_000}
    assert local.run_study(study, study.runs, minutes=0.002) == 0
    assert hollow.did in ([("B/0", "train", "own")], [])
    said = capsys.readouterr().out
    assert said.startswith("stopped after 0.002 minutes: 0 of 2 cells done, about ")


def test_cells_are_not_started_once_the_time_is_over(study, hollow):
    one = walk.Walk(study, graph_of(study))
    cells = [key_of(run) for run in study.runs]
    assert local._run_cells(one, cells, (), [None], time.monotonic() - 1) is False
    assert hollow.did == []


def test_rows_of_a_run_that_was_not_chosen_must_fit_too(study, hollow):
    stale = dataclasses.replace(study.runs[0], seed=1)
    other = dataclasses.replace(study, runs=(stale, *study.runs[1:]))
    write_rows(study, config=stale, config_hash="0" * 12)
    with pytest.raises(UserError, match="rows of arm 'B', seed 1 with another config"):
        local.run_study(other, other.runs[1:])


def write_rows(study, config, **changes):
    """A row of a run as another config would have made it."""
    row = Row(
        study="tiny", arm=config.arm, seed=config.seed, step=12, total_steps=24, metric="x",
        value=1.0, level=None, error=None, direction="none", metric_version=1, n_generated=0,
        n_reference=0, weights="", sampler="", sampler_steps=0, sampling_seed=0, full_range=True,
        stage="", samples=None, dataset="avatars", manifest="m", config_hash="c", git="g",
        versions={}, device="cpu", host="h", threads=1, train_seconds=1.0, time="t",
    )  # fmt: skip
    append_rows(study.folder / "rows.jsonl", [dataclasses.replace(row, **changes)])


def ended(study, code, log=""):
    """A cell whose process ended with ``code`` after writing ``log``."""
    how = f"os._exit({code})"
    if code < 0:
        # A shell that runs us in the background has SIGINT ignored, and children inherit that.
        how = f"signal.signal({-code}, signal.SIG_DFL); os.kill(os.getpid(), {-code})"
    process = subprocess.Popen([sys.executable, "-c", f"import os, signal; {how}"], text=True)
    process.wait()
    path = study.folder / "cell.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(log)
    return Cell(study.runs[0], process, path)


def test_end_of_a_cell_is_told_by_its_exit_code(study):
    local._check_end(ended(study, 0))
    for code in (129, 130, 143):
        with pytest.raises(Terminated) as stop:
            local._check_end(ended(study, code))
        assert stop.value.signal_number == code - 128
    with pytest.raises(UserError, match=r"cell B/0 stopped: the disk is full \(log: .*cell\.log"):
        local._check_end(ended(study, 2, "loading\nerror: the disk is full\n"))
    # Before it could listen, a signal ends a cell outright.
    for code in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        with pytest.raises(Terminated):
            local._check_end(ended(study, -code))
    with pytest.raises(UserError, match="exit code 9"):
        local._check_end(ended(study, 9))
    with pytest.raises(ToldFault, match="a fault of this program"):
        local._check_end(ended(study, 70, "error: a fault of this program\n"))


def test_cells_that_do_not_save_in_time_are_killed(study, monkeypatch):
    monkeypatch.setattr(children, "STOP_SECONDS", 0.5)
    deaf = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    )
    cells = {}
    for number, code in enumerate((deaf, "print(flush=True); import time; time.sleep(60)")):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        cells[number] = Cell(study.runs[0], process, Path("log"))
    with pytest.raises(KeyboardInterrupt), local._stopping(cells):
        raise KeyboardInterrupt
    codes = [cell.process.wait() for cell in cells.values()]
    assert codes == [-signal.SIGKILL, -signal.SIGTERM]
    for cell in cells.values():
        cell.process.stdout.close()


def test_scoring_within_training_ends_at_its_next_sign_when_asked_to_stop(study, monkeypatch):
    """Within training signals are collected: scoring that took no look would be killed."""
    seen = []

    def score(milestone, yardstick, part, finisher, progress, others):
        for number in range(3):
            seen.append(number)
            os.kill(os.getpid(), signal.SIGTERM)
            progress("scoring", number / 3)

    monkeypatch.setattr(cell_module, "score_milestone", score)
    monkeypatch.setattr(cell_module, "Milestone", lambda *told: None)
    monkeypatch.setattr(cell_module, "weights_to_score", lambda config, step: None)
    monkeypatch.setattr(cell_module.checkpoint, "load", lambda path: {})
    monkeypatch.setattr(cell_module, "make_yardstick", lambda *told: None)
    data = SimpleNamespace(train=range(256), manifest_id="0")
    scorer = Scorer(study, study.runs[0], ["own"], data, "cpu")
    with stop_signals(), pytest.raises(Interrupted) as stop:
        scorer.score_up_to(12)
    assert (stop.value.signal_number, seen) == (signal.SIGTERM, [0])
    assert not read_rows(study.folder / "rows.jsonl")


def test_index_lists_every_cell_with_its_steps(study):
    write_index(study)
    found = json.loads((study.folder / "study.json").read_text())
    assert found["study"] == "tiny"
    assert [(c["arm"], c["seed"], c["run"]) for c in found["cells"]] == [
        ("B", 0, "b/seed0"), ("C", 0, "c/seed0")
    ]  # fmt: skip
    assert {(c["total_steps"], tuple(c["milestones"])) for c in found["cells"]} == {(24, (12, 24))}


def test_titles_name_arm_and_seed(tiny_config):
    assert title(tiny_config("cs", "seed=3")) == "CS/3"
