"""The runner's decisions, on files made by hand; whole studies are in test_reproduce.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmark import runner
from benchmark.cell import work_of
from benchmark.runner import Cell, cell_states, device_slots, seconds_per_work, title
from benchmark.study import EvaluationConfig, Study
from mindiffusion.errors import UserError
from mindiffusion.training import runtime
from mindiffusion.training.signals import Interrupted

EVALUATION = EvaluationConfig(
    num_generated=16, num_reference=64, feature_net="effnet-lite0-64", profile_images=8
)


@pytest.fixture
def study(workdir, tiny_config):
    """Arms B and C of 24 steps with milestones at 12 and 24; nothing is done yet."""
    runs = tuple(tiny_config(arm, output=f"results/tiny/{arm}") for arm in ("b", "c"))
    return Study("tiny", Path("results/tiny"), runs, EVALUATION)


@pytest.mark.parametrize(
    ("gpus", "visible", "threads", "device", "slots"),
    [
        (0, None, 1, "auto", [None] * 6),
        (0, None, 4, "auto", [None]),
        (0, None, None, "auto", [None]),
        (0, None, 99, "auto", [None]),
        (2, None, 1, "auto", ["0", "1"]),
        (2, "3,7", 1, "auto", ["3", "7"]),
        (2, None, 2, "cpu", [None] * 3),
    ],
)
def test_slots_are_gpus_or_shares_of_the_cores(
    gpus, visible, threads, device, slots, monkeypatch, tiny_config
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    for module in (runtime, runner):
        if hasattr(module, "available_cores"):
            monkeypatch.setattr(module, "available_cores", lambda: 6)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    words = (f"training.threads={json.dumps(threads)}", f"training.device={device}")
    assert device_slots([tiny_config("c", *words)]) == slots


def test_states_count_what_is_left(study):
    work = work_of(study, study.runs[0])
    whole = 12 * work.step + work.milestone
    assert cell_states(study, 256) == [
        ("B/0 step 12", "to do", whole), ("B/0 step 24", "to do", whole),
        ("C/0 step 12", "to do", whole), ("C/0 step 24", "to do", whole),
    ]  # fmt: skip
    run_dir = study.runs[0].run_dir
    run_dir.mkdir(parents=True)
    for step, expected in (
        (7, [("at step 7", 5 * work.step + work.milestone), ("to do", whole)]),
        (12, [("trained", work.milestone), ("to do", whole)]),
        (20, [("trained", work.milestone), ("at step 20", 4 * work.step + work.milestone)]),
        (24, [("trained", work.milestone), ("trained", work.milestone)]),
    ):
        (run_dir / f"ckpt-{step:09d}.json").write_text("{}")
        found = [(state, left) for _, state, left in cell_states(study, 256)[:2]]
        assert found == expected
    assert [state for _, state, _ in cell_states(study, 256)[2:]] == ["to do", "to do"]


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


def ended(study, code, log=""):
    """A cell whose process ended with ``code`` after writing ``log``."""
    process = subprocess.Popen([sys.executable, "-c", f"import os; os._exit({code})"], text=True)
    process.wait()
    path = study.folder / "cell.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(log)
    return Cell(study.runs[0], process, path)


def test_end_of_a_cell_is_told_by_its_exit_code(study):
    runner._check_end(ended(study, 0))
    for code in (130, 143):
        with pytest.raises(Interrupted) as stop:
            runner._check_end(ended(study, code))
        assert stop.value.signal_number == code - 128
    with pytest.raises(UserError, match=r"cell B/0 stopped: the disk is full \(log: .*cell\.log"):
        runner._check_end(ended(study, 2, "loading\nerror: the disk is full\n"))
    with pytest.raises(UserError, match="exit code 9"):
        runner._check_end(ended(study, 9))


def test_titles_name_arm_and_seed(tiny_config):
    assert title(tiny_config("cs", "seed=3")) == "CS/3"
