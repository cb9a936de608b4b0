"""An interrupted run ends with the same bits as one that was not."""

import json
import os
import shutil
import signal

import pytest

from mindiffusion.build import build_network
from mindiffusion.runtime import has_cxx_compiler
from mindiffusion.training import checkpoint
from mindiffusion.training.loop import Hooks
from mindiffusion.training.signals import Interrupted


def final_state(config):
    return checkpoint.load(checkpoint.checkpoint_path(config.run_dir, config.training.steps))


def milestone(config, step):
    return checkpoint.load(checkpoint.weights_path(config.run_dir, step))


@pytest.fixture
def drive(run_cli, drive_words, tmp_path):
    """A function: runs jobs in one fresh process; returns it."""

    return lambda *jobs: run_cli(drive_words(*jobs), tmp_path)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resume_after_sigkill_in_a_fresh_process_is_bit_equal(
    precision, workdir, drive, train_run, tiny_content, tiny_config, assert_same, log_lines
):
    # Killed in stage 4 with a checkpoint in stage 3: the new process meets two regrowths.
    words = (f"training.precision={precision}",)
    whole, cut = (tiny_config("cs", *words, output=name) for name in ("whole", "cut"))
    kill = {"config": tiny_content("cs", *words, output="cut"), "at": 11, "signal": signal.SIGKILL}
    train_run(whole)
    assert drive(kill).returncode == -signal.SIGKILL
    assert sorted(p.name for p in cut.run_dir.glob("ckpt-*.pt")) == ["ckpt-000000007.pt"]
    again = drive({"config": kill["config"]})
    assert again.returncode == 0, again.stderr
    assert_same(final_state(whole), final_state(cut))
    for step in (12, 24):
        assert_same(milestone(whole, step), milestone(cut, step))
    assert log_lines(whole.run_dir) == log_lines(cut.run_dir)
    grown = [e for e in final_state(cut)["stage_log"] if e.get("channels_grown")]
    assert [e["step"] for e in grown] == [2, 5, 9, 15]


@pytest.mark.parametrize(
    ("arm", "step"), [("cs", 2), ("cs", 9), ("cr", 13), ("cs", 23), ("c with classes", 10)]
)  # 2 and 9 are stage boundaries: the regrowth comes after the resume
def test_resume_after_sigterm_at_any_step_is_bit_equal(
    arm, step, workdir, train_run, tiny_config, class_words, assert_same, log_lines
):
    arm, _, told = arm.partition(" with ")
    words = class_words if told else ()
    whole, cut = (tiny_config(arm, *words, output=name) for name in ("whole", "cut"))
    train_run(whole)

    def stop_at(trainer):
        def on_step(done, total):
            if done == step:
                os.kill(os.getpid(), signal.SIGTERM)

        return Hooks(on_step=on_step)

    with pytest.raises(Interrupted) as stopped:
        train_run(cut, stop_at)
    assert stopped.value.signal_number == signal.SIGTERM
    assert checkpoint.checkpoint_path(cut.run_dir, step).exists()
    train_run(cut)
    assert_same(final_state(whole), final_state(cut))
    steps = [line["step"] for line in log_lines(cut.run_dir)]
    assert steps == [4, 8, 12, 16, 20, 24]


