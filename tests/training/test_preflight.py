"""What is refused before the first step; a dry run and a real start ask the same function."""

import errno
import json
from collections import namedtuple

import pytest

from mindiffusion import cli, writable
from mindiffusion.errors import UserError
from mindiffusion.training import preflight as module
from mindiffusion.training.preflight import check_run, preflight, run_bytes

Usage = namedtuple("Usage", "total used free")
WRONG = {
    "sampler longer than the process": (("sampler.steps=41", "process.n_T=40"), "40 noise levels"),
    "width that no network has": (("model.n_feat=12",), "multiples of 8"),
    "side that no network has": (("data.size=40",), "multiples of 32"),
    "batch that ranks can't share": (("training.global_batch=9",), "not divisible by 2 ranks"),
    "milestone past the end": (("training.milestones=[25]",), "milestone 25 is step 25"),
    "stage without a step": (("training.steps=4",), "would have no step of 4"),
    "log that no memory holds": (("training.log_every=999999999",), "give at most 25000000"),
}


@pytest.mark.parametrize(
    ("arm", "network", "message"),
    [("cs", "naive_unet", "has sparsity 0.8, but the network naive_unet has nothing"),
     ("cs", "reg_unet", "has sparsity 0.8"), ("cr", "sparse_unet", "has penalty_lambda")],
)  # fmt: skip
def test_stage_that_asks_for_what_a_network_lacks_is_refused(arm, network, message, tiny_config):
    with pytest.raises(UserError, match=message) as error:
        check_run(tiny_config(arm, f"model.network={network}"), 256)
    assert "\n" not in str(error.value)
    check_run(tiny_config(arm), 256)


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_contradict_each_other_are_refused(name, tiny_config, workdir):
    words, message = WRONG[name]
    with pytest.raises(UserError, match=message):
        preflight(tiny_config("c", *words), 256, world=2)
    assert not (workdir / "run").exists()


def test_what_fits_is_let_through_and_leaves_nothing(tiny_config, workdir):
    before = sorted(workdir.iterdir())
    assert preflight(tiny_config("cs"), 256, world=2) == []
    assert preflight(tiny_config("cs", "sampler={name: ddpm, steps: 2000}"), None) == []
    assert sorted(workdir.iterdir()) == before


def test_data_smaller_than_a_batch_are_told_with_both_numbers(tiny_config, workdir):
    (note,) = preflight(tiny_config("b"), 7)
    assert "7 training images" in note and "global_batch (8)" in note
    # In passes, so few images make no step for a stage.
    config = tiny_config("c", "training.epochs=1", "training.global_batch=256")
    with pytest.raises(UserError, match=r"An epoch of 24 training images at .* 256 is 0\.0938"):
        check_run(config, 24)


def test_disk_without_room_is_refused_unless_the_files_are_there(tiny_config, workdir, monkeypatch):
    config = tiny_config("c")
    needed = run_bytes(config, 2)
    monkeypatch.setattr(writable.shutil, "disk_usage", lambda path: Usage(10**12, 0, needed - 1))
    with pytest.raises(UserError, match="checkpoints and weights need about"):
        preflight(config, 256)
    config.run_dir.mkdir(parents=True)
    (config.run_dir / "weights-000000012.pt").write_bytes(b"x")
    assert preflight(config, 256) == []


def test_bytes_are_those_of_the_files(tiny_config, workdir, train_run):
    config = tiny_config("cs")
    train_run(config)
    files = [p for p in config.run_dir.iterdir() if p.suffix == ".pt"]
    states = [p.stat().st_size for p in files if p.name.startswith("ckpt")]
    on_disk = sum(path.stat().st_size for path in files) + states[0]
    assert run_bytes(config, 2) == pytest.approx(on_disk, rel=0.2)


def test_folder_that_cannot_be_written_is_an_error_of_the_disk(tiny_config, workdir):
    (workdir / "taken").write_text("mine")
    with pytest.raises(OSError) as error:
        preflight(tiny_config("c", output="taken/inside"), 256)
    assert error.value.errno == errno.ENOTDIR


@pytest.mark.parametrize("words", [[], ["--dry-run"]], ids=["start", "dry run"])
def test_both_entries_ask_it(words, workdir, tiny_words, call, monkeypatch):
    asked = []

    def refuse(config, num_train, world, num_classes):
        asked.append((config.arm, num_train, world, num_classes))
        raise UserError("not so")

    # This one first: the module may be imported only now, and is to find the real one.
    monkeypatch.setattr("mindiffusion.training.console.preflight", refuse)
    monkeypatch.setattr(module, "preflight", refuse)
    code, out, errors = call(cli.main, "celeba_c_32", [*tiny_words, *words])
    assert (code, out, errors) == (2, "", "error: not so\n")
    assert asked == [("C", 256, 1, None)]


def test_sampler_may_change_while_a_run_is_under_way(tiny_config, workdir, train_run):
    first = tiny_config("c")
    train_run(first, stop_after=12)
    weights = (first.run_dir / "weights-000000012.pt").read_bytes()
    changed = tiny_config("c", "sampler.steps=5", "sampler.eta=0")
    assert preflight(changed, 256) == []
    trainer = train_run(changed)
    assert trainer.step == 24
    assert (first.run_dir / "weights-000000012.pt").read_bytes() == weights
    known = json.loads((first.run_dir / "config.json").read_text())
    assert known["config"]["sampler"]["steps"] == 5
    with pytest.raises(UserError, match=r"another config \(different: training\.lr"):
        preflight(tiny_config("c", "training.lr=1"), 256)
