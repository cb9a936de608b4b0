"""What people and other commands read of a difficulty run: tables, a figure, measured orders."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.difficulty.convergence import UNITS
from benchmark.difficulty.setting import HELD_OUT
from benchmark.difficulty.yardsticks import (
    Correlation,
    Measured,
    Yardstick,
    median_of_known,
    rank_correlation,
    verdict,
    yardsticks,
)
from benchmark.reporting.tables.as_text import Table, to_csv, to_markdown
from mindiffusion.files import remove_stale, write_json, write_text

_TABLES, _MEASURED = "tables", "measured"


def write_outcome(measured: Measured) -> str:
    """Write tables, figure and measured orders; returns the verdicts as people read them.

    Args:
        measured: the rows of a whole run.
    """
    folder, found = Path(measured.setting.folder), yardsticks(measured)
    orders = _orders_table(measured, found)
    tables: dict[str, tuple[Sequence[Table], pd.DataFrame]] = {
        "difficulty": ((orders, _verdict_table(measured, found)), _orders_numbers(measured, found)),
        "convergence": ((_convergence_table(measured),), _convergence_numbers(measured)),
        "agreement": ((_agreement_table(found),), _agreement_numbers(found)),
    }
    for name, (shown, numbers) in tables.items():
        stem = folder / _TABLES / name
        write_text(stem.with_suffix(".csv"), to_csv(numbers))
        write_text(stem.with_suffix(".md"), "\n".join(map(to_markdown, shown)))
    _write_measured(measured, found, folder / _MEASURED)
    _draw(measured, found, folder / "figures" / "difficulty")
    return _text(measured, found)


def difficulties(measured: Measured, yardstick: Yardstick) -> list[float] | None:
    """A number for each interval, higher is harder; None where one has no value.

    What was not reached during the run counts as its last step: ties at the end of the order.
    """
    values = np.where(np.isinf(yardstick.middle), _last(measured), yardstick.middle)
    return None if np.isnan(values).any() else [float(value) for value in values]


def _last(measured: Measured) -> float:
    return float(measured.steps[-1])


def _write_measured(measured: Measured, found: Sequence[Yardstick], folder: Path) -> None:
    """A document for each yardstick: the process, the edges of the intervals, their difficulty."""
    written = []
    for yardstick in found:
        values = difficulties(measured, yardstick)
        if values is None:
            continue
        path = folder / f"{yardstick.name.replace('/', '-')}.json"
        write_json(
            path,
            {
                "process": measured.setting.run.process.kind,
                "noise": str(measured.setting.run.process.noise),
                "edges": list(measured.setting.edges),
                "difficulty": values,
            },
        )
        written.append(path)
    owned = (folder / f"{one.name.replace('/', '-')}.json" for one in found)
    remove_stale(owned, written)


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "not reached" if math.isinf(value) else f"{value:.3g}"


def _medians(values: np.ndarray) -> list[str]:
    """Medians over seeds (S, N) → N words, which say how many seeds are known if not all are."""
    known = (~np.isnan(values)).sum(axis=0).tolist()
    return [
        _number(float(middle))
        + (f" ({count} of {len(values)} seeds)" if 0 < count < len(values) else "")
        for middle, count in zip(median_of_known(values), known, strict=True)
    ]


def _correlation(found: Correlation) -> str:
    if math.isnan(found.value):
        return "–"
    if found.interval is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} ({found.interval[0]:.2f} to {found.interval[1]:.2f})"


def _caption(measured: Measured) -> str:
    setting, count = measured.setting, len(measured.setting.seeds)
    return (
        f"{setting.run.data.dataset}, process {setting.run.process.kind}, {setting.run.model.words}"
        f", {count} training seed{'s' * (count > 1)}, {_last(measured):.0f} steps, "
        f"{setting.run.process.loss_words}, code "
        f"{measured.code}. Noise time 1 is pure noise. {_images(measured)}"
    )


def _images(measured: Measured) -> str:
    """What intervals over seeds hold for."""
    known = measured.num_held_out
    if measured.shares_held_out and len(measured.setting.seeds) > 1:
        return (
            f"Seeds share images of the {known} that are held out: intervals of nets hold for "
            "these images alone."
        )
    return f"Each seed's errors are of {min(HELD_OUT, known)} held-out images of its own."


def _orders_table(measured: Measured, found: Sequence[Yardstick]) -> Table:
    body = tuple(
        (one.title, *_medians(one.values), _correlation(one.with_low_noise)) for one in found
    )
    return Table(
        "Difficulty by interval",
        f"{_caption(measured)} Medians over seeds; more is harder.",
        ("yardstick", *measured.setting.labels, "rank correlation with low noise"),
        body,
        (
            "The rank correlation is Spearman's, mean over seeds with its 95 % t interval; closed "
            "forms have no seeds. An excess below 0 is an error below the linear denoiser's. Not "
            "reached: not by the last step, in half of the seeds or more.",
        ),
    )


def _verdict_table(measured: Measured, found: Sequence[Yardstick]) -> Table:
    labels = measured.setting.labels
    return Table(
        "Is low noise harder?",
        f"One verdict for each yardstick. Nets have the {measured.setting.run.process.loss_words}. "
        f"{_images(measured)}",
        ("yardstick", "verdict"),
        tuple((one.title, verdict(one, labels)) for one in found),
    )


def _orders_numbers(measured: Measured, found: Sequence[Yardstick]) -> pd.DataFrame:
    edges = measured.setting.edges
    rows: list[dict[str, Any]] = []
    for one in found:
        correlation = one.with_low_noise
        low, high = correlation.interval or (np.nan, np.nan)
        for seed, values in enumerate(one.values):
            for i, value in enumerate(values):
                rows.append(
                    {"yardstick": one.name, "seed": seed, "t_low": edges[i], "t_high": edges[i + 1]}
                    | {"value": value, "rank_correlation": correlation.value}
                    | {"rank_correlation_low": low, "rank_correlation_high": high}
                    | {"loss": measured.setting.run.process.loss_words}
                )
    return pd.DataFrame(rows)


def _convergence_table(measured: Measured) -> Table:
    columns: dict[str, list[str]] = {}
    for unit in UNITS:
        columns[f"at the end, {unit}"] = _medians(measured.excess(unit)[:, :, -1])
    columns["mean picture, eps"] = _medians(measured.mean_picture("eps"))
    for unit in UNITS:
        columns[f"joint share, {unit}"] = _medians(measured.joint_shares(unit))
    return Table(
        "Convergence by interval",
        f"{_caption(measured)} Error above the linear denoiser's over that of the untrained net: 1 "
        "at the start, 0 like the linear denoiser, below 0 better. Joint share: of all that the "
        "jointly trained net is above the linear denoiser, at its end. Medians over seeds.",
        ("interval", *columns),
        tuple(
            (label, *(column[i] for column in columns.values()))
            for i, label in enumerate(measured.setting.labels)
        ),
    )


def _convergence_numbers(measured: Measured) -> pd.DataFrame:
    edges, steps = measured.setting.edges, measured.steps
    rows = []
    for unit in UNITS:
        for (seed, i, k), value in np.ndenumerate(measured.excess(unit)):
            at = {"unit": unit, "seed": seed, "t_low": edges[i], "t_high": edges[i + 1]}
            rows.append(at | {"step": int(steps[k]), "relative_excess": float(value)})
    return pd.DataFrame(rows)


def _agreement(found: Sequence[Yardstick]) -> np.ndarray:
    """(Y, Y) rank correlations of the yardsticks' medians."""
    return np.array([[rank_correlation(a.middle, b.middle) for b in found] for a in found])


