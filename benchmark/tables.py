"""Tables of a study: arms by milestones, and the curricula, as csv, Markdown and LaTeX.

Pure functions of rows; the same rows in any order give the same bytes.
"""

import math
from collections.abc import Callable, Sequence, Set
from pathlib import Path

import pandas as pd

from benchmark.results import (
    BASELINE,
    CONDITION,
    EPS_MSE,
    SUMMARIES,
    arm_order,
    curriculum_frame,
    distance_rows,
    is_smoke,
    kernel_distance_rows,
    limit_name,
    load_study,
    log_ratio_to_baseline,
    mean_over_levels,
    over_seeds,
    split_conditions,
)
from benchmark.table_text import Table, decimals_for, to_latex, to_markdown
from mindiffusion.files import write_text

MARK = "†"
HOLLOW_NOTE = (
    f"{MARK} Not all noise levels trained yet in this arm at this milestone: "
    "the value depends on untrained ones, so it enters no summary."
)
ERROR_NOTE = (
    "(se): the metric's own standard error over the images of one training seed; "
    "it says nothing of the spread over training seeds."
)
SMOKE_NOTE = "Smoke: fewer than 2048 generated images, far too few to compare with other work."
RANK_MARK = "‡"
RANK_NOTE = (
    f"{RANK_MARK} This arm's rank is another one when the distances are extrapolated to infinitely "
    "many images: the order at this n is not the order of the models."
)
MISSING = "–"
BY = ("arm", "step")
MASK_EFFECT = "mask-effect"
# The order of the table of checks, and what its metrics are where the name does not say it.
_CHECKS = {
    "corner-roughness@": "",
    MASK_EFFECT: "Held-out ε-MSE with the mask lifted minus ε-MSE under it.",
    "weight-movement-": (
        "Relative movement since the start, a mean over channels: "
        "those that are on, or those still masked."
    ),
    "group-norm-": "",
}
_QUALITY = (
    "precision",
    "recall",
    "density",
    "coverage",
    "IS",
    "memorised",
    "stitched-",
    "rejected",
    "attribute/",
)
_OF_WEIGHTS = ("weight-movement-", "group-norm-")
_ARROWS = {"lower": "lower is better", "higher": "higher is better", "none": "no direction"}


def _seed_text(seeds: pd.Series) -> str:
    low, high = int(seeds.min()), int(seeds.max())
    if high == 1:
        return "n=1: one training seed, no interval"
    span = str(low) if low == high else f"{low}–{high}"
    return f"n={span} training seeds, mean ± half width of the 95 % Student-t interval"


def _condition_text(rows: pd.DataFrame) -> str:
    """Data, sampler and image counts of the rows of one condition."""
    first = rows.iloc[0]
    parts = [f"{first['study']} on {first['dataset']}"]
    if first["sampler"]:
        parts.append(f"{first['sampler']}, {first['sampler_steps']} steps")
    if first["n_generated"]:
        parts.append(f"{first['n_generated']} generated images")
    if first["n_reference"]:
        parts.append(f"{first['n_reference']} reference images")
    return "; ".join([*parts, *sorted(set(rows["declared"].astype(str)))])


def _cell(row: pd.Series, decimals: int, mixed: bool) -> str:
    mean, level = row["mean"], row.get("level")
    # With the decimals at their limit, a smaller number would read as zero.
    form = ".1e" if 0 < abs(mean) < 10 ** (1 - decimals) else f".{decimals}f"
    text = f"{mean:{form}}"
    remarks = ["n=1"] if mixed and row["seeds"] == 1 else []
    if row["seeds"] > 1:
        text += f" ± {row['half_width']:{form}}"
    elif not math.isnan(row["error"]):
        text += f" ± {row['error']:{form}}"
        remarks.insert(0, "se")
    if remarks:
        text += f" ({', '.join(remarks)})"
    if level is not None and mean != 0:
        text += f" at {_short(level)}"
    return text if row["full_range"] else text + MARK


def _notes(rows: pd.DataFrame, summary: pd.DataFrame, smoke: bool) -> list[str]:
    notes = [note for metric, note in _CHECKS.items() if rows["metric"].iloc[0].startswith(metric)]
    notes += [] if summary["full_range"].all() else [HOLLOW_NOTE]
    notes += [] if summary["error"].isna().all() else [ERROR_NOTE]
    notes += [SMOKE_NOTE] if smoke else []
    return [note for note in notes if note]


