import logging
import shutil

import pytest
import torch

from mindiffusion.config.run import to_kept
from mindiffusion.data.codec import PIXELS
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_file, write_json
from mindiffusion.sampling import config_of, model_of, primary_weights, sample_images
from mindiffusion.training import checkpoint
from mindiffusion.training.loop import Hooks

DESCRIBED = {
    "step": 7,
    "config": {"seed": 0},
    "runtime": {},
    "train_seconds": 1.5,
    "stage_log": [],
}
CONTENT = DESCRIBED | {
    "network": {"w": torch.arange(500.0)},
    "averages": {},
    "optimizer": {},
    "unlogged": torch.zeros(0, 3),
    "manifest": "0123456789ab",
    "log": "",
}


@pytest.fixture
def saved(tmp_path):
    path = checkpoint.checkpoint_path(tmp_path, 7)
    checkpoint.save(path, CONTENT)
    return path


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def lose_seal(path):
    path.with_suffix(".json").unlink()


def cut_seal(path):
    path.with_suffix(".json").write_text('{"sha256": "ab')


DAMAGE = {
    cut: "damaged", flip_bit: "damaged", empty: "damaged", lose_seal: "seal", cut_seal: "seal"
}  # fmt: skip


def test_checkpoint_round_trips(saved):
    loaded = checkpoint.load(saved)
    assert torch.equal(loaded["network"]["w"], CONTENT["network"]["w"])
    assert (loaded["step"], loaded["config"]) == (7, {"seed": 0})
    assert saved.name == "ckpt-000000007.pt"


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda d: d.__name__)
def test_checkpoint_that_is_not_whole_is_named(saved, damage):
    damage(saved)
    with pytest.raises(UserError, match=DAMAGE[damage]) as error:
        checkpoint.load(saved)
    assert str(saved) in str(error.value) and "\n" not in str(error.value)


def test_checkpoint_of_other_makers_is_refused(tmp_path):
    path = tmp_path / "ckpt-000000001.pt"
    with pytest.raises(UserError, match="does not exist"):
        checkpoint.load(path)
    checkpoint.save(path, {"step": 1, "format": 99})
    with pytest.raises(UserError, match="not of format"):
        checkpoint.load(path)
    path.write_text("no checkpoint at all")
    seal = {"format": checkpoint.FORMAT, "step": 1, "sha256": sha256_of_file(path)}
    write_json(path.with_suffix(".json"), seal)
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load(path)


@pytest.mark.parametrize("ending", [".pt", ".json"])
def test_every_flipped_bit_and_every_cut_is_found(ending, tmp_path):
    path = checkpoint.checkpoint_path(tmp_path, 7)
    checkpoint.save(path, {"step": 7, "w": torch.arange(3.0)})
    victim = path.with_suffix(ending)
    whole = victim.read_bytes()
    assert checkpoint.is_whole(path)
    # Every bit of the seal; of the state, whose hash cares for no place, one in 33.
    bits = range(0, 8 * len(whole), 1 if ending == ".json" else 33)
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        victim.write_bytes(damaged)
        assert not checkpoint.is_whole(path), bit
    for length in range(len(whole) - 1, -1, -1 if ending == ".json" else -19):
        victim.write_bytes(whole[:length])
        # All but the last byte, a line's end, is JSON still, and says the same.
        assert not checkpoint.is_whole(path) or whole[length:] == b"\n", length


def test_renamed_checkpoint_is_refused(saved):
    other = checkpoint.checkpoint_path(saved.parent, 8)
    saved.rename(other)
    saved.with_suffix(".json").rename(other.with_suffix(".json"))
    with pytest.raises(UserError, match="is damaged: its step"):
        checkpoint.load(other)
    seal = {"format": checkpoint.FORMAT, "step": 8, "sha256": sha256_of_file(other)}
    write_json(other.with_suffix(".json"), seal)
    with pytest.raises(UserError, match="holds step 7; it was renamed"):
        checkpoint.load(other)


def test_newest_passes_over_what_is_not_whole_and_names_it(tmp_path, caplog):
    for step in range(1, 7):
        checkpoint.save(checkpoint.checkpoint_path(tmp_path, step), CONTENT | {"step": step})
    for step, damage in zip((6, 5, 4, 3, 2), DAMAGE, strict=True):
        damage(checkpoint.checkpoint_path(tmp_path, step))
    with caplog.at_level(logging.WARNING):
        found = checkpoint.newest(tmp_path, {"seed": 0})
    assert found["step"] == 1
    assert [f"{step:09d}.pt" in m for step, m in zip((6, 5, 4, 3, 2), caplog.messages, strict=True)]
    assert all(
        f"ckpt-{s:09d}.pt" in m for s, m in zip((6, 5, 4, 3, 2), caplog.messages, strict=True)
    )


