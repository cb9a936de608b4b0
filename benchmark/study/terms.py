"""What a study's file fixes beforehand about judging it: how many images count, and the gate.

Both stand in the study's index, so that tables, figures and report follow them. A folder without an
index, or with one of an earlier version, is judged by the defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Gate:
    """How far the baseline must have come before a study may answer: docs/statistics.md.

    Attributes:
        oracle_ratio: B's held-out ε-MSE over that of the best linear denoiser, as a geometric mean
            over the noise levels, is at most this. A linear filter has 1.
        below_mean: share of the noise levels at which B's held-out ε-MSE is below that of always
            answering with the mean picture, at least.
    """

    oracle_ratio: float = Field(default=0.98, gt=0, le=1e6)
    below_mean: float = Field(default=0.9, ge=0, le=1)


@dataclass(frozen=True)
class Terms:
    """The terms by which a study is judged.

    Attributes:
        num_generated: images behind the primary distance; None: nothing is declared, and the
            largest number counts that more than half of the cells share.
        gate: how far the baseline must have come.
    """

    num_generated: int | None = None
    gate: Gate = field(default_factory=Gate)


USUAL = Terms()
"""What holds where a study's file fixes nothing."""


def terms_of(index: Mapping[str, Any]) -> Terms:
    """The terms in a study's index, as ``benchmark.study.index.read_index`` returns it."""
    gate = index.get("gate")
    return Terms(
        num_generated=index.get("evaluation", {}).get("num_generated"),
        gate=Gate() if gate is None else Gate(**gate),
    )
