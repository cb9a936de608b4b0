"""When stages begin: by a fixed table, and by a rule that only this file knows."""

from dataclasses import replace
from typing import ClassVar, Literal

import pytest
import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion.cli import describe
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.presets import build_config
from mindiffusion.config.run import config_hash, to_kept
from mindiffusion.curriculum.pacer import KeptStages, Pacer, PacerState, Pacing
from mindiffusion.curriculum.pacing import PACINGS
from mindiffusion.curriculum.stages import placed
from mindiffusion.errors import UserError
from mindiffusion.exchange import exported
from mindiffusion.exchange.by_path import open_weights
from mindiffusion.training import checkpoint
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.watch import Watch

CPU = torch.device("cpu")


class SlowdownPacer(Pacer):
    """Moves on once the mean loss since the last look has fallen by less than a threshold."""

    def __init__(self, curriculum, look_every, threshold):
        super().__init__(curriculum, placed(curriculum, [0]))
        self.look_every = look_every
        self._threshold = threshold
        self._last = None
        self._falls = []

    def moves_on(self, losses):
        assert len(losses) == self.look_every
        mean, last = sum(losses) / len(losses), self._last
        self._last = mean
        if last is None or last - mean >= self._threshold:
            return False
        self._falls.append(last - mean)
        return True

    def kept(self, step):
        begun = super().kept(step)
        return begun | {"falls": self._falls[: len(begun["begun"]) - 1]}

    def place(self, kept):
        super().place(kept)
        self._falls = list(kept["falls"])

    def state_dict(self, step):
        return super().state_dict(step) | {"last": self._last}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self._last = state["last"]


class SlowdownStages(KeptStages):
    falls: list[float]


class SlowdownState(PacerState, SlowdownStages):
    last: float | None


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Slowdown(Pacing):
    kept_schema: ClassVar[type[KeptStages]] = SlowdownStages
    state_schema: ClassVar[type[PacerState]] = SlowdownState
    kind: Literal["slowdown"] = "slowdown"
    look_every: int = 3
    threshold: float = 0.044

    def pacer(self, curriculum, total_steps, run):
        return SlowdownPacer(curriculum, self.look_every, self.threshold)


@pytest.fixture
def slowdown(monkeypatch, tiny_content):
    """A function: output folder, words → a tiny run of CS that the rule paces."""
    monkeypatch.setitem(PACINGS, "slowdown", Slowdown)

    def make(output="unused", *words, **pacing):
        content = tiny_content("cs", *words, output=output)
        return build_config(content | {"pacing": {"kind": "slowdown", **pacing}}, "mine")

    return make


def starts(stages):
    return [stage.start for stage in stages]


def milestone_of(config, step):
    return checkpoint.load(checkpoint.weights_path(config.run_dir, step))


def test_fixed_table_begins_its_stages_at_the_planned_steps(tiny_config):
    pacer = resolve_plan(tiny_config("cs"), 256).pacer()
    assert pacer.is_decided and starts(pacer.stages) == [0, 2, 5, 9, 15]
    assert [pacer.stage_at(step).index for step in (0, 1, 2, 14, 15, 23)] == [0, 0, 1, 3, 4, 4]
    assert [len(pacer.begun(step)) for step in (0, 1, 2, 3, 15, 16)] == [1, 1, 1, 2, 4, 5]
    pacer.take([1.0] * 24)
    assert not any(pacer.looks_at(step) for step in range(25))
    assert pacer.state_dict(6) == {"begun": [0, 2, 5], "losses": []}


def test_pacer_looks_at_multiples_of_its_steps_until_the_last_stage_begins(slowdown):
    pacer = resolve_plan(slowdown(), 256).pacer()
    assert [step for step in range(10) if pacer.looks_at(step)] == [3, 6, 9]
    losses = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.49, 0.48, 0.47, *[0.47] * 99]
    for step, loss in enumerate(losses):
        pacer.look(step, None)
        pacer.take([loss])
    # Means .9, .6, .48, .47: three falls, the last of them by less than .044.
    assert starts(pacer.stages) == [0, 12, 15, 18, 21]
    assert pacer.is_decided and not pacer.looks_at(24)
    assert starts(pacer.begun(12)) == [0] and starts(pacer.begun(13)) == [0, 12]


