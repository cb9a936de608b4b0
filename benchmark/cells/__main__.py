"""``python -m benchmark.cells DOCUMENT``: a process of a study does what its document says.

The commands that people give start these processes: see ``benchmark.cells.assignment``.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from mindiffusion.cli import load_settings
from mindiffusion.errors import UserError, guarded, leave
from mindiffusion.machine import yield_cores


def main(argv: Sequence[str] | None = None) -> int:
    """Do what a document says; returns the exit code."""
    return guarded(lambda: _do(sys.argv[1:] if argv is None else argv))


def _do(words: Sequence[str]) -> int:
    if len(words) != 1:
        raise UserError(
            f"give the one document of a cell or a job, not {len(words)} words; people start "
            "studies with: python -m benchmark reproduce."
        )
    load_settings()
    yield_cores()
    from benchmark.cells.assignment import read_assignment
    from mindiffusion.data.store import take_over

    told = read_assignment(Path(words[0]))
    take_over(told.data)
    if told.side_by_side is None:
        from benchmark.cells.local import run_job

        return run_job(told.study, told.tasks)
    from benchmark.cells.cell import run_cell

    return run_cell(told.study, told.tasks, told.side_by_side)


if __name__ == "__main__":
    leave(main())
