"""``python -m plots DIR``: rebuild a study's figures from its rows."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mindiffusion.errors import guarded
from plots.build import write_figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the figures and name them; 2 with one line on stderr after a user's error."""
    parser = argparse.ArgumentParser(prog="python -m plots", description=__doc__)
    parser.add_argument("study", metavar="DIR", type=Path, help="folder with a rows.jsonl")
    options = parser.parse_args(arguments)
    return guarded(lambda: _write(options.study))


def _write(study: Path) -> int:
    for path in write_figures(study):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
