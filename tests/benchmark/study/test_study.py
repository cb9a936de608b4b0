import pytest

from benchmark.rows.file import read_loosely
from benchmark.study.study import PROTOCOLS, load_study, study_names
from mindiffusion.config.model import NaiveUnetConfig, SparseUnetConfig
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.run import config_hash, differences, to_kept
from mindiffusion.errors import UserError

TWO_ARMS = """
seeds: [5, 6]
arms:
  c: {extends: [arms/c]}
  wide: {extends: [arms/b], arm: Wide, model: {n_feat: 16}}
run:
  data: {dataset: avatars, num_train: 256, num_held_out: 32}
  model: {n_feat: 8}
  training: {steps: 16, global_batch: 8, milestones: ["100%"]}
"""


@pytest.fixture
def write(tmp_path):
    """A function: content → path of a study file."""

    def make(content, name="mine.yaml"):
        (tmp_path / name).write_text(content)
        return str(tmp_path / name)

    return make


@pytest.mark.parametrize("name", ["demo", "celeba32", "avatars32"])
def test_study_runs_the_four_arms_that_differ_in_named_fields_only(name):
    study, four = load_study(name), ("B", "C", "CS", "CR")
    seed = study.runs[0].seed
    runs = {run.arm: to_kept(run) for run in study.runs if (run.seed, run.arm in four) == (seed, 1)}
    assert list(runs) == list(four)
    differ = {arm: set(differences(runs["B"], run)) for arm, run in runs.items()}
    curriculum = {"arm", "curriculum"}
    capacity = curriculum | {"model.network"}
    assert differ == {"B": set(), "C": curriculum, "CS": capacity, "CR": capacity}
    for arm, run in runs.items():
        assert run["output"] == f"results/{name}/{arm.lower()}"


def test_celeba32_is_the_seeds_run_with_eight_training_and_two_sampling_seeds():
    study = load_study("celeba32")
    assert {run.seed for run in study.runs} == set(range(8))
    assert study.evaluation.num_sampling_seeds == 2
    assert {"B", "C", "CS", "CR", "S", "R", "density*", "A/A", "B-80%"} <= {
        run.arm for run in study.runs
    }
    for run in study.runs:
        assert (run.model.n_feat, run.training.epochs, run.training.global_batch) == (32, 80, 256)
        assert (run.training.lr, run.data.dataset, run.data.crop) == (2e-5, "celeba", "squash")
    assert study.evaluation.num_generated >= 10_000 and study.evaluation.feature_nets == ("auto",)


@pytest.mark.parametrize("name", [one for one in study_names() if not one.startswith("theory")])
def test_studies_have_four_milestones_two_of_them_in_the_full_range(name):
    """The demo, which decides nothing, has three."""
    for run in load_study(name).runs:
        plan = resolve_plan(run, 162_770)
        begin = plan.pacer().stages[-1].start
        if run.training.milestones == ("100%",):
            # A check, or a pilot, of the end alone.
            assert plan.milestones == (plan.total_steps,)
            continue
        assert len(plan.milestones) >= (3 if name == "demo" else 4)
        assert plan.milestones[-1] == plan.total_steps
        assert sum(step > begin for step in plan.milestones) >= 2


def test_study_demo_is_what_was_promised_to_newcomers():
    study = load_study("demo")
    assert {run.data.dataset for run in study.runs} == {"avatars"}
    assert study.evaluation.num_generated >= 256
    assert {run.training.threads for run in study.runs} == {1}


def test_own_file_is_resolved_seed_by_seed_into_folders_of_its_own(write):
    path = write(TWO_ARMS)
    study = load_study(path)
    assert (study.name, study.folder.as_posix()) == ("mine", "results/mine")
    assert [(run.arm, run.seed, run.run_dir.as_posix()) for run in study.runs] == [
        ("C", 5, "results/mine/c/seed5"), ("Wide", 5, "results/mine/wide/seed5"),
        ("C", 6, "results/mine/c/seed6"), ("Wide", 6, "results/mine/wide/seed6"),
    ]  # fmt: skip
    assert [run.model.n_feat for run in study.runs[:2]] == [8, 16]
    assert [run.samples for run in study.runs] == [None] * 4