def _agreement_table(found: Sequence[Yardstick]) -> Table:
    numbers = [str(i + 1) for i in range(len(found))]
    return Table(
        "Do the yardsticks agree?",
        "Spearman's rank correlations of their medians over the intervals.",
        ("yardstick", *numbers),
        tuple(
            (f"{i} {one.title}", *("–" if np.isnan(value) else f"{value:.2f}" for value in line))
            for i, (one, line) in enumerate(zip(found, _agreement(found), strict=True), 1)
        ),
    )


def _agreement_numbers(found: Sequence[Yardstick]) -> pd.DataFrame:
    names = [one.name for one in found]
    return pd.DataFrame(_agreement(found), columns=names).assign(yardstick=names)[
        ["yardstick", *names]
    ]


def _draw(measured: Measured, found: Sequence[Yardstick], stem: Path) -> None:
    from plots.figures.difficulty import Order, figure
    from plots.style import paper_style, save

    labels = [label.removeprefix("t ") for label in measured.setting.labels]
    orders = []
    for one in found:
        correlation = one.with_low_noise
        orders.append(Order(one.title, one.middle, correlation.value, correlation.interval))
    with paper_style():
        drawn = figure(
            measured.steps,
            median_of_known(measured.excess("eps")),
            labels,
            orders,
            _agreement(found),
            _notes(measured),
        )
        save(drawn, stem)


def _notes(measured: Measured) -> list[str]:
    run, count = measured.setting.run, len(measured.setting.seeds)
    return [
        run.data.dataset,
        f"process {run.process.kind}",
        run.process.loss_words,
        f"n={count} seed{'s' * (count > 1)}",
    ]


def _text(measured: Measured, found: Sequence[Yardstick]) -> str:
    """The verdicts, one line each."""
    width = max(len(one.title) for one in found)
    lines = [
        f"{one.title:<{width}}  {_correlation(one.with_low_noise):<22} "
        f"{verdict(one, measured.setting.labels)}"
        for one in found
    ]
    head = "Is low noise harder? By yardstick, with its rank correlation with low noise:"
    return "\n".join([head, *lines, f"Tables, figure, orders: {measured.setting.folder}"])