def test_run_goes_by_its_losses_and_is_resumed_between_looks_to_the_same_bits(
    slowdown, workdir, train_run, assert_same, log_lines
):
    whole, parts = slowdown("whole"), slowdown("parts")
    trained = train_run(whole)
    begun = starts(trained.pacer.stages)
    assert begun[:2] == [0, 9] and 12 not in begun and 2 < len(begun) < 6, begun
    assert [entry["step"] for entry in trained.stage_log] == begun
    # Goes on from step 14, between two looks, and from 21, where one is due.
    for last, saved, unseen in ((16, 14, 2), (22, 21, 3)):
        train_run(parts, stop_after=last)
        state = checkpoint.newest(parts.run_dir)
        assert (state["step"], len(state["pacing"]["losses"])) == (saved, unseen)
    resumed = train_run(parts)
    assert starts(resumed.pacer.stages) == begun
    for step in (12, 24):
        assert_same(milestone_of(whole, step), milestone_of(parts, step))
    ends = [checkpoint.load(checkpoint.checkpoint_path(c.run_dir, 24)) for c in (whole, parts)]
    assert_same(*ends)
    assert log_lines(whole.run_dir) == log_lines(parts.run_dir)
    assert {line["stage"] for line in log_lines(whole.run_dir)} <= {
        stage.config.name for stage in trained.pacer.stages
    }


def test_rows_of_a_stage_stand_at_the_step_at_which_it_began(slowdown, workdir, train_run):
    config = slowdown(workdir / "run", threshold=1e9)  # moves on at every look but the first
    trained = train_run(config)
    assert starts(trained.pacer.stages) == [0, 6, 9, 12, 15]
    study = Study("tiny", workdir, (config,), EvaluationConfig())
    plan = resolve_plan(config, 256)
    contents = [milestone_of(config, step) for step in (12, 24)]
    assert [content["begun"] for content in contents] == [[0, 6, 9], [0, 6, 9, 12, 15]]
    early, late = (Milestone(study, config, plan, "m", c, config.run_dir) for c in contents)
    assert [m.row("m", 1.0).full_range for m in (early, late)] == [False, True]
    for one, expected in ((early, {0, 6, 9}), (late, {12, 15})):
        rows = list(one.stage_rows())
        assert {row.step for row in rows if row.metric == "exposure"} == expected
        assert {row.stage for row in rows if row.step == max(expected)} == {
            one.stages[-1].config.name
        }
    # Another table, or no stage but the first, would tell another story.
    slow = Milestone(study, config, plan, "m", contents[1] | {"begun": [0]}, config.run_dir)
    row = slow.row("m", 1.0)
    assert (row.full_range, row.stage) == (False, config.curriculum[0].name)
    odd = Milestone(study, config, plan, "m", contents[1] | {"begun": [0] * 9}, config.run_dir)
    with pytest.raises(UserError, match="allowed are 1 to 5 rising steps"):
        odd.row("m", 1.0)


def test_ranks_give_their_pacers_the_same_losses():
    class Two(Ranks):
        def gather(self, values):
            return torch.stack([values, 3 * values])  # the other rank's share

    given, alone = [], []
    watch = Watch(Two(), 4, 2, CPU, torch.float32, given.extend)
    own = Watch(Ranks(), 4, 2, CPU, torch.float32, alone.extend)
    for each in (watch, own):
        for losses in ([1.0, 3.0], [5.0, 7.0]):
            each.add_losses(0, torch.tensor(losses), torch.tensor([0.1, 0.9]))
            each.end_step(torch.tensor(1.0))
        each.read(2)
        each.read(2)  # no step since: nothing is given
    assert alone == [2.0, 6.0]
    assert given == [2.0, 6.0]  # sums and counts of both ranks: (1 + 3)·4 of 2·4 images


def test_files_made_before_there_were_pacers_have_the_stages_of_their_table(
    tiny_config, slowdown, workdir, train_run
):
    config = tiny_config("cs", output="old")
    train_run(config, stop_after=16)
    state, plan = checkpoint.newest(config.run_dir), resolve_plan(config, 256)
    content = milestone_of(config, 12)
    assert content.pop("begun") == starts(plan.begun(content)) == [0, 2, 5, 9]
    path = checkpoint.checkpoint_path(config.run_dir, state["step"])
    del state["pacing"], state["format"]
    checkpoint.save(path, state)
    assert train_run(config).step == 24
    with pytest.raises(UserError, match="does not say when its stages began; start the run anew"):
        resolve_plan(slowdown(), 256).pacer().load_state_dict(None)


