"""Tables of arms by milestones: one condition of one metric, nothing picked as best."""

import math
from collections.abc import Sequence, Set

import pandas as pd

from benchmark.analysis.over_seeds import over_seeds
from benchmark.reporting.tables.as_text import Table, decimals_for, written
from benchmark.rows.frames import arm_order, split_conditions
from benchmark.rows.metric_names import BIRTH_EFFECT, MASK_EFFECT, is_smoke

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
    f"{RANK_MARK} This arm's rank changes when the distances are extrapolated to infinitely "
    "many images: the order at this n is not the order of the models."
)
MISSING = "–"
BY = ("arm", "step")
# The order of the table of checks, and what its metrics are where the name does not say it.
CHECKS = {
    "corner-roughness@": "",
    "colour-offset@": (
        "Difference of the mean colours of the generated and of all training pictures, in grey "
        "levels (0–255), in the channel where it is largest. The error takes the data as given."
    ),
    "colour-spread@": (
        "How far the mean colours of single pictures lie apart, over how far those of the training "
        "pictures do: 1 is right, below it the pictures are too alike, above it too different."
    ),
    MASK_EFFECT: "Held-out ε-MSE with the mask lifted minus ε-MSE under it.",
    BIRTH_EFFECT: (
        "Held-out ε-MSE without the units that came on after the first stage, minus ε-MSE."
    ),
    "weight-movement-": (
        "Relative movement since the start, a mean over channels: "
        "those that are on, or those still masked."
    ),
    "group-norm-": "",
}
_OF_WEIGHTS = ("weight-movement-", "group-norm-")
_ARROWS = {"lower": "lower is better", "higher": "higher is better", "none": "no direction"}


def _seed_text(seeds: pd.Series) -> str:
    low, high = int(seeds.min()), int(seeds.max())
    if high == 1:
        return "n=1: one training seed, no interval"
    span = str(low) if low == high else f"{low}–{high}"
    return f"n={span} training seeds, mean ± half width of the 95 % Student-t interval"


def condition_text(rows: pd.DataFrame) -> str:
    """Data, sampler and image counts of the rows of one condition."""
    first = rows.iloc[0]
    parts = [f"{first['study']} on {first['dataset']}"]
    if first["sampler"]:
        parts.append(f"{first['sampler']}, {first['sampler_steps']} steps")
    if first["n_generated"]:
        parts.append(f"{first['n_generated']} generated images")
    if first["n_reference"]:
        parts.append(f"{first['n_reference']} reference images")
    if rows["sampling_seed"].nunique() > 1:
        parts.append(f"a mean over {rows['sampling_seed'].nunique()} sampling seeds")
    return "; ".join([*parts, *sorted(set(rows["declared"].astype(str)))])


def _cell(row: pd.Series, decimals: int, mixed: bool) -> str:
    mean, level = row["mean"], row.get("level")
    # With the decimals at their limit, a smaller number would read as zero.
    form = ".1e" if 0 < abs(mean) < 10 ** (1 - decimals) else f".{decimals}f"
    text = written(mean, form)
    remarks = ["n=1"] if mixed and row["seeds"] == 1 else []
    if row["seeds"] > 1:
        text += f" ± {written(row['half_width'], form)}"
    elif not math.isnan(row["error"]):
        text += f" ± {written(row['error'], form)}"
        remarks.insert(0, "se")
    if remarks:
        text += f" ({', '.join(remarks)})"
    if level is not None and mean != 0:
        text += f" at {short(level)}"
    return text if row["full_range"] else text + MARK


def _notes(rows: pd.DataFrame, summary: pd.DataFrame, smoke: bool) -> list[str]:
    notes = [note for metric, note in CHECKS.items() if rows["metric"].iloc[0].startswith(metric)]
    notes += [] if summary["full_range"].all() else [HOLLOW_NOTE]
    notes += [] if summary["error"].isna().all() else [ERROR_NOTE]
    notes += [SMOKE_NOTE] if smoke else []
    return [note for note in notes if note]


def summary_of(rows: pd.DataFrame, by: Sequence[str] = BY) -> pd.DataFrame:
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
    summary = summary_of(rows, by)
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
        caption=f"{condition_text(rows)}. {_seed_text(summary['seeds'])}.",
        header=("arm", *(f"step {step}" for step in steps)),
        body=tuple((arm, *(cells.get((arm, step), MISSING) for step in steps)) for arm in arms),
        notes=(*_notes(rows, summary, smoke), *([RANK_NOTE] if marked else [])),
    )


def milestone_tables(
    rows: pd.DataFrame,
    what: str = "",
    by: Sequence[str] = BY,
    marked: Set[tuple[str, int]] = frozenset(),
) -> list[Table]:
    """``milestone_table``, one for each length of run: runs of another have other milestones.

    Rows of the last steps alone stay together.
    """
    lengths = sorted(set(rows["total_steps"]), reverse=True)
    if len(lengths) == 1 or (rows["step"] == rows["total_steps"]).all():
        return [milestone_table(rows, what, by, marked)]
    parts = [(rows[rows["total_steps"] == length], length) for length in lengths]
    return [
        milestone_table(part, f"{what}, runs of {length} steps", by, marked)
        for part, length in parts
    ]


def full_numbers(rows: pd.DataFrame, metric: str, by: Sequence[str] = BY) -> pd.DataFrame:
    """The full numbers of a condition, a row per arm and milestone."""
    columns = {"half_width": "half_width_95", "error": "standard_error_over_images"}
    summary = summary_of(rows, by).rename(columns=columns)
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


def by_prefix(frame: pd.DataFrame, prefixes: Sequence[str]) -> tuple[list[Table], pd.DataFrame]:
    """A table for every condition whose metric begins with one of ``prefixes``, in their order."""
    tables: list[Table] = []
    numbers: list[pd.DataFrame] = []
    for prefix in prefixes:
        for part in split_conditions(frame[frame["metric"].str.startswith(prefix)]):
            for _, rows in part.groupby("level", dropna=False):
                level = float(rows["level"].iloc[0])
                what = "" if math.isnan(level) else f" at τ = {level:g}"
                tables += milestone_tables(rows, what)
                numbers.append(full_numbers(rows, rows["metric"].iloc[0] + what))
    return tables, stack(numbers)


def short(value: float) -> str:
    """A number in four digits."""
    return MISSING if math.isnan(value) else f"{value:.4g}"


def stack(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The parts below each other."""
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
