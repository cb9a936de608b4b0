"""How cells become jobs, without a cluster; whole studies are in test_cluster_reproduce.py."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import submitit

from benchmark.cells import slurm
from benchmark.cells.slurm import CellGroup, ClusterOptions, parse_settings, slurm_parameters
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion.data.record import parse_record, record_of
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
    return slurm.run_on_cluster(
        study, ["reproduce", "x"], study.runs, ClusterOptions("slurm", cells_per_job, {})
    )


def cells(group):
    words = group.words
    return [(words[i + 1], words[i + 2]) for i, word in enumerate(words) if word == "--only"]


def test_every_cell_gets_a_job(study, executor):
    assert submit(study) == 130
    assert [cells(group) for group in executor.groups] == [
        [("results/tiny/b", "0")], [("results/tiny/c", "0")],
        [("results/tiny/b", "1")], [("results/tiny/c", "1")],
    ]  # fmt: skip
    assert all(group.words[:2] == ["reproduce", "x"] for group in executor.groups)


def test_all_jobs_are_handed_the_data_that_were_opened_once(study, executor, avatars):
    submit(study)
    (record,) = {group.words[group.words.index("--prepared") + 1] for group in executor.groups}
    assert parse_record(record) == record_of(study.runs[0].data, avatars)


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
    assert slurm.run_on_cluster(study, ["reproduce", "x"], study.runs, options) == 130
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
        slurm.run_on_cluster(study, [], study.runs, options)


def test_group_ends_with_the_exit_code_of_its_cells():
    code = "from benchmark.cells.slurm import CellGroup; CellGroup(['tables', 'nowhere'])()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and "error: " in done.stderr and "Traceback" not in done.stderr


def test_checkpoint_stops_the_cells_and_asks_for_the_same_again():
    group = CellGroup(["reproduce", "x"])
    group._process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    again = group.checkpoint()
    assert group._process.poll() == -signal.SIGTERM
    assert isinstance(again.function, CellGroup) and again.function.words == group.words
    assert again.args == () and again.function._process is None