def test_files_keep_what_the_kind_keeps_and_are_checked_by_its_schema(slowdown, workdir, train_run):
    """Also such a kind as no other file knows: in milestones, in exported files, in states."""
    config = slowdown("run", threshold=1e9)
    stages = train_run(config).pacer.stages
    path = checkpoint.weights_path(config.run_dir, 24)
    exported.save(workdir / "x.safetensors", open_weights(path), "raw")
    for content in (checkpoint.load(path), exported.load(workdir / "x.safetensors")):
        assert len(content["falls"]) == len(stages) - 1 > 1
        assert resolve_plan(config, 256).begun(content) == stages
    state = checkpoint.load(checkpoint.checkpoint_path(config.run_dir, 24))
    for key, value in (("last", "x"), ("falls", 3), ("begun", [3])):
        wrong = {"pacing": state["pacing"] | {key: value}}
        assert f"{key} is " in _refused(checkpoint.checkpoint_path(workdir, 24), state | wrong)
        if key != "last":
            content = checkpoint.load(path) | {key: value}
            assert "is " in _refused(checkpoint.weights_path(workdir, 24), content)
    for config in ({"pacing": {"kind": "sudden"}}, {"pacing": 3}, {"pacing": {"kind": [0]}}):
        said = _refused(
            checkpoint.weights_path(workdir, 24), checkpoint.load(path) | {"config": config}
        )
        assert "allowed are fixed, patience," in said


def _refused(path, content):
    checkpoint.save(path, {key: value for key, value in content.items() if key != "format"})
    with pytest.raises(UserError) as error:
        checkpoint.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("begun", [[], [1], [0, 0], [0, 5, 4], [0, 1.0], [0, "1"], 3])
def test_file_with_stages_that_no_run_has_is_refused_in_one_line(begun, tmp_path):
    path = checkpoint.weights_path(tmp_path, 12)
    content = {"step": 12, "config": {}, "runtime": {}, "train_seconds": 1.0, "stage_log": []}
    checkpoint.save(path, content | {"weights": {}, "begun": [0, 5]})
    assert checkpoint.load(path)["begun"] == [0, 5]
    assert "begun" in _refused(path, content | {"weights": {}, "begun": begun})


def test_milestones_at_ends_that_are_not_known_are_refused(slowdown):
    config = slowdown("unused", 'training.milestones=[stages, "50%"]')
    with pytest.raises(UserError) as error:
        resolve_plan(config, 256)
    assert str(error.value) == (
        "training.milestones has 'stages', but pacing.kind slowdown finds only during the run when "
        "stages end; give steps, '25%' or '10 epochs'."
    )


def test_pacing_is_a_setting_that_old_runs_do_not_miss(slowdown, tiny_config):
    fixed, paced = tiny_config("cs", "pacing={kind: fixed}"), slowdown()
    assert "pacing" not in to_kept(fixed) and to_kept(paced)["pacing"]["threshold"] == 0.044
    assert config_hash(fixed) == config_hash(tiny_config("cs"))
    hashes = {config_hash(c) for c in (fixed, paced, slowdown(threshold=0.1))}
    assert len(hashes) == 3
    assert replace(paced, pacing=fixed.pacing) == replace(fixed, output=paced.output)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "pacing.kind=patient",
            "key 'pacing.kind' is 'patient'; allowed are fixed, patience, probe, ",
        ),
        ("pacing.tau=3", "unknown key 'pacing.tau' of fixed; it is a key of patience, probe"),
        ("pacing=fixed", "key 'pacing' is 'fixed': give a mapping"),
    ],
)
def test_mistake_in_pacing_is_one_line(word, message, tiny_config):
    with pytest.raises(UserError) as error:
        tiny_config("cs", word)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_dry_run_leaves_open_what_the_run_will_decide(slowdown, workdir):
    shown = describe(slowdown("run"))
    assert '"stage1_high_noise": [' in shown and '"stage2' in shown
    assert "null" in shown.split('"stages": {')[1].split("}")[0]
