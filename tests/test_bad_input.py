"""Bad input gets one clear line and an exit code, never a traceback."""

import pytest

BASE = "train_celeba_c_32.py --dataset avatars --dry-run"
CASES = {
    "unknown preset": ("-m benchmark train celeba_d_32", "unknown preset 'celeba_d_32'. Did you"),
    "unknown study": ("-m benchmark reproduce demmo", "unknown study 'demmo'. Did you mean 'demo'"),
    "unknown section": (f"{BASE} --set modle.n_feat=8", "unknown key 'modle'. Did you mean"),
    "unknown key": (f"{BASE} --set training.learning=1", "unknown key 'training.learning'"),
    "unknown network": (
        f"{BASE} --set model.network=naive", "model.network' is 'naive'; allowed are naive_unet"
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
    "no such exported file": (
        "-m benchmark sample nothing.safetensors", "nothing.safetensors does not exist"
    ),
    "a folder without weights": ("-m benchmark sample .", "is a folder without nnet_ema.pth"),
    "a preset of a file": (
        "-m benchmark sample nothing.pt --preset celeba_b_32", "leave it out"
    ),
    "nothing to export": ("-m benchmark export nothing.pt x.safetensors", "does not exist"),
    "another ending": ("-m benchmark export nothing.pt x.pt", "ends in .safetensors"),
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
    assert message in errors and "mine.yaml" in errors


def test_inception_that_is_not_there_says_how_to_supply_it(workdir, call):
    from benchmark.__main__ import main

    words = ["reproduce", "demo", "--smoke", "--set", "evaluation.feature_nets=[inception]"]
    code, _, errors = call(main, words)
    assert code == 2
    assert "set INCEPTION_PATH to clean-fid's inception-2015-12-05.pt" in errors.splitlines()[-1]


def test_inception_path_that_is_wrong_is_an_error_not_a_fallback(workdir, call, monkeypatch):
    from benchmark.__main__ import main

    monkeypatch.setenv("INCEPTION_PATH", "nowhere.pt")
    words = ["reproduce", "demo", "--smoke", "--set", "evaluation.feature_nets=[auto]"]
    code, _, errors = call(main, words)
    assert code == 2
    assert "nowhere.pt" in errors.splitlines()[-1]


@pytest.mark.parametrize("field", ["num_reference", "profile_images"])
def test_more_images_asked_for_than_there_are_is_an_error(field, avatars):
    from benchmark.evaluation.milestone.yardstick import make_yardstick
    from benchmark.study.study import EvaluationConfig
    from mindiffusion.errors import UserError

    few = {"num_reference": 64, "profile_images": 8, "feature_nets": ("effnet-lite0-64",)}
    with pytest.raises(UserError, match=f"{field} is 9999, but the data has"):
        make_yardstick(EvaluationConfig(**few | {field: 9999}), avatars, "cpu")


@pytest.fixture
def train(workdir, call, tiny_words):
    """A function: runs a tiny training command in this process → (exit code, its error line)."""
    from mindiffusion.cli import main

    def run(*words):
        code, _, errors = call(main, "celeba_c_32", [*tiny_words, *words])
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in errors and len(lines) == (code != 0)
        return code, lines[0] if lines else errors

    return run


def words_of(*overrides):
    return [word for text in overrides for word in ("--set", text)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "an empty folder"),
        (lambda path: (path.mkdir(), (path / "readme.txt").write_text("x")), "no images"),
        (lambda path: path.write_text("x"), "neither a folder nor a whole .zip"),
    ],
    ids=["missing", "empty", "without images", "no zip"],
)
def test_celeba_path_that_has_no_images_is_named(make, message, workdir, train, monkeypatch):
    make(workdir / "faces")
    monkeypatch.setenv("CELEBA_PATH", str(workdir / "faces"))
    code, line = train(*words_of("data.dataset=celeba"))
    assert code == 2 and str(workdir / "faces") in line
    assert message in line


def test_celeba_path_may_stand_in_dotenv(workdir, train, monkeypatch):
    monkeypatch.setenv("CELEBA_PATH", "")
    monkeypatch.delenv("CELEBA_PATH")
    (workdir / ".env").write_text("CELEBA_PATH=/nowhere/at/all\n")
    code, line = train(*words_of("data.dataset=celeba"))
    assert code == 2 and "/nowhere/at/all" in line


def test_config_changed_under_an_output_folder_is_refused(workdir, train):
    assert train(*words_of("training.steps=16", "training.milestones=[16]"))[0] == 0
    run = workdir / "checkpoints_c_32" / "seed0"
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    overrides = ("training.steps=16", "training.milestones=[16]", "training.lr=0.5")
    code, line = train(*words_of(*overrides))
    assert code == 2 and "training.lr" in line and "--output" in line
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert train(*words_of(*overrides), "--output", "other")[0] == 0


def test_second_process_on_a_folder_is_refused(workdir, train, monkeypatch):
    from mindiffusion.files import exclusive_lock
    from mindiffusion.training import run_folder as run_module

    monkeypatch.setattr(run_module, "LOCK_WAIT_SECONDS", 0.1)
    with exclusive_lock(workdir / "checkpoints_c_32" / "seed0" / ".lock"):
        code, line = train()
    assert code == 2 and "in use by another process" in line and "--output" in line


def test_loss_that_is_not_finite_names_the_step(workdir, train):
    code, line = train(*words_of("training.lr=1e30"))
    assert code == 2 and "not finite at step 2 " in line and "last good checkpoint" in line
    assert not list((workdir / "checkpoints_c_32").glob("*/*.pt"))


def test_damaged_and_foreign_checkpoints_are_named_and_passed_over(workdir, train, caplog):
    from mindiffusion.training import checkpoint
    from mindiffusion.training.checkpoint import checkpoint_path

    words = words_of("training.milestones=[24]")
    assert train(*words)[0] == 0
    run = workdir / "checkpoints_c_32" / "seed0"
    last = checkpoint_path(run, 24)
    last.write_bytes(last.read_bytes()[:1000])
    assert train(*words, "--seed", "1", "--output", "other")[0] == 0
    foreign = checkpoint_path(run, 99)
    content = checkpoint.load(checkpoint_path(workdir / "other" / "seed1", 24))
    checkpoint.save(foreign, content | {"step": 99})
    caplog.clear()
    assert train(*words)[0] == 0
    assert any(last.name in m and "damaged" in m for m in caplog.messages)
    assert any(foreign.name in m and "another config" in m for m in caplog.messages)
    assert last.stat().st_size > 1000 and foreign.exists()


@pytest.mark.parametrize("path", ["taken", "taken/inside"])
def test_output_that_is_a_file_is_one_line(path, workdir, train):
    (workdir / "taken").write_text("mine")
    code, line = train("--output", path)
    assert code == 2 and "taken" in line and (workdir / "taken").read_text() == "mine"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.steps=4"], "would have no step of 4"),
        (["training.milestones=[25]"], "milestone 25 is step 25"),
        (["training.milestones=['120%']"], "milestone '120%'"),
        (["training.milestones=[soon]"], "unreadable"),
        (["training={steps: 3, epochs: 3}"], "exactly one"),
    ],
)
@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_plan_that_does_not_fit_is_refused_also_by_a_dry_run(
    overrides, message, dry_run, workdir, train
):
    code, line = train(*words_of(*overrides), *dry_run)
    assert code == 2 and message in line
    assert not list(workdir.glob("checkpoints_*/**/*.pt"))
