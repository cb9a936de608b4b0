"""What a study's file fixes beforehand about judging it: endpoint, hypotheses, gate.

All of it stands in the study's index, so that tables, figures and report follow it. A folder
without an index, or with one of an earlier version, is judged by the defaults.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from benchmark.study.hypotheses import USUAL_HYPOTHESES, Hypotheses
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import Name, shown_value

ScaleName = Literal["ratio", "plain"]
"""How two values of the primary metric are compared: by their ratio, or by their difference."""
SMALLEST_EFFECT = 0.03
"""Smallest effect of interest where a study's file declares none: 3 % of the metric."""
SmallestEffect = Annotated[float, Field(allow_inf_nan=False)]
"""What it may be depends on the scale: ``smallest_effect_of``."""


def allowed_scales(direction: str, is_positive: bool) -> tuple[ScaleName, ...]:
    """The scales on which a metric may decide, the usual one first.

    Where more is better there is no ratio. Such metrics are mostly shares of at most 1: from .98 to
    .99 is a ratio of 1 %, though half of what was missing is gone, and .97 has no 5 % more.

    Args:
        direction: which way is better, as in rows; "none" of a metric that cannot decide.
        is_positive: whether its values are above 0 whatever was measured.
    """
    if direction == "none":
        return ()
    return ("ratio", "plain") if direction == "lower" and is_positive else ("plain",)


class _Effects(NamedTuple):
    """The smallest effects that a scale may have, and the usual one, if there is one."""

    what: str
    least: float
    most: float
    usual: float | None


_EFFECTS: dict[ScaleName, _Effects] = {
    "ratio": _Effects("a share of the metric", 1e-6, 1, SMALLEST_EFFECT),
    "plain": _Effects("a difference in the metric's own unit", 1e-12, 1e12, None),
}
"""The bounds are chosen: no study measures what lies outside."""


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
    """The metric that decides, at each arm's last step, and the scale on which it does.

    Attributes:
        metric: its name in rows without the number of images, such as FD-EffNet-Lite0-64px,
            eps-MSE/L_simple or precision-Inception; empty: the FID where most cells have one, else
            another Fréchet distance.
        scale: "ratio" compares logarithms: of a metric that is above 0 and of which less is better.
            "plain" compares the values themselves, of any metric that is named.
    """

    metric: Name = ""
    scale: ScaleName = "ratio"

    def __post_init__(self) -> None:
        """Refuse the plain scale of no metric: its smallest effect would have no unit."""
        if self.scale == "plain" and not self.metric:
            raise UserError(
                "endpoint.scale is plain, but endpoint.metric names no metric; name one, or leave "
                "the scale out."
            )


@dataclass(frozen=True)
class Terms:
    """The terms by which a study is judged.

    Attributes:
        num_generated: images behind the primary metric; None: nothing is declared, and the largest
            number counts that more than half of the cells share.
        gate: how far the baseline must have come.
        endpoint: what is measured.
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
        """Refuse a claimed size that matters to nobody, or that no metric can have."""
        for one in self.hypotheses:
            is_share = self.endpoint.scale == "ratio" and one.expected == "better"
            if one.at_least is not None and not (
                self.smallest_effect < one.at_least < (1 if is_share else math.inf)
            ):
                below = ", and below 1, for no metric falls by all of it" if is_share else ""
                raise UserError(
                    f"hypothesis {shown_value(one.name)}: at_least is {one.at_least:g}; give more "
                    f"than the smallest effect, {self.smallest_effect:g}{below}."
                )

    def with_arms_named(self, names: Mapping[str, str]) -> "Terms":
        """The same terms where arms have other names: new one by old one."""
        return replace(self, hypotheses=tuple(one.renamed(names) for one in self.hypotheses))


USUAL = Terms()
"""What holds where a study's file fixes nothing."""
_IN_INDEX = ("gate", "endpoint", "hypotheses", "smallest_effect")


def smallest_effect_of(endpoint: PrimaryMetric, declared: float | None) -> float:
    """The smallest effect of interest of a study that declares this much.

    Args:
        endpoint: what is measured.
        declared: the study's own smallest effect; None: none.

    Raises:
        UserError: none where the scale has no usual one, or one that the scale cannot have.
    """
    known = _EFFECTS[endpoint.scale]
    allowed = f"{known.what}, from {known.least:g} to {known.most:g}"
    effect = known.usual if declared is None else declared
    if effect is None:
        raise UserError(
            f"smallest_effect is missing; on the {endpoint.scale} scale of {endpoint.metric} "
            f"declare {allowed}."
        )
    if not known.least <= effect <= known.most:
        raise UserError(
            f"smallest_effect is {effect:g}; on the {endpoint.scale} scale give {allowed}."
        )
    return effect


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
    return {name: whole[name] for name in _IN_INDEX}
