"""Tables of networks that are told captions: do their pictures show what these say?"""

from collections.abc import Callable

import pandas as pd

from benchmark.analysis.caption_shares import (
    ALL,
    CHANGED,
    KEPT,
    STATEMENTS,
    Share,
    features_by_amplitude,
    mean_shares,
    shares_of,
)
from benchmark.analysis.over_seeds import over_seeds
from benchmark.reporting.tables.as_text import Table, written
from benchmark.reporting.tables.milestones import (
    HOLLOW_NOTE,
    MARK,
    MISSING,
    by_prefix,
    condition_text,
)
from benchmark.rows.frames import arm_order
from benchmark.rows.metric_names import CLIP_CHANCE, CLIP_REAL, CLIP_SCORE, COARSE, FINE

_CAPTIONS = {
    STATEMENTS: (
        "Percent of what the held-out prompts say. Other prompts: the same pictures, judged by "
        "prompts of other pictures"
    ),
    CHANGED: (
        "One word of each prompt is changed, and its picture drawn again from the same noise; "
        "percent of the changed words that hold. Other prompts: in a picture of another prompt"
    ),
    KEPT: (
        "One word of each prompt is changed, and its picture drawn again from the same noise; "
        "percent of all other attributes that are read as before. Other prompts: beside a picture "
        "of another prompt"
    ),
}
_NOTE = (
    "Real: portraits of the data, read by the same classifier; what they lack of 100 is its error. "
    "Coarse and fine: the halves of the features by how much a change moves a real portrait."
)


def captions(frame: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """At the end of training by feature; then by milestone.

    Args:
        frame: of a study's rows.
    """
    tables = [table for kind in _CAPTIONS for table in _ends(frame, kind)]
    whole = [f"{kind.own}@" for kind in _CAPTIONS]
    scores = [f"{name}@" for name in (CLIP_SCORE, CLIP_CHANCE)]
    milestones, _ = by_prefix(frame, [*whole, *scores, CLIP_REAL])
    drawn = [name for kind in _CAPTIONS for name in (kind.own, kind.chance)]
    starts = [f"{name}{sign}" for name in drawn for sign in "@/"]
    starts += [kind.real for kind in _CAPTIONS]
    numbers = by_prefix(frame, [*starts, *scores, CLIP_REAL])[1]
    return [*tables, *milestones], numbers


def _ends(frame: pd.DataFrame, kind: Share) -> list[Table]:
    """A line a feature, a column an arm."""
    last = frame[frame["step"] == frame["total_steps"]]
    own = shares_of(last, kind.own)
    if own.empty:
        return []
    arms, known = arm_order(own), set(own["feature"])
    order = (ALL, COARSE, FINE, *features_by_amplitude(frame))
    columns = [_over_seeds(own[own["arm"] == arm]) for arm in arms]
    columns += [_of(mean_shares(last, name)) for name in (kind.chance, kind.real)]
    body = tuple((one, *(cell(one) for cell in columns)) for one in order if one in known)
    # The number of pictures is another one for each feature.
    condition = condition_text(own.assign(n_reference=0))
    notes = [_NOTE] + ([] if own["full_range"].all() else [HOLLOW_NOTE])
    return [
        Table(
            title=f"{kind.title[0].upper()}{kind.title[1:]}, at the end of training",
            caption=f"{_CAPTIONS[kind]}, mean over the arms. {condition}.",
            header=("about", *arms, "other prompts", "real"),
            body=body,
            notes=tuple(notes),
        )
    ]


_Cell = Callable[[str], str]
"""What a column says of a feature."""


def _of(means: dict[str, float]) -> _Cell:
    return lambda feature: written(means[feature], ".1f") if feature in means else MISSING


def _over_seeds(rows: pd.DataFrame) -> _Cell:
    """With the interval over seeds, or else the standard error over images."""
    cells = {row["feature"]: _cell(row) for _, row in over_seeds(rows, ("feature",)).iterrows()}
    return lambda feature: cells.get(feature, MISSING)


def _cell(row: pd.Series) -> str:
    is_one = row["seeds"] == 1
    spread = row["error"] if is_one else row["half_width"]
    text = f"{written(row['mean'], '.1f')} ± {written(spread, '.1f')}{' (se)' * is_one}"
    return text if row["full_range"] else text + MARK
