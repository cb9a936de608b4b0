"""What every network offers: training, sampling and scoring know a network by this class alone.

A network describes its own capacity: what a stage changes, what is switched off, which weights
show whether that matters. What a network does not override, it does not have.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mindiffusion.errors import UserError
from mindiffusion.process import Level, Process
from mindiffusion.text.table import TextTable


@dataclass(frozen=True)
class StageCapacity:
    """What a stage asks of a network's capacity.

    Attributes:
        index: position of the stage, from 0.
        sparsity: fraction of the units under a mask that is switched off, in [0, 1).
        penalty_lambda: weight of the penalty, ≥ 0.
        seed: the run's seed, for keyed permutations and ties.
    """

    index: int
    sparsity: float
    penalty_lambda: float
    seed: int


@dataclass(frozen=True)
class ProbeBatch:
    """Noisy images with their noise, drawn in the new stage's window.

    Attributes:
        x_t: (B, C, H, W), noisy images.
        level: their noise levels.
        noise: (B, C, H, W), the noise to predict.
        process: reads the network's answer.
        condition: what the images show, one entry for each, or None.
    """

    x_t: Tensor
    level: Level
    noise: Tensor
    process: Process
    condition: Tensor | None = None


class Probe(Protocol):
    """Gives batches of the new stage to look at before it begins; the same ones on every rank."""

    def __call__(self, num_batches: int, batch_size: int) -> Iterator[ProbeBatch]:
        """``num_batches`` batches of ``batch_size`` images, at most a step's; drawn when asked."""


@dataclass(frozen=True, eq=False)
class Mask:
    """What a network has switched off, and how to see whether that matters.

    Attributes:
        place: where the mask acts, as rows name it, such as "bottleneck".
        is_on: (C,) bool on the CPU, one entry for each unit under the mask.
        lifted: a context in which all units are on; after it the mask is as before.
        weights: place → name of a tensor of the state dict that has the units along its first axis.
            The manipulation check asks how far these weights moved.
        imposed: a context in which the mask acts as in training, for a network that lifts it
            outside training; None: it acts there too.
    """

    place: str
    is_on: Tensor
    lifted: Callable[[], AbstractContextManager[None]]
    weights: Mapping[str, str]
    imposed: Callable[[], AbstractContextManager[None]] | None = None

    @property
    def share_off(self) -> float:
        """Share of the units that are off, in [0, 1]."""
        return float((~self.is_on).double().mean())


@dataclass(frozen=True, eq=False)
class Births:
    """In which stage each unit under a mask was switched on, and how to switch some off again.

    Attributes:
        stage: (C,) int64 on the CPU, positions of stages from 0; −1 for a unit that is off.
        held: (C,) bool → a context in which exactly these units are on, in eval mode too; after it
            the mask is as before.
    """

    stage: Tensor
    held: Callable[[Tensor], AbstractContextManager[None]]


class Network(nn.Module):
    """A network that predicts from noisy images.

    It can be built under ``torch.device("meta")``, where only names, shapes and counts are wanted.

    Attributes:
        exact_ends: whether the first and the last block stay in float32 under autocast. Samplers in
            bf16 set it: at high noise they magnify the rounding of ε up to 1/√ᾱ times (157 at
            t = 1). A network without such blocks ignores it.
    """

    exact_ends: bool = False

    def forward(self, x: Tensor, told: Tensor, condition: Tensor | None = None) -> Tensor:
        """Predict from noisy images.

        A network whose config says ``takes_augment_labels`` also has the argument
        ``augment_labels``, (B, 9): how the images were augmented; None: not at all.

        Args:
            x: (B, C, H, W), noisy images.
            told: (B,), what the network is told of their noise levels.
            condition: what the images show, one entry for each: a class, or the number of a
                caption of ``read_texts``; None: nothing is said of it.

        Returns:
            (B, C, H, W); of a network that learns the variance too (B, 2C, H, W), where the last C
            channels say it.
        """
        raise NotImplementedError

    def read_texts(self, table: TextTable) -> None:
        """Take what numbers of captions stand for from now on; no part of the weights.

        Call it when the network is on its device.

        Raises:
            UserError: a network without text, or a table of other sizes than it was built for.
        """
        raise UserError(
            f"this {type(self).__name__} reads no text; give captions to a network with model.text."
        )

    def _end(self, x: Tensor) -> AbstractContextManager[Any]:
        """The context of the first and the last block, if it has such."""
        return without_autocast(x) if self.exact_ends else nullcontext()

    def enter_stage(self, capacity: StageCapacity, probe: Probe) -> dict[str, Any]:
        """Take over a stage's capacity; doing so again changes nothing.

        Returns:
            What happened, for the log.
        """
        return {}

    def penalty(self) -> Tensor | None:
        """A scalar that is added to the loss, or None."""
        return None

    def capacity_report(self) -> dict[str, float]:
        """Numbers that describe the capacity in use, for logs; the same keys at every stage.

        Rows take over ``active_channels`` (units switched on) and ``penalty_lambda``.
        """
        return {}

    def mask(self) -> Mask | None:
        """What is switched off, or None if nothing can be."""
        return None

    def births(self, sparsities: Sequence[float]) -> Births | None:
        """When the units under the mask were switched on, or None if there is no mask.

        Args:
            sparsities: of the stages that the network has entered, in order.
        """
        return None

    def frozen(self) -> dict[str, Tensor]:
        """Entries of weights that keep their value in this stage, by name of the parameter.

        Their gradient is 0, and an optimizer's step leaves them alone, whatever its weight decay.

        Returns:
            Name → bool, True where frozen; on the parameter's device, of a shape that broadcasts
            to the parameter's. Parameters that never have one are left out.
        """
        return {}

    def group_norms(self) -> dict[str, Tensor] | None:
        """L2 norms of the weight groups that the penalty acts on, block → (groups,); or None."""
        return None


def check_side(images: Tensor, side: int, title: str) -> None:
    """Raise UserError unless images (B, C, H, W) have the side that a network was built for."""
    if tuple(images.shape[2:]) != (side, side):
        found = "×".join(map(str, images.shape[2:]))
        raise UserError(
            f"this {title} was built for images of {side}×{side} pixels, but got {found}."
        )


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """A context in which the device of ``x`` computes in the dtype of the weights."""
    if x.is_meta:  # where only shapes are wanted, and torch has no autocast
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)
