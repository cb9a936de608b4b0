"""Did the manipulation act? An arm with a mask tests masks only if what it holds back matters.

Rows say which of two questions was asked. Lifting the mask asks it where every unit is trained
before it is switched off. Where units stay at their small initial weights until they come on,
lifting changes nothing whatever the mask does; there the units that came on later are switched off
again: if nothing changes, the room that the mask kept was never used.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from benchmark.analysis.log_ratios import quotient
from benchmark.rows.frames import curriculum_frame
from benchmark.rows.metric_names import BIRTH_EFFECT, EPS_MSE, MASK_EFFECT

# Share of the arm's own ε-MSE by which lifting the mask must change it somewhere (docs/methods.md,
# Manipulation check).
MANIPULATION_MINIMUM = 0.01
_DEEDS = {MASK_EFFECT: "Lifting the mask", BIRTH_EFFECT: "Switching off the later units"}
"""What was done to see an effect, by the rows that tell it; an arm has one of them."""


@dataclass(frozen=True)
class MaskEffect:
    """The largest effect of an arm's mask: (ε-MSE changed − as it is) / the arm's own ε-MSE.

    It is changed by lifting the mask, or by switching off the units that came on later.

    Its own is that under the mask, or of a network that lifts the mask outside training that of
    the lifted one.

    A mean over ``seeds`` training seeds, signed, at noise time ``level`` and ``step``.
    """

    metric: str
    arm: str
    relative: float
    level: float
    step: int
    seeds: int

    @property
    def passed(self) -> bool:
        """Whether the mask does enough for the arm to be a test of it."""
        return abs(self.relative) >= MANIPULATION_MINIMUM

    @property
    def deed(self) -> str:
        """What was done to see the effect, as the beginning of a sentence."""
        return _DEEDS[self.metric]


_FIELDS = tuple(field.name for field in dataclasses.fields(MaskEffect))


def mask_effects(frame: pd.DataFrame) -> dict[str, MaskEffect]:
    """The largest relative effect of each arm's mask over milestones and trained noise levels.

    Levels that an arm has not been trained on by a milestone are left out: what a mask does to an
    untrained network says nothing. Milestones without a mask have an effect of exactly 0.

    Args:
        frame: the frame of a study's rows.

    Returns:
        An entry for every arm with ``mask-effect`` or ``birth-effect`` rows, ε-MSE rows and stages.
    """
    cell = ["arm", "seed", "sampling_seed", "step", "level", "weights", "n_reference"]
    effect = frame.loc[frame["metric"].isin(_DEEDS), ["metric", *cell, "value"]]
    mse = frame.loc[frame["metric"] == EPS_MSE, [*cell, "value"]]
    both = _trained(effect.merge(mse, on=cell, suffixes=("", "_mse")), frame)
    both = both.assign(relative=quotient(both["value"], both["value_mse"]))
    both = both.dropna(subset="relative")
    mean = both.groupby(["arm", "metric", "step", "level"], as_index=False).agg(
        relative=("relative", "mean"), seeds=("seed", "nunique")
    )
    # Of equal ones the first, which is at the lowest step and level.
    largest = mean.loc[mean["relative"].abs().groupby(mean["arm"]).idxmax()]
    effects = (
        MaskEffect(*values)
        for values in zip(*(largest[name].tolist() for name in _FIELDS), strict=True)
    )
    return {effect.arm: effect for effect in effects}


def known_masks(frame: pd.DataFrame) -> dict[str, MaskEffect | None]:
    """Every arm with a channel mask, and what is known of it; None where no row says.

    An arm has one where rows tell its effect, or the number of its active channels changes between
    stages.

    Args:
        frame: the frame of a study's rows.
    """
    channels = curriculum_frame(frame).groupby("arm")["active_channels"]
    changing = channels.max()[channels.max() > channels.min()].index
    told = frame.loc[frame["metric"].isin(_DEEDS), "arm"]
    effects = mask_effects(frame)
    return {arm: effects.get(arm) for arm in sorted({*changing, *told})}


def why_inert(arms: Sequence[str], masks: Mapping[str, MaskEffect | None]) -> str:
    """Why a claim with a mask in one of its arms says nothing here; empty if it may.

    Args:
        arms: of the claim.
        masks: of ``known_masks``.
    """
    least = f"{MANIPULATION_MINIMUM:.0%}".replace("%", " %")
    for arm in arms:
        if arm not in masks:
            continue
        effect = masks[arm]
        if effect is None:
            return f"No row says what the mask of {arm} does at noise levels it was trained on."
        if not effect.passed:
            return (
                f"{effect.deed} of {arm} changes its ε-MSE by {100 * effect.relative:.2g} % "
                f"at most, less than {least}: a mask that does nothing tests nothing."
            )
    return ""


def _trained(rows: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """The profile rows at levels that a stage begun before their step trains."""
    stages = curriculum_frame(frame)[["arm", "seed", "from_step", "t_min", "t_max"]]
    keyed = rows.reset_index(names="row").merge(stages, on=["arm", "seed"])
    begun = keyed["from_step"] < keyed["step"]
    inside = keyed["level"].between(keyed["t_min"], keyed["t_max"])
    return rows.loc[sorted(set(keyed.loc[begun & inside, "row"]))]
