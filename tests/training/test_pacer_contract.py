"""What training takes for granted of every kind of pacing that configs may name.

Killed again and again, on one rank or on two, a run's stages begin at the same steps, and it ends
in the same bits; and a file that keeps something else of its pacer is refused in one line.
"""

import json
import signal

import numpy as np
import pytest
import torch

from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.presets import build_config, merge
from mindiffusion.curriculum.pacing import PACINGS
from mindiffusion.errors import UserError
from mindiffusion.exchange import exported
from mindiffusion.exchange.by_path import open_weights
from mindiffusion.training import checkpoint

PATIENCE = {"kind": "patience", "tau": 1, "look_every": 1, "min_delta": 0.07}
ONE_STAGE = ("curriculum=[{name: full, weight: 1}]",)
UNMASKED = (
    "model.network=naive_unet",
    "curriculum=[{name: high, weight: 1, density: {t_min: 0.6}}, "
    "{name: mid, weight: 1, density: {t_min: 0.3}}, {name: all, weight: 1}]",
)
KINDS = {
    "fixed": ({"kind": "fixed"}, ()),
    "patience": (PATIENCE, ()),
    "probe": (
        {"kind": "probe", "tau": 2, "look_every": 2, "images": 12, "min_delta": 0.065}, ()
    ),
    "yoked": ({"kind": "yoked", "of": "leader", "controls": ["anti"]}, UNMASKED),
    "info_noise": ({"kind": "info_noise", "every": 5, "bins": 3}, ONE_STAGE),
    "loss_second_moment": ({"kind": "loss_second_moment", "every": 5, "bins": 3}, ONE_STAGE),
}  # fmt: skip
ALWAYS = ("training.precision=fp64", "training.checkpoint_every=2")
KILLS = (1, 3, 6, 8, 11, 13, 16, 17, 20, 23)
KILLED = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def content_of(tiny_content):
    """A function: kind, name → nested content of a tiny run that is paced so."""

    def make(kind, name):
        pacing, words = KINDS[kind]
        content = tiny_content("cs", *words, *ALWAYS, output=f"study/{kind}-{name}")
        return merge(content, {"pacing": pacing})

    return make


@pytest.fixture
def config_of(content_of):
    return lambda *of: build_config(content_of(*of), "mine")


@pytest.fixture
def leader(workdir, tiny_content, train_run):
    """The run that the yoked one follows, trained."""
    content = tiny_content("cs", *UNMASKED, *ALWAYS, output="study/leader")
    return train_run(build_config(merge(content, {"pacing": PATIENCE}), "leader"))


def starts(stages):
    return [stage.start for stage in stages]


def state_of(config):
    return checkpoint.load(checkpoint.checkpoint_path(config.run_dir, 24))


def milestone_of(config, step):
    return checkpoint.load(checkpoint.weights_path(config.run_dir, step))


def test_every_kind_is_under_contract():
    assert set(KINDS) == set(PACINGS)


@KILLED
def test_run_killed_ten_times_ends_in_the_same_bits(
    kind, leader, train_run, config_of, assert_same, log_lines
):
    whole, cut = (config_of(kind, name) for name in ("whole", "cut"))
    pacer = train_run(whole).pacer
    assert len(pacer.stages) > 2, starts(pacer.stages)
    for last in KILLS:
        train_run(cut, stop_after=last)
    assert train_run(cut).pacer.stages == pacer.stages
    assert_same(state_of(whole), state_of(cut))
    for step in (12, 24):
        assert_same(milestone_of(whole, step), milestone_of(cut, step))
    lines = log_lines(whole.run_dir)
    assert lines == log_lines(cut.run_dir)
    # A switch that the run finds is a line of its log; all are entries behind its rows.
    named = [(stage.start, stage.config.name) for stage in pacer.stages]
    switches = [(line["step"], line["stage"]) for line in lines if "begins" in line]
    assert switches == (named[1:] if pacer.look_every else [])
    assert [(e["step"], e["stage"]) for e in milestone_of(whole, 24)["stage_log"]] == named


