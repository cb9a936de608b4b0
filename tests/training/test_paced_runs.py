"""Runs whose stages begin by their losses, by a probe, or as those of another run."""

import numpy as np
import pytest
import torch

from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.presets import build_config, merge
from mindiffusion.curriculum.adaptive import InfoNoisePacer, SecondMomentPacer
from mindiffusion.errors import UserError
from mindiffusion.training import checkpoint

PATIENCE = {"kind": "patience", "tau": 1, "look_every": 1, "min_delta": 0.07}
PROBE = {"kind": "probe", "tau": 2, "look_every": 2, "images": 12, "min_delta": 0.065}
FP64 = ("training.precision=fp64",)


@pytest.fixture
def paced(tiny_content):
    """A function: output, pacing, words → nested content of a tiny run of CS that is paced so."""

    def make(output, pacing, *words):
        return merge(tiny_content("cs", *words, output=output), {"pacing": pacing})

    return make


@pytest.fixture
def config_of(paced):
    return lambda *words: build_config(paced(*words), "mine")


def starts(stages):
    return [stage.start for stage in stages]


def state_of(config, step=24):
    return checkpoint.load(checkpoint.checkpoint_path(config.run_dir, step))


def milestone_of(config, step=24):
    return checkpoint.load(checkpoint.weights_path(config.run_dir, step))


def test_second_moment_is_that_of_the_loss_with_the_process_weights(
    workdir, train_run, config_of, monkeypatch
):
    given = {}
    words = (
        "curriculum=[{name: full, weight: 1}]",
        "process.loss_weight={kind: p2}",
        "training.log_every=1",
        *FP64,
    )
    for pacer in (InfoNoisePacer, SecondMomentPacer):
        record = lambda self, *read: given.update({type(self): read})  # noqa: E731
        monkeypatch.setattr(pacer, "take_images", record)
    for kind in ("info_noise", "loss_second_moment"):
        process = train_run(config_of(kind, {"kind": kind}, *words), stop_after=1).process
    (times, plain), (same, weighted) = given[InfoNoisePacer], given[SecondMomentPacer]
    assert (times == same).all()
    weight = process.level(torch.from_numpy(times[0])).weight.numpy()
    assert weight.max() > 1.5 * weight.min()
    np.testing.assert_allclose(weighted[0], plain[0] * weight, rtol=1e-12)


def test_probe_is_the_same_at_every_split_and_leaves_no_trace(workdir, train_run, config_of):
    words = ("training.steps=3", "training.milestones=[3]", *FP64)
    first = train_run(config_of("a", PROBE, *words))
    before = first.source.batch(3, 0, 8).noise
    value = first.probe_loss(20)
    assert first.probe_loss(20) == value and first.network.training
    assert first.source.batch(3, 0, 8).noise.equal(before)
    split = train_run(config_of("b", PROBE, "training.micro_batch=3", *words))
    assert split.probe_loss(20) == pytest.approx(value, rel=1e-9)
    first.enter_stage(resolve_plan(first.config, 256).pacer().stages[0])
    assert 0 < value < 10


# -- yoked --------------------------------------------------------------------------------------

DENSITY = {"kind": "yoked", "of": "d", "controls": ["density"]}
C_WORDS = (
    "model.network=naive_unet",
    "curriculum=[{name: high, weight: 1, density: {t_min: 0.6}}, "
    "{name: mid, weight: 1, density: {t_min: 0.3}}, {name: all, weight: 1}]",
)
OTHER = "curriculum=[{name: high, weight: 1}, {name: all, weight: 1}]"


@pytest.fixture
def followed(workdir, train_run, config_of):
    """A paced run in d/, trained; the steps at which its stages began."""
    config = config_of("study/d", PATIENCE, *C_WORDS)
    begun = starts(train_run(config).pacer.stages)
    assert len(begun) == 3, begun
    return begun


def test_yoked_run_has_the_lengths_of_the_other_runs_stages(
    followed, workdir, train_run, config_of, assert_same
):
    whole, cut = (config_of(f"study/{n}", DENSITY, *C_WORDS) for n in ("density-star", "cut"))
    trained = train_run(whole)
    assert starts(trained.pacer.stages) == [0, followed[2]]
    average = trained.pacer.stages[0].density
    assert [share.weight for share in average.shares] == [followed[1], followed[2] - followed[1]]
    for last in (2, 13):
        train_run(cut, stop_after=last)
    train_run(cut)
    assert_same(state_of(whole), state_of(cut))
    content = milestone_of(whole)
    assert (content["begun"], content["followed"]) == ([0, followed[2]], followed)
    study = Study("tiny", workdir, (whole,), EvaluationConfig())
    milestone = Milestone(study, whole, resolve_plan(whole, 256), "m", content, whole.run_dir)
    assert [stage.config.name for stage in milestone.stages] == ["static", "all"]
    assert milestone.row("m", 1.0).full_range
    assert {row.step for row in milestone.stage_rows() if row.metric == "exposure"} <= set(
        content["begun"]
    )


