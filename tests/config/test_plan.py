import pytest

from mindiffusion.config.plan import milestone_step, resolve_plan
from mindiffusion.errors import UserError


@pytest.mark.parametrize(
    ("spec", "step"),
    [
        (500, 500), ("500", 500), ("500 steps", 500), ("1 step", 1), ("25%", 250), ("100%", 1000),
        ("62.5 %", 625), ("0.05%", 1), ("10 epochs", 100), ("1 epoch", 10), ("0.25 epochs", 3),
        (1000, 1000), ("0.15%", 2),
    ],
)  # fmt: skip
def test_milestone_in_steps_percent_and_epochs_rounds_half_up(spec, step):
    assert milestone_step(spec, 1000, 10.0) == step


@pytest.mark.parametrize("spec", [0, 1001, "101%", "0.01%", "101 epochs", 10**9])
def test_milestone_outside_the_run_names_it_and_the_range(spec):
    with pytest.raises(UserError) as error:
        milestone_step(spec, 1000, 10.0)
    assert repr(spec) in str(error.value) and "1 to 1000" in str(error.value)


@pytest.mark.parametrize("spec", ["soon", "-5", "5 minutes", "", "1.2.3", "%", "."])
def test_milestone_that_is_unreadable_says_how_to_write_one(spec):
    with pytest.raises(UserError, match="unreadable; write 500"):
        milestone_step(spec, 1000, 10.0)


def test_plan_of_epochs_counts_steps_by_the_data(tiny_config):
    config = tiny_config("c", "training.epochs=80", "training.milestones=[stages]")
    # 80 epochs of 162,770 images (CelebA's training split) at 8 a step.
    plan = resolve_plan(config, 162_770)
    assert plan.total_steps == 1_627_700
    ends = [plan.total_steps * share // 80 for share in (5, 15, 30, 50, 80)]
    assert plan.milestones == pytest.approx(ends, abs=1)
    assert [0, *plan.milestones[:-1]] == [s.start for s in plan.pacer().stages]
    part = tiny_config("c", "training.epochs=0.9", "training.milestones=[]")
    assert resolve_plan(part, 100).total_steps == 11


def test_plan_places_the_stages_on_the_steps(tiny_config):
    plan = resolve_plan(tiny_config("cs"), 256)
    assert [s.start for s in plan.pacer().stages] == [0, 2, 5, 9, 15]
    assert plan.milestones == (12, 24)


def test_plan_joins_stage_ends_with_other_milestones_in_order(tiny_config):
    config = tiny_config("c", 'training.milestones=["100%", stages, 1, 12, "50%"]')
    assert resolve_plan(config, 256).milestones == (1, 2, 5, 9, 12, 15, 24)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("training.steps=4",), "stage 'stage1_high_noise' would have no step of 4"),
        (("training={steps: 9, epochs: 2}",), "exactly one"),
        (("training={steps: null, epochs: null}",), "exactly one"),
        (("training.milestones=[25]",), "milestone 25 is step 25"),
        (("curriculum=[]",), "no stage"),
    ],
)
def test_plan_refuses_what_does_not_fit(tiny_config, words, match):
    with pytest.raises(UserError, match=match):
        resolve_plan(tiny_config("c", *words), 256)


def test_plan_of_a_shorter_length_scales_stages_and_percentages(tiny_config):
    words = ("training.steps=100", 'training.milestones=["50%", "100%"]', "training.length=0.8")
    plan = resolve_plan(tiny_config("c", *words), 256)
    assert (plan.total_steps, plan.milestones) == (80, (40, 80))
    assert [s.start for s in plan.pacer().stages] == [0, 5, 15, 30, 50]
    by_epochs = tiny_config("b", "training.epochs=2", words[1], "training.length=0.25")
    assert resolve_plan(by_epochs, 256).total_steps == 16
