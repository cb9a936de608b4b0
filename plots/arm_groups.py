"""Which arms share a panel: more than six lines in one are no longer told apart."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmark.rows.frames import arm_order
from benchmark.study.arm_catalogue import (
    CATALOGUE,
    CONTROLS_OF_SHORT,
    PANELS,
    SHORT,
    VARIANTS,
    by_importance,
    known_arm,
)
from benchmark.study.arm_names import BASELINE

CROWDED = 7
"""As many lines a panel holds well."""


@dataclass(frozen=True)
class Family:
    """Arms of one panel, the baseline first where the study has it."""

    title: str
    arms: tuple[str, ...]


def families(arms: Sequence[str]) -> list[Family]:
    """One family of few arms, untitled; of many arms several, each against the baseline.

    Args:
        arms: the study's, in arm order.
    """
    if len(arms) <= CROWDED:
        return [Family("", tuple(arms))]
    groups = [(title, _sharing(title, arms)) for title in PANELS]
    others = [arm for arm in arms if arm != BASELINE and not known_arm(arm).panel]
    rest = [others[start : start + CROWDED - 1] for start in range(0, len(others), CROWDED - 1)]
    groups += [("other arms", chunk) for chunk in rest]
    lead = [BASELINE] if BASELINE in arms else []
    found: list[Family] = []
    for index, (title, members) in enumerate(groups):
        # C alone is no family of controls, and no factorial where its controls are.
        shown = [set(family.arms) for family in found] + [
            set(new) for _, new in groups[index + 1 :]
        ]
        if members and not any(set(members) < other for other in shown):
            found.append(Family(title, (*lead, *members)))
    return found


def _sharing(title: str, arms: Sequence[str]) -> list[str]:
    """The arms of a panel in the catalogue's order, controls after the arm that they are of."""
    lead = [SHORT] if title == CONTROLS_OF_SHORT else []
    members = [*lead, *(arm.name for arm in CATALOGUE if _panel(arm.name, arms) == title)]
    return [arm for arm in members if arm in arms]


def _panel(arm: str, arms: Sequence[str]) -> str:
    """Title of an arm's panel: for the only variant of an arm that is not there, that arm's."""
    title, origin = known_arm(arm).panel, arm.partition("-")[0]
    variants = [name for name in arms if name.partition("-")[0] == origin]
    return known_arm(origin).panel if title == VARIANTS and variants == [arm] else title


def main_arms(arms: Sequence[str], limit: int = CROWDED) -> list[str]:
    """At most ``limit`` of the arms, in arm order: those of the question before all others."""
    chosen = set(by_importance(arms)[:limit])
    return [arm for arm in arms if arm in chosen]


def alike(frame: pd.DataFrame, columns: Sequence[str]) -> list[list[str]]:
    """The arms of a frame, those with the same values of some columns together, in arm order."""
    found: dict[bytes, list[str]] = {}
    for arm in arm_order(frame):
        own = frame[frame["arm"] == arm][list(columns)]
        found.setdefault(own.to_numpy(dtype=np.float64).tobytes(), []).append(arm)
    return list(found.values())


def listed(arms: Sequence[str], width: int) -> str:
    """Names of arms in lines of so many characters, none of them cut."""
    return textwrap.fill(", ".join(arms), width, break_on_hyphens=False, break_long_words=False)


def selection_note(shown: Sequence[str], arms: Sequence[str]) -> list[str]:
    """What to say where a figure shows some of the arms only."""
    if len(shown) == len(arms):
        return []
    return [f"{len(shown)} of {len(arms)} arms shown, all are in the tables"]
