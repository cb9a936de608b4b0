"""What a study's file fixes beforehand about judging it: endpoint, hypotheses, gate.

All of it stands in the study's index, so that tables, figures and report follow it. A folder
without an index, or with one of an earlier version, is judged by the defaults.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from benchmark.study.hypotheses import (
    OF_OWN_METRIC,
    USUAL_HYPOTHESES,
    Hypotheses,
    Hypothesis,
)
from benchmark.study.measure import (
    SMALLEST_EFFECT,
    PrimaryMetric,
    SmallestEffect,
    smallest_effect_of,
)
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import shown_value


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
        num_generated: images behind the primary metric; None: nothing is declared, and the largest
            number counts that more than half of the cells share.
        gate: how far the baseline must have come.
        endpoint: what is measured, where a hypothesis names nothing else.
        hypotheses: what is claimed, and counted by Holm's correction.
        smallest_effect: smaller changes do not matter. On the ratio scale a share of the metric,
            in [1e-6, 1]; on the plain scale a difference in the metric's own unit.
    """

    num_generated: int | None = None
    gate: Gate = field(default_factory=Gate)
    endpoint: PrimaryMetric = field(default_factory=PrimaryMetric)
    hypotheses: Hypotheses = USUAL_HYPOTHESES
    smallest_effect: SmallestEffect = SMALLEST_EFFECT

    def __post_init__(self) -> None:
        """Refuse a measure without a smallest effect, and a size that no metric can have.

        A claimed size must be larger than the smallest effect, or it matters to nobody.
        """
        for one in self.hypotheses:
            endpoint, smallest_effect = self._measure_of(one)
            is_share = endpoint.scale == "ratio" and one.expected == "better"
            if one.at_least is not None and not (
                smallest_effect < one.at_least < (1 if is_share else math.inf)
            ):
                below = ", and below 1, for no metric falls by all of it" if is_share else ""
                raise UserError(
                    f"hypothesis {shown_value(one.name)}: at_least is {one.at_least:g}; give more "
                    f"than the smallest effect, {smallest_effect:g}{below}."
                )

    def _measure_of(self, one: Hypothesis) -> tuple[PrimaryMetric, float]:
        """What a hypothesis is judged by, and the smallest effect there."""
        own, declared = one.measure, one.smallest_effect
        if own is None:
            return self.endpoint, self.smallest_effect
        if declared is None and own.scale == self.endpoint.scale == "ratio":
            # A share can be asked of any metric.
            declared = self.smallest_effect
        try:
            return own, smallest_effect_of(own, declared)
        except UserError as error:
            raise UserError(f"hypothesis {shown_value(one.name)}: {error}") from None

    @property
    def names_metrics(self) -> bool:
        """Whether a metric is named, by the study or by a hypothesis."""
        return bool(self.endpoint.metric) or any(one.metric for one in self.hypotheses)

    @property
    def by_measure(self) -> tuple["Terms", ...]:
        """The same terms measure by measure, each with the hypotheses about it.

        The first are those of the endpoint, with whatever hypotheses; each of the others has a
        measure that hypotheses name as their own for its endpoint.
        """
        first = self.endpoint, self.smallest_effect
        parts: dict[tuple[PrimaryMetric, float], list[Hypothesis]] = {first: []}
        for one in self.hypotheses:
            parts.setdefault(self._measure_of(one), []).append(one)
        return tuple(
            replace(self, endpoint=endpoint, smallest_effect=smallest, hypotheses=tuple(asked))
            for (endpoint, smallest), asked in parts.items()
        )

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
    if terms.endpoint.scale == USUAL.endpoint.scale:
        # Studies had no scale once; what they declared then has the same fingerprint now.
        del whole["endpoint"]["scale"]
    for hypothesis in whole["hypotheses"]:
        # Nor did hypotheses claim a size.
        if hypothesis["at_least"] is None:
            del hypothesis["at_least"]
        # Nor did they name a metric of their own.
        if not hypothesis["metric"]:
            for name in OF_OWN_METRIC:
                del hypothesis[name]
    return {name: whole[name] for name in _IN_INDEX}
