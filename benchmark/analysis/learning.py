"""How fast each arm learns: areas, steps to the baseline's end, and steps-equivalents."""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.analysis.curves import area_ratio, steps_equivalent, steps_to_reach
from benchmark.analysis.endpoint import Endpoint
from benchmark.analysis.scales import Scale
from benchmark.analysis.statistics import mean_and_interval
from benchmark.rows.frames import CONDITION, arm_order
from benchmark.rows.metric_names import base_name
from benchmark.study.arm_names import BASELINE

Floats = NDArray[np.float64]
_MEASURES = ("area", "steps_to_reach", "steps_equivalent")
_COLUMNS = (
    "arm",
    "seeds",
    "reached",
    *(f"{name}{part}" for name in _MEASURES for part in ("", "_half_width")),
)


def curve_rows(frame: pd.DataFrame, endpoint: Endpoint) -> pd.DataFrame:
    """The endpoint's metric at all milestones, measured as there but for the number of images.

    Of several numbers of images it is the one with the most milestones, then the largest: studies
    may score the last milestone alone with many. Values that have no place on the scale are left
    out.
    """
    names = [name for name in CONDITION if name not in ("metric", "n_generated")]
    rows = frame[(frame["metric"].map(base_name) == base_name(endpoint.metric))]
    rows = rows[endpoint.scale.takes(rows["value"])]
    rows = rows[(rows[names] == [endpoint.condition[name] for name in names]).all(axis=1)]
    by_n = rows.groupby("n_generated")["step"].nunique()
    return rows[rows["n_generated"] == max(by_n.index, key=lambda n: (by_n[n], n))]


def _per_seed(rows: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """A row per arm, seed and step: the value, a mean on the scale over sampling seeds."""
    places = rows.assign(value=scale.on(rows["value"]))
    cells = places.groupby(["arm", "seed", "step"], as_index=False).agg(
        value=("value", "mean"), full_range=("full_range", "all")
    )
    return cells.assign(value=scale.off(cells["value"]))


def baseline_curve(frame: pd.DataFrame, endpoint: Endpoint | None) -> tuple[Floats, Floats]:
    """B's valid milestones and its values there on their scale, means over seeds that have all.

    A curve measured with fewer images than the endpoint has is higher by a bias that hardly
    changes along it; it is moved by what both differ by at the last step.

    Returns:
        Steps, rising, and places on the scale; empty arrays without a finished B.
    """
    nothing = np.empty(0), np.empty(0)
    if endpoint is None or BASELINE not in endpoint.values:
        return nothing
    rows, scale = curve_rows(frame, endpoint), endpoint.scale
    cells = _per_seed(rows[(rows["arm"] == BASELINE) & rows["full_range"]], scale)
    table = cells.pivot_table(index="seed", columns="step", values="value").dropna()
    table = table.loc[table.index.intersection(endpoint.values[BASELINE].dropna().index)]
    if table.empty:
        return nothing
    values = scale.off(scale.on(table.to_numpy()).mean(axis=0))
    end = float(scale.off(endpoint.values.loc[table.index, BASELINE].mean()))
    # Points that the shift leaves without a place on the scale were all bias.
    moved = values - (values[-1] - end)
    kept = scale.takes(moved)
    return table.columns.to_numpy(dtype=np.float64)[kept], scale.on(moved[kept])


def worth_in_steps(change: float, curve: tuple[Floats, Floats]) -> float | None:
    """Share of B's steps, counted from its end, that changes B's value as much.

    Args:
        change: an effect; its sign does not matter.
        curve: steps and values of B on their scale, as from ``baseline_curve``.

    Returns:
        A share in [0, 1); None outside what was measured.
    """
    share = steps_equivalent(abs(change), *curve)
    return None if math.isnan(share) else 1 - share


def learning(
    frame: pd.DataFrame, endpoint: Endpoint | None, shape: tuple[Floats, Floats]
) -> pd.DataFrame:
    """How each arm's learning curve compares with B's of the same seed; valid milestones only.

    Args:
        frame: the frame of a study's rows.
        endpoint: what the curves lead to.
        shape: B's mean curve, of ``baseline_curve``.

    Returns:
        A row per arm with means over ``seeds`` training seeds and half widths of their 95 %
        Student-t intervals (NaN for one seed). ``area`` is the mean change from B over the span
        of steps valid in both; ``steps_to_reach`` the step at which the arm has B's last value,
        given where all seeds got there, with ``reached`` their number; ``steps_equivalent`` the
        share of B's steps that gives the value the arm ends with, NaN where it is better than B's.
        NaN where a seed leaves it open; no rows without a finished B.
    """
    if endpoint is None or BASELINE not in endpoint.values:
        return pd.DataFrame(columns=list(_COLUMNS))
    scale = endpoint.scale
    curves = dict(list(_per_seed(curve_rows(frame, endpoint), scale).groupby(["arm", "seed"])))
    lines: list[dict[str, object]] = []
    for arm in arm_order(frame):
        if arm not in endpoint.values:
            continue
        ends = endpoint.values[sorted({arm, BASELINE})].dropna()
        changes = ends[arm] - ends[BASELINE]
        measured = [
            (
                *_compare(curves[arm, seed], curves[BASELINE, seed], scale),
                steps_equivalent(change, *shape),
            )
            for seed, change in changes.items()
            if (arm, seed) in curves and (BASELINE, seed) in curves
        ]
        if measured:
            lines.append(_line(arm, np.array(measured)))
    return pd.DataFrame(lines, columns=list(_COLUMNS))


def _compare(own: pd.DataFrame, baseline: pd.DataFrame, scale: Scale) -> tuple[float, float]:
    """Area against the baseline's, and the step at which the baseline's last value is met."""
    curve, other = (
        (part["step"].to_numpy(), part["value"].to_numpy(), part["full_range"].to_numpy())
        for part in (own, baseline)
    )
    reached = steps_to_reach(*curve[:2], float(other[1][-1]), curve[2], scale)
    return area_ratio(curve, other, scale), reached


def _line(arm: str, measured: Floats) -> dict[str, object]:
    """Means over seeds of (seeds, 3) measures."""
    reached = int(np.isfinite(measured[:, _MEASURES.index("steps_to_reach")]).sum())
    line: dict[str, object] = {"arm": arm, "seeds": len(measured), "reached": reached}
    for name, values in zip(_MEASURES, measured.T, strict=True):
        line[name], line[f"{name}_half_width"] = _mean_of_all(values)
    return line


def _mean_of_all(values: Floats) -> tuple[float, float]:
    """Mean and half width; NaN if one is open, for a mean of the others would be of the best."""
    if not np.isfinite(values).all():
        return math.nan, math.nan
    summary = mean_and_interval(values)
    return summary.mean, math.nan if summary.half_width is None else summary.half_width
