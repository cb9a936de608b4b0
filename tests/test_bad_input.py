"""Bad input gets one clear line and an exit code, never a traceback."""

import pytest

BASE = "train_celeba_c_32.py --dataset avatars --dry-run"
CASES = {
    "unknown preset": ("-m benchmark train celeba_d_32", "unknown preset 'celeba_d_32'. Did you"),
    "unknown study": ("-m benchmark reproduce demmo", "unknown study 'demmo'. Did you mean 'demo'"),
    "unknown section": (f"{BASE} --set modle.n_feat=8", "unknown key 'modle'. Did you mean"),
    "unknown key": (f"{BASE} --set training.learning=1", "unknown key 'training.learning'"),
    "unknown network": (
        f"{BASE} --set model.network=naive", "model.network' is 'naive': input should be"
    ),
    "wrong type": (f"{BASE} --set training.lr=fast", "key 'training.lr' is 'fast'"),
    "not an override": (f"{BASE} --set training.lr", "write key=value"),
    "unknown crop": (f"{BASE} --set data.crop=center", "Did you mean 'center178'"),
    "unknown data set": ("train_celeba_c_32.py --dataset celebb", "Did you mean 'celeba'"),
    "no CelebA": ("train_celeba_c_32.py", "CELEBA_PATH is not set"),
    "width the net cannot take": (
        "train_celeba_c_32.py --dataset avatars --smoke --set model.n_feat=12",
        "model.n_feat is 12, but NaiveUnet takes positive multiples of 8",
    ),
    "size the net cannot take": (
        "train_celeba_c_32.py --dataset avatars --smoke --set data.size=40",
        "data.size is 40, but NaiveUnet takes multiples of 32",
    ),
    "milestone past the end": (
        "train_celeba_c_32.py --dataset avatars --set data.num_train=256 "
        "--set data.num_held_out=32 --set training.milestones=[9999]",
        "milestone 9999 is step 9999, but the run has steps 1 to 80",
    ),
    "no such checkpoint": ("-m benchmark sample nothing.pt", "nothing.pt does not exist"),
    "no rows": ("-m benchmark tables .", "rows.jsonl does not exist"),
    "no rows to plot": ("-m plots .", "rows.jsonl does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_mistake_is_one_line_and_exit_code_2(name, workdir, run_cli, repository):
    command, message = CASES[name]
    words = [repository / word if word.startswith("train_") else word for word in command.split()]
    done = run_cli(words, workdir)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert "Traceback" not in done.stderr


STUDY = """
seeds: [0]
arms: {b: {extends: [arms/b]}, %s}
run: {extends: [runs/celeba_32], data: {dataset: avatars}, training: {epochs: null, steps: %s}}
"""
STUDIES = {
    "unknown arm": (STUDY % ("x: {extends: [arms/cz]}", 10), "unknown preset 'arms/cz'. Did you"),
    "wrong type in YAML": (STUDY % ("x: {extends: [arms/c]}", "many"), "training.steps' is 'many'"),
    "no seeds": (STUDY.replace("[0]", "[]") % ("x: {}", 10), "has no runs"),
    "cut YAML": ("seeds: [0", "is not valid YAML"),
    "no mapping": ("- 1", "must hold a mapping"),
    "wrong type of seeds": (STUDY.replace("[0]", "zero") % ("x: {}", 10), "key 'seeds' is 'zero'"),
}


@pytest.mark.parametrize("name", STUDIES)
def test_mistake_in_a_study_names_the_file(name, workdir, call):
    from benchmark.__main__ import main

    content, message = STUDIES[name]
    (workdir / "mine.yaml").write_text(content)
    code, _, errors = call(main, ["reproduce", "mine.yaml", "--dry-run"])
    assert code == 2
    assert errors.startswith("error: ") and len(errors.splitlines()) == 1
    assert (message in errors and "mine.yaml" in errors) or "unknown preset" in errors


def test_inception_that_is_not_there_says_how_to_supply_it(workdir, call):
    from benchmark.__main__ import main

    words = ["reproduce", "demo", "--smoke", "--set", "evaluation.feature_net=inception"]
    code, _, errors = call(main, words)
    assert code == 2
    assert "set INCEPTION_PATH to clean-fid's inception-2015-12-05.pt" in errors.splitlines()[-1]


def test_inception_path_that_is_wrong_is_an_error_not_a_fallback(workdir, call, monkeypatch):
    from benchmark.__main__ import main

    monkeypatch.setenv("INCEPTION_PATH", "nowhere.pt")
    words = ["reproduce", "demo", "--smoke", "--set", "evaluation.feature_net=auto"]
    code, _, errors = call(main, words)
    assert code == 2
    assert "nowhere.pt" in errors.splitlines()[-1]


@pytest.mark.parametrize("field", ["num_reference", "profile_images"])
def test_more_images_asked_for_than_there_are_is_an_error(field, avatars):
    from benchmark.evaluate import make_yardstick
    from benchmark.study import EvaluationConfig
    from mindiffusion.errors import UserError

    few = {"num_reference": 64, "profile_images": 8, "feature_net": "effnet-lite0-64"}
    with pytest.raises(UserError, match=f"{field} is 9999, but the data has"):
        make_yardstick(EvaluationConfig(**few | {field: 9999}), avatars, "cpu")
