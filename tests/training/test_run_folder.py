"""Whatever file of a run's folder is damaged, it is named and the run ends the same."""

import json
import logging
import os
import signal
from dataclasses import replace

import pytest

from mindiffusion.errors import UserError
from mindiffusion.files import exclusive_lock
from mindiffusion.training import checkpoint, console
from mindiffusion.training import run_folder as run_module
from mindiffusion.training.loop import Hooks
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.run_folder import settle_runtime


def flip_bit(path, bit=None):
    content = bytearray(path.read_bytes())
    bit = 8 * (len(content) // 2) if bit is None else bit
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def weights_of(config, step):
    return checkpoint.load(checkpoint.weights_path(config.run_dir, step))


def state_of(config, step=24):
    return checkpoint.load(checkpoint.checkpoint_path(config.run_dir, step))


@pytest.fixture
def steps_of(train_run):
    """A function: trains a run, returns the steps that took."""

    def train(config, stop_after=None):
        steps = []
        hooks = Hooks(on_step=lambda done, total: steps.append(done))
        train_run(config, lambda trainer: hooks, stop_after)
        return steps

    return train


@pytest.fixture
def whole(workdir, train_run, tiny_config):
    """A run that nothing happened to, in a folder of its own."""
    config = tiny_config("cs", output="whole")
    train_run(config)
    return config


@pytest.fixture
def same_as_whole(whole, assert_same, log_lines):
    """A function: asserts that a run's state, milestones and log are those of ``whole``."""

    def check(config):
        assert_same(state_of(whole), state_of(config))
        for step in (12, 24):
            assert_same(weights_of(whole, step), weights_of(config, step))
        assert log_lines(whole.run_dir) == log_lines(config.run_dir)

    return check


# -- config.json --------------------------------------------------------------------------------


def test_every_flip_in_the_config_file_is_found_and_made_good(
    workdir, train_run, tiny_config, avatars, caplog
):
    config = tiny_config("c")
    trainer = train_run(config, stop_after=7)
    path = config.run_dir / "config.json"
    content = path.read_bytes()
    # A blank that becomes another one says the same.
    told = json.loads(content)
    for bit in range(0, 8 * len(content), 997):
        path.write_bytes(content)
        flip_bit(path, bit)
        try:
            is_same = json.loads(path.read_bytes()) == told
        except ValueError:
            is_same = False
        caplog.clear()
        assert settle_runtime(config, avatars.manifest_id, Ranks()) == trainer.runtime
        named = [m for m in caplog.messages if str(path) in m and "newest whole checkpoint" in m]
        assert len(named) == 1 - is_same, bit
    train_run(config, stop_after=8)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "0", '{"config": {}}'])
def test_config_file_that_is_none_is_made_anew(content, workdir, train_run, tiny_config, caplog):
    config = tiny_config("c")
    train_run(config, stop_after=7)
    path = config.run_dir / "config.json"
    before = path.read_text()
    path.write_text(content)
    assert train_run(config, stop_after=8).step == 8
    assert path.read_text() == before and "config.json is damaged" in caplog.text


def test_config_file_damaged_before_the_first_checkpoint_comes_from_the_given_config(
    workdir, train_run, tiny_config, caplog
):
    config = tiny_config("c")
    train_run(config, stop_after=3)
    path = config.run_dir / "config.json"
    before = path.read_text()
    flip_bit(path)
    train_run(config, stop_after=3)
    assert path.read_text() == before and "made anew from the given config" in caplog.text


def test_damaged_config_file_does_not_let_another_run_in(workdir, train_run, tiny_config, avatars):
    config = tiny_config("c")
    train_run(config, stop_after=7)
    flip_bit(config.run_dir / "config.json")
    with pytest.raises(UserError, match=r"another config \(different: training\.lr\)"):
        train_run(tiny_config("c", "training.lr=5e-4"))
    with pytest.raises(UserError, match=f"trained on data {avatars.manifest_id}"):
        other = replace(avatars.training, manifest_id="other")
        run_module.run(config, other, Ranks(), lambda trainer: Hooks())


# -- milestones ---------------------------------------------------------------------------------


def test_damaged_milestone_is_trained_again_to_the_same_bits(
    whole, same_as_whole, steps_of, tiny_config, caplog
):
    config = tiny_config("cs", output="cut")
    steps_of(config)
    path = checkpoint.weights_path(config.run_dir, 12)
    flip_bit(path)
    # Only states of steps 21 and 24 are left, so it takes all steps.
    assert steps_of(config) == list(range(1, 25))
    assert path.name in caplog.text and "damaged" in caplog.text
    same_as_whole(config)
    assert steps_of(config) == []


def test_stop_while_a_milestone_is_made_again_loses_neither_states_nor_log(
    whole, same_as_whole, steps_of, tiny_config
):
    config = tiny_config("cs", output="cut")
    steps_of(config)
    flip_bit(checkpoint.weights_path(config.run_dir, 12))
    assert steps_of(config, stop_after=14)[-1] == 14
    assert steps_of(config) == []
    same_as_whole(config)


