"""How cells become jobs, without a cluster; whole studies are in test_cluster_reproduce.py."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import submitit

from benchmark.cells import slurm, walk
from benchmark.cells.assignment import read_assignment
from benchmark.cells.slurm import CellGroup, ClusterOptions, parse_settings, slurm_parameters
from benchmark.cells.tasks import Task, graph_of, in_order
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion.data.record import record_of
from mindiffusion.errors import UserError
from mindiffusion.files import exclusive_lock, write_json


@pytest.fixture
def study(workdir, tiny_config):
    """Arms B and C, two seeds each; nothing is done yet."""
    runs = [
        tiny_config(arm, f"seed={seed}", output=f"results/tiny/{arm}")
        for seed in (0, 1)
        for arm in ("b", "c")
    ]
    scoring = EvaluationConfig(num_reference=64, profile_images=8)
    return Study("tiny", Path("results/tiny"), tuple(runs), scoring)


class RecordingExecutor:
    """Takes submissions as SLURM would and keeps them."""

    def __init__(self, folder):
        self.folder = folder
        self.groups = []

    def submit_array(self, groups):
        first = len(self.groups)
        self.groups += groups
        return [submitit.SlurmJob(self.folder, f"7_{first + i}") for i in range(len(groups))]


@pytest.fixture
def executor(monkeypatch, study):
    """What ``run_on_cluster`` submits to; SLURM's states are those of ``executor.states``."""
    recording = RecordingExecutor(study.folder / "cluster")
    recording.states = {}
    monkeypatch.setattr(slurm, "_executor", lambda *arguments: recording)
    monkeypatch.setattr(
        submitit.SlurmJob.watcher,
        "get_state",
        lambda job, mode="standard": recording.states.get(job, "PENDING"),
    )
    # The command that submits leaves as if Ctrl-C came while it waits.
    monkeypatch.setattr(slurm, "_wait", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    return recording


def submit(study, cells_per_job=None):
    return slurm.run_on_cluster(study, study.runs, ClusterOptions("slurm", cells_per_job, {}))


def told(group):
    return read_assignment(Path(group.document))


def cells(group):
    return list(dict.fromkeys(task.cell for task in told(group).tasks))


def whats(group):
    return [f"{task.what} {task.arm}/{task.seed}" for task in told(group).tasks]


def test_every_cell_gets_a_job(study, executor):
    assert submit(study) == 130
    assert [cells(group) for group in executor.groups] == [
        [("B", 0)], [("C", 0)], [("B", 1)], [("C", 1)]
    ]  # fmt: skip
    for group in executor.groups:
        assert Path(group.document).parent == study.folder / "cluster"
        assert told(group).study == study and told(group).side_by_side is None


def test_all_jobs_are_handed_the_data_that_were_opened_once(study, executor, avatars):
    submit(study)
    records = (record_of(study.runs[0].data, avatars),)
    assert [told(group).data for group in executor.groups] == [records] * 4


def test_a_job_keeps_what_was_submitted(study, executor):
    """The document of a queued job is not touched when another study of that name is submitted."""
    submit(study)
    before = {group.document: Path(group.document).read_bytes() for group in executor.groups}
    executor.states = dict.fromkeys(("7_0", "7_1", "7_2", "7_3"), "FAILED")
    submit(dataclasses.replace(study, runs_per_device=2))
    assert {group.document for group in executor.groups[4:]}.isdisjoint(before)
    assert {name: Path(name).read_bytes() for name in before} == before


def test_jobs_of_a_study_that_was_edited_since_are_not_waited_for(study, executor):
    """They will train what was submitted; other scoring settings can still be added afterwards."""
    submit(study)
    changed = tuple(
        dataclasses.replace(run, process=dataclasses.replace(run.process, n_T=500))
        for run in study.runs
    )
    with pytest.raises(UserError) as error:
        submit(dataclasses.replace(study, runs=changed))
    assert str(error.value) == (
        "job 7_0 trains B/0 of results/tiny with other settings than the study has now; cancel it "
        "(scancel 7_0), or undo the change."
    )
    scoring = dataclasses.replace(study.evaluation, num_generated=12)
    assert submit(dataclasses.replace(study, evaluation=scoring)) == 130
    assert len(executor.groups) == 4


@pytest.fixture
def done(monkeypatch):
    """Tasks that count as done."""
    tasks = set()
    monkeypatch.setattr(walk, "is_done", lambda study, config, task: task in tasks)
    return tasks


@pytest.fixture
def rounds(executor, done, monkeypatch):
    """Jobs end when they are waited for, with all their tasks done but for ``executor.fail``."""
    executor.fail = set()

    def wait(study, jobs):
        for job in jobs:
            executor.states[job.job_id] = "COMPLETED"
            number = int(job.job_id.removeprefix("7_"))
            done.update(set(told(executor.groups[number]).tasks) - executor.fail)

    monkeypatch.setattr(slurm, "_wait", wait)
    return executor


def unfinished(study, cells_per_job):
    """The rows know nothing of tasks that only count as done, so the command ends with this."""
    with pytest.raises(UserError, match="not finished: "):
        submit(study, cells_per_job)


def test_stitched_samples_are_jobs_of_a_second_round(study, rounds):
    scoring = dataclasses.replace(study.evaluation, metrics=("fd", "stitched"))
    study = dataclasses.replace(study, evaluation=scoring, finisher=study.runs[0])
    unfinished(study, 1)
    assert [whats(group) for group in rounds.groups] == [
        ["train B/0", "own B/0", "stitched B/0"],
        ["train C/0", "own C/0"], ["train B/1", "own B/1"], ["train C/1", "own C/1"],
        ["stitched C/0"], ["stitched B/1"], ["stitched C/1"],
    ]  # fmt: skip


def test_nothing_is_submitted_behind_a_job_that_failed(study, rounds):
    scoring = dataclasses.replace(study.evaluation, metrics=("fd", "stitched"))
    study = dataclasses.replace(study, evaluation=scoring, finisher=study.runs[0])
    rounds.fail = {Task("train", "B", 0)}
    unfinished(study, 1)
    assert len(rounds.groups) == 4


@pytest.mark.parametrize(
    ("cells_per_job", "jobs"),
    [
        (1, [["C/0"], ["C/1"], ["B/0"], ["B/1"]]),
        # Those of one job do for each other what they need.
        (2, [["B/0", "C/0"], ["B/1", "C/1"]]),
    ],
)
def test_a_control_that_follows_an_arms_training_is_submitted_after_it(
    cells_per_job, jobs, study, rounds, monkeypatch
):
    needs = {Task("train", "B", seed): (Task("train", "C", seed),) for seed in (0, 1)}
    graph = in_order(dict(graph_of(study)) | needs)
    monkeypatch.setattr(walk, "graph_of", lambda study: graph)
    unfinished(study, cells_per_job)
    assert [sorted({f"{arm}/{seed}" for arm, seed in cells(group)}) for group in rounds.groups] == (
        jobs
    )


def test_a_cell_of_an_earlier_job_goes_on_when_that_has_ended(study, rounds, monkeypatch):
    """The earlier job is waited for; what it has left undone is submitted, once."""
    folder = study.folder / "cluster"
    write_json(folder / "jobs.json", [{"job": "9", "cells": [slurm._key(study.runs[0])]}])
    wait = slurm._wait

    def ended(study, jobs):
        rounds.states["9"] = "FAILED"
        wait(study, [job for job in jobs if job.job_id != "9"])

    monkeypatch.setattr(slurm, "_wait", ended)
    unfinished(study, 1)
    assert [cells(group) for group in rounds.groups] == [
        [("C", 0)], [("B", 1)], [("C", 1)], [("B", 0)]
    ]  # fmt: skip


def test_cells_are_grouped(study, executor, capsys):
    submit(study, 3)
    assert [len(cells(group)) for group in executor.groups] == [3, 1]
    assert "python -m benchmark status results/tiny" in capsys.readouterr().err


def test_cells_whose_job_is_queued_or_running_are_not_submitted_again(study, executor):
    submit(study, 2)
    executor.states = {"7_1": "RUNNING"}
    submit(study, 2)
    assert len(executor.groups) == 2
    executor.states = {"7_0": "FAILED", "7_1": "PREEMPTED"}
    submit(study, 2)
    assert len(executor.groups) == 3
    assert cells(executor.groups[2]) == cells(executor.groups[0])
    # What is still queued of both commands is remembered.
    executor.states = {"7_0": "FAILED"}
    submit(study, 2)
    assert len(executor.groups) == 3


def test_a_lost_record_is_no_reason_to_run_a_cell_twice(study, executor):
    run = study.runs[1].run_dir
    run.mkdir(parents=True)
    with exclusive_lock(run / ".lock"), pytest.raises(UserError, match="C/0 of results/tiny are"):
        submit(study)
    assert executor.groups == []


@pytest.mark.parametrize("content", ["", "{"])
def test_a_damaged_record_is_passed_over(study, executor, content):
    folder = study.folder / "cluster"
    folder.mkdir(parents=True)
    (folder / "jobs.json").write_text(content)
    submit(study)
    assert len(executor.groups) == 4


def test_jobs_that_end_early_are_told_with_their_last_line(study, executor, monkeypatch):
    monkeypatch.setattr(slurm, "_wait", lambda *arguments: None)
    log = study.folder / "cluster" / "7_0_0_log.err"
    write_json(study.folder / "cluster" / "x.json", {})
    log.write_text(
        "loading\nerror: cell B/0 stopped: no GPU. Run the same command again to go on.\n"
    )
    with pytest.raises(UserError) as error:
        submit(study)
    assert "\n" not in str(error.value)
    assert "B/0, C/0, B/1, C/1; job 7_0 ended: cell B/0 stopped: no GPU. (its" in str(error.value)
    assert str(error.value).count("Run the same command again") == 1


def test_settings_go_to_submitit_or_to_sbatch():
    settings = parse_settings(["partition=gpu", "--cpus-per-task=8", "time=60", "gres=gpu:1"])
    found = slurm_parameters(settings)
    assert (found["time"], found["cpus_per_task"]) == (60, 8)
    assert found["srun_args"] == ["--cpus-per-task=8"]
    assert found["additional_parameters"] == {"requeue": True, "partition": "gpu", "gres": "gpu:1"}


def test_slurm_script_asks_to_be_queued_again(study, tmp_path, monkeypatch):
    for name in ("srun", "sbatch"):
        (tmp_path / name).write_text('#!/bin/sh\ncp "$1" script\necho Submitted batch job 42\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(slurm, "_wait", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    options = ClusterOptions("slurm", 1, parse_settings(["partition=gpu", "cpus_per_task=4"]))
    assert slurm.run_on_cluster(study, study.runs, options) == 130
    script = Path("script").read_text()
    for line in ("--requeue", "--signal=USR2@90", "--partition=gpu", "--time=240", "--array=0-3%4",
                 "--cpus-per-task=4", "--job-name=tiny"):  # fmt: skip
        assert f"#SBATCH {line}\n" in script
    assert "srun " in script and script.count("--cpus-per-task=4") == 2
    assert len(list((study.folder / "cluster").glob("42_*_submitted.pkl"))) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["partition"], "is not KEY=VALUE"),
        (["=3"], "is not KEY=VALUE"),
        (["time=1:00:00"], r"whole number \(minutes\)"),
        (["cpus-per-task=x"], "cpus_per_task is a whole number"),
    ],
)
def test_mistakes_in_settings_are_told(words, message):
    with pytest.raises(UserError, match=message):
        parse_settings(words)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ClusterOptions("local", 0, {}), "--cells-per-job is 0"),
        (ClusterOptions("local", None, {"partition": "gpu"}), "are for --cluster slurm"),
        (ClusterOptions("slurm", None, {}), "Could not detect"),
    ],
)
def test_mistakes_in_options_are_told(study, options, message, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=message):
        slurm.run_on_cluster(study, study.runs, options)


def test_group_ends_with_the_exit_code_of_its_cells(capfd):
    old = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            CellGroup("nowhere.json")()
    finally:
        signal.signal(signal.SIGTERM, old)
    errors = capfd.readouterr().err
    assert end.value.code == 2 and errors.startswith("error: ") and "Traceback" not in errors


def test_checkpoint_stops_the_cells_and_asks_for_the_same_again():
    group = CellGroup("cluster/job.json")
    group._process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    again = group.checkpoint()
    assert group._process.poll() == -signal.SIGTERM
    assert isinstance(again.function, CellGroup) and again.function.document == group.document
    assert again.args == () and again.function._process is None
