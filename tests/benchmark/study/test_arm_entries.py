"""Arms of a study file that are made of other arms."""

import pytest

from benchmark.cells.preflight import check_study
from benchmark.cells.tasks import Task, graph_of
from benchmark.study.arm_catalogue import control_name
from benchmark.study.arm_entries import slug
from benchmark.study.study import load_study
from mindiffusion.config.run import config_hash, differences, to_dict
from mindiffusion.curriculum.controls import control
from mindiffusion.errors import UserError

STUDY = """
seeds: [5, 6]
arms:
  c: {extends: [arms/c]}
  cs: {extends: [arms/cs], model: {probe_batches: 1}}
  mirror: {control: mirror, of: c}
  mirror-density: {control: density, of: mirror}
  own: {control: density, of: cs, arm: mine, training: {lr: 1.0e-3}}
  short: {extends: [arms/b_80]}
run:
  data: {dataset: avatars, num_train: 256, num_held_out: 32}
  model: {n_feat: 16}
  training: {steps: 64, global_batch: 8, milestones: ["100%"]}
controls_of: [c, mirror, cs]
"""


@pytest.fixture
def load(tmp_path):
    """A function: content of a study file → the study."""

    def make(content=STUDY, **options):
        path = tmp_path / "mine.yaml"
        path.write_text(content)
        return load_study(str(path), **options)

    return make


def by_arm(study, seed):
    return {run.arm: run for run in study.runs if run.seed == seed}


def test_controls_of_adds_the_standard_ones_with_names_and_folders_of_their_own(load):
    study = load(STUDY.replace("  mirror-density: {control: density, of: mirror}\n", ""))
    folders = {run.arm: run.run_dir.as_posix() for run in study.runs if run.seed == 5}
    assert folders == {
        arm: f"results/mine/{folder}/seed5"
        for arm, folder in {
            "C": "c", "CS": "cs", "mirror": "mirror", "mine": "own", "B-80%": "short",
            "density*": "density-star", "shuffled*": "shuffled-star", "anti*": "anti-star",
            "C-flat": "c-flat", "mirror-density*": "mirror-density-star",
            "mirror-shuffled*": "mirror-shuffled-star", "mirror-anti*": "mirror-anti-star",
            "mirror-flat": "mirror-flat", "CS-density*": "cs-density-star", "CS-flat": "cs-flat",
            "static": "static", "mirror-static": "mirror-static", "CS-static": "cs-static",
        }.items()
    }  # fmt: skip
    assert [run.seed for run in study.runs] == [5] * 18 + [6] * 18


def test_control_differs_from_its_arm_in_name_and_curriculum_only(load):
    study = load(STUDY.replace("[c, mirror, cs]", "[c]"))
    for seed in (5, 6):
        runs = by_arm(study, seed)
        for arm, of, kind in (
            ("density*", "C", "density"), ("shuffled*", "C", "shuffled"), ("anti*", "C", "anti"),
            ("C-flat", "C", "flat"), ("mirror", "C", "mirror"),
            ("mirror-density*", "mirror", "density"),
        ):  # fmt: skip
            changed = set(differences(to_dict(runs[of]), to_dict(runs[arm])))
            assert changed == {"arm", "curriculum"}, arm
            assert runs[arm].curriculum == control(runs[of].curriculum, kind, seed), arm
        changed = set(differences(to_dict(runs["CS"]), to_dict(runs["mine"])))
        assert changed == {"arm", "curriculum", "training.lr"}
        assert runs["mine"].model.network == "sparse_unet"
        assert runs["mine"].model.probe_batches == 1


def test_shuffled_follows_the_runs_seed(load):
    study = load(STUDY.replace("[c, mirror, cs]", "[c]"), overrides=["seeds=[0, 1, 2, 3, 4, 5, 6]"])
    orders = {run.curriculum for run in study.runs if run.arm == "shuffled*"}
    assert len(orders) > 1
    assert len({run.curriculum for run in study.runs if run.arm == "anti*"}) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("density*", "density-star"), ("CS-density*", "cs-density-star"), ("A/A", "a-a"),
        ("B-80%", "b-80"), ("C-flat", "c-flat"), ("Min-SNR-5", "min-snr-5"), ("my_arm", "my_arm"),
        ("../x", "x"), ("λ × 10", "10"),
    ],
)  # fmt: skip
def test_slug_is_a_folders_name(name, expected):
    assert slug(name) == expected


@pytest.mark.parametrize(
    ("kind", "of", "name"),
    [("density", "C", "density*"), ("flat", "C", "C-flat"), ("anti", "CS", "CS-anti*"),
     ("flat", "CS", "CS-flat"), ("density", "mirror", "mirror-density*"),
     ("mirror", "C", "mirror"), ("mirror", "CS", "CS-mirror")],
)  # fmt: skip
def test_control_name_says_whose_it_is_but_for_c(kind, of, name):
    assert control_name(kind, of) == name


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("of: mirror}", "of: miror}", r"arm mirror-density: of names 'miror'.*'mirror'"),
        ("of: mirror}", "of: mirror-density}", "'mirror-density', which is made of this arm"),
        ("density, of: mirror", "densty, of: mirror", "control is 'densty' of 'mirror'; write"),
        ("control: density, of: mirror", "control: density", "'density' of None; write control"),
        ("control: density, of: mirror", "of: mirror", "control is None of 'mirror'; write"),
        ("[c, mirror, cs]", "[c, d]", "controls_of names 'd', no arm"),
        (
            "[c, mirror, cs]",
            "[short]",
            r"arm B-80%-density\*: control 'density' needs",
        ),
        ("density, of: mirror", "density, of: short", "arm mirror-density: .* has 1; name another"),
        ("control: density, of: cs", "control: anti, of: cs", "arm own: control 'anti' would"),
        ("  own:", "  C:", "arm '[cC]' maps to run folder 'c'"),
        ("  own:", "  '//':", "arm '//' maps to run folder ''"),
        ("controls_of", "control_of", "'control_of'.*'controls_of'"),
    ],
)
def test_mistaken_entry_is_one_line(load, old, new, match):
    assert old in STUDY
    with pytest.raises(UserError, match=match) as error:
        load(STUDY.replace(old, new))
    assert "\n" not in str(error.value) and "mine.yaml" in str(error.value)


