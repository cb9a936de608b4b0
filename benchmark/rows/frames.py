"""What rows say: their metrics' names, and frames of them, the source of every table and figure."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.rows.file import ROWS_FILE, read_rows, rows_files
from benchmark.rows.metric_names import (
    BIRTH_EFFECT,
    CLASS,
    EPS_MSE,
    EPS_MSE_LINEAR,
    EPS_MSE_MEAN,
    EXPOSURE,
    FLIP,
    MASK_EFFECT,
    MEMORISED_PIXELS,
    STAGE_MEDIAN,
    STAGE_METRICS,
)
from benchmark.rows.row import FIELDS, IDENTITY, Row
from benchmark.study.arm_catalogue import in_order
from benchmark.study.index import INDEX_FILE, unproved_milestones
from mindiffusion.errors import UserError
from mindiffusion.outside.paths import refuse_links

LOGGER = logging.getLogger(__name__)
LARGEST, SMALLEST = 1e70, 1e-70
"""Sizes between which numbers are taken as they are. Squares of ratios of such are still numbers,
and nothing that a network computes in single precision leads out of them."""
_MEASURED = ["value", "error", "train_seconds"]
# Metrics by noise level, and how the names of others begin.
_PROFILES = (EPS_MSE, EPS_MSE_LINEAR, EPS_MSE_MEAN, EXPOSURE, MASK_EFFECT, BIRTH_EFFECT)
_PROFILE_PARTS = ("emergence/", "stitched-above/", "stitched-below/")
# Numbers that differ in one of these never meet in one column or on one line.
CONDITION = (
    "metric",
    "metric_version",
    "direction",
    "weights",
    "sampler",
    "sampler_steps",
    "n_generated",
    "n_reference",
)


def to_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a frame with a column per field, in an order that is free of the rows' order.

    Numbers of more than ``LARGEST``, or less than ``SMALLEST`` but not 0, become those.
    """
    rows = list(rows)
    frame = pd.DataFrame({name: [getattr(row, name) for row in rows] for name in FIELDS})
    frame = frame.astype({"level": "float64", **dict.fromkeys(_MEASURED, "float64")})
    frame[_MEASURED] = frame[_MEASURED].apply(_bounded)
    return frame.sort_values(list(IDENTITY), kind="stable", ignore_index=True)


def _bounded(values: pd.Series) -> pd.Series:
    sizes = values.abs()
    is_usual = values.isna() | (sizes == 0) | sizes.between(SMALLEST, LARGEST)
    return values.where(is_usual, np.sign(values) * sizes.clip(SMALLEST, LARGEST))


def beyond_bounds(frame: pd.DataFrame) -> int:
    """How many rows have a number that only a bound stands for."""
    sizes = frame[_MEASURED].abs()
    return int(((sizes == SMALLEST) | (sizes == LARGEST)).any(axis=1).sum())


def load_rows(study_dir: Path) -> pd.DataFrame:
    """The frame of a study's rows.

    Whatever is made of a study passes here, before it is written into the study's folder.

    Raises:
        UserError: no rows, rows of two data sets, one cell measured twice over, a level that is
            none, or a link in the folder.
    """
    path = study_dir / ROWS_FILE
    if not rows_files(path):
        raise UserError(f"{path} does not exist; {_without_rows(study_dir)}")
    refuse_links(study_dir)
    frame = to_frame(read_rows(path))
    if frame.empty:
        raise UserError(f"{path} has no rows; {_without_rows(path.parent)}")
    _check_one_dataset(frame, path)
    _check_one_configuration(frame, path)
    _check_levels(frame, path)
    beyond = beyond_bounds(frame)
    if beyond:
        LOGGER.warning(
            "%s: %d rows have numbers beyond %g or below %g; they are taken as these.",
            path, beyond, LARGEST, SMALLEST,
        )  # fmt: skip
    return frame


def _without_rows(study_dir: Path) -> str:
    """What to do about a folder without rows."""
    if not (study_dir / INDEX_FILE).exists():
        return f"give a study's folder, one with a {ROWS_FILE} that has rows."
    return (
        "nothing has been scored yet, or the rows are lost, and tables, figures and a report that "
        "are there stand for lost ones. Bring the file again, or give the study's command, which "
        "measures what is missing."
    )


def milestones_without_rows(
    frame: pd.DataFrame, index: Mapping[str, Any]
) -> list[tuple[str, int, int]]:
    """Arm, seed and step of milestones that are not scored, or have lost rows.

    Args:
        frame: the frame of a study's rows.
        index: the study's, which says which milestones there should be; it may be empty.
    """
    columns = (frame[name] for name in ("arm", "seed", "step", "metric"))
    return unproved_milestones(index, set(zip(*columns, strict=True)))


def _check_levels(frame: pd.DataFrame, path: Path) -> None:
    """A profile is drawn over its noise levels."""
    level = frame["level"]
    is_profile = frame["metric"].isin(_PROFILES) | frame["metric"].str.startswith(_PROFILE_PARTS)
    wrong = frame[~level.between(0, 1) & (is_profile | level.notna())]
    if not wrong.empty:
        first = wrong.iloc[0]
        found = "none" if np.isnan(first["level"]) else f"{first['level']:g}"
        raise UserError(
            f"{path}: {first['metric']} of arm {first['arm']!r}, seed {first['seed']}, step "
            f"{first['step']} has the noise level {found}; levels are noise times, from 0 to 1. "
            "Measure it again, or leave those rows out."
        )


