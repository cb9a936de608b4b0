"""A tiny study as jobs of this machine, looked at, preempted and left alone while it runs."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from benchmark.__main__ import main
from benchmark.cells.__main__ import main as follow
from benchmark.cells.status import read_status
from benchmark.rows.file import read_rows
from benchmark.rows.row import fields_of

STUDY = """
seeds: [0]
arms:
  cs: {extends: [arms/cs]}
  c: {extends: [arms/c]}
run:
  extends: [runs/celeba_32]
  data: {dataset: avatars, num_train: 256, num_held_out: 32}
  model: {n_feat: 8, probe_batches: 2, probe_batch_size: 8}
  training:
    epochs: null
    steps: 12
    global_batch: 8
    lr: 1e-3
    ema_decays: [0.9]
    milestones: ["50%", "100%"]
    checkpoint_every: 1000
    device: cpu
    precision: fp32
    compile: "off"
    threads: 1
  sampler: {steps: 4, chunk: 8}
evaluation:
  num_generated: 12
  num_reference: 64
  feature_nets: [effnet-lite0-64]
  profile_images: 2
  strip: 4
"""
CLOCK = ("time", "host", "train_seconds", "git")
COMMAND = ["-m", "benchmark", "reproduce", "mine.yaml"]
ON_JOBS = [*COMMAND, "--cluster", "local"]


def comparable(folder):
    """Rows but for clock and host fields, in an order of their own."""
    rows = map(fields_of, read_rows(folder / "rows.jsonl"))
    return sorted(
        json.dumps({k: v for k, v in row.items() if k not in CLOCK}, sort_keys=True) for row in rows
    )


def wait_until(condition, process=None, seconds=240):
    """Wait until ``condition`` holds, while ``process`` (if given) runs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and (process is None or process.poll() is None):
        if condition():
            return
        # Looking takes the cores that the study needs.
        time.sleep(0.2)
    raise AssertionError("it did not come to that")


def states(folder):
    return {cell.name: cell.state for cell in read_status(folder)}


@pytest.fixture
def fresh(workdir):
    (workdir / "mine.yaml").write_text(STUDY)
    return workdir


@pytest.fixture(scope="module")
def plain_rows(tmp_path_factory, avatars, shared_folder, write_job, warm_python):
    """Rows of the study run without jobs and without a stop."""
    cwd = tmp_path_factory.mktemp("plain")
    (cwd / "data").symlink_to(shared_folder / "data")
    (shared_folder / "cache").mkdir(exist_ok=True)
    (cwd / ".cache").symlink_to(shared_folder / "cache")
    (cwd / "mine.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(cwd)
        assert follow([write_job()]) == 0
    return comparable(cwd / "results" / "mine")


def process_of_job(folder):
    """The process that runs a local job: the child of submitit's controller, who names the job."""
    (submitted,) = (folder / "cluster").glob("*_submitted.pkl")
    controller = submitted.name.split("_")[0]
    children = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    return int(children[0])


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the job through /proc")
def test_preempted_job_is_queued_again_and_ends_in_the_same_rows(fresh, plain_rows, start_cli):
    folder = fresh / "results" / "mine"
    process = start_cli(ON_JOBS, fresh)
    wait_until(lambda: list(folder.glob("cs/seed0/weights-*6.pt")), process)
    job = process_of_job(folder)
    os.kill(job, signal.SIGUSR2)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    (log,) = (folder / "cluster").glob("*_log.out")
    assert log.read_text().count("Requeued job") == 1
    assert comparable(folder) == plain_rows
    assert (folder / "tables" / "fid_vs_steps.md").exists()


def test_jobs_outlive_the_command_that_submitted_them(
    fresh, plain_rows, start_cli, call, monkeypatch
):
    folder = fresh / "results" / "mine"
    process = start_cli([*ON_JOBS, "--cells-per-job", "1"], fresh)
    wait_until(lambda: list(folder.glob("*/seed0/config.json")), process)
    # As a terminal does it: to the whole group.
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    # To its end it cannot be read: the jobs hold it open.
    lines = iter(process.stderr.readline, "")
    next(line for line in lines if line.endswith("python -m benchmark status results/mine\n"))
    assert next(lines).startswith("the same command waits for them again")
    code, _, errors = call(main, ON_JOBS[2:])
    assert code == 2 and "are being run by another process" in errors
    wait_until(lambda: set(states(folder).values()) == {"scored 2/2"})
    # Drawing takes longer than the jobs did, and this is about the jobs.
    monkeypatch.setattr("plots.build.write_figures", lambda study, folder: [])
    code, _, errors = call(main, ON_JOBS[2:])
    assert (code, errors) == (0, "")
    assert (folder / "tables" / "fid_vs_steps.md").exists()
    assert len(list((folder / "cluster").glob("*_submitted.pkl"))) == 2
    assert comparable(folder) == plain_rows


def test_study_is_seen_and_stopped_while_it_scores(fresh, start_cli, call):
    folder = fresh / "results" / "mine"
    words = ["--set", "evaluation.num_generated=100000", "--set", "sampler.chunk=64"]
    process = start_cli([*COMMAND, *words], fresh)
    wait_until((folder / "study.json").exists, process)
    wait_until(lambda: states(folder)["CS/0"] == "scoring 0/2", process)
    _, seen, _ = call(main, ["status", "results/mine"])
    assert "CS/0  scoring 0/2" in seen
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in errors
    # Where the cell had to be killed, its fork dies a moment after it (tests/warm_python).
    wait_until(lambda: states(folder)["CS/0"] == "stopped", seconds=20)
    assert "Traceback" not in (folder / "cs" / "seed0" / "cell.log").read_text()
