"""``python -m benchmark``: one command for each thing that can be done with runs and images."""

import argparse
from collections.abc import Sequence

from benchmark.cells import command as cells
from benchmark.data import command as data
from benchmark.difficulty import command as difficulty
from benchmark.evaluation import command as evaluation
from benchmark.reporting import command as reporting
from benchmark.rows import command as rows
from benchmark.selfcheck import command as selfcheck
from benchmark.speed import command as speed
from mindiffusion.cli import load_settings
from mindiffusion.errors import guarded, leave
from mindiffusion.machine import yield_cores

ROOMS = (cells, data, difficulty, evaluation, reporting, rows, selfcheck, speed)


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for room in ROOMS:
        room.add_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return guarded(lambda: _command(argv))


def _command(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    load_settings()
    yield_cores()
    code: int = options.run(options)
    return code


def script() -> None:
    """The console script ``curriculum-benchmark``."""
    leave(main())


if __name__ == "__main__":
    script()
