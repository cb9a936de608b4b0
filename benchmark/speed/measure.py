"""One part of ``benchmark speed`` by its name: measured, printed and, if asked, kept."""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.speed.networks import NETWORK_PARTS
from benchmark.speed.report import Report
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.training.signals import Interrupted
from mindiffusion.writable import try_file

PARTS = ("training", "preparation", "sampling", "evaluation", "scaling", "busy", *NETWORK_PARTS)


def speed(
    part: str,
    presets: Sequence[str],
    overrides: list[str],
    repeats: int,
    json_path: Path | None,
) -> int:
    """Measure one part.

    Args:
        part: one of ``PARTS``.
        presets: what to measure; the part's own choice if there are none.
        overrides: ``--set`` words.
        repeats: turns of each row.
        json_path: where to keep the report.

    Raises:
        UserError: unknown part or preset, no repeats, a folder that can't be written to.
    """
    if part not in PARTS:
        raise UserError(f"unknown part {part!r}.{did_you_mean(part, PARTS)}")
    if repeats < 1:
        raise UserError(f"--repeats is {repeats}; give 1 or more, 5 for a table to keep.")
    if json_path is not None:
        try_file(json_path)
    try:
        report = _measure(part, presets, overrides, repeats)
    except Interrupted as stop:
        print("stopped; nothing is kept of a table that is not whole.", file=sys.stderr)
        return 128 + stop.signal_number
    if json_path is not None:
        report.write(json_path)
        if part == "scaling":
            _draw_scaling(report, json_path)
    print(report.text())
    return 0


def _measure(part: str, presets: Sequence[str], overrides: list[str], repeats: int) -> Report:
    if part == "preparation":
        from benchmark.speed.parts.preparation import preparation

        return preparation(overrides, repeats)
    if part == "training":
        from benchmark.speed.parts.training import training

        return training(presets, overrides, repeats)
    if part in NETWORK_PARTS:
        from benchmark.speed.parts.networks import of_network

        return of_network(part, overrides, repeats)
    from benchmark.speed.setting import PRESETS

    preset = presets[0] if presets else PRESETS[0]
    if part == "sampling":
        from benchmark.speed.parts.sampling import sampling

        return sampling(preset, overrides, repeats)
    if part == "evaluation":
        from benchmark.speed.parts.evaluation import evaluation

        return evaluation(preset, overrides, repeats)
    if part == "busy":
        from benchmark.speed.parts.busy import busy

        return busy(preset, overrides, repeats)
    from benchmark.speed.parts.scaling import scaling

    return scaling(preset, overrides, repeats)


def _draw_scaling(report: Report, json_path: Path) -> None:
    from plots.figures.scaling import figure
    from plots.style import paper_style, save

    with paper_style():
        save(figure(report.rows), json_path)
