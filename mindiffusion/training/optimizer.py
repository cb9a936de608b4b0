"""The optimizer of a run, and its learning rate as a pure function of the step."""

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from mindiffusion.config.optimizer import AdamWConfig
from mindiffusion.config.run import TrainingConfig
from mindiffusion.config.shares import warm_up_of
from mindiffusion.network import Network


def make_optimizer(
    parameters: Iterable[Tensor], training: TrainingConfig, *, fused: bool
) -> torch.optim.Optimizer:
    """The optimizer that a config names.

    Args:
        parameters: what it changes.
        training: its settings, and ``lr``.
        fused: one kernel for all weights; not for float64.
    """
    settings = training.optimizer
    if isinstance(settings, AdamWConfig):
        return torch.optim.AdamW(
            parameters,
            lr=training.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=fused,
        )
    return torch.optim.Adam(parameters, lr=training.lr, betas=settings.betas, fused=fused)


def lr_at(training: TrainingConfig, step: int, total_steps: int) -> float:
    """Learning rate of ``step``, from 0: in a warm-up of w steps (step + 1)/w of ``lr``."""
    warm_up = warm_up_of(training.optimizer.warm_up_steps, total_steps)
    return training.lr * min(1.0, (step + 1) / max(1, warm_up))


@contextlib.contextmanager
def frozen_kept(network: Network) -> Iterator[None]:
    """A context that leaves the frozen entries of a network's weights with the bits they had.

    Weight decay changes what has no gradient, and Adam's averages go on where there was one. Here
    entries are put back: no optimizer has to know, and no step waits for the device.
    """
    frozen = {network.get_parameter(name): where for name, where in network.frozen().items()}
    before = {parameter: parameter.detach().clone() for parameter in frozen}
    yield
    with torch.no_grad():
        for parameter, where in frozen.items():
            parameter.copy_(torch.where(where, before[parameter], parameter))
