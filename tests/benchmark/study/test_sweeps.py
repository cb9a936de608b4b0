"""A study's arms at other values of one setting, and studies of the theory as files say them."""

import pytest

from benchmark.study.declaration import fingerprint
from benchmark.study.kinds import hash_of_run
from benchmark.study.study import Study, load_study
from benchmark.study.theory_study import TheoryStudy
from mindiffusion.errors import UserError

HEAD = """
kind: theory
seeds: [0, 1]
arms:
  b: {extends: [arms/theory/b]}
  c: {extends: [arms/theory/c]}
  density-star: {control: density, of: c}
run:
  data: {num_features: 2, ambient_dim: 4}
  model: {width: 6}
  training: {steps: 40, global_batch: 8}
endpoint: {metric: excess-MSE/low}
hypotheses: [{name: T1, contrast: C - B}]
"""


@pytest.fixture
def load(tmp_path):
    def loaded(more="", **options):
        path = tmp_path / "mine.yaml"
        path.write_text(HEAD + more)
        return load_study(str(path), **options)

    return loaded


def test_a_study_of_the_theory_has_arms_controls_and_seeds_as_others(load):
    study = load()
    assert isinstance(study, TheoryStudy)
    assert [(run.arm, run.seed) for run in study.runs[:4]] == [
        ("B", 0), ("C", 0), ("density*", 0), ("B", 1),
    ]  # fmt: skip
    _, c, control = study.runs[:3]
    assert len(control.curriculum) == 2 and control.curriculum[-1] == c.curriculum[-1]
    assert len({hash_of_run(run) for run in study.runs}) == 6


def test_options_reach_runs_scoring_and_terms(load):
    words = ["training.steps=80", "evaluation.num_samples=9", "smallest_effect=0.2", "seeds=[7]"]
    study = load(overrides=words)
    assert {(run.training.steps, run.seed) for run in study.runs} == {(80, 7)}
    assert (study.evaluation.num_samples, study.terms.smallest_effect) == (9, 0.2)
    assert fingerprint(study) != fingerprint(load())
    assert load(smoke=True).runs[0].training.steps == 16


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: thoery", "kind is 'thoery'. Did you mean 'theory'?"),
        ("data: {alpha2: 0}", "alpha2"),
        ("data: {num_features: 3, ambient_dim: 4}", "orthogonal"),
        ("evaluation: {purity: 1.5}", "purity"),
        ("sweeps: {training.stepz: [1, 2]}", "'training.stepz' is no setting of arm b"),
        ("sweeps: {training.steps: [40, 40]}", "has a value twice"),
        ("sweeps: {training.steps: [0, 40]}", "greater than 0"),
        ("runs_per_device: 2", "runs_per_device"),
    ],
)
def test_a_mistake_is_one_line(text, said, load, tmp_path):
    path = tmp_path / "wrong.yaml"
    key = text.split(":")[0]
    if key == "kind":
        path.write_text(HEAD.replace("kind: theory", text))
    elif key == "data":
        path.write_text(HEAD.replace("  data: {num_features: 2, ambient_dim: 4}", f"  {text}"))
    else:
        path.write_text(HEAD + text)
    with pytest.raises(UserError) as error:
        load_study(str(path))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_sweeps_make_arms_once_for_each_other_value(load):
    study = load("sweeps: {training.steps: [40, 20, 80], data.alpha2: [0.25, 1.0]}")
    arms = list(dict.fromkeys(run.arm for run in study.runs))
    assert arms[:6] == ["B", "C", "density*", "B steps=20", "C steps=20", "density* steps=20"]
    assert len(arms) == 3 + 2 * 3 + 2 * 3
    steps, alpha = study.sweeps
    assert [point.value for point in steps.points] == [20, 40, 80]
    assert steps.points[1].arms["C"] == "C" and steps.points[1].made == ()
    assert steps.points[0].arms["C"] == "C steps=20"
    by_arm = {run.arm: run for run in study.runs}
    assert by_arm["density* steps=80"].training.steps == 80
    assert by_arm["density* steps=80"].curriculum == by_arm["density*"].curriculum
    assert by_arm["C alpha2=0.25"].data.alpha2 == alpha.points[0].value == 0.25


def test_a_hypothesis_is_about_no_point_of_a_sweep(load):
    with pytest.raises(UserError, match="no arm of this study"):
        load(
            "sweeps: {training.steps: [20, 40]}",
            overrides=["hypotheses=[{name: T1, contrast: '\"C steps=20\" - B'}]"],
        )


def test_a_study_of_images_may_sweep_too(tmp_path):
    path = tmp_path / "lr.yaml"
    path.write_text(
        "seeds: [0]\narms: {b: {extends: [arms/b]}}\nrun: {extends: [runs/demo_32]}\n"
        "sweeps: {training.lr: [0.001, 0.0001]}\n"
    )
    study = load_study(str(path))
    assert isinstance(study, Study)
    assert [(run.arm, run.training.lr) for run in study.runs][1:] == [
        ("B lr=0.0001", 0.0001), ("B lr=0.001", 0.001),
    ]  # fmt: skip
    assert len({run.output for run in study.runs}) == 3


@pytest.mark.parametrize("name", ["theory", "theory-scaling"])
def test_our_own_studies_can_be_read(name):
    study = load_study(name)
    assert isinstance(study, TheoryStudy) and len({run.seed for run in study.runs}) >= 8
