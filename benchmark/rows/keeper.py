"""Rows of a milestone added to those there are: new ones only, and never of another instrument."""

from collections.abc import Sequence
from pathlib import Path

from benchmark.rows.file import append_rows
from benchmark.rows.known_rows import known_rows
from benchmark.rows.metric_names import EPS_MSE
from benchmark.rows.row import Row, key
from mindiffusion.errors import UserError

INSTRUMENT = "instrument"
"""In a row's versions: which weights of a feature net, or which classifier, measured it."""


class Keeper:
    """Adds one run's rows to a file that other runs may be adding theirs to.

    Args:
        path: the file; there may be none yet.
        arm, seed: the run.
    """

    def __init__(self, path: Path, arm: str, seed: int) -> None:
        self._path = path
        self._run = (arm, seed)
        self._rows = known_rows(path)
        # Before anybody has read the file.
        self._rows.follow(arm, seed)

    def add(self, rows: Sequence[Row]) -> None:
        """Append the rows that are not there yet (a cut write, or another metric, left some).

        Args:
            rows: rows of the run.

        Raises:
            UserError: what is there was measured with another net's weights, another classifier or
                other noise levels; nothing is written.
        """
        path, known = self._path, self._rows.rows_of(*self._run)
        for row in rows:
            before = known.get(key(row), row)
            if before.versions.get(INSTRUMENT) != row.versions.get(INSTRUMENT):
                raise UserError(
                    f"{path} has {row.metric} of {row.arm}/{row.seed} measured by "
                    f"{before.versions.get(INSTRUMENT)}, now it is "
                    f"{row.versions.get(INSTRUMENT)}; keep results of two instruments apart: "
                    "choose another --output, or move the file."
                )
        _refuse_other_levels(path, list(known.values()), rows)
        append_rows(path, [row for row in rows if key(row) not in known])


def _refuse_other_levels(path: Path, known: Sequence[Row], rows: Sequence[Row]) -> None:
    """Means over noise levels are of one grid; a second one would mix with it unseen."""
    old, new = (_levels(some) for some in (known, rows))
    for cell, levels in new.items():
        if old.get(cell, levels) != levels:
            raise UserError(
                f"{path} has the profile of {cell[0]}/{cell[1]} at {len(old[cell])} noise levels, "
                f"now they are {len(levels)}; choose another --output, or move the file."
            )


def _levels(rows: Sequence[Row]) -> dict[tuple[object, ...], set[float | None]]:
    found: dict[tuple[object, ...], set[float | None]] = {}
    for row in rows:
        if row.metric == EPS_MSE:
            cell = (row.arm, row.seed, row.step, row.weights, row.n_reference, row.sampling_seed)
            found.setdefault((*cell, row.config_hash), set()).add(row.level)
    return found
