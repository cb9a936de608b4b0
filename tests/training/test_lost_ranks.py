"""Ranks that die, hang, live under two agents, or change in number: the run ends the same."""

import json
import os
import re
import signal
import socket

import numpy as np
import pytest

from mindiffusion.training import checkpoint

WORDS = ("training.steps=20", "training.milestones=[20]", "training.checkpoint_every=5")
TORCHRUN = ["-m", "torch.distributed.run"]


@pytest.fixture(scope="module")
def images(tmp_path_factory, avatars):
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, avatars.train)
    return path


@pytest.fixture(scope="module")
def job_words(images, repository, avatars, tiny_content):
    """A function: folder, words of the config, keys of the job → words that drive it."""

    def make(folder, *words, **keys):
        folder.mkdir(exist_ok=True)
        content = tiny_content("cs", *WORDS, *words, output=folder / "run")
        job = folder / "job.json"
        job.write_text(json.dumps({"config": content, "manifest": avatars.manifest_id, **keys}))
        return [repository / "tests" / "training" / "drive_training.py", images, job]

    return make


def last_state(folder):
    return checkpoint.load(folder / "run/seed0/ckpt-000000020.pt")


def end_well(started):
    """Wait for processes, all of which must succeed."""
    for process in started:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors


@pytest.fixture
def undisturbed(tmp_path, job_words, start_cli, torchrun):
    """Folders of two undisturbed two-rank runs that ran at the same time on this machine."""
    folders = [tmp_path / name for name in ("first", "second")]
    end_well([start_cli([*torchrun, *job_words(folder)], tmp_path) for folder in folders])
    return folders


@pytest.fixture
def two_agents(tmp_path, job_words, start_cli):
    """Folder of a run of two ranks, each under an agent of its own that meets the other."""
    folder = tmp_path / "agents"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        endpoint = f"--rdzv-endpoint=localhost:{free.getsockname()[1]}"
    words = [*TORCHRUN, "--nnodes=2", "--nproc_per_node=1", "--rdzv-backend=c10d", endpoint]
    words += ["--rdzv-id=two-agents", *job_words(folder)]
    end_well([start_cli(words, tmp_path) for _ in range(2)])
    return folder


@pytest.fixture
def killed_rank(tmp_path, job_words, run_cli):
    """Folder of a run that torchrun started again by itself after a rank was killed."""
    folder = tmp_path / "killed"
    fault = {"rank": 1, "step": 7, "signal": signal.SIGKILL, "note": str(tmp_path / "note")}
    words = [*TORCHRUN, "--standalone", "--nproc_per_node=2", "--max-restarts=2"]
    done = run_cli([*words, *job_words(folder, fault=fault)], tmp_path)
    assert (tmp_path / "note").exists() and done.returncode == 0, done.stderr
    # What the death of one rank does to the other is told once, as its consequence.
    told = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(told) <= 1 and all("rank 0 waited" in line for line in told)
    return folder


def test_two_ranks_give_the_same_bits_side_by_side_under_two_agents_and_after_a_death(
    undisturbed, two_agents, killed_rank, assert_same
):
    first = last_state(undisturbed[0])
    for folder in (undisturbed[1], two_agents, killed_rank):
        assert_same(first, last_state(folder))


def test_hung_rank_is_named_with_the_phase(tmp_path, job_words, start_cli, torchrun):
    note = tmp_path / "note"
    fault = {"rank": 1, "step": 7, "signal": signal.SIGSTOP, "note": str(note)}
    words = job_words(tmp_path / "hung", "training.timeout_seconds=3", fault=fault)
    process = start_cli([*torchrun, *words], tmp_path)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("error"):
            break
    # torchrun would wait half a minute for the stopped one to end by itself.
    os.kill(int(note.read_text()), signal.SIGKILL)
    _, rest = process.communicate(timeout=100)
    assert process.returncode != 0
    assert re.match(
        r"error: rank 0 waited \d+\.\d s in step 8: gradient exchange for rank 1, hung or ended "
        r"\(a slow machine may need a longer training\.timeout_seconds\); the same command goes on",
        lines[-1],
    )
    assert "Traceback" not in "".join(lines) and not re.search("^error", rest, re.MULTILINE)
    assert max((tmp_path / "hung/run/seed0").glob("ckpt-*.pt")).name == "ckpt-000000005.pt"


def test_world_size_may_change_at_every_start(
    tmp_path, job_words, run_cli, workdir, train_run, tiny_config, assert_same
):
    fp64 = "training.precision=fp64"
    config = tiny_config("cs", *WORDS, fp64, output=tmp_path / "changing" / "run")
    train_run(config, stop_after=5)
    for world, stop_after in ((4, 10), (2, 15)):
        words = [*TORCHRUN, "--standalone", f"--nproc_per_node={world}"]
        job = job_words(tmp_path / "changing", fp64, stop_after=stop_after)
        done = run_cli([*words, *job], tmp_path)
        assert done.returncode == 0, done.stderr
    train_run(config)
    alone = train_run(tiny_config("cs", *WORDS, fp64, output="alone"))
    changing, straight = last_state(tmp_path / "changing"), alone.state()
    for part in ("network", "averages", "optimizer"):
        assert_same({part: straight[part]}, {part: changing[part]}, tolerance=1e-9)
    # Stages began on 1, 4, 2 and 1 ranks, each with the same channels.
    starts = [event["step"] for event in straight["stage_log"]]
    assert len({sum(step >= edge for edge in (5, 10, 15)) for step in starts}) == 3
    fields = ("step", "channels_on", "channels_grown", "penalty_lambda")
    logs = [[{k: e.get(k) for k in fields} for e in s["stage_log"]] for s in (changing, straight)]
    assert logs[0] == logs[1]