def _summary(rows: pd.DataFrame, by: Sequence[str] = BY) -> pd.DataFrame:
    """``over_seeds``; numbers of the weights alone depend on no noise level, trained or not."""
    summary = over_seeds(rows, by)
    if rows["metric"].iloc[0].startswith(_OF_WEIGHTS):
        summary["full_range"] = True
    return summary


def milestone_table(
    rows: pd.DataFrame,
    what: str = "",
    by: Sequence[str] = BY,
    marked: Set[tuple[str, int]] = frozenset(),
) -> Table:
    """Arms by milestones of the rows of one condition; nothing is picked as best.

    Args:
        rows: result rows of one condition.
        what: said of the metric in the title.
        by: with ``level`` in it, cells name their level; rows have one an arm and milestone then.
        marked: (arm, step) whose rank among the arms depends on n.
    """
    first = rows.iloc[0]
    weights = f", {first['weights']} weights," if first["weights"] else ""
    smoke = "@" in first["metric"] and is_smoke(int(first["n_generated"]))
    summary = _summary(rows, by)
    decimals = decimals_for([*summary["mean"], *summary["error"].dropna()])
    mixed = summary["seeds"].nunique() > 1
    cells = {
        (row["arm"], row["step"]): _cell(row, decimals, mixed)
        + RANK_MARK * ((row["arm"], row["step"]) in marked)
        for _, row in summary.iterrows()
    }
    steps = sorted(set(summary["step"]))
    arms = arm_order(rows)
    return Table(
        title=f"{first['metric']}{what}{weights} by training step ({_ARROWS[first['direction']]})"
        + (" [smoke]" if smoke else ""),
        caption=f"{_condition_text(rows)}. {_seed_text(summary['seeds'])}.",
        header=("arm", *(f"step {step}" for step in steps)),
        body=tuple((arm, *(cells.get((arm, step), MISSING) for step in steps)) for arm in arms),
        notes=(*_notes(rows, summary, smoke), *([RANK_NOTE] if marked else [])),
    )


def _numbers(rows: pd.DataFrame, metric: str, by: Sequence[str] = BY) -> pd.DataFrame:
    """The full numbers of a condition, a row per arm and milestone."""
    columns = {"half_width": "half_width_95", "error": "standard_error_over_images"}
    summary = _summary(rows, by).rename(columns=columns)
    first = rows.iloc[0]
    same = ["weights", "sampler", "sampler_steps", "n_generated", "n_reference", "metric_version"]
    summary = summary.assign(
        metric=metric,
        direction=first["direction"],
        dataset=first["dataset"],
        smoke="@" in first["metric"] and is_smoke(int(first["n_generated"])),
        **{name: first[name] for name in same},
    )
    order = {arm: index for index, arm in enumerate(arm_order(rows))}
    summary = summary.sort_values(
        ["arm", "step"], key=lambda column: column.map(order) if column.name == "arm" else column
    )
    lead = ["metric", *by, "mean", *columns.values(), "seeds", "full_range", "smoke"]
    return summary[[*lead, "direction", "dataset", *same]]


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
        tables.append(milestone_table(part, marked=moved))
        numbers.append(_numbers(part, name))
        for limit in split_conditions(limits):
            tables.append(milestone_table(limit, " (extrapolated in 1/n)", marked=moved))
            numbers.append(_numbers(limit, limit_name(name)))
    return tables, _stack(numbers)


def _same_condition(rows: pd.DataFrame, part: pd.DataFrame) -> pd.DataFrame:
    """Those rows that were measured as ``part`` was, but for the metric."""
    names = [name for name in CONDITION if name != "metric"]
    return rows[(rows[names] == part.iloc[0][names]).all(axis=1)]


