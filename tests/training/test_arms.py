"""Every arm that comes with the project: it loads, it trains, and it ends where it should."""

import math

import numpy as np
import pytest
import torch

from mindiffusion.build import build_process
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.presets import PRESETS, build_config, load_preset, merge
from mindiffusion.curriculum.density import Window
from mindiffusion.curriculum.stages import resolve_stages, trained_on_all_levels

ARMS = sorted(path.stem for path in (PRESETS / "arms").glob("*.yaml"))
IN_CS_LAST_STAGE = (
    "s", "r", "c", "cs", "cr", "s_silent", "cs_silent", "s_down1", "cs_down1", "cr_x10", "cr_x100",
    "c_snr",
)  # fmt: skip
RELATED = {
    "p2": "P2", "min_snr_5": "MinSNR-5", "edm_lognormal": "EDM-lognormal",
    "logit_normal": "logit-normal", "speed": "SpeeD", "b_ttdm": "B-TTDM",
    "speed_code": "SpeeD-code", "laplace": "Laplace", "soft_truncation": "SoftTruncation",
}  # fmt: skip


def load(arm, /, **changes):
    content = merge(load_preset("runs/celeba_32"), load_preset(f"arms/{arm}"))
    return build_config(merge(content, changes), arm)


@pytest.mark.parametrize("arm", ARMS)
def test_arm_file_loads_and_covers_all_levels_at_its_end(arm):
    # Where runs find when stages begin, milestones cannot stand at their ends.
    config = load(arm, training={"milestones": ["100%"]})
    plan = resolve_plan(config, 162_770)
    stages = resolve_stages(plan.curriculum, plan.total_steps)
    assert trained_on_all_levels(stages, plan.total_steps, config.process.lowest_time)
    if config.clusters is None:
        assert math.fsum(s.weight for s in config.curriculum) == pytest.approx(80)
    last = stages[-1]
    assert last.density.bounds(config.process.n_T) == (1, config.process.n_T)
    assert (last.config.sparsity, last.config.penalty_lambda) == (0, 0)


@pytest.mark.parametrize("arm", IN_CS_LAST_STAGE)
def test_arm_of_the_factorial_ends_in_the_curriculums_own_last_stage(arm):
    assert load(arm).curriculum[-1] == load("c").curriculum[-1]


def test_arms_have_names_of_their_own():
    assert len({load(arm).arm for arm in ARMS}) == len(ARMS)


def test_every_arm_is_in_the_table_of_arms(repository):
    text = (repository / "docs" / "arms.md").read_text()
    for arm in ARMS:
        assert f"`{load(arm).arm}`" in text and f"`{arm}`" in text, arm


@pytest.mark.parametrize(("arm", "of"), [("s", "cs"), ("r", "cr")])
def test_capacity_alone_is_the_joint_arm_at_all_noise_levels(arm, of):
    alone, joint = load(arm), load(of)
    assert alone.model == joint.model
    for a, b in zip(alone.curriculum, joint.curriculum, strict=True):
        assert (a.weight, a.sparsity, a.penalty_lambda) == (b.weight, b.sparsity, b.penalty_lambda)
        assert a.density.bounds(1000) == (1, 1000)


def test_checks_of_the_instrument_differ_from_b_in_one_thing():
    baseline = load("b")
    assert load("a_a", noise_stream=0, arm="B") == baseline
    assert load("b_80", training={"length": 1.0}, arm="B") == baseline
    assert load("b_half", model={"width": 1.0}, arm="B") == baseline
    assert (load("a_a").noise_stream, load("b_80").training.length) == (1, 0.8)
    assert load("b_half").model.base_width == 16


@pytest.mark.parametrize("placement", ["silent", "down1"])
@pytest.mark.parametrize("of", ["s", "cs"])
def test_arm_of_another_placement_differs_in_placement_only(of, placement):
    other, usual = load(f"{of}_{placement}"), load(of)
    assert (other.arm, other.model.placement) == (f"{usual.arm}-{placement}", placement)
    back = {"arm": usual.arm, "model": {"placement": "bottleneck"}}
    assert load(f"{of}_{placement}", **back) == usual


@pytest.mark.parametrize(("arm", "dose"), [("cr_x10", 10), ("cr_x100", 100)])
def test_dose_of_the_penalty_is_that_of_the_name(arm, dose):
    stronger, usual = load(arm), load("cr")
    assert stronger.arm == f"CR-x{dose}" and stronger.model == usual.model
    for a, b in zip(stronger.curriculum, usual.curriculum, strict=True):
        assert a.penalty_lambda == pytest.approx(dose * b.penalty_lambda, rel=1e-12)
        assert (a.name, a.weight, a.density) == (b.name, b.weight, b.density)


def test_c_snr_has_stages_equal_in_log_snr_between_the_ends_of_the_ladder():
    beta = np.linspace(1e-4, 0.02, 1001)
    alpha_bar = np.cumprod(1 - beta)
    log_snr = np.log(alpha_bar / (1 - alpha_bar))
    wanted = np.linspace(log_snr[800], log_snr[1], 5)
    levels = [int(np.abs(log_snr[1:] - value).argmin()) + 1 for value in wanted]
    stages = load("c_snr").curriculum
    assert [stage.density.bounds(1000) for stage in stages] == [(level, 1000) for level in levels]
    for a, b in zip(stages, load("c").curriculum, strict=True):
        assert (a.name, a.weight) == (b.name, b.weight)


