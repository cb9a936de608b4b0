"""The optimizer of a run, and its learning rate as a pure function of the step."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mindiffusion.config.optimizer import AdamWConfig
from mindiffusion.config.run import TrainingConfig


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


def lr_at(training: TrainingConfig, step: int) -> float:
    """Learning rate of ``step``, from 0: in warm-up (step + 1)/warm_up_steps of ``lr``."""
    return training.lr * min(1.0, (step + 1) / max(1, training.optimizer.warm_up_steps))
