"""One step: its gradient, its limit, and what it leaves to be read."""

import pytest
import torch

from mindiffusion.curriculum_ddpm import CurriculumDDPM
from mindiffusion.runtime import resolve_runtime
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.trainer import Trainer


@pytest.fixture
def trainer(avatars, tiny_config):
    """A function: words → a tiny trainer in float64, before its first step."""

    def make(arm="c", *words):
        config = tiny_config(arm, "training.precision=fp64", *words)
        made = Trainer(
            config, resolve_runtime(config, 1), Ranks(), torch.device("cpu"), avatars.training
        )
        made.enter_stage(made.pacer.stages[0])
        return made

    return make


def gradient_norm(made, monkeypatch):
    """Norm of the gradient that the optimizer gets in one step."""
    seen = []
    step = made.optimizer.step

    def look():
        grads = [p.grad.flatten() for p in made.network.parameters() if p.grad is not None]
        seen.append(float(torch.cat(grads).norm()))
        step()

    monkeypatch.setattr(made.optimizer, "step", look)
    made.train_step()
    return seen[0]


def test_clip_grad_norm_scales_the_gradient_down_to_its_limit(trainer, monkeypatch):
    free = trainer()
    norm = gradient_norm(free, monkeypatch)
    free.watch.read(1)
    assert free.watch.entry()["grad_norm"] == pytest.approx(norm, rel=1e-12)
    limit = norm / 3
    clipped = trainer("c", f"training.clip_grad_norm={limit}")
    assert gradient_norm(clipped, monkeypatch) == pytest.approx(limit, rel=1e-5)
    # The log shows the norm before it was clipped.
    clipped.watch.read(1)
    assert clipped.watch.entry()["grad_norm"] == pytest.approx(norm, rel=1e-12)


def test_clip_grad_norm_above_the_norm_changes_nothing(trainer):
    ends = []
    for words in ((), ("training.clip_grad_norm=1.0e+9",)):
        made = trainer("c", *words)
        made.train_step()
        ends.append(made.network.state_dict())
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name


def test_losses_read_are_those_of_the_batch(trainer):
    made = trainer("c", "training.micro_batch=3")
    batch = made.source.batch(0, 0, 8)
    with torch.no_grad():
        # As whoever uses the library by itself computes them.
        chain = made.process.chain
        alone = CurriculumDDPM(made.network, chain.betas, chain.n_T, made.process)
        alone.set_density(made.density)
        losses = alone.per_sample_loss(batch.images, batch.u, batch.noise)
        times = alone.noise_times(batch.u)
    made.train_step()
    assert made.watch.read(1) is None
    entry = made.watch.entry()
    assert entry["loss"] == pytest.approx(float(losses.mean()), rel=1e-10)
    top = losses[times > 0.75]
    assert entry["loss_by_t"][:3] == [None, None, None]  # the first stage has t from .8
    assert entry["loss_by_t"][3] == pytest.approx(float(top.mean()), rel=1e-10)


def test_the_penalty_is_no_part_of_the_loss_read(trainer):
    words = ("curriculum=[{name: all, weight: 1, penalty_lambda: 10.0}]",)
    losses = []
    for arm in ("cr", "c"):
        made = trainer(arm, *words)
        made.train_step()
        made.watch.read(1)
        losses.append(made.watch.entry()["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


@pytest.mark.parametrize("place", ["weights", "averages"])
def test_is_finite_sees_every_weight_and_average(place, trainer):
    made = trainer()
    assert made.is_finite()
    tensors = {"weights": made.network.parameters(), "averages": made.averages.tensors()}
    with torch.no_grad():
        list(tensors[place])[-1].view(-1)[-1] = torch.inf
    assert not made.is_finite()


def test_numbers_below_the_smallest_normal_one_count_as_none_within_a_step(trainer, monkeypatch):
    """A penalty drives weights there, and CPUs take many times as long over them."""
    is_able = torch.set_flush_denormal(True)
    torch.set_flush_denormal(False)
    if not is_able:
        pytest.skip("this CPU cannot flush denormal numbers")
    tiny, half = torch.tensor([1e-39]), torch.tensor([0.5])
    made, seen = trainer("cr"), []
    penalty = made.network.penalty

    def noted():
        seen.append(float(tiny * half))
        return penalty()

    monkeypatch.setattr(made.network, "penalty", noted)
    made.train_step()
    assert seen == [0.0] and float(tiny * half) > 0
