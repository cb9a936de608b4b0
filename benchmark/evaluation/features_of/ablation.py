"""Channels switched off again: those born in one stage, and as many that are chosen at random.

A unit that is off here is what it is while the mask has it off in training: multiplied by 0 where
the mask acts. Units that are off anyway stay off.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mindiffusion.network import Births
from mindiffusion.noise import Stream, random_bits


@dataclass(frozen=True, eq=False)
class Ablation:
    """Sets of units that stay on while others are off.

    Attributes:
        count: how many are off.
        own: (C,) bool, all that are on but those of the stage.
        random: as many sets again, each (C,) bool, all that are on but ``count`` of the other
            stages; of all stages where the others have too few.
    """

    count: int
    own: Tensor
    random: tuple[Tensor, ...]


def ablations(births: Births, seed: int, draws: int) -> Mapping[int, Ablation]:
    """What is switched off, stage → units; none unless units were born in two stages or more.

    Args:
        births: of a network.
        seed: of the run, key of the random sets. Stages with as many units share no set.
        draws: random sets of each stage.
    """
    stages = sorted(set(births.stage[births.stage >= 0].tolist()))
    if len(stages) < 2:
        return {}
    return {stage: _of_stage(births.stage, stage, seed, draws) for stage in stages}


def _of_stage(born: Tensor, stage: int, seed: int, draws: int) -> Ablation:
    is_on, of_stage = born >= 0, born == stage
    count, others = int(of_stage.sum()), is_on & ~of_stage
    # Sets that hold some of the stage's own units would show a part of the stage's own effect.
    among = others if int(others.sum()) >= count else is_on
    random = tuple(
        is_on & ~chosen_at_random(among, count, seed, stage * draws + draw) for draw in range(draws)
    )
    return Ablation(count, others, random)


def chosen_at_random(among: Tensor, count: int, seed: int, draw: int) -> Tensor:
    """``count`` of the units that are true in ``among`` (C,) bool: a function of (seed, draw)."""
    index = torch.arange(len(among))
    keys = random_bits(seed, Stream.ABLATION, index, draw, 1)[:, 0]
    order = torch.argsort(keys.masked_fill(~among, torch.iinfo(keys.dtype).max), stable=True)
    chosen = torch.zeros_like(among)
    chosen[order[:count]] = True
    return chosen