def test_related_methods_are_single_stages_with_names_of_their_own():
    baseline = load("b")
    for file, name in RELATED.items():
        config = load(file)
        assert config.arm == name and len(config.curriculum) == 1
        assert (config.model, config.training) == (baseline.model, baseline.training)
    assert load("p2", arm="B", process={"loss_weight": None}) == baseline
    assert load("min_snr_5", arm="B", process={"loss_weight": None}) == baseline
    for file in ("edm_lognormal", "logit_normal", "b_ttdm", "laplace", "soft_truncation"):
        assert load(file).process == baseline.process


def test_speed_draws_levels_below_the_bend_five_times_as_often():
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1001))
    bend = int(np.argmax(np.gradient(np.sqrt(1 - alpha_bar)) < 1e-4))
    mass = load("speed").curriculum[0].density.probabilities(1000)
    jump = int(np.argmax(np.diff(mass) < -1e-4)) + 2
    assert jump == bend
    # The lower bin has levels 1 to 641, the upper one 642 to 1000 with both its ends.
    assert mass[0] / mass[-1] == pytest.approx(5 * (642 / 641) * (359 / 358))


def fifths(density):
    """Exposure of the fifths of noise time, low noise first."""
    return density.probabilities(1000).reshape(5, 200).sum(1) * 5


def test_speeds_final_code_reflects_half_of_its_draws():
    # Its draws, done by hand: index t of 1000, those below 700 twice as often; half reflected.
    plain = np.where(np.arange(1000) < 700, 2.0, 1.0)
    reflected = np.zeros(1000)
    for t, mass in enumerate(plain):
        reflected[642 - t if t < 642 else t - 642] += mass
    drawn = (plain + reflected) / (2 * plain.sum())
    known = [1.553, 1.409, 1.176, 0.568, 0.294]
    assert drawn.reshape(5, 200).sum(1) * 5 == pytest.approx(known, abs=2e-3)
    found = load("speed_code").curriculum[0].density
    assert fifths(found) == pytest.approx(known, abs=0.012)
    assert np.abs(np.cumsum(found.probabilities(1000)) - np.cumsum(drawn)).max() < 3e-3


def test_speeds_final_code_weights_high_noise_by_one():
    process = build_process(load("speed_code"))
    weight = np.array([float(process.level(torch.tensor([k / 1000])).weight) for k in
                       (1, 220, 699, 700, 701, 1000)])  # fmt: skip
    assert weight == pytest.approx([0.409, 0.6, 0.407, 1, 1, 1], abs=3e-3)


def test_curriculum_sampling_trains_middle_noise_first_and_all_alike_then():
    middle, last = resolve_plan(load("middle_first"), 162_770).curriculum
    probabilities = middle.density.probabilities(1000)
    assert 0.1 < np.argmax(probabilities) / 1000 < 0.5 and fifths(middle.density)[4] < 0.01
    assert last.density == Window() and middle.weight == last.weight


@pytest.mark.parametrize("arm", ARMS)
def test_arm_trains_for_a_step(arm, avatars, tiny_content):
    from mindiffusion.runtime import resolve_runtime
    from mindiffusion.training.ranks import Ranks
    from mindiffusion.training.trainer import Trainer

    content = merge(tiny_content("b"), load_preset(f"arms/{arm}"))
    # As many steps as the stages of any arm take.
    small = {"model": {"n_feat": 16}, "training": {"milestones": ["100%"], "steps": 60}}
    config = build_config(merge(content, small), arm)
    trainer = Trainer(
        config, resolve_runtime(config, 1), Ranks(), torch.device("cpu"), avatars.training
    )
    before = [p.detach().clone() for p in trainer.network.parameters()]
    trainer.enter_stage(trainer.pacer.stages[0])
    trainer.train_step()
    assert trainer.watch.read(1) is None and trainer.is_finite()
    after = trainer.network.parameters()
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert np.mean(moved) > 0.5
    assert trainer.network.n_feat == config.model.base_width


def test_trainer_weights_the_gradient_and_logs_the_plain_error(
    tiny_config, train_run, log_lines, tmp_path
):
    words = ("training.steps=1", "training.log_every=1", "training.milestones=[1]",
             "training.micro_batch=3")  # fmt: skip
    first = []
    for name, weight in (("plain", "null"), ("weighted", "{kind: p2, gamma: 1.0}")):
        weight_word = f"process.loss_weight={weight}"
        config = tiny_config("b", *words, weight_word, output=tmp_path / name)
        train_run(config)
        first.append(log_lines(config.run_dir)[0])
    plain, weighted = first
    # Before the first update both networks are the same, so are their plain losses.
    assert plain["loss"] == weighted["loss"] and plain["loss_by_t"] == weighted["loss_by_t"]
    assert weighted["grad_norm"] < 0.95 * plain["grad_norm"]
