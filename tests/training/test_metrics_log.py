"""The training log and its TensorBoard events, also after kills and resumes."""

import builtins
import itertools
import json
import os
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mindiffusion.training.metrics_log import MetricsLog, read_metrics, scalars


def entry(step, loss=0.5):
    return {
        "step": step, "stage": "all", "loss": loss, "loss_by_t": [0.4, None, 0.2, 0.1],
        "grad_norm": 1.5, "penalty_lambda": 0.0, "active_channels": 16,
        "images_per_second": 100.0, "data_wait": 0.01, "memory_gib": 0.5, "train_seconds": 1.0,
    }  # fmt: skip


def points(run_dir, tag="loss"):
    """(step, value) of one scalar as TensorBoard shows it."""
    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]


@pytest.fixture
def write(tmp_path):
    """A function: the run goes on from a step and logs (step, loss) pairs; then it ends."""

    def run(from_step, *pairs):
        log = MetricsLog(tmp_path / "metrics.jsonl", from_step)
        for step, loss in pairs:
            log.write(entry(step, loss))
        log.close()
        # Files are read in the order of their names, which begin with the second of their start.
        for path in (tmp_path / "tensorboard").glob(f"*.{os.uname().nodename}.*"):
            path.rename(path.with_name(f"events.out.tfevents.{next(number):010d}"))

    number = itertools.count()
    return run


def test_scalars_are_the_numbers_of_an_entry():
    found = dict(scalars(entry(4)))
    assert found["loss_by_t/q1"] == 0.4 and found["loss_by_t/q4"] == 0.1
    assert "loss_by_t/q2" not in found
    assert {"loss", "grad_norm", "penalty_lambda", "active_channels", "images_per_second",
            "data_wait", "memory_gib"} <= set(found)  # fmt: skip
    assert not set(found) & {"step", "stage", "loss_by_t"}


def test_events_hold_what_the_lines_hold(write, tmp_path):
    write(0, (4, 0.5), (8, 0.25))
    assert [line["loss"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [0.5, 0.25]
    assert points(tmp_path) == [(4, 0.5), (8, 0.25)]
    assert points(tmp_path, "loss_by_t/q3") == [(4, 0.2), (8, 0.2)]


@pytest.mark.parametrize("from_step", [0, 5, 8])
def test_resumed_run_shows_each_point_once(from_step, write, tmp_path):
    write(0, (4, 0.1), (8, 0.2), (12, 0.3))
    again = [
        (step, 10 * loss) for step, loss in ((4, 0.1), (8, 0.2), (12, 0.3)) if step > from_step
    ]
    write(from_step, *again, (16, 4.0))
    kept = [(4, 0.1), (8, 0.2), (12, 0.3)][: from_step // 4]
    expected = [*kept, *again, (16, 4.0)]
    assert points(tmp_path) == expected
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [(line["step"], line["loss"]) for line in lines] == expected


@pytest.mark.parametrize("cut", [2, 20, 60])
def test_files_cut_by_a_kill_stay_usable(cut, write, tmp_path):
    write(0, (4, 0.1), (8, 0.2))
    for path in (tmp_path / "metrics.jsonl", *(tmp_path / "tensorboard").iterdir()):
        path.write_bytes(path.read_bytes()[:-cut])
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [4]
    write(4, (8, 0.2), (12, 0.3))
    assert points(tmp_path) == [(4, 0.1), (8, 0.2), (12, 0.3)]
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [4, 8, 12]


def test_events_are_on_disk_as_soon_as_they_are_written(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    log.write(entry(4))
    assert points(tmp_path) == [(4, 0.5)]
    log.close()


def test_nothing_is_opened_before_the_first_line(tmp_path, repository):
    code = (
        "import sys; from pathlib import Path\n"
        "from mindiffusion.training.metrics_log import MetricsLog\n"
        "MetricsLog(Path(sys.argv[1]), 0).close()\n"
        "sys.exit(bool({'torch', 'tensorboard'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "metrics.jsonl")]
    assert subprocess.run(words, cwd=repository).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_a_run_goes_on_and_says_so_once(tmp_path, monkeypatch, caplog):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("torch.utils.tensorboard"):
            raise ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    log.write(entry(4))
    log.write(entry(8))
    log.close()
    assert [json.loads(x)["step"] for x in (tmp_path / "metrics.jsonl").open()] == [4, 8]
    assert [record.getMessage() for record in caplog.records] == [
        "no TensorBoard events are written from step 4: No module named 'tensorboard'"
    ]


def test_a_folder_that_cannot_be_written_ends_the_events_not_the_run(tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("in the way")
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    log.write(entry(4))
    log.write(entry(8))
    log.close()
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2
    assert "from step 4" in caplog.text and len(caplog.records) == 1


def test_lines_of_strangers_are_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    good = {"step": 3, "stage": "low", "loss": 0.5, "loss_by_t": [0.1, 0.2]}
    odd = [10**400, float("nan"), float("inf"), "\x1b[2J", "x" * 300, {"a": 1}, [[1]], 1e308]
    lines = [good, *(good | {"loss": value} for value in odd)]
    lines += [good | {"step": step} for step in (-1, "3", None, 2**60, 1.5)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_metrics(path) == [good]


def test_lines_that_are_not_shown_are_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 0.5}, {"step": 9, "loss": 1.0}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    MetricsLog(path, 2).close()
    assert path.read_text().splitlines() == [json.dumps(line) for line in lines[:2]]
