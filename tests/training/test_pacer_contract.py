"""What training takes for granted of every kind of pacing that configs may name.

Killed again and again, on one rank or on two, a run's stages begin at the same steps, and it ends
in the same bits; and a file that keeps something else of its pacer is refused in one line.
"""

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
from mindiffusion.training.loop import Hooks
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.run_folder import run

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
PAIR = ("pair", "cut-pair")
KILLED = pytest.mark.parametrize("kind", KINDS)


class Runs:
    """Tiny runs of all kinds in one folder; those that are whole are trained once."""

    def __init__(self, folder, tiny_content, avatars):
        self._folder, self._tiny_content, self._avatars = folder, tiny_content, avatars
        self._whole = {}

    def content(self, kind, name):
        """Nested content of a run that is paced so."""
        pacing, words = KINDS[kind]
        output = self._folder / f"{kind}-{name}"
        content = self._tiny_content("cs", *words, *ALWAYS, output=output)
        return merge(content, {"pacing": pacing})

    def config(self, kind, name):
        return build_config(self.content(kind, name), "mine")

    def train(self, config, stop_after=None):
        data = self._avatars.training_for(config.data.labels)
        return run(config, data, Ranks(), lambda trainer: Hooks(), stop_after)

    def whole(self, kind):
        """The trainer of a run that nobody stopped, on one rank."""
        if kind not in self._whole:
            if kind == "yoked":
                self.lead()
            self._whole[kind] = self.train(self.config(kind, "whole"))
        return self._whole[kind]

    def lead(self):
        """Train the run that the yoked ones follow, if it is not."""
        content = self._tiny_content("cs", *UNMASKED, *ALWAYS, output=self._folder / "leader")
        self.train(build_config(merge(content, {"pacing": PATIENCE}), "leader"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_content, avatars):
    return Runs(tmp_path_factory.mktemp("pacers"), tiny_content, avatars)


def starts(stages):
    return [stage.start for stage in stages]


def state_of(config):
    return checkpoint.load(checkpoint.checkpoint_path(config.run_dir, 24))


def milestone_of(config, step):
    return checkpoint.load(checkpoint.weights_path(config.run_dir, step))


def test_every_kind_is_under_contract():
    assert set(KINDS) == set(PACINGS)


@KILLED
def test_run_killed_ten_times_ends_in_the_same_bits(kind, runs, assert_same, log_lines):
    trained, cut = runs.whole(kind), runs.config(kind, "cut")
    whole, pacer = trained.config, trained.pacer
    assert len(pacer.stages) > 2, starts(pacer.stages)
    for last in KILLS:
        runs.train(cut, stop_after=last)
    assert runs.train(cut).pacer.stages == pacer.stages
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
    kind, runs, tmp_path
):
    config, stages = runs.whole(kind).config, runs.whole(kind).pacer.stages
    plan, expected = resolve_plan(config, 256), tuple(s for s in stages if s.start < 12)
    path = checkpoint.weights_path(config.run_dir, 12)
    exported.save(tmp_path / "x.safetensors", open_weights(path), "raw")
    for content in (checkpoint.load(path), exported.load(tmp_path / "x.safetensors")):
        assert plan.begun(content) == expected
        study = Study("tiny", tmp_path, (config,), EvaluationConfig())
        milestone = Milestone(study, config, plan, "m", content, config.run_dir)
        exposure = [row.value for row in milestone.stage_rows() if row.metric == "exposure"]
        assert np.reshape(exposure, (-1, 20)).mean(1) == pytest.approx(1, abs=1e-6)


@pytest.fixture
def two_ranks(run_cli, torchrun, drive_words, tmp_path):
    """A function: contents of jobs → the finished process of two ranks that did them."""

    return lambda *jobs: run_cli([*torchrun, *drive_words(*jobs)], tmp_path)


def test_two_ranks_switch_at_the_steps_of_one(runs, two_ranks, assert_same):
    """And, killed, end in the bits of two that were not.

    All kinds in a few starts of two ranks, for each start takes seconds.
    """
    alone = {kind: runs.whole(kind) for kind in KINDS}
    of = {name: {kind: {"config": runs.content(kind, name)} for kind in KINDS} for name in PAIR}
    jobs = [*of["pair"].values()]
    jobs += [job | {"stop_after": 13} for job in of["cut-pair"].values()]
    done = two_ranks(*jobs)
    assert done.returncode == 0, done.stderr
    # The second kill is a real one, of one of them.
    assert two_ranks(of["cut-pair"]["probe"] | {"at": 20, "signal": signal.SIGKILL}).returncode
    done = two_ranks(*of["cut-pair"].values())
    assert done.returncode == 0, done.stderr
    for kind, one in alone.items():
        whole, cut = (state_of(runs.config(kind, name)) for name in PAIR)
        assert_same(whole, cut)
        assert whole["pacing"]["begun"] == starts(one.pacer.stages), kind
        assert_same({"network": whole["network"]}, {"network": one.state()["network"]},
                    tolerance=1e-9)  # fmt: skip


DEEP: list = []
for _ in range(60):
    DEEP = [DEEP, DEEP]
STRANGE = ("x", -1, True, [], [0, "1"], DEEP, {"a": 1}, float("nan"), torch.zeros(2), 10**400)


@KILLED
def test_state_with_something_else_of_its_pacer_is_refused_in_one_line(kind, runs, tmp_path):
    config = runs.whole(kind).config
    whole = state_of(config)
    # What is not looked at here is left small: it is written a hundred times.
    whole |= {name: {} for name in ("network", "averages", "optimizer")} | {"log": ""}
    pacing, path = whole.pop("pacing"), checkpoint.checkpoint_path(tmp_path, 24)
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
            taken_or_told(used, pacing | {key: value})
    assert "more is not known" in refused(used, pacing | {"more": 1})


@KILLED
def test_milestone_with_something_else_of_its_pacer_is_refused_in_one_line(kind, runs, tmp_path):
    config = runs.whole(kind).config
    plan, whole = resolve_plan(config, 256), milestone_of(config, 12) | {"weights": {}}
    path, keys = checkpoint.weights_path(tmp_path, 12), checkpoint.kept_stages(whole)
    del whole["format"]

    def used(changed):
        checkpoint.save(path, changed)
        return plan.begun(checkpoint.load(path))

    expected = used(whole)
    lacking = {name: value for name, value in whole.items() if name not in keys}
    if config.pacing.is_table:
        assert used(lacking) == expected
    else:
        assert "begun is missing" in refused(used, lacking)
        assert "does not say when its stages began" in refused(plan.begun, lacking)
    assert "begun" in keys
    for key in keys:
        assert f"{key} is 'x'" in refused(used, whole | {key: "x"})
        for value in STRANGE:
            taken_or_told(used, whole | {key: value})


def refused(action, *arguments):
    with pytest.raises(UserError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def taken_or_told(action, argument):
    """What is strange may be of use; where it is not, one short line says so."""
    try:
        action(argument)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 700