def test_newest_passes_over_a_state_of_another_config_and_names_it(tmp_path, caplog):
    checkpoint.save(checkpoint.checkpoint_path(tmp_path, 3), CONTENT | {"step": 3})
    foreign = checkpoint.checkpoint_path(tmp_path, 9)
    checkpoint.save(foreign, CONTENT | {"step": 9, "config": {"seed": 1}})
    with caplog.at_level(logging.WARNING):
        assert checkpoint.newest(tmp_path, {"seed": 0})["step"] == 3
    assert str(foreign) in caplog.text and "another config" in caplog.text


def test_newest_counts_steps_not_letters_and_ignores_other_files(tmp_path):
    for step in (999_999_999, 1_000_000_000):
        checkpoint.save(checkpoint.checkpoint_path(tmp_path, step), CONTENT | {"step": step})
    (tmp_path / "ckpt-best.pt").write_bytes(b"mine")
    checkpoint.save(checkpoint.weights_path(tmp_path, 2_000_000_000), CONTENT)
    assert checkpoint.newest(tmp_path, {"seed": 0})["step"] == 1_000_000_000
    assert checkpoint.newest(tmp_path / "nothing", {"seed": 0}) is None


def test_newest_ignores_where_the_run_was_written(tmp_path):
    checkpoint.save(
        checkpoint.checkpoint_path(tmp_path, 1), CONTENT | {"step": 1, "config": {"output": "a"}}
    )
    assert checkpoint.newest(tmp_path, {"output": "b"}) is not None


def test_run_keeps_the_newest_states_and_every_milestone(workdir, train_run, tiny_config):
    config = tiny_config("cs")
    train_run(config)
    names = sorted(p.name for p in config.run_dir.glob("*-*"))
    stems = ["ckpt-000000021", "ckpt-000000024", "weights-000000012", "weights-000000024"]
    assert names == [f"{stem}.{end}" for stem in stems for end in ("json", "pt")]


@pytest.mark.parametrize("damage", [cut, flip_bit, lose_seal], ids=lambda d: d.__name__)
def test_run_goes_on_from_the_newest_whole_state_to_the_same_bits(
    damage, workdir, train_run, tiny_config, assert_same, caplog
):
    config = tiny_config("cs")
    last = checkpoint.checkpoint_path(config.run_dir, 24)
    train_run(config)
    whole = checkpoint.load(last)
    damage(last)
    steps = []
    train_run(config, lambda trainer: Hooks(on_step=lambda done, total: steps.append(done)))
    assert steps == [22, 23, 24] and last.name in caplog.text
    assert_same(whole, checkpoint.load(last))


def test_run_keeps_its_own_states_beside_foreign_ones(
    workdir, train_run, tiny_config, caplog, assert_same
):
    other, mine = tiny_config("cs", "seed=1", output="other"), tiny_config("cs", output="mine")
    train_run(other)
    shutil.copytree(other.run_dir, mine.run_dir)
    (mine.run_dir / "config.json").unlink()
    train_run(mine, stop_after=14)
    assert "another config" in caplog.text
    steps = []
    train_run(mine, lambda trainer: Hooks(on_step=lambda done, total: steps.append(done)))
    assert steps[0] == 15
    alone = tiny_config("cs", output="alone")
    train_run(alone)
    ends = [checkpoint.load(checkpoint.checkpoint_path(c.run_dir, 24)) for c in (mine, alone)]
    assert_same(*ends)


@pytest.mark.parametrize("arm", ["c", "cs", "cr"])
def test_milestone_files_are_plain_and_sample(arm, workdir, train_run, tiny_config):
    config = tiny_config(arm, "training.steps=8", "training.milestones=[8]")
    trainer = train_run(config)
    path = checkpoint.weights_path(config.run_dir, 8)
    content = torch.load(path, weights_only=True)
    assert content["config"] == to_kept(config) and config_of(content) == config
    names = trainer.network.state_dict().keys()
    for weights in content["weights"].values():
        assert weights.keys() == names
        assert not any(n.startswith(("module.", "_orig_mod.")) for n in weights)
    images = {}
    for name in ("raw", primary_weights(config)):
        model = model_of(content, name, torch.device("cpu"))
        images[name] = sample_images(model, model.process, PIXELS, config.sampler, 4, 32).tobytes()
    assert images["raw"] != images["ema0.99"]
    with pytest.raises(UserError, match=r"no weights 'ema0\.98'.*Did you mean 'ema0\.9"):
        model_of(content, "ema0.98", torch.device("cpu"))


