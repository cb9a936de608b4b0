"""Which class a drawn image shows: a function of its index, so image k is the same in any chunk."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from mindiffusion.data.classes import Classes

_Of = Callable[[Tensor], Tensor]
"""Image indices (B,) int64 → their classes (B,) int64, on their device."""
_GOLDEN = 0x9E3779B9
"""2³² over the golden ratio: its multiples modulo 2³² are even in every part of the sequence."""


def class_conditions(classes: Classes, how: str) -> _Of:
    """Classes of images that are drawn to be scored.

    Args:
        classes: those that the network knows; what no training image shows is never drawn.
        how: ``sampler.classes``. "balanced": in turn. "shares": by the training images' counts.
            Image k has u = k/φ modulo 1, and the class whose part of [0, 1) u lies in; parts are as
            long as shares. So any run of n images has n times its share of a class, up to a few
            images (a Kronecker sequence; Niederreiter 1992, "Random number generation", chapter 3).
    """
    return _balanced(classes) if how == "balanced" else _by_shares(classes)


def _balanced(classes: Classes) -> _Of:
    return lambda index: _table(classes.shown, index)[index % len(classes.shown)]


def _by_shares(classes: Classes) -> _Of:
    total = sum(classes.counts)
    ends = tuple((1 << 32) * end // total for end in itertools.accumulate(classes.counts))

    def of(index: Tensor) -> Tensor:
        # Whole numbers, so the same on every device; products wrap modulo 2⁶⁴.
        place = (index * _GOLDEN) & 0xFFFFFFFF
        return torch.searchsorted(_table(ends, index), place, right=True)

    return of


def one_class(number: int) -> _Of:
    """The same class for all images."""
    return lambda index: torch.full_like(index, number)


def a_class_a_row(classes: Classes, columns: int) -> _Of:
    """Classes of a picture: each row shows one class, all of them in turn."""
    return lambda index: _table(classes.shown, index)[index // columns % len(classes.shown)]


def _table(values: tuple[int, ...], index: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=index.device)
