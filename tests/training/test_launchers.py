"""The joint curriculum under each launcher of several processes: the same run, bit for bit."""

import pytest

from mindiffusion.training import checkpoint

WORDS = {
    "data.size": 32, "data.num_train": 64, "data.num_held_out": 16, "model.embed_dim": 32,
    "model.depth": 2, "model.num_heads": 2, "training.steps": 20, "training.milestones": "[20]",
    "training.global_batch": 8, "training.device": "cpu", "training.compile": "off",
    "training.threads": 1, "training.optimizer.warm_up_steps": 2, "sampler.compile": "off",
    "sampler.grid": 2, "sampler.steps": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def launchers(torchrun):
    pytest.importorskip("accelerate")
    accelerate = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
                  "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
                  "-m"]  # fmt: skip
    return {"torchrun": [*torchrun, "-m"], "accelerate": accelerate}


def test_accelerate_launch_trains_as_torchrun_does(launchers, workdir, run_cli):
    settings = [word for key, value in WORDS.items() for word in ("--set", f"{key}={value}")]
    weights = {}
    for name, launcher in launchers.items():
        words = [*launcher, "benchmark", "train", "avatars64_uvit_small_cs", *settings]
        done = run_cli([*words, "--output", name], workdir)
        assert done.returncode == 0, done.stderr
        # One of two ranks speaks.
        assert done.stdout.count("20 steps done") == 1
        content = checkpoint.load(checkpoint.weights_path(workdir / name / "seed0", 20))
        weights[name] = content["weights"]["raw"]
    ours, theirs = weights.values()
    assert all((theirs[key] == value).all() for key, value in ours.items())