def test_yoked_copy_without_controls_is_the_other_run_again(
    followed, workdir, train_run, config_of, assert_same
):
    copy = config_of("study/copy", {"kind": "yoked", "of": "d"}, *C_WORDS)
    assert starts(train_run(copy).pacer.stages) == followed
    of = config_of("study/d", PATIENCE, *C_WORDS)
    for part in ("network", "averages", "optimizer"):
        assert_same({part: state_of(of)[part]}, {part: state_of(copy)[part]})


def test_milestone_of_a_longer_run_is_not_taken_for_the_end(workdir, train_run, config_of):
    longer = ("training.steps=48", "training.milestones=[24, 48]")
    train_run(config_of("study/d", PATIENCE, *C_WORDS, *longer), stop_after=24)
    with pytest.raises(UserError, match=r"seed0 has another training.steps; follow an arm with"):
        train_run(config_of("study/x", DENSITY, *C_WORDS))


def test_control_that_has_too_few_stages_is_the_leader_and_says_so(
    workdir, train_run, config_of, caplog
):
    slow = PATIENCE | {"tau": 999}
    leader = train_run(config_of("study/d", slow, *C_WORDS))
    assert starts(leader.pacer.stages) == [0]
    anti = {"kind": "yoked", "of": "d", "controls": ["anti"], "leader": slow}
    trained = train_run(config_of("study/anti-star", anti, *C_WORDS))
    assert [s.density for s in trained.pacer.stages] == [leader.pacer.stages[0].density]
    assert trained.step == 24
    (line,) = (record.getMessage() for record in caplog.records)
    assert "control 'anti' needs 3 stages, but the followed run began 1; it" in line


def test_yoked_run_goes_on_without_the_other_runs_folder(followed, workdir, train_run, config_of):
    config = config_of("study/density-star", DENSITY, *C_WORDS)
    train_run(config, stop_after=13)
    (workdir / "study/d").rename(workdir / "elsewhere")
    assert train_run(config).step == 24


@pytest.mark.parametrize(
    ("output", "pacing", "words", "message"),
    [
        ("study/x", {"of": "e"}, (), "pacing.of is 'e', but study/e/seed0/weights-000000024.pt is"),
        ("study/x", {}, ("seed=1",), "study/d/seed1/weights-000000024.pt is not there: train"),
        ("study/x", {}, (OTHER,), "has another curriculum; follow an arm with the same"),
        ("study/x", {}, ("training.lr=7e-4",), "has another training.lr; follow"),
        ("study/x", {"leader": PATIENCE | {"tau": 2}}, (), "has another pacing; follow"),
    ],
)
def test_yoked_to_a_run_that_does_not_fit_is_one_line(
    output, pacing, words, message, followed, train_run, config_of
):
    config = config_of(output, {"kind": "yoked", "of": "d", **pacing}, *C_WORDS, *words)
    with pytest.raises(UserError) as error:
        train_run(config)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_file_that_does_not_say_whom_it_follows_is_refused(config_of):
    plan = resolve_plan(config_of("x", DENSITY, *C_WORDS), 256)
    assert not plan.pacer().is_decided
    for kept in (
        {"begun": [0, 5]},
        {"begun": [0, 5], "followed": [0, 99, 5]},
        {"begun": [0, 5], "followed": [0, 5, 24]},
    ):
        with pytest.raises(UserError):
            plan.begun(kept | {"step": 12})
    assert starts(plan.begun({"begun": [0, 9], "followed": [0, 5, 9], "step": 12})) == [0, 9]


@pytest.mark.parametrize(
    ("pacing", "message"),
    [
        ({"kind": "info_noise", "bins": 1}, "key 'pacing.bins' is 1"),
        ({"kind": "patience", "tau": 0}, "key 'pacing.tau' is 0"),
        ({"kind": "probe", "images": 0}, "key 'pacing.images' is 0"),
        ({"kind": "patience", "smoothing": 1.0}, "key 'pacing.smoothing' is 1.0"),
        ({"kind": "yoked"}, "key 'pacing.of' is missing"),
        ({"kind": "yoked", "of": "../d"}, "name the folder of another arm's runs"),
        ({"kind": "yoked", "of": "d", "controls": ["fast"]}, "key 'pacing.controls.0' is 'fast'"),
    ],
)
def test_mistake_in_pacing_is_one_line(pacing, message, config_of):
    with pytest.raises(UserError) as error:
        config_of("x", pacing)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["patience", "probe", "yoked"])
def test_milestones_at_ends_that_are_not_known_are_refused(kind, config_of):
    pacing = {"kind": kind} | ({"of": "d"} if kind == "yoked" else {})
    config = config_of("x", pacing, "training.milestones=[stages]")
    with pytest.raises(UserError, match=f"pacing.kind {kind} finds only during the run"):
        resolve_plan(config, 256)
