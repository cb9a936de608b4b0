"""The optimizer that a config names, and its learning rate."""

import contextlib
import json

import pytest
import torch
from torch import nn

from mindiffusion.build import build_network
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.run import config_hash, to_kept
from mindiffusion.errors import UserError
from mindiffusion.network import Network
from mindiffusion.runtime import resolve_runtime
from mindiffusion.sampling import primary_weights
from mindiffusion.training import checkpoint
from mindiffusion.training.optimizer import frozen_kept, lr_at, make_optimizer
from mindiffusion.training.preflight import notes
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.trainer import Trainer

ADAMW = "training.optimizer={name: adamw, betas: [0.8, 0.95], weight_decay: 0.1}"


def weights():
    return [torch.linspace(-1, 1, 12).view(3, 4).requires_grad_() for _ in range(2)]


def descend(optimizer, parameters, steps=5):
    for step in range(steps):
        for number, parameter in enumerate(parameters):
            parameter.grad = torch.cos(parameter.detach() * (step + number + 1))
        optimizer.step()
    return torch.stack([parameter.detach() for parameter in parameters])


def test_default_is_adam_and_adamw_is_torchs_own(tiny_config):
    plain, decayed = tiny_config("b").training, tiny_config("b", ADAMW).training
    settings = {"lr": 1e-3, "fused": True}
    pairs = [
        (plain, torch.optim.Adam, settings),
        (decayed, torch.optim.AdamW, settings | {"betas": (0.8, 0.95), "weight_decay": 0.1}),
    ]
    ends = []
    for training, kind, expected in pairs:
        ours, theirs = weights(), weights()
        end = descend(make_optimizer(ours, training, fused=True), ours)
        assert torch.equal(end, descend(kind(theirs, **expected), theirs))
        ends.append(end)
    assert not torch.equal(*ends)


def test_warm_up_rises_evenly_to_the_rate_and_stays(tiny_config):
    training = tiny_config("b", "training.optimizer.warm_up_steps=4").training
    assert [lr_at(training, step, 100) for step in (0, 1, 2, 3, 4, 99)] == pytest.approx(
        [0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3]
    )
    share = tiny_config("b", "training.optimizer.warm_up_steps=4%").training
    assert all(lr_at(share, step, 100) == lr_at(training, step, 100) for step in range(6))
    plain = tiny_config("b").training
    assert {lr_at(plain, step, 100) for step in range(5)} == {plain.lr}


def test_first_step_moves_weights_by_the_rate_of_the_warm_up(tiny_config, avatars):
    moved = []
    for words in ((), ("training.optimizer.warm_up_steps=4",)):
        config = tiny_config("b", *words)
        trainer = Trainer(
            config, resolve_runtime(config, 1), Ranks(), torch.device("cpu"), avatars.training
        )
        before = [p.detach().clone() for p in trainer.network.parameters()]
        trainer.enter_stage(trainer.pacer.stages[0])
        trainer.train_step()
        after = [p.detach() for p in trainer.network.parameters()]
        moved.append(max(float((p - b).abs().max()) for p, b in zip(after, before, strict=True)))
    # Adam's first step is lr for every weight with a gradient that is not tiny.
    assert moved == pytest.approx([1e-3, 0.25e-3], rel=1e-2)


@pytest.mark.parametrize(
    "words",
    [
        ("training.optimizer.warm_up_steps=12",),
        ("training.optimizer.warm_up_steps=50%", "training.ema_decays=[25%, 0.9]"),
    ],
    ids=["steps", "shares"],
)
def test_run_is_resumed_in_its_warm_up_to_the_same_bits(
    words, tiny_config, workdir, train_run, assert_same
):
    words = (ADAMW, *words)
    whole, parts = (tiny_config("b", *words, output=name) for name in ("whole", "parts"))
    trained = train_run(whole)
    assert isinstance(trained.optimizer, torch.optim.AdamW)
    train_run(parts, stop_after=10)
    train_run(parts)
    assert_same(
        *(checkpoint.load(checkpoint.checkpoint_path(c.run_dir, 24)) for c in (whole, parts))
    )