def test_one_arm_twice_is_refused(load):
    with pytest.raises(UserError, match=r"2 runs are called 'mirror-density\*' with seed 5"):
        load(STUDY)


# -- arms whose runs find when their stages begin -----------------------------------------------

PACED = """
seeds: [5, 6]
arms:
  d: {extends: [arms/d]}
  twin: {control: density, of: d, arm: twin}
  both: {control: shuffled, of: mirrored}
  mirrored: {control: mirror, of: d}
run:
  data: {dataset: avatars, num_train: 256, num_held_out: 32}
  model: {n_feat: 16}
  training: {steps: 64, global_batch: 8, milestones: ["100%"]}
controls_of: [d]
"""


def test_controls_of_a_paced_arm_follow_its_run_of_the_same_seed(load):
    study = load(PACED)
    runs = {(run.arm, run.seed): run for run in study.runs}
    arms = {"D", "D-density*", "D-static", "D-shuffled*", "D-anti*", "D-even", "D-mirror",
            "D-mirror-shuffled*", "twin"}  # fmt: skip
    assert {arm for arm, _ in runs} == arms
    for (arm, seed), run in runs.items():
        if arm == "D":
            assert run.followed_dir is None
            continue
        assert run.followed_dir == runs["D", seed].run_dir
        assert run.curriculum == runs["D", seed].curriculum
    assert runs["D-mirror-shuffled*", 5].pacing.controls == ("mirror", "shuffled")
    assert runs["D-even", 6].pacing.controls == ("even",)


def test_run_that_follows_another_is_trained_after_it(load):
    graph = graph_of(load(PACED))
    for task, needs in graph.items():
        if task.what == "train":
            assert needs == (() if task.arm == "D" else (Task("train", "D", task.seed),))


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("x: {control: flat, of: d}", "arm x: control 'flat' of an arm whose stages begin at"),
        (
            "x: {extends: [arms/d], arm: X, pacing: {kind: yoked, of: e, tau: 3}}",
            "unknown key 'pacing.tau' of yoked",
        ),
        (
            "x: {extends: [arms/d_fixed], arm: X, pacing: {kind: yoked, of: e}}",
            "no arm of this study whose runs it could follow; name one of b, both, d, ",
        ),
        (
            "x: {extends: [arms/d_fixed], arm: X, pacing: {kind: yoked, of: twin}}",
            "pacing.of is 'twin', an arm that itself follows 'd'; name that one.",
        ),
        (
            "x: {extends: [arms/d_fixed], arm: X, pacing: {kind: yoked, of: b}}",
            "pacing.of is 'b', an arm with another clusters, curriculum; follow an arm with",
        ),
        (
            "x: {extends: [arms/d_fixed], arm: X, pacing: {kind: yoked, of: d}, "
            "training: {length: 0.5}}",
            "pacing.of is 'd', an arm with another training.length; follow an arm with the same.",
        ),
        (
            "x: {control: density, of: d, arm: X, pacing: {tau: 7}}",
            "arm X: pacing.of is 'd', an arm with another pacing; follow an arm with",
        ),
        (
            "x: {extends: [arms/b], arm: X, pacing: {kind: yoked, of: noise}}\n"
            "  noise: {extends: [arms/b], arm: Noise, pacing: {kind: info_noise}}",
            "pacing.of is 'noise', an arm whose runs make stages of their own (pacing.kind info_no",
        ),
        ("x: {extends: [arms/b], arm: X, pacing: {kind: patience, tau: 0}}", "pacing.tau' is 0"),
    ],
)
def test_arm_that_cannot_follow_is_one_line(arm, message, load):
    content = PACED.replace("  twin:", f"  b: {{extends: [arms/b]}}\n  {arm}\n  twin:")
    with pytest.raises(UserError) as error:
        load(content)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_hash_of_a_control_follows_its_leaders_pacing(load):
    first, second = (
        by_arm(load(PACED, overrides=[f"pacing.tau={tau}"] if tau else []), 5) for tau in (None, 7)
    )
    for arm in ("D-even", "D-mirror-shuffled*"):
        assert first[arm].pacing.leader == first["D"].pacing
        assert config_hash(first[arm]) != config_hash(second[arm])


def test_controls_of_a_paced_arm_of_two_stages_are_those_that_can_be(load):
    two = "d: {extends: [arms/d], clusters: {by: log_snr, count: 2}}"
    assert "d: {extends: [arms/d]}" in PACED
    content = PACED.replace("d: {extends: [arms/d]}", two).replace(
        "  both: {control: shuffled, of: mirrored}\n", ""
    )
    study = load(content)
    assert {run.arm for run in study.runs} == {"D", "D-density*", "D-static", "D-mirror", "twin"}


def test_leader_whose_last_step_is_no_milestone_is_refused_before_training(load):
    study = load(PACED.replace('["100%"]', '["50%"]'))
    with pytest.raises(UserError, match=r"follows the stages of D, whose last step \(64\) is none"):
        check_study(study, study.runs)
