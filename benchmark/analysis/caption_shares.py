"""Rows of how far pictures obey their captions: kinds of shares, and what they are about."""

from typing import NamedTuple

import pandas as pd

from benchmark.rows.metric_names import (
    FAITHFUL,
    FAITHFUL_CHANCE,
    FAITHFUL_REAL,
    FLIP,
    FLIP_AMPLITUDE,
    FLIP_CHANCE,
    FLIP_KEPT,
    FLIP_KEPT_CHANCE,
    FLIP_KEPT_REAL,
    FLIP_REAL,
    base_name,
)

ALL = "all"
"""All features together."""


class Share(NamedTuple):
    """A kind of share, by the names of its rows' metrics.

    Attributes:
        own: of the pictures of a network.
        chance: what pictures have that do not know the prompt.
        real: what real portraits have.
        title: what it is called.
    """

    own: str
    chance: str
    real: str
    title: str


STATEMENTS = Share(FAITHFUL, FAITHFUL_CHANCE, FAITHFUL_REAL, "statements of prompts that hold")
CHANGED = Share(FLIP, FLIP_CHANCE, FLIP_REAL, "changed words that hold")
KEPT = Share(FLIP_KEPT, FLIP_KEPT_CHANCE, FLIP_KEPT_REAL, "other attributes that stay")


def shares_of(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of one kind of share in percent, with a column ``feature``.

    Of a milestone that was scored with two numbers of images, those with most.

    Args:
        frame: of a study's rows.
        name: a name of ``Share``.
    """
    rows = frame[frame["metric"].str.startswith(name)]
    rows = rows[rows["metric"].map(lambda metric: base_name(metric).partition("/")[0]) == name]
    about = rows["metric"].map(lambda metric: base_name(metric).partition("/")[2] or ALL)
    percent = {column: 100 * rows[column] for column in ("value", "error")}
    rows = rows.assign(feature=about, **percent)
    most = rows.groupby(["arm", "seed", "step", "feature"])["n_generated"].transform("max")
    return rows[rows["n_generated"] == most]


def mean_shares(frame: pd.DataFrame, name: str) -> dict[str, float]:
    """Feature to the mean of one kind of share over all rows, in percent; as of ``shares_of``."""
    means = shares_of(frame, name).groupby("feature")["value"].mean()
    return {str(feature): float(mean) for feature, mean in means.items()}


def features_by_amplitude(frame: pd.DataFrame) -> list[str]:
    """Features of captions, those first whose changes move a real portrait most."""
    start = f"{FLIP_AMPLITUDE}/"
    rows = frame[frame["metric"].str.startswith(start)]
    sizes = rows.groupby(rows["metric"].str.removeprefix(start))["value"].mean()
    return sorted(sizes.index, key=lambda name: (-sizes[name], name))
