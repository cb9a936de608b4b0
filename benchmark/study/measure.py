"""On which measure a claim is judged: a metric, the scale it is compared on, what matters there."""

from typing import Annotated, Literal, NamedTuple

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from mindiffusion.errors import UserError
from mindiffusion.outside.documents import Name

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


def smallest_effect_of(endpoint: PrimaryMetric, declared: float | None) -> float:
    """The smallest effect of interest of a measure for which this much is declared.

    Args:
        endpoint: what is measured.
        declared: the smallest effect as it stands in a file; None: none does.

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
