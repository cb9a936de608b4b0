"""Tables of a study: arms by milestones, and the curricula, as csv, Markdown and LaTeX.

Pure functions of rows; the same rows in any order give the same bytes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmark.results import (
    EPS_MSE,
    arm_order,
    curriculum_frame,
    distance_rows,
    is_smoke,
    load_study,
    mean_over_levels,
    over_seeds,
    split_conditions,
)
from mindiffusion.files import write_text

MARK = "†"
HOLLOW_NOTE = (
    f"{MARK} The low-noise steps of this arm are not trained yet at this milestone: "
    "its samples pass an untrained part of the chain, so the value enters no summary."
)
SMOKE_NOTE = "Smoke: fewer than 2048 generated images, far too few to compare with other work."
MISSING = "–"
_ARROWS = {"lower": "lower is better", "higher": "higher is better", "none": "no direction"}
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "ε": r"$\varepsilon$",
    "λ": r"$\lambda$",
    "†": r"$^\dagger$",
    "–": "--",
}


@dataclass(frozen=True)
class Table:
    """A table as text: a title, what it shows, cells and footnotes."""

    title: str
    caption: str
    header: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


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


def decimals_for(values: Sequence[float]) -> int:
    """Decimals that give the largest value four digits and the smallest two; 6 at most."""
    sizes = [abs(value) for value in values if value != 0]
    if not sizes:
        return 1
    largest, smallest = math.floor(math.log10(max(sizes))), math.floor(math.log10(min(sizes)))
    return min(6, max(0, 3 - largest, 1 - smallest))


def _cell(row: pd.Series, decimals: int, mixed: bool) -> str:
    text = f"{row['mean']:.{decimals}f}"
    if row["seeds"] > 1:
        text += f" ± {row['half_width']:.{decimals}f}"
    elif mixed:
        text += " (n=1)"
    return text if row["full_range"] else text + MARK


def milestone_table(rows: pd.DataFrame, what: str = "") -> Table:
    """Arms by milestones of the rows of one condition; nothing is picked as best."""
    first = rows.iloc[0]
    weights = f", {first['weights']} weights," if first["weights"] else ""
    smoke = "@" in first["metric"] and is_smoke(int(first["n_generated"]))
    summary = over_seeds(rows)
    decimals = decimals_for(summary["mean"].tolist())
    mixed = summary["seeds"].nunique() > 1
    cells = {
        (row["arm"], row["step"]): _cell(row, decimals, mixed) for _, row in summary.iterrows()
    }
    steps = sorted(set(summary["step"]))
    arms = arm_order(rows)
    notes = [] if summary["full_range"].all() else [HOLLOW_NOTE]
    return Table(
        title=f"{first['metric']}{what}{weights} by training step ({_ARROWS[first['direction']]})"
        + (" [smoke]" if smoke else ""),
        caption=f"{_condition_text(rows)}. {_seed_text(summary['seeds'])}.",
        header=("arm", *(f"step {step}" for step in steps)),
        body=tuple((arm, *(cells.get((arm, step), MISSING) for step in steps)) for arm in arms),
        notes=tuple([*notes, SMOKE_NOTE] if smoke else notes),
    )


def _numbers(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The full numbers of a condition, a row per arm and milestone."""
    summary = over_seeds(rows).rename(columns={"half_width": "half_width_95"})
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
    lead = ["metric", "arm", "step", "mean", "half_width_95", "seeds", "full_range", "smoke"]
    return summary[[*lead, "direction", "dataset", *same]]


def fid_vs_steps(frame: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """The primary distance at the milestones: a table per metric name and condition, and numbers.

    Args:
        frame: the frame of a study's rows.
    """
    parts = split_conditions(distance_rows(frame))
    numbers = [_numbers(part, part["metric"].iloc[0]) for part in parts]
    return [milestone_table(part) for part in parts], _stack(numbers)


def kid_and_eps_mse(frame: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """KID and the held-out ε-MSE, averaged over the noise levels, in the same manner."""
    kid = split_conditions(frame[frame["metric"].str.startswith("KID")])
    profiles = split_conditions(frame[frame["metric"] == EPS_MSE])
    tables = [milestone_table(part) for part in kid]
    numbers = [_numbers(part, part["metric"].iloc[0]) for part in kid]
    for part in profiles:
        what = f" (mean over {part['level'].nunique()} noise levels)"
        mean = mean_over_levels(part)
        tables.append(milestone_table(mean, what))
        numbers.append(_numbers(mean, EPS_MSE + what))
    return tables, _stack(numbers)


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


def _plain(cell: str) -> str:
    """Arm names such as ``density*`` must not become Markdown."""
    return "".join(f"\\{character}" if character in "|*_" else character for character in cell)


def to_markdown(table: Table) -> str:
    """The table as a Markdown section."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_plain(cell) for cell in cells) + " |"

    rule = "| --- |" + " ---: |" * (len(table.header) - 1)
    rows = [line(table.header), rule, *(line(row) for row in table.body)]
    parts = [f"### {table.title}", table.caption, "\n".join(rows), *table.notes]
    return "\n\n".join(parts) + "\n"


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def to_latex(table: Table, label: str) -> str:
    """The table as a LaTeX float; needs the package booktabs and no other."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(_escape(cell) for cell in cells) + r" \\"

    caption = _escape(" ".join([f"{table.title}.", table.caption, *table.notes]))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        line(table.header),
        r"\midrule",
        *(line(row) for row in table.body),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


_TABLES: dict[str, Callable[[pd.DataFrame], tuple[list[Table], pd.DataFrame]]] = {
    "fid_vs_steps": fid_vs_steps,
    "kid_and_eps_mse": kid_and_eps_mse,
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
