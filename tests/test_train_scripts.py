"""The three scripts as a paper author types them."""

import json
import re

import numpy as np
import pytest
from PIL import Image

ARMS = ("c", "cs", "cr")


@pytest.fixture
def script(repository):
    return lambda arm: repository / f"train_celeba_{arm}_32.py"


@pytest.mark.parametrize("arm", ARMS)
def test_smoke_leaves_a_checkpoint_and_a_grid(arm, script, workdir, run_cli):
    done = run_cli([script(arm), "--dataset", "avatars", "--smoke"], workdir)
    assert done.returncode == 0, done.stderr
    run = workdir / f"checkpoints_{arm}_32" / "smoke" / "seed0"
    assert {"ckpt-000000001.pt", "weights-000000001.pt", "config.json"} <= {
        path.name for path in run.iterdir()
    }
    (grid,) = (workdir / f"contents_{arm}_32" / "smoke" / "seed0").glob("*.png")
    assert np.array(Image.open(grid)).shape == (32, 8 * 32, 3)


def test_dry_run_shows_the_seeds_settings_and_the_stages(script, workdir, run_cli):
    words = [script("cs"), "--dry-run", "--dataset", "avatars", "--set", "training.steps=80"]
    done = run_cli([*words, "--set", "training.lr=1e-4", "--seed", "3"], workdir)
    config = json.loads(done.stdout)
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


def test_output_and_seed_choose_the_folder(script, workdir, run_cli, tiny_words):
    words = [script("c"), *tiny_words, "--output", "elsewhere", "--seed", "7"]
    assert run_cli(words, workdir).returncode == 0
    run = workdir / "elsewhere" / "seed7"
    assert (run / "weights-000000024.pt").exists()
    assert (run / "samples" / "step-000000024.png").exists()
    assert not (workdir / "checkpoints_c_32").exists()


def test_finished_run_is_harmless_to_start_again(script, workdir, run_cli, tiny_words):
    words = [script("c"), *tiny_words]
    assert run_cli(words, workdir).returncode == 0
    run = workdir / "checkpoints_c_32" / "seed0"
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert run_cli(words, workdir).returncode == 0
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_global_batch_must_divide_by_the_ranks(script, workdir, run_cli, torchrun, tiny_words):
    done = run_cli([*torchrun, script("c"), "--dataset", "avatars", "--global-batch", "9"], workdir)
    assert done.returncode != 0
    assert "error: global batch 9 is not divisible by 2 ranks; try --global-batch" in done.stderr