def _check_one_dataset(frame: pd.DataFrame, path: Path) -> None:
    found = frame[["dataset", "manifest"]].drop_duplicates()
    if len(found) > 1:
        names = ", ".join(f"{row.dataset} ({row.manifest})" for row in found.itertuples())
        raise UserError(
            f"{path} has rows of {len(found)} prepared data sets: {names}; a study has one, so "
            "put the others' rows into a study of their own."
        )


def _check_one_configuration(frame: pd.DataFrame, path: Path) -> None:
    """Two rows for one cell (say of two configs) would be averaged as if they were two seeds."""
    cell = [*CONDITION, "arm", "seed", "step", "level", "sampling_seed"]
    twice = frame[frame.duplicated(cell, keep=False)]
    if not twice.empty:
        first = twice.iloc[0]
        hashes = ", ".join(sorted(set(twice["config_hash"].astype(str))))
        raise UserError(
            f"{path} has two rows for arm {first['arm']!r}, seed {first['seed']}, step "
            f"{first['step']}, {first['metric']} (configs {hashes}); keep one config per arm and "
            "give the other an arm name or a study of its own."
        )


def arm_order(frame: pd.DataFrame) -> list[str]:
    """The frame's arms in the order in which they are shown."""
    return in_order(frame["arm"].astype(str))


def distance_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the primary distance: FID where most cells have it, else FD by another feature net.

    One cell with an FID among many without is no reason to drop the distances of all others.
    """
    every = all_distance_rows(frame)
    is_fid = every["metric"].str.startswith("FID@")
    fid = every[is_fid]
    return fid if 2 * len(cells_of(fid)) > len(cells_of(every)) else every[~is_fid]


def all_distance_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of Fréchet distances, by whichever net."""
    return frame[frame["metric"].str.startswith(("FID@", "FD-"))]


def cells_of(rows: pd.DataFrame) -> set[tuple[str, int]]:
    """Arms and seeds that the rows are of."""
    return set(zip(rows["arm"], rows["seed"], strict=True))


def kernel_distance_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the kernel distance: KID, and KD by any other feature net."""
    return frame[frame["metric"].str.startswith(("KID@", "KD-"))]


def split_conditions(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """The frame cut by metric (with its n), version, weights and sampler, in that order."""
    return [part for _, part in frame.groupby(list(CONDITION), sort=True)]


def rows_named(frame: pd.DataFrame, pattern: str) -> pd.DataFrame:
    """Rows whose metric is as a pattern says as a whole, with a column for each named group.

    Args:
        frame: of a study's rows.
        pattern: a regular expression with named groups; a group without a match gives "".
    """
    rows = frame[frame["metric"].astype(str).str.fullmatch(pattern).astype(bool)]
    parts = rows["metric"].astype(str).str.extract(f"^{pattern}$").astype(object).fillna("")
    return rows.assign(**{str(name): parts[name].astype(str) for name in parts})


def mean_over_levels(frame: pd.DataFrame) -> pd.DataFrame:
    """Profile rows of one condition averaged over the noise levels, a row per measurement.

    Raises:
        UserError: measurements that do not cover the same levels (their means differ in kind).
    """
    by = ["arm", "seed", "step", "sampling_seed"]
    levels = {tuple(sorted(column)) for _, column in frame.groupby(by)["level"]}
    if len(levels) > 1:
        raise UserError(
            f"{frame['metric'].iloc[0]}: {len(levels)} different sets of noise levels in one "
            "study; a mean over levels needs the same ones everywhere, so measure them again."
        )
    mean = frame.groupby(by)["value"].mean().rename("value").reset_index()
    one_each = frame.drop_duplicates(by).drop(columns="value")
    return one_each.merge(mean, on=by).assign(error=float("nan"))


def rows_with_strips(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that name a strip of samples; other metrics name pictures of another kind."""
    other = (MEMORISED_PIXELS, STAGE_MEDIAN, CLASS, FLIP)
    is_other = frame["metric"].str.startswith(other)
    return frame[frame["samples"].notna() & ~is_other]


def curriculum_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per arm, seed and stage: from_step, to_step, t_min, t_max, capacity and penalty.

    ``to_step`` is the next stage's ``from_step``; the last stage ends at ``total_steps``.
    """
    rows = frame[frame["metric"].isin(STAGE_METRICS)]
    stages = rows.pivot_table(
        index=["arm", "seed", "step", "stage", "total_steps"], columns="metric", values="value"
    )
    stages = stages.reindex(columns=list(STAGE_METRICS)).reset_index()
    stages = stages.rename(columns={"step": "from_step"}).rename_axis(columns=None)
    following = stages.groupby(["arm", "seed"])["from_step"].shift(-1)
    stages["to_step"] = following.fillna(stages["total_steps"]).astype("int64")
    columns = ["arm", "seed", "stage", "from_step", "to_step", *STAGE_METRICS]
    return stages[columns]
