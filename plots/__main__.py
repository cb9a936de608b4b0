"""``python -m plots DIR``: rebuild a study's figures from its rows."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.analysis.study_analysis import analyse
from mindiffusion.errors import guarded
from plots.build import write_figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the figures and name them; 2 with one line on stderr after a user's error."""
    return guarded(lambda: _command(arguments))


def _command(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m plots", description=__doc__)
    parser.add_argument("study", metavar="DIR", type=Path, help="folder with a rows.jsonl")
    folder = parser.parse_args(arguments).study
    for path in write_figures(analyse(folder), folder):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
