from dataclasses import replace

import pytest

from mindiffusion.config.run import check, to_dict
from mindiffusion.curriculum.density import LogSigmaNormal
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.errors import UserError
from mindiffusion.theory.setting import TheoryEvaluation, TheoryRun, planned, run_hash

PLAIN = {"arm": "B", "curriculum": [{"name": "full", "weight": 1.0}]}


def test_run_is_read_from_plain_types_and_back(tiny_run):
    run = tiny_run("CS", 3)
    again = check(TheoryRun, to_dict(run), "kept")
    assert again == run and run_hash(again) == run_hash(run)
    assert run_hash(replace(run, noise_stream=1)) != run_hash(run)
    toy = check(TheoryRun, PLAIN, "toy")
    data, model = toy.data, toy.model
    assert (data.num_features, data.ambient_dim, data.alpha1, data.alpha2) == (20, 200, 5.0, 0.5)
    assert (data.share, model.width, model.init_std) == (0.1, 100, 0.02)
    assert (toy.training.lr, toy.training.global_batch) == (1e-3, 512)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (TheoryRun, PLAIN | {"data": {"alpha2": 0.0}}, "'data.alpha2' is 0.0"),
        (TheoryRun, PLAIN | {"data": {"alpha2": -1.0}}, "'data.alpha2' is -1.0"),
        (TheoryRun, PLAIN | {"data": {"num_features": 101}}, "ambient_dim of 202 or more"),
        (TheoryRun, PLAIN | {"data": {"share": 1.5}}, "'data.share' is 1.5"),
        (TheoryRun, PLAIN | {"model": {"widht": 3}}, "unknown key 'model.widht'"),
        (TheoryRun, PLAIN | {"process": {"kind": "edm", "sigma_data": "auto"}}, "has none; use"),
        (TheoryRun, PLAIN | {"process": {"kind": "linear"}}, "is 'linear'; allowed"),
        (TheoryRun, PLAIN | {"curriculum": []}, "curriculum"),
        (TheoryRun, PLAIN | {"training": {"precision": "bf16"}}, "'training.precision' is 'bf16'"),
        (TheoryEvaluation, {"purity": 1.0}, "'purity' is 1.0"),
        (TheoryEvaluation, {"purity": 0.0}, "'purity' is 0.0"),
        (TheoryEvaluation, {"low_up_to": 1.2}, "'low_up_to' is 1.2"),
    ],
)  # fmt: skip
def test_mistake_is_one_line(kind, content, message):
    with pytest.raises(UserError) as error:
        check(kind, content, "theory.yaml")
    said = str(error.value)
    assert said.startswith("theory.yaml: ") and message in said and "\n" not in said


@pytest.mark.parametrize(
    ("milestones", "message"),
    [(("3 epochs",), "have no epochs"), ((41,), "is step 41"), (("x",), "unreadable")],
)
def test_milestone_that_cannot_be_is_refused(milestones, message, tiny_run):
    with pytest.raises(UserError, match=message):
        planned(tiny_run(training={"milestones": milestones}))


def test_plan_has_stages_milestones_and_always_the_end(tiny_run):
    plan = planned(tiny_run("C", training={"milestones": (7, "50%"), "length": 0.8}))
    assert plan.total_steps == 32 and plan.milestones == (7, 16, 32)
    assert [stage.start for stage in plan.stages] == [0, 8, 16]
    assert planned(tiny_run("C")).milestones == (10, 20, 40)


def test_density_on_the_clock_of_sigma_is_put_on_noise_time(tiny_run):
    stage = StageConfig("logit", 1.0, LogSigmaNormal(-1.0, 1.0))
    (planned_stage,) = planned(tiny_run(curriculum=(stage,))).stages
    assert planned_stage.density.kind == "histogram"