@pytest.mark.parametrize("damage", [flip_bit, os.unlink])
def test_milestone_of_the_very_state_is_written_from_it(
    damage, whole, same_as_whole, steps_of, tiny_config
):
    config = tiny_config("cs", output="cut")
    steps_of(config)
    damage(checkpoint.weights_path(config.run_dir, 24))
    assert steps_of(config) == []
    same_as_whole(config)


def test_milestone_that_the_user_took_away_stays_away(workdir, steps_of, tiny_config, caplog):
    config = tiny_config("c")
    steps_of(config)
    path = checkpoint.weights_path(config.run_dir, 12)
    path.unlink()
    assert steps_of(config) == [] and not path.exists()
    assert not caplog.messages


# -- log and left-overs -------------------------------------------------------------------------


def test_damaged_log_is_restored_from_the_state(whole, same_as_whole, steps_of, tiny_config):
    config = tiny_config("cs", output="cut")
    steps_of(config, stop_after=14)
    log = config.run_dir / "metrics.jsonl"
    before = log.read_text().splitlines()
    # A digit that became another one is a whole line still.
    log.write_text(log.read_text().replace('"loss": ', '"loss": 9', 1) + '{"cut')
    assert steps_of(config)[0] == 15
    assert log.read_text().splitlines()[: len(before)] == before
    same_as_whole(config)


def test_what_killed_writers_left_is_removed_and_only_that(workdir, steps_of, tiny_config):
    config = tiny_config("c")
    steps_of(config, stop_after=7)
    left = [
        f".{name}.ab12_xyz"
        for name in ("ckpt-000000007.pt", "weights-000000012.json", "config.json", "metrics.jsonl")
    ]
    mine = [".lock", ".notes", ".config.json.swp", ".rows.jsonl.ab12_xyz"]
    for name in left + mine:
        (config.run_dir / name).touch()
    steps_of(config, stop_after=8)
    hidden = {p.name for p in config.run_dir.iterdir() if p.name.startswith(".")}
    assert hidden == set(mine)


def test_second_run_on_a_folder_says_that_it_waits(
    workdir, train_run, tiny_config, monkeypatch, caplog
):
    monkeypatch.setattr(run_module, "LOCK_WAIT_SECONDS", 0.2)
    config = tiny_config("c")
    lock = exclusive_lock(config.run_dir / ".lock")
    with (
        lock,
        caplog.at_level(logging.WARNING),
        pytest.raises(UserError, match="in use by another"),
    ):
        train_run(config)
    assert [m for m in caplog.messages if "waiting" in m and str(config.run_dir) in m]


# -- sample grids -------------------------------------------------------------------------------


def stop_in_sampling(monkeypatch):
    """Makes the next sampling of a grid meet a SIGTERM before its second network call."""
    sample_images = console.sample_images

    def stopped(denoise, process, codec, sampler, count, side, on_step, **told):
        calls = []

        def count_calls():
            calls.append(True)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            assert len(calls) < 3, "sampling went on"
            on_step()

        monkeypatch.setattr(console, "sample_images", sample_images)
        return sample_images(denoise, process, codec, sampler, count, side, on_step=count_calls)

    monkeypatch.setattr(console, "sample_images", stopped)


def test_stop_in_a_sample_grid_saves_the_state_and_the_grid_is_made_on_resume(
    workdir, tiny_config, monkeypatch, capsys
):
    config = tiny_config("c")
    stop_in_sampling(monkeypatch)
    assert console.train_on_console(config) == 143
    assert "the same command goes on" in capsys.readouterr().err
    # The milestone was saved before its grid; one more step was done before the next look.
    assert max(p.name for p in config.run_dir.glob("ckpt-*.pt")) == "ckpt-000000013.pt"
    assert not list(config.grid_dir.glob("*"))
    drawn = []
    write_grid = console.write_grid
    monkeypatch.setattr(
        console,
        "write_grid",
        lambda path, *rest: drawn.append(path.name) or write_grid(path, *rest),
    )
    assert console.train_on_console(config) == 0
    assert drawn == ["weights-000000012.pt", "weights-000000024.pt"]
    assert len(list(config.grid_dir.glob("*.png"))) == 2


def test_stop_in_the_last_sample_grid_is_no_success(workdir, tiny_config, monkeypatch, capsys):
    config = tiny_config("c", "training.milestones=[24]")
    stop_in_sampling(monkeypatch)
    assert console.train_on_console(config) == 143
    assert "steps done" not in capsys.readouterr().out
    assert console.train_on_console(config) == 0
    assert len(list(config.grid_dir.glob("*.png"))) == 1


def test_grid_that_a_killed_process_left_half_written_is_removed(workdir, tiny_config):
    config = tiny_config("c", "training.steps=8", "training.milestones=[8]")
    config.grid_dir.mkdir(parents=True)
    (config.grid_dir / ".step-000000008.png.ab12_xyz").touch()
    (config.grid_dir / ".mine").touch()
    assert console.train_on_console(config) == 0
    assert {p.name for p in config.grid_dir.iterdir()} == {".mine", "step-000000008.png"}
