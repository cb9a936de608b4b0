"""The three scripts as a paper author types them."""

import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindiffusion.cli import main

ARMS = ("c", "cs", "cr")


@pytest.fixture
def script(repository):
    return lambda arm: repository / f"train_celeba_{arm}_32.py"


@pytest.mark.parametrize("arm", ARMS)
def test_smoke_leaves_a_checkpoint_and_a_grid(arm, script, workdir, run_cli):
    # CS with all its defaults; the others narrow, to spare the time.
    narrow = [] if arm == "cs" else ["--set", "model.n_feat=8", "--global-batch", "16"]
    done = run_cli([script(arm), "--dataset", "avatars", "--smoke", *narrow], workdir)
    assert done.returncode == 0, done.stderr
    run = workdir / f"checkpoints_{arm}_32" / "smoke" / "seed0"
    assert {"ckpt-000000001.pt", "weights-000000001.pt", "config.json"} <= {
        path.name for path in run.iterdir()
    }
    (grid,) = (workdir / f"contents_{arm}_32" / "smoke" / "seed0").glob("*.png")
    assert np.array(Image.open(grid)).shape == (32, 8 * 32, 3)


def test_dry_run_shows_the_seeds_settings_and_the_stages(workdir, call):
    words = ["--dry-run", "--dataset", "avatars", "--set", "training.steps=80"]
    _, out, _ = call(main, "celeba_cs_32", [*words, "--set", "training.lr=1e-4", "--seed", "3"])
    config = json.loads(out)
    assert (config["training"]["steps"], config["training"]["epochs"]) == (80, None)
    assert (config["training"]["lr"], config["seed"]) == (1e-4, 3)
    assert (config["model"]["n_feat"], config["training"]["global_batch"]) == (32, 256)
    ends = [end for _, end in config["resolved"]["stages"].values()]
    assert ends == [5, 15, 30, 50, 80] == config["resolved"]["milestones"]
    assert not (workdir / "checkpoints_cs_32").exists()


def test_two_ranks_train_cs_over_all_stages(script, workdir, run_cli, torchrun, tiny_words):
    words = [*torchrun, script("cs"), *tiny_words, "--set", "training.milestones=[stages]"]
    done = run_cli(words, workdir)
    assert done.returncode == 0, done.stderr
    assert "24 steps done" in done.stdout
    run = workdir / "checkpoints_cs_32" / "seed0"
    steps = sorted(int(re.findall(r"\d+", p.name)[0]) for p in run.glob("weights-*.pt"))
    assert steps == [2, 5, 9, 15, 24]
    assert len(list((workdir / "contents_cs_32" / "seed0").glob("*.png"))) == 5
    assert done.stdout.count("steps done") == 1


def test_output_and_seed_choose_the_folder(workdir, call, tiny_words):
    words = [*tiny_words, "--output", "elsewhere", "--seed", "7"]
    assert call(main, "celeba_c_32", words)[0] == 0
    run = workdir / "elsewhere" / "seed7"
    assert (run / "weights-000000024.pt").exists()
    assert (run / "samples" / "step-000000024.png").exists()
    assert not (workdir / "checkpoints_c_32").exists()


def test_finished_run_is_harmless_to_start_again(script, workdir, run_cli, call, tiny_words):
    assert call(main, "celeba_c_32", tiny_words)[0] == 0
    run = workdir / "checkpoints_c_32" / "seed0"
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert run_cli([script("c"), *tiny_words], workdir).returncode == 0
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_global_batch_must_divide_by_the_ranks(script, workdir, run_cli, torchrun, tiny_words):
    done = run_cli([*torchrun, script("c"), "--dataset", "avatars", "--global-batch", "9"], workdir)
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(ours) == 1
    assert ours[0].startswith("error: global batch 9 is not divisible by 2 ranks; try --global-b")
    # torchrun's report follows.
    assert done.stderr.index(ours[0]) < done.stderr.index("ChildFailedError")


LONG = ["--set", "training.steps=2000", "--set", "training.milestones=[2000]"]


def wait_for_checkpoint(folder, process, seconds=120):
    """Wait until a run has a sealed checkpoint."""
    end = time.monotonic() + seconds
    while not list(folder.glob("**/ckpt-*.json")):
        assert process.poll() is None and time.monotonic() < end, process.stderr.read()
        time.sleep(0.02)


def newest_step(run):
    return max(int(path.stem[5:]) for path in run.glob("ckpt-*.json"))


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["SIGINT", "SIGTERM", "SIGHUP"],
)
def test_signal_saves_the_state_and_the_same_command_goes_on(
    number, code, script, workdir, start_cli, tiny_words
):
    words = [script("cs"), *tiny_words, *LONG]
    run = workdir / "checkpoints_cs_32" / "seed0"
    steps = []
    for _ in range(2):
        process = start_cli(words, workdir)
        if not steps:
            wait_for_checkpoint(run, process)
        else:
            while newest_step(run) <= steps[0]:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.02)
        os.killpg(process.pid, number)
        out, errors = process.communicate(timeout=60)
        assert process.returncode == code, errors
        assert "the same command goes on" in errors and "Traceback" not in errors
        assert "steps done" not in out
        steps.append(newest_step(run))
    assert 0 < steps[0] < steps[1] < 2000
    log = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert log == list(range(4, log[-1] + 1, 4)) and log[-1] > steps[1] - 4


def test_ctrl_c_under_torchrun_saves_the_state_of_both_ranks(
    script, workdir, start_cli, torchrun, tiny_words
):
    """A terminal signals torchrun and its ranks, and torchrun signals the ranks once more."""
    words = [*torchrun, script("c"), *tiny_words, *LONG]
    process = start_cli([*words, "--set", "training.checkpoint_every=1000"], workdir)
    run = workdir / "checkpoints_c_32" / "seed0"
    end = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists():
        assert process.poll() is None and time.monotonic() < end, process.stderr.read()
        time.sleep(0.02)
    for child in (process.pid, *children_of(process.pid)):
        os.kill(child, signal.SIGINT)
    process.communicate(timeout=100)
    assert process.returncode != 0
    # checkpoint_every is never reached, so only the signal can have saved a state.
    assert newest_step(run) < 1000


def children_of(pid):
    """Process ids of the direct children of a process."""
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if path.read_text().rsplit(")", 1)[1].split()[1] == str(pid)
    ]


@pytest.mark.parametrize("arm", ARMS)
def test_dry_run_prints_the_seeds_defaults_and_writes_nothing(arm, script, workdir, call):
    before = sorted(workdir.iterdir())
    code, out, _ = call(main, f"celeba_{arm}_32", ["--dry-run"])
    config = json.loads(out)
    assert code == 0 and sorted(workdir.iterdir()) == before
    assert (config["output"], config["samples"]) == (f"checkpoints_{arm}_32", f"contents_{arm}_32")
    assert (config["training"]["epochs"], config["training"]["lr"]) == (80, 2e-5)
    assert len(config["curriculum"]) == 5 and "CELEBA_PATH" in config["resolved"]
