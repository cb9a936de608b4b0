"""Tables of a study: one entry for each file of tables, as csv, Markdown and LaTeX.

Pure functions of rows; the same rows in any order give the same bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.analysis.over_seeds import over_seeds
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.analysis.to_baseline import change_from_baseline
from benchmark.reporting.tables.arms import arms, configuration
from benchmark.reporting.tables.as_text import Table, to_csv, to_latex, to_markdown
from benchmark.reporting.tables.capacity import capacity
from benchmark.reporting.tables.captions import captions
from benchmark.reporting.tables.exponents import exponents
from benchmark.reporting.tables.milestones import (
    BY,
    CHECKS,
    by_prefix,
    full_numbers,
    milestone_tables,
    short,
    stack,
)
from benchmark.reporting.tables.network_features import network_features
from benchmark.reporting.tables.specifications import specifications
from benchmark.reporting.tables.training_cost import training_cost
from benchmark.reporting.tables.verdicts import (
    competence,
    exposure,
    learning,
    secondary,
    sensitivity,
    verdicts,
)
from benchmark.rows.frames import (
    CONDITION,
    arm_order,
    curriculum_frame,
    distance_rows,
    kernel_distance_rows,
    mean_over_levels,
    split_conditions,
)
from benchmark.rows.metric_names import (
    BIRTH_EFFECT,
    EPS_MSE,
    HIGH_ERROR,
    HIGH_EXCESS,
    LOW_ERROR,
    LOW_EXCESS,
    MASK_EFFECT,
    NEURONS,
    SUMMARIES,
    limit_name,
)
from benchmark.study.arm_names import BASELINE
from benchmark.study.metric_catalogue import quality_rows
from mindiffusion.files import remove_stale, write_text

_SUFFIXES = (".csv", ".md", ".tex")


def ranks_that_depend_on_n(rows: pd.DataFrame, limits: pd.DataFrame) -> set[tuple[str, int]]:
    """(arm, step) whose rank by the mean over seeds is another one at infinitely many images.

    Args:
        rows: a distance's rows of one condition.
        limits: the rows of the same distance extrapolated in 1/n.
    """
    finite, infinite = (
        part.groupby(["step", "arm"])["value"].mean().groupby("step").rank()
        for part in (rows, limits)
    )
    both = pd.concat([finite, infinite], axis=1, join="inner", keys=["finite", "infinite"])
    moved = both[both["finite"] != both["infinite"]]
    return {(str(arm), int(step)) for step, arm in moved.index}


def fid_vs_steps(frame: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """The distances at the milestones, each followed by its value extrapolated in 1/n.

    Args:
        frame: the frame of a study's rows.
    """
    tables: list[Table] = []
    numbers: list[pd.DataFrame] = []
    for part in split_conditions(distance_rows(frame)):
        name = part["metric"].iloc[0]
        limits = _same_condition(frame[frame["metric"] == limit_name(name)], part)
        moved = ranks_that_depend_on_n(part, limits)
        tables += milestone_tables(part, marked=moved)
        numbers.append(full_numbers(part, name))
        for limit in split_conditions(limits):
            tables += milestone_tables(limit, " (extrapolated in 1/n)", marked=moved)
            numbers.append(full_numbers(limit, limit_name(name)))
    return tables, stack(numbers)


def _same_condition(rows: pd.DataFrame, part: pd.DataFrame) -> pd.DataFrame:
    """Those rows that were measured as ``part`` was, but for the metric."""
    names = [name for name in CONDITION if name != "metric"]
    return rows[(rows[names] == part.iloc[0][names]).all(axis=1)]


def quality(frame: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """Precision to coverage, Inception score, memorised shares, attributes, stitched distances."""
    return by_prefix(frame, quality_rows())


def two_features(frame: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """Errors at both ends of the noise range, and what hidden neurons read, by milestone."""
    ends = (LOW_EXCESS, HIGH_EXCESS, LOW_ERROR, HIGH_ERROR)
    return by_prefix(frame, (*ends, NEURONS))


def denoising(frame: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """The summaries of the held-out ε-MSE, and their log-ratio to the baseline."""
    summaries = frame[frame["metric"].isin(SUMMARIES)]
    tables, numbers = by_prefix(summaries, SUMMARIES)
    ratios: list[pd.DataFrame] = []
    for part in split_conditions(change_from_baseline(summaries)):
        what = f": log-ratio to {BASELINE}"
        tables += milestone_tables(part, what)
        ratios.append(full_numbers(part, part["metric"].iloc[0] + what))
    return tables, stack([numbers, *ratios])


def kid_and_eps_mse(frame: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """KID or KD, and the held-out ε-MSE averaged over the noise levels, in the same manner."""
    kernel = split_conditions(kernel_distance_rows(frame))
    profiles = split_conditions(frame[frame["metric"] == EPS_MSE])
    tables = [table for part in kernel for table in milestone_tables(part)]
    numbers = [full_numbers(part, part["metric"].iloc[0]) for part in kernel]
    for part in profiles:
        mean, what = mean_over_levels(part), _mean_text(part)
        tables += milestone_tables(mean, what)
        numbers.append(full_numbers(mean, EPS_MSE + what))
    return tables, stack(numbers)


def _mean_text(rows: pd.DataFrame) -> str:
    return f" (mean over {rows['level'].nunique()} noise levels)"


def largest_over_levels(frame: pd.DataFrame) -> pd.DataFrame:
    """Profile rows of one condition at one level for each arm and milestone.

    It is the level whose mean over seeds is largest in absolute value, so that all seeds of a
    cell share it; of equal ones the lowest.
    """
    summary = over_seeds(frame, (*BY, "level"))
    largest = summary.loc[summary["mean"].abs().groupby([summary[k] for k in BY]).idxmax()]
    return frame.merge(largest[[*BY, "level"]], on=[*BY, "level"])


def checks(frame: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """Noise and colours of samples; does the mask act, do masked weights stay, do norms shrink?"""
    tables: list[Table] = []
    numbers: list[pd.DataFrame] = []
    for name in CHECKS:
        for part in split_conditions(frame[frame["metric"].str.startswith(name)]):
            for rows, what, by in _views(part):
                tables += milestone_tables(rows, what, by)
                numbers.append(full_numbers(rows, rows["metric"].iloc[0] + what, by))
    return tables, stack(numbers)


def _views(rows: pd.DataFrame) -> list[tuple[pd.DataFrame, str, tuple[str, ...]]]:
    """What to tabulate of the rows of one check: a profile at its largest and on average."""
    if rows["metric"].iloc[0] not in (MASK_EFFECT, BIRTH_EFFECT):
        return [(rows, "", BY)]
    what = f" (largest |value| of {rows['level'].nunique()} noise levels, at its noise time)"
    return [
        (largest_over_levels(rows), what, (*BY, "level")),
        (mean_over_levels(rows), _mean_text(rows), BY),
    ]


def curriculum(frame: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """What each arm trains when; seeds with the same stages share their lines."""
    stages = curriculum_frame(frame)
    if stages.empty:
        return [], stages
    what = [name for name in stages.columns if name != "seed"]
    shared = stages.groupby(what, dropna=False, sort=False)["seed"]
    numbers = shared.agg(lambda seeds: " ".join(map(str, sorted(seeds)))).reset_index()
    order = {arm: index for index, arm in enumerate(arm_order(frame))}
    numbers = numbers.assign(_arm=numbers["arm"].map(order))
    numbers = numbers.sort_values(["_arm", "seed", "from_step"]).drop(columns="_arm")
    body = tuple(
        (
            *(str(row[name]) for name in ("arm", "seed", "stage", "from_step", "to_step")),
            f"{short(row['t_min'])} – {short(row['t_max'])}",
            *(short(row[name]) for name in ("active_channels", "penalty_lambda")),
        )
        for _, row in numbers.iterrows()
    )
    header = ("arm", "seeds", "stage", "from step", "to step", "noise time", "active channels", "λ")
    caption = f"{frame['study'].iloc[0]} on {frame['dataset'].iloc[0]}; noise time 1 is pure noise."
    return [Table("Curriculum of each arm", caption, header, body)], numbers


Built = tuple[list[Table], pd.DataFrame]
"""Tables that belong together, and their full numbers."""


@dataclass(frozen=True)
class TableEntry:
    """A file of tables; a study whose rows make none of its tables has no such file.

    Attributes:
        name: of the file.
        title: of its part of the report.
        build: the tables and their full numbers.
    """

    name: str
    title: str
    build: Callable[[StudyAnalysis], Built]


def _of_rows(build: Callable[[pd.DataFrame], Built]) -> Callable[[StudyAnalysis], Built]:
    return lambda study: build(study.frame)


def _of_rows_and_index(
    build: Callable[[pd.DataFrame, Mapping[str, Any]], Built],
) -> Callable[[StudyAnalysis], Built]:
    return lambda study: build(study.frame, study.index)


TABLES = (
    TableEntry("fid_vs_steps", "Distances by training step", _of_rows(fid_vs_steps)),
    TableEntry(
        "quality",
        "Quality: precision, recall, memorisation, attributes, stitching",
        _of_rows(quality),
    ),
    TableEntry("captions", "Captions: do pictures show what they say?", _of_rows(captions)),
    TableEntry("denoising", "Denoising error, in summary", _of_rows(denoising)),
    TableEntry(
        "kid_and_eps_mse", "Kernel distance and mean denoising error", _of_rows(kid_and_eps_mse)
    ),
    TableEntry("network_features", "Features of the networks", _of_rows(network_features)),
    TableEntry("checks", "Sampler noise, masks and norms", _of_rows(checks)),
    TableEntry("curriculum", "Stages of each arm", _of_rows(curriculum)),
    TableEntry("exposure", "Exposure: how much each noise level is trained", _of_rows(exposure)),
    TableEntry("competence", "Competence", competence),
    TableEntry("verdicts", "Verdicts", verdicts),
    TableEntry("learning", "Speed of learning", learning),
    TableEntry("secondary", "The claims by other measures", secondary),
    TableEntry("specifications", "The claims by other ways to measure", specifications),
    TableEntry("sensitivity", "Sensitivity", sensitivity),
    TableEntry("exponents", "How the error scales with settings", exponents),
    TableEntry(
        "two_features", "Two features: errors over the best, and neurons", _of_rows(two_features)
    ),
    TableEntry("arms", "What each arm is", _of_rows_and_index(arms)),
    TableEntry(
        "capacity",
        "Capacity: masks, penalties, realised sparsity",
        _of_rows_and_index(capacity),
    ),
    TableEntry("configuration", "Configuration", _of_rows_and_index(configuration)),
    TableEntry("training_cost", "What training takes", _of_rows_and_index(training_cost)),
)
"""All table files, in the order of the paper and of the report."""


def study_tables(study: StudyAnalysis) -> dict[str, Built]:
    """File name → tables and their full numbers; without those that the study has no rows for."""
    built = {entry.name: entry.build(study) for entry in TABLES}
    return {name: (tables, numbers) for name, (tables, numbers) in built.items() if tables}


def write_tables(built: Mapping[str, Built], study_dir: Path) -> list[Path]:
    """Write ``<study_dir>/tables/*.{csv,md,tex}``; one that is there from earlier rows is removed.

    Args:
        built: of ``study_tables``.
        study_dir: the study's folder.
    """
    written: list[Path] = []
    for name, (tables, numbers) in built.items():
        stem = study_dir / "tables" / name
        latex = [to_latex(table, f"{name}_{index}") for index, table in enumerate(tables, 1)]
        texts = (
            to_csv(numbers),
            "\n".join(to_markdown(table) for table in tables),
            "\n".join(latex),
        )
        for suffix, text in zip(_SUFFIXES, texts, strict=True):
            path = stem.with_suffix(suffix)
            write_text(path, text)
            written.append(path)
    folder = study_dir / "tables"
    owned = (folder / f"{entry.name}{suffix}" for entry in TABLES for suffix in _SUFFIXES)
    remove_stale(owned, written)
    return written