def test_overrides_for_the_scoring_go_there_and_others_to_every_run(write):
    path = write(TWO_ARMS)
    study = load_study(
        path, overrides=["evaluation.num_generated=9", "training.lr=1e-4", "model.n_feat=24"]
    )
    assert study.evaluation.num_generated == 9
    assert {(run.training.lr, run.model.n_feat) for run in study.runs} == {(1e-4, 24)}


def test_runs_per_device_is_the_studys_own(write):
    path = write(TWO_ARMS + "runs_per_device: 3\n")
    assert load_study(path).runs_per_device == 3
    assert load_study(path, overrides=["runs_per_device=2"]).runs_per_device == 2
    assert load_study(write(TWO_ARMS)).runs_per_device == 1
    with pytest.raises(UserError, match="runs_per_device"):
        load_study(path, overrides=["runs_per_device=0"])


def test_smoke_is_small_and_apart(write):
    path = write(TWO_ARMS)
    study = load_study(path, smoke=True)
    assert study.name == "mine-smoke" and study.folder.name == "mine-smoke"
    assert {run.training.steps for run in study.runs} == {8}
    assert study.evaluation.num_generated == 16


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("seeds: [5, 6]", "seeds: [5, 5]"), ["seed 5"]),
        (("seeds: [5, 6]", "seeds: [x]"), ["mine.yaml", "'seeds.0'", "integer"]),
        (("seeds: [5, 6]", "seeds: [-1]"), ["mine.yaml, arm c", "'seed'"]),
        (("seeds: [5, 6]", "seed: [5]"), ["mine.yaml", "'seed'", "'seeds'"]),
        (("steps: 16", "stepz: 16"), ["mine.yaml, arm c", "'training.stepz'", "'steps'"]),
        (("arms/c]", "arms/cc]"), ["unknown preset 'arms/cc'", "Did you mean"]),
        (("n_feat: 16", "n_feat: wide"), ["mine.yaml, arm wide", "'model.n_feat'", "integer"]),
        (("\nrun:", "\nevaluation: {num_generatd: 3}\nrun:"), ["mine.yaml", "'num_generated'"]),
        (("\nrun:", "\nevaluation: {num_generated: 1}\nrun:"), ["evaluation.num_generated", "8"]),
        (("\nrun:", "\nevaluation: {num_curve: 20000}\nrun:"), ["num_curve is 20000", "10000"]),
    ],
)
def test_mistake_is_one_line_with_the_file_and_the_key(write, change, parts):
    content = TWO_ARMS
    assert change[0] in content
    with pytest.raises(UserError) as error:
        load_study(write(content.replace(*change)))
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def test_unknown_study_suggests_a_near_one(tmp_path):
    with pytest.raises(UserError, match=r"unknown study 'dmo'\. Did you mean 'demo'"):
        load_study("dmo")
    with pytest.raises(UserError, match=r"nothing\.yaml"):
        load_study(str(tmp_path / "nothing.yaml"))


def test_study_names_are_the_protocol_files():
    assert study_names() == sorted(path.stem for path in PROTOCOLS.iterdir())
    assert {"demo", "celeba32"} <= set(study_names())


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["evaluation.metrics=[fd,kdd]"], "'kdd'.*Did you mean 'kd'"),
        (["evaluation.metrics=[stitched]"], r"finisher is 'B'.*\(C, Wide\)"),
        (["evaluation.feature_nets=[]"], "feature_nets"),
        (["evaluation.stitch_levels=[1.0]"], "stitch_levels"),
    ],
)
def test_a_mistaken_scoring_is_refused_before_anything_is_trained(words, match, write):
    with pytest.raises(UserError, match=match) as error:
        load_study(write(TWO_ARMS), overrides=words)
    assert "\n" not in str(error.value)


def test_finisher_is_the_named_arm_of_the_first_seed(write):
    words = ["evaluation.metrics=[fd,stitched]", "evaluation.finisher=Wide"]
    study = load_study(write(TWO_ARMS), overrides=words)
    assert (study.finisher.arm, study.finisher.seed) == ("Wide", 5)
    assert load_study(write(TWO_ARMS)).finisher is None