OTHERS = {
    "song_unet under edm": (
        "model={network: song_unet, arch: ncsnpp, model_channels: 8, channel_mult: [1, 2], "
        "num_blocks: 1, attn_resolutions: [16]}",
        "process={kind: edm, sigma_data: auto}",
        "training.optimizer.warm_up_steps=60%",
        "training.ema_decays=['10%']",
    ),
    "dit under ddpm": (
        "model={network: dit, patch_size: 8, hidden_size: 16, depth: 2, num_heads: 2}",
        "training.optimizer={name: adamw, weight_decay: 0.1}",
        "training.global_batch=16",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_killed_run_of_another_network_goes_on_to_the_same_bits(
    name, workdir, train_run, tiny_config, assert_same, log_lines
):
    """Ten steps end between two states, and within the warm-up."""
    whole, cut = (tiny_config("c", *OTHERS[name], output=output) for output in ("whole", "cut"))
    trained = train_run(whole)
    train_run(cut, stop_after=10)
    assert checkpoint.newest(cut.run_dir)["step"] == 7
    train_run(cut)
    assert_same(final_state(whole), final_state(cut))
    for step in (12, 24):
        assert_same(milestone(whole, step), milestone(cut, step))
    assert log_lines(whole.run_dir) == log_lines(cut.run_dir)
    first = build_network(whole).state_dict()
    moved = {n for n, w in trained.network.state_dict().items() if not w.equal(first[n])}
    assert {n for n, _ in trained.network.named_parameters() if n != "pos_embed"} <= moved


@pytest.mark.skipif(not has_cxx_compiler(), reason="no C++ compiler for torch.compile")
def test_resume_of_a_compiled_run_in_a_fresh_process_is_bit_equal(
    workdir, drive, shared_folder, tiny_content, tiny_config, assert_same, monkeypatch
):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(shared_folder / "inductor"))
    words = ("training.compile=on", "training.steps=12", "training.milestones=[12]")
    # Half as many kernels to compile as those of the U-Net; its channels are masked as well.
    small = "{network: sparse_uvit, patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2}"
    words += ("training.checkpoint_every=6", f"model={small}")
    whole, cut = (tiny_config("cs", *words, output=name) for name in ("whole", "cut"))
    contents = [tiny_content("cs", *words, output=name) for name in ("whole", "cut")]
    first = drive({"config": contents[0]})
    assert first.returncode == 0, first.stderr
    assert json.loads((whole.run_dir / "config.json").read_text())["runtime"]["compile"] is True
    # Compiling takes most of the time, so the other run is this one as it was after six steps.
    shutil.copytree(whole.run_dir, cut.run_dir)
    for path in (checkpoint.checkpoint_path(cut.run_dir, 12), *cut.run_dir.glob("*000012*")):
        path.unlink(missing_ok=True)
    assert drive({"config": contents[1]}).returncode == 0
    assert_same(final_state(whole), final_state(cut))
    assert_same(milestone(whole, 12), milestone(cut, 12))


def test_resume_of_a_finished_run_does_nothing(workdir, train_run, tiny_config):
    config = tiny_config("c")
    train_run(config)
    before = {p: p.stat().st_mtime_ns for p in config.run_dir.iterdir() if p.name != ".lock"}
    steps = []
    train_run(config, lambda trainer: Hooks(on_step=lambda done, total: steps.append(done)))
    after = {p: p.stat().st_mtime_ns for p in config.run_dir.iterdir() if p.name != ".lock"}
    assert steps == []
    # The log is rewritten with the same lines; all else is untouched.
    log = config.run_dir / "metrics.jsonl"
    assert before.pop(log) and after.pop(log)
    assert before == after


def test_resume_drops_log_lines_past_its_checkpoint(workdir, train_run, tiny_config, log_lines):
    config = tiny_config("c")
    train_run(config)
    whole = log_lines(config.run_dir)
    for step in (21, 24):
        checkpoint.checkpoint_path(config.run_dir, step).unlink()
    with (config.run_dir / "metrics.jsonl").open("a") as handle:
        handle.write('{"step": 20, "cut')
    train_run(config)
    assert log_lines(config.run_dir) == whole


def test_resume_after_a_kill_before_the_pruning_prunes(
    workdir, train_run, tiny_config, monkeypatch
):
    config = tiny_config("c")
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "prune", lambda run_dir, step: None)
        train_run(config)
    assert len(list(config.run_dir.glob("ckpt-*.pt"))) > checkpoint.KEEP
    train_run(config)
    names = sorted(path.name for path in config.run_dir.glob("ckpt-*.pt"))
    assert names == ["ckpt-000000021.pt", "ckpt-000000024.pt"]