@KILLED
def test_milestone_says_which_stages_it_was_trained_in_also_as_an_exported_file(
    kind, leader, workdir, train_run, config_of
):
    config = config_of(kind, "whole")
    stages = train_run(config).pacer.stages
    plan, expected = resolve_plan(config, 256), tuple(s for s in stages if s.start < 12)
    path = checkpoint.weights_path(config.run_dir, 12)
    exported.save(workdir / "x.safetensors", open_weights(path), "raw")
    for content in (checkpoint.load(path), exported.load(workdir / "x.safetensors")):
        assert plan.begun(content) == expected
        study = Study("tiny", workdir, (config,), EvaluationConfig())
        milestone = Milestone(study, config, plan, "m", content, config.run_dir)
        exposure = [row.value for row in milestone.stage_rows() if row.metric == "exposure"]
        assert np.reshape(exposure, (-1, 20)).mean(1) == pytest.approx(1, abs=1e-6)


@pytest.fixture
def two_ranks(run_cli, torchrun, repository, avatars, workdir):
    """A function: contents of jobs → the finished process of two ranks that did them."""

    def run(*jobs):
        np.save(workdir / "images.npy", avatars.train)
        files = []
        for number, job in enumerate(jobs):
            files.append(workdir / f"job{number}.json")
            files[-1].write_text(json.dumps(job | {"manifest": avatars.manifest_id}))
        script = repository / "tests" / "training" / "drive_training.py"
        return run_cli([*torchrun, script, workdir / "images.npy", *files], workdir)

    return run


def test_two_ranks_switch_at_the_steps_of_one(
    leader, train_run, content_of, config_of, two_ranks, assert_same
):
    """And, killed ten times, end in the bits of two that were not.

    All kinds in a few starts of two ranks, for each start takes seconds.
    """
    jobs = []
    for kind in KINDS:
        jobs.append({"config": content_of(kind, "whole")})
        jobs += [{"config": content_of(kind, "cut"), "stop_after": last} for last in KILLS[:-1]]
    done = two_ranks(*jobs)
    assert done.returncode == 0, done.stderr
    # The last kill is a real one, of one of them.
    last = {"config": content_of("probe", "cut"), "at": KILLS[-1], "signal": signal.SIGKILL}
    assert two_ranks(last).returncode != 0
    done = two_ranks(*({"config": content_of(kind, "cut")} for kind in KINDS))
    assert done.returncode == 0, done.stderr
    for kind in KINDS:
        whole, cut = (state_of(config_of(kind, name)) for name in ("whole", "cut"))
        assert_same(whole, cut)
        alone = train_run(config_of(kind, "alone"))
        assert whole["pacing"]["begun"] == starts(alone.pacer.stages), kind
        assert_same({"network": whole["network"]}, {"network": alone.state()["network"]},
                    tolerance=1e-9)  # fmt: skip


DEEP: list = []
for _ in range(60):
    DEEP = [DEEP, DEEP]
STRANGE = ("x", -1, True, [], [0, "1"], DEEP, {"a": 1}, float("nan"), torch.zeros(2), 10**400)


@KILLED
def test_state_with_something_else_of_its_pacer_is_refused_in_one_line(
    kind, leader, workdir, train_run, config_of
):
    config = config_of(kind, "whole")
    train_run(config, stop_after=12)
    whole = checkpoint.load(checkpoint.checkpoint_path(config.run_dir, 12))
    pacing, path = whole.pop("pacing"), checkpoint.checkpoint_path(workdir, 12)
    del whole["format"]

    def used(changed):
        checkpoint.save(path, whole | {"pacing": changed})
        state = checkpoint.load(path)["pacing"]
        resolve_plan(config, 256).pacer().load_state_dict(state)

    used(pacing)
    for key in pacing:
        lacking = {name: value for name, value in pacing.items() if name != key}
        assert f"{key} is missing" in refused(used, lacking)
        assert f"{key} is 'x'" in refused(used, pacing | {key: "x"})
        for value in STRANGE:
            try:
                used(pacing | {key: value})
            except UserError as error:
                assert "\n" not in str(error) and len(str(error)) < 700
    assert "more is not known" in refused(used, pacing | {"more": 1})


def refused(action, *arguments):
    with pytest.raises(UserError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)
