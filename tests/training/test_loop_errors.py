"""What ends a run badly leaves its last good state, and says what to do."""

import errno
import os
import re
import subprocess
from dataclasses import replace

import pytest
import torch

from mindiffusion import files
from mindiffusion.errors import UserError
from mindiffusion.files import exclusive_lock
from mindiffusion.runtime import resolve_runtime
from mindiffusion.training import checkpoint, preflight
from mindiffusion.training import run_folder as run_module
from mindiffusion.training.loop import Hooks
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.trainer import Trainer


def states(config):
    """Steps of the whole rolling states of a run."""
    return sorted(checkpoint.load(path)["step"] for path in config.run_dir.glob("ckpt-*.pt"))


def break_after(step, value=float("nan")):
    """Hooks that spoil one weight after a step."""

    def hooks(trainer):
        def on_step(done, total):
            if done == step:
                with torch.no_grad():
                    next(trainer.network.parameters())[0, 0, 0, 0] = value

        return Hooks(on_step=on_step)

    return hooks


def test_huge_learning_rate_stops_names_the_step_and_writes_nothing_bad(
    workdir, train_run, tiny_config
):
    config = tiny_config("c", "training.lr=1e30", "training.checkpoint_every=1")
    with pytest.raises(UserError, match=r"not finite at step 1 .*stage1_high_noise.*training\.lr"):
        train_run(config)
    for path in config.run_dir.glob("*.pt"):
        content = checkpoint.load(path)
        for tensors in (content["network"], *content["averages"]["averages"].values()):
            assert all(t.isfinite().all() for t in tensors.values())
    assert states(config) in ([], [1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_keeps_the_last_good_state(value, workdir, train_run, tiny_config):
    config = tiny_config("cs")
    with pytest.raises(UserError, match=r"not finite at step 10 \(rank 0, stage stage4_") as e:
        # Broken after step 9, so in step 10; noticed at 12, the next reading; saved last at 7.
        train_run(config, break_after(9, value))
    # All eight samples are at fault, and the stage's window is [0.2, 1].
    low, high = map(float, re.search(r"t in \[(\S+), (\S+)\]", str(e.value)).groups())
    assert 0.2 <= low < high <= 1 and "\n" not in str(e.value)
    assert states(config) == [7]
    whole = train_run(config)
    assert whole.step == 24 and states(config) == [21, 24]


def test_weight_that_is_not_finite_is_found_before_it_is_saved(workdir, train_run, tiny_config):
    config = tiny_config("c")
    with pytest.raises(UserError, match="not finite at step 7 "):
        train_run(config, break_after(7))
    assert states(config) == []
    with pytest.raises(UserError, match="not finite at step 24 "):
        train_run(config, break_after(24))
    assert states(config) == [14, 21]


@pytest.mark.parametrize(("world", "near"), [(3, 9), (5, 10), (16, 16)])
def test_global_batch_that_ranks_do_not_divide_suggests_one(world, near, avatars, tiny_config):
    config = tiny_config("c")
    with pytest.raises(UserError, match=f"global batch 8 is not divisible by {world} ranks") as e:
        Trainer(
            config,
            resolve_runtime(config, 1),
            Ranks(0, world, 0, world),
            torch.device("cpu"),
            avatars.training,
        )
    assert f"--global-batch {near}" in str(e.value)


def test_changed_config_under_a_folder_is_named_and_nothing_is_lost(
    workdir, train_run, tiny_config
):
    config = tiny_config("c")
    train_run(config, stop_after=14)
    before = {p.name: p.read_bytes() for p in config.run_dir.iterdir() if p.is_file()}
    for words, key in (
        (("training.lr=5e-4",), "training.lr"),
        (("training.steps=30",), "training.steps"),
        (("model.n_feat=16",), "model.n_feat"),
    ):
        with pytest.raises(UserError, match="another config") as error:
            train_run(tiny_config("c", *words))
        assert key in str(error.value) and "--output" in str(error.value)
    assert {p.name: p.read_bytes() for p in config.run_dir.iterdir() if p.is_file()} == before
    assert train_run(config).step == 24


def test_other_data_under_a_folder_are_refused(workdir, train_run, tiny_config, avatars):
    config = tiny_config("c")
    train_run(config, stop_after=7)
    with pytest.raises(UserError, match=f"data {avatars.manifest_id}.*is other"):
        run_module.run(
            config, replace(avatars.training, manifest_id="other"), Ranks(), lambda trainer: Hooks()
        )


def test_second_process_on_a_folder_is_refused_and_changes_nothing(
    workdir, train_run, tiny_config, monkeypatch
):
    monkeypatch.setattr(run_module, "LOCK_WAIT_SECONDS", 0.2)
    config = tiny_config("c")
    with exclusive_lock(config.run_dir / ".lock"):
        with pytest.raises(UserError, match=r"in use by another process.*--output"):
            train_run(config)
        assert [p.name for p in config.run_dir.iterdir()] == [".lock"]
    assert train_run(config, stop_after=1).step == 1


def test_full_disk_keeps_the_last_whole_state(workdir, train_run, tiny_config, monkeypatch):
    config = tiny_config("cs")
    fsync = os.fsync

    def full(descriptor):
        if checkpoint.checkpoint_path(config.run_dir, 14).with_suffix(".json").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        train_run(config)
    assert states(config) == [12, 14]
    names = {p.name for p in config.run_dir.iterdir()}
    assert not any(name.startswith(".ckpt") for name in names), "a temporary file was left"
    monkeypatch.setattr(files.os, "fsync", fsync)
    assert train_run(config).step == 24


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 3 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if done.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_of_a_command_is_one_line(
    small_disk, workdir, call, tiny_words, tiny_config, monkeypatch
):
    from mindiffusion.cli import main

    words = [*tiny_words, "--output", str(small_disk / "out")]
    code, _, err = call(main, "celeba_cs_32", words)
    assert code == 2 and "checkpoints and weights need about" in err
    assert not list(small_disk.iterdir())
    # Somebody else may fill the disk later.
    monkeypatch.setattr(preflight, "check_room", lambda *arguments: None)
    code, _, err = call(main, "celeba_cs_32", words)
    last = err.strip().splitlines()[-1]
    assert code != 0 and last.startswith("error: no space left") and "Traceback" not in err
    config = replace(tiny_config("cs"), output=str(small_disk / "out"))
    # Room for two states and a milestone's weights (1 MB each), not for what comes next.
    assert states(config)
