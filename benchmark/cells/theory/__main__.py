"""``python -m benchmark.cells.theory DOCUMENT``: a process of a study of the theory does its share.

The command that people give starts these processes: see ``benchmark.cells.theory.run``.
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
            f"give the one document of a share, not {len(words)} words; people start studies "
            "with: python -m benchmark reproduce."
        )
    load_settings()
    yield_cores()
    from benchmark.cells.theory.run import do_share

    return do_share(Path(words[0]))


if __name__ == "__main__":
    leave(main())