def quality(frame: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """Precision to coverage, Inception score, memorised shares, attributes, stitched distances."""
    return _by_prefix(frame, _QUALITY)


def denoising(frame: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """The summaries of the held-out ε-MSE, and their log-ratio to the baseline."""
    summaries = frame[frame["metric"].isin(SUMMARIES)]
    tables, numbers = _by_prefix(summaries, SUMMARIES)
    ratios: list[pd.DataFrame] = []
    for part in split_conditions(log_ratio_to_baseline(summaries)):
        what = f": log-ratio to {BASELINE}"
        tables.append(milestone_table(part, what))
        ratios.append(_numbers(part, part["metric"].iloc[0] + what))
    return tables, _stack([numbers, *ratios])


def _by_prefix(frame: pd.DataFrame, prefixes: Sequence[str]) -> tuple[list[Table], pd.DataFrame]:
    """A table for every condition whose metric begins with one of ``prefixes``, in their order."""
    tables: list[Table] = []
    numbers: list[pd.DataFrame] = []
    for prefix in prefixes:
        for part in split_conditions(frame[frame["metric"].str.startswith(prefix)]):
            for _, rows in part.groupby("level", dropna=False):
                level = float(rows["level"].iloc[0])
                what = "" if math.isnan(level) else f" at τ = {level:g}"
                tables.append(milestone_table(rows, what))
                numbers.append(_numbers(rows, rows["metric"].iloc[0] + what))
    return tables, _stack(numbers)


def kid_and_eps_mse(frame: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """KID or KD, and the held-out ε-MSE averaged over the noise levels, in the same manner."""
    kernel = split_conditions(kernel_distance_rows(frame))
    profiles = split_conditions(frame[frame["metric"] == EPS_MSE])
    tables = [milestone_table(part) for part in kernel]
    numbers = [_numbers(part, part["metric"].iloc[0]) for part in kernel]
    for part in profiles:
        mean, what = mean_over_levels(part), _mean_text(part)
        tables.append(milestone_table(mean, what))
        numbers.append(_numbers(mean, EPS_MSE + what))
    return tables, _stack(numbers)


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
    """Do samplers leave noise, does the mask act, do masked weights stay, do norms shrink?"""
    tables: list[Table] = []
    numbers: list[pd.DataFrame] = []
    for name in _CHECKS:
        for part in split_conditions(frame[frame["metric"].str.startswith(name)]):
            for rows, what, by in _views(part):
                tables.append(milestone_table(rows, what, by))
                numbers.append(_numbers(rows, rows["metric"].iloc[0] + what, by))
    return tables, _stack(numbers)


def _views(rows: pd.DataFrame) -> list[tuple[pd.DataFrame, str, tuple[str, ...]]]:
    """What to tabulate of the rows of one check: a profile at its largest and on average."""
    if rows["metric"].iloc[0] != MASK_EFFECT:
        return [(rows, "", BY)]
    what = f" (largest |value| of {rows['level'].nunique()} noise levels, at its t / n_T)"
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
            f"{_short(row['t_min'])} – {_short(row['t_max'])}",
            *(_short(row[name]) for name in ("active_channels", "penalty_lambda")),
        )
        for _, row in numbers.iterrows()
    )
    header = ("arm", "seeds", "stage", "from step", "to step", "t / n_T", "active channels", "λ")
    caption = f"{frame['study'].iloc[0]} on {frame['dataset'].iloc[0]}; t / n_T = 1 is pure noise."
    return [Table("Curriculum of each arm", caption, header, body)], numbers


def _short(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.4g}"


def _stack(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


_TABLES: dict[str, Callable[[pd.DataFrame], tuple[list[Table], pd.DataFrame]]] = {
    "fid_vs_steps": fid_vs_steps,
    "quality": quality,
    "denoising": denoising,
    "kid_and_eps_mse": kid_and_eps_mse,
    "checks": checks,
    "curriculum": curriculum,
}


def write_tables(study_dir: Path) -> list[Path]:
    """Write ``<study_dir>/tables/*.{csv,md,tex}`` from the study's rows alone.

    A table the study has no rows for is left out.

    Raises:
        UserError: the study has no rows, or rows that contradict each other.
    """
    frame = load_study(study_dir)
    written: list[Path] = []
    for name, build in _TABLES.items():
        tables, numbers = build(frame)
        if not tables:
            continue
        stem = study_dir / "tables" / name
        latex = [to_latex(table, f"{name}_{index}") for index, table in enumerate(tables, 1)]
        texts = {
            ".csv": numbers.to_csv(index=False, lineterminator="\n"),
            ".md": "\n".join(to_markdown(table) for table in tables),
            ".tex": "\n".join(latex),
        }
        for suffix, text in texts.items():
            path = stem.with_suffix(suffix)
            write_text(path, text)
            written.append(path)
    return written