def test_optimizer_is_a_setting_that_old_runs_do_not_miss(tiny_config):
    plain, said = tiny_config("b"), tiny_config("b", "training.optimizer={name: adam}")
    assert "optimizer" not in to_kept(plain)["training"]
    assert config_hash(said) == config_hash(plain)
    words = (
        ADAMW, "training.optimizer.betas=[0.9, 0.99]", "training.optimizer.warm_up_steps=1",
        "training.optimizer={name: adamw}",
    )  # fmt: skip
    hashes = {config_hash(tiny_config("b", word)) for word in words} | {config_hash(plain)}
    assert len(hashes) == 5


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("name=sgd", "key 'training.optimizer.name' is 'sgd'; allowed are adam, adamw."),
        (
            "weight_decay=0.1",
            "unknown key 'training.optimizer.weight_decay' of adam; it is a key of adamw. "
            "Take it out, or give another name.",
        ),
        ("betas=[0.9, 1.0]", "key 'training.optimizer.betas.1' is 1.0: input should be less"),
        ("warm_up_steps=-1", "key 'training.optimizer.warm_up_steps' is -1: input should be"),
        ("warm_up_steps=120%", "key 'training.optimizer.warm_up_steps' is '120%': input should be"),
        ("warm_up_steps=25", "warm_up_steps is 25, but the run has 24 steps"),
    ],
)
def test_mistake_in_the_optimizer_is_one_line(word, message, tiny_config):
    with pytest.raises(UserError) as error:
        resolve_plan(tiny_config("b", f"training.optimizer.{word}"), 256)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_shares_become_is_told_beforehand_and_kept(tiny_config, workdir, train_run):
    words = ("training.optimizer.warm_up_steps=50%", "training.ema_decays=[25%, 0.9]")
    config = tiny_config("b", *words)
    assert notes(config, 256) == [
        "training.optimizer.warm_up_steps 50% is 12 steps.",
        "training.ema_decays 25% is a decay of 0.890899 (ema-half0.25).",
    ]
    assert notes(tiny_config("b"), 256) == []
    train_run(config, stop_after=2)
    plan = json.loads((config.run_dir / "config.json").read_text())["plan"]
    assert plan["warm_up_steps"] == 12
    assert plan["ema_decays"] == {"ema-half0.25": pytest.approx(0.5 ** (1 / 6)), "ema0.9": 0.9}
    train_run(config)
    weights = checkpoint.load(checkpoint.weights_path(config.run_dir, 24))["weights"]
    assert list(weights) == ["ema-half0.25", "ema0.9", "raw"]
    assert primary_weights(config) == "ema-half0.25"


class Halves(Network):
    """Rows of the first matrix are frozen, columns of the second, nothing of the third."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = map(nn.Parameter, [*weights(), *weights()][:3])

    def frozen(self):
        rows = torch.tensor([True, False, True])[:, None]
        return {"first": rows, "second": torch.tensor([False, True, True, False])}


@pytest.mark.parametrize("how", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_step_leaves_frozen_entries_and_changes_the_others_as_ever(how):
    network, plain = Halves(), Halves()
    start = [parameter.detach().clone() for parameter in plain.parameters()]
    for net in (network, plain):
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.1, **how)
        for step in range(5):
            for number, parameter in enumerate(net.parameters()):
                parameter.grad = torch.cos(start[number] * (step + number + 1))
            with frozen_kept(net) if net is network else contextlib.nullcontext():
                optimizer.step()
    where = [*network.frozen().values(), torch.tensor(False)]
    for parts in zip(network.parameters(), plain.parameters(), start, where, strict=True):
        own, other, first, frozen = parts
        assert torch.equal(own, torch.where(frozen, first, other))
        assert (other != first).all()


PATCHES = "model={network: sparse_uvit, patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2}"
FREEZING = pytest.mark.parametrize(
    "words",
    [
        ("model.placement=silent",),
        ("model.placement=down1",),
        (PATCHES,),
        (PATCHES, "model.placement=stream"),
    ],
    ids=["silent", "down1", "patch", "stream"],
)


@FREEZING
def test_decay_leaves_what_has_never_been_on_also_where_a_run_goes_on(
    words, tiny_config, workdir, train_run, assert_same
):
    whole, parts = (tiny_config("cs", *words, ADAMW, output=name) for name in ("whole", "parts"))
    cut = train_run(parts, stop_after=10)  # in the fourth of five stages
    frozen = cut.network.frozen()
    initial, now = build_network(parts).state_dict(), cut.network.state_dict()
    average = cut.averages.weights(0.99)
    assert frozen
    for name, where in frozen.items():
        rows = where.expand_as(now[name])
        assert rows.any() and torch.equal(now[name][rows], initial[name][rows]), name
        assert torch.equal(average[name][rows], initial[name][rows]), name
        assert (now[name][~rows] != initial[name][~rows]).any(), name
    train_run(parts)
    train_run(whole)
    assert_same(
        *(checkpoint.load(checkpoint.checkpoint_path(c.run_dir, 24)) for c in (whole, parts))
    )