def test_sampling_at_milestones_leaves_the_training_as_it_is(
    workdir, train_run, tiny_config, assert_same
):
    plain, drawn = (tiny_config("cs", output=name) for name in ("plain", "drawn"))
    train_run(plain)

    def hooks(trainer):
        def draw(step, path):
            before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
            model = model_of(checkpoint.load(path), "ema0.99", torch.device("cpu"))
            sample_images(model, model.process, PIXELS, drawn.sampler, 4, 32)
            torch.rand(5)  # someone else's draw from the global generator
            assert all(torch.equal(v, before[k]) for k, v in trainer.network.state_dict().items())

        return Hooks(on_milestone=draw)

    train_run(drawn, hooks)
    ends = [checkpoint.load(checkpoint.checkpoint_path(c.run_dir, 24)) for c in (plain, drawn)]
    assert_same(*ends)


def names_of(steps):
    return {f"ckpt-{step:09d}.{end}" for step in steps for end in ("pt", "json")}


def test_prune_leaves_what_is_not_this_runs(tmp_path):
    for step in (1, 2, 3, 4, 9):
        checkpoint.save(checkpoint.checkpoint_path(tmp_path, step), {"step": step, "config": {}})
    checkpoint.save(checkpoint.weights_path(tmp_path, 1), {"step": 1, "config": {}})
    others = {"ckpt-000000008.pt", "ckpt-best.pt", "ckpt-1.txt"}
    for name in others:
        (tmp_path / name).write_bytes(b"foreign")
    milestone = {"weights-000000001.pt", "weights-000000001.json"}
    checkpoint.prune(tmp_path, 4)
    assert {path.name for path in tmp_path.iterdir()} == names_of((3, 4, 9)) | others | milestone


@pytest.mark.parametrize("lost", [".pt", ".json"])
def test_prune_killed_half_way_is_harmless_and_made_good_by_the_next(lost, tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(checkpoint.checkpoint_path(tmp_path, step), CONTENT | {"step": step})
    checkpoint.checkpoint_path(tmp_path, 1).with_suffix(lost).unlink()
    assert checkpoint.newest(tmp_path, {"seed": 0})["step"] == 3
    checkpoint.save(checkpoint.checkpoint_path(tmp_path, 4), CONTENT | {"step": 4})
    checkpoint.prune(tmp_path, 4)
    assert {path.name for path in tmp_path.iterdir()} == names_of((3, 4))


def test_prune_counts_sealed_states_only(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(checkpoint.checkpoint_path(tmp_path, step), CONTENT | {"step": step})
    lose_seal(checkpoint.checkpoint_path(tmp_path, 2))
    checkpoint.prune(tmp_path, 3)
    assert {path.name for path in tmp_path.iterdir()} == names_of((1, 3))


def test_resume_point_is_not_later_than_a_damaged_milestone(tmp_path, caplog):
    for step in (3, 5, 8):
        checkpoint.save(checkpoint.checkpoint_path(tmp_path, step), CONTENT | {"step": step})
    for step in (2, 5, 8, 9):
        checkpoint.save(checkpoint.weights_path(tmp_path, step), CONTENT | {"step": step})

    def step_for(milestones):
        caplog.clear()
        found = checkpoint.resume_point(tmp_path, {"seed": 0}, milestones)
        return found and found["step"]

    # Not yet reached, or taken away by the user: no cause to go back.
    flip_bit(checkpoint.weights_path(tmp_path, 9))
    assert step_for([2, 4, 5, 8, 9]) == 8 and not caplog.messages
    flip_bit(checkpoint.weights_path(tmp_path, 8))
    assert step_for([2, 4, 5, 8, 9]) == 8 and "weights-000000008.pt" in caplog.text
    flip_bit(checkpoint.weights_path(tmp_path, 5))
    assert step_for([2, 4, 5, 8, 9]) == 5 and "weights-000000005.pt" in caplog.text
    lose_seal(checkpoint.weights_path(tmp_path, 2))
    assert step_for([2, 4, 5, 8, 9]) is None and "weights-000000002.pt" in caplog.text
