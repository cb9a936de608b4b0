"""The small commands: prepare, doctor, and what the README promises of them."""

import re
import shlex

import pytest

from benchmark.__main__ import build_parser, main
from benchmark.selfcheck import doctor as doctor_module
from mindiffusion.config.presets import preset_names
from mindiffusion.training import checkpoint


def test_prepare_makes_the_array_of_a_study_and_names_its_folder(workdir, call):
    words = ["prepare", "demo", "--set", "data.num_train=256", "--set", "data.num_held_out=32"]
    code, out, _ = call(main, words)
    assert code == 0
    assert out.startswith("256 training and 32 held-out images in data/avatars-personas-32-squash-")


def test_help_of_train_lists_the_presets_and_prepare_takes_studies_too(call):
    code, out, _ = call(main, ["train", "--help"])
    assert code == 0 and all(name in out for name in preset_names())
    code, _, said = call(main, ["prepare", "nothing"])
    # All names are more than a line holds: its middle is left out.
    assert code == 2 and "train --help lists the presets. Allowed: " in said
    code, _, said = call(main, ["prepare", "uvit_dem"])
    assert code == 2 and "Did you mean 'uvit_demo'?" in said


def test_prepare_finds_a_changed_array(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["prepare", "demo", "--set", "data.num_train=40", "--set", "data.num_held_out=8"]
    assert call(main, words)[0] == 0
    (array,) = (tmp_path / "data").glob("*/train.npy")
    content = bytearray(array.read_bytes())
    content[-1] ^= 1
    array.chmod(0o644)
    array.write_bytes(content)
    code, _, errors = call(main, words)
    assert code == 2 and "train.npy" in errors


def test_doctor_reads_the_env_file_and_names_versions(workdir, run_cli):
    (workdir / ".env").write_text("CELEBA_PATH=/nowhere/celeba\n")
    done = run_cli(["-m", "benchmark", "doctor"], workdir)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^torch +\d+\.\d+", done.stdout, re.MULTILINE)
    assert re.search(r"^CELEBA_PATH +/nowhere/celeba \(missing\)$", done.stdout, re.MULTILINE)
    assert "set INCEPTION_PATH" in done.stdout


def test_doctor_names_a_pair_that_does_not_fit(monkeypatch, capsys):
    monkeypatch.setattr(doctor_module, "known_bad_pairs", lambda: ["a and b do not fit"])
    assert doctor_module.doctor() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "problem: a and b do not fit"


def test_readme_commands_are_commands(repository):
    """Every command line of the README and of its usage parses, every file they name is there."""
    pages = [repository / "README.md", repository / "docs" / "usage.md"]
    text = "\n".join(page.read_text() for page in pages).replace("\\\n", " ")
    commands = "reproduce|train|prepare|doctor|status|speed|sample|export|evaluate"
    found = re.findall(rf"python -m benchmark ((?:{commands})[^`#\n]*)", text)
    assert len(found) >= 11
    for command in found:
        shown = re.sub(r"\[.*?\]", "", command)
        words = [w for w in shlex.split(shown, comments=True) if w not in ("STUDY", "PRESET")]
        if words in (["reproduce"], ["train"]):
            words.append("demo")
        build_parser().parse_args(words)
    for page in pages:
        for path in re.findall(r"\]\(((?!http)[^)#]+)", page.read_text()):
            assert (page.parent / path).exists(), path
    for preset in re.findall(r"celeba_[a-z]+_32(?=`)", text):
        assert (repository / "mindiffusion" / "presets" / f"{preset}.yaml").exists()


def test_readme_study_is_a_study(repository, workdir):
    from benchmark.study.study import load_study

    (block,) = re.findall(r"```yaml\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    (workdir / "mine.yaml").write_text(block)
    study = load_study("mine.yaml")
    controls = {f"low-first-{kind}" for kind in ("density*", "static", "anti*", "flat")}
    assert {run.arm for run in study.runs} == {"B", "low-first"} | controls


def test_readme_library_example_runs(repository):
    import torch

    readme = (repository / "README.md").read_text()
    block, _ = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names = {"images": torch.zeros(2, 3, 32, 32)}
    exec(block, names)
    assert names["loss"].isfinite() and names["network"].channel_mask.sum() == 13


def test_readme_sampling_example_draws_a_grid(repository, workdir, train_run, tiny_config, call):
    import numpy as np
    from PIL import Image

    config = tiny_config("cr", "training.steps=8", "training.milestones=[8]")
    train_run(config)
    weights = checkpoint.weights_path(config.run_dir, 8)
    assert call(main, ["export", str(weights), "weights.safetensors"])[0] == 0
    readme = (repository / "README.md").read_text()
    _, block = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(block.splitlines()) <= 20
    exec(block, {})
    with Image.open("grid.png") as picture:
        found = np.array(picture)
    command = ["sample", str(weights), "--count", "16", "--output", "own.png"]
    assert call(main, command)[0] == 0
    with Image.open("own.png") as picture:
        assert np.array_equal(found, np.array(picture))


@pytest.mark.parametrize("words", [["prepare", "nothing"], ["prepare", "--set", "data.size=x"]])
def test_prepare_mistakes_are_one_line(words, workdir, call):
    code, _, errors = call(main, words)
    assert code == 2 and errors.startswith("error: ") and len(errors.splitlines()) == 1
