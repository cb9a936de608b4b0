"""What a study's file fixes beforehand about judging it: endpoint, hypotheses, gate.

All of it stands in the study's index, so that tables, figures and report follow it. A folder
without an index, or with one of an earlier version, is judged by the defaults.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from benchmark.study.hypotheses import USUAL_HYPOTHESES, Hypotheses
from mindiffusion.outside.documents import Name

SMALLEST_EFFECT = 0.03
"""Smallest effect of interest where a study's file declares none: 3 % of the metric."""
SmallestEffect = Annotated[float, Field(ge=1e-6, le=1)]
"""Share of the metric. The bound is chosen: no study measures a smaller one."""


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


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class PrimaryMetric:
    """The metric whose logarithm at each arm's last step decides.

    Attributes:
        metric: its name in rows without the number of images, a Fréchet distance or a summary of
            the held-out ε-MSE, such as FD-EffNet-Lite0-64px or eps-MSE/L_simple; empty: the FID
            where most cells have one, else another Fréchet distance.
    """

    metric: Name = ""


@dataclass(frozen=True)
class Terms:
    """The terms by which a study is judged.

    Attributes:
        num_generated: images behind the primary metric; None: nothing is declared, and the largest
            number counts that more than half of the cells share.
        gate: how far the baseline must have come.
        endpoint: what is measured.
        hypotheses: what is claimed, and counted by Holm's correction.
        smallest_effect: share of the metric, in [1e-6, 1]; smaller changes do not matter.
    """

    num_generated: int | None = None
    gate: Gate = field(default_factory=Gate)
    endpoint: PrimaryMetric = field(default_factory=PrimaryMetric)
    hypotheses: Hypotheses = USUAL_HYPOTHESES
    smallest_effect: SmallestEffect = SMALLEST_EFFECT

    @property
    def margin(self) -> float:
        """The smallest effect of interest as a log ratio, > 0."""
        return math.log1p(self.smallest_effect)

    def with_arms_named(self, names: Mapping[str, str]) -> "Terms":
        """The same terms where arms have other names: new one by old one."""
        return replace(self, hypotheses=tuple(one.renamed(names) for one in self.hypotheses))


USUAL = Terms()
"""What holds where a study's file fixes nothing."""
_IN_INDEX = ("gate", "endpoint", "hypotheses", "smallest_effect")


def terms_of(index: Mapping[str, Any]) -> Terms:
    """The terms in a study's index, as ``benchmark.study.index.read_index`` returns it."""
    told = {name: index[name] for name in _IN_INDEX if index.get(name) is not None}
    told["num_generated"] = index.get("evaluation", {}).get("num_generated")
    # As JSON, for in Python strict types take no mapping.
    return TypeAdapter(Terms).validate_json(json.dumps(told))


def written_terms(terms: Terms) -> dict[str, Any]:
    """The terms as a study's index holds them, but for what stands under its evaluation."""
    whole = asdict(terms)
    return {name: whole[name] for name in _IN_INDEX}