def committed_hashes(folder):
    """Config hash of each arm and seed of a committed study's rows."""
    lines = read_loosely(folder / "rows.jsonl")
    return {(line["arm"], line["seed"], line["config_hash"]) for line in lines}


@pytest.mark.parametrize(
    ("name", "folder"), [("avatars32-cpu", "results/avatars32-cpu"), ("demo", "docs/demo")]
)
def test_configs_of_committed_studies_keep_their_hashes(name, folder, repository):
    runs = load_study(name).runs
    known = committed_hashes(repository / folder)
    assert {(run.arm, run.seed, config_hash(run)) for run in runs} == known


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("extends: [s]", "unknown preset 's'"),
        ("a: &a {b: *a}", "nested too deep"),
        ("arm: !!timestamp 2024-01-01", "line 3: could not determine a constructor"),
        ("training: {steps: 1" + "0" * 400 + "}", "too many digits"),
    ],
)
def test_yaml_that_is_no_study_is_one_line(content, words, write):
    text = f"seeds: [0]\narms: {{b: {{extends: [arms/b]}}}}\nrun: {{{content}}}\n"
    with pytest.raises(UserError, match=words) as error:
        load_study(write(text, "s.yaml"))
    assert "\n" not in str(error.value)


def test_study_of_more_runs_than_anyone_has_is_refused(write):
    arms = ", ".join(f"a{i}: {{extends: [arms/b]}}" for i in range(20))
    with pytest.raises(UserError, match=r"20 arms with 1000 seeds each; .* at most 10000 runs"):
        load_study(write(f"seeds: {list(range(1000))}\narms: {{{arms}}}\nrun: {{}}\n"))


def test_a_study_file_that_is_not_there_is_named_as_a_file():
    with pytest.raises(UserError, match=r"no file 'mine\.yml'; give a YAML file .* avatars32, "):
        load_study("mine.yml")


SHARED = """
seeds: [0]
arms:
  b: {extends: [arms/b]}
  cs: {extends: [arms/cs]}
run:
  extends: [runs/celeba_32]
  model: {n_feat: 8, probe_batches: 2}
"""


def test_setting_of_all_arms_goes_to_those_whose_network_has_it(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(SHARED)
    words = ["model.regrow_method=random", "model.n_feat=16"]
    b, cs = (run.model for run in load_study(str(path), overrides=words).runs)
    assert b == NaiveUnetConfig(n_feat=16)
    assert cs == SparseUnetConfig(n_feat=16, probe_batches=2, regrow_method="random")


def test_setting_that_was_asked_for_and_that_no_arm_has_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    alone = SHARED.replace("  cs: {extends: [arms/cs]}\n", "")
    path.write_text(alone.replace(", probe_batches: 2", ""))
    with pytest.raises(UserError, match=r"--set model.regrow_method: no arm .* of sparse_unet\."):
        load_study(str(path), overrides=["model.regrow_method=random"])
    path.write_text(alone.replace("probe_batches: 2", "placement: nonsense"))
    with pytest.raises(
        UserError, match=r"run\.model\.placement: no arm .* of sparse_unet, sparse_uvit\."
    ):
        load_study(str(path))


def test_setting_of_a_preset_goes_nowhere_where_no_arm_has_it(tmp_path, monkeypatch):
    path = tmp_path / "mine.yaml"
    path.write_text("seeds: [0]\narms: {b: {extends: [arms/b]}}\nrun: {extends: [runs/demo_32]}\n")
    preset = {"output": "", "curriculum": [], "model": {"n_feat": 8, "placement": "silent"}}
    monkeypatch.setattr("benchmark.study.study.extended", lambda content, source: preset)
    assert load_study(str(path)).runs[0].model == NaiveUnetConfig(n_feat=8)


def test_setting_of_an_arm_that_its_network_lacks_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(SHARED.replace("arms/b]", "arms/b], model: {probe_batches: 1}"))
    with pytest.raises(UserError, match=r"arm b: unknown key 'model.probe_batches' of naive_unet"):
        load_study(str(path))
