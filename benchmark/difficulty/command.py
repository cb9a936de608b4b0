"""The command that measures which noise levels are hard: difficulty."""

import argparse
from pathlib import Path
from typing import Any

from mindiffusion.cli import add_set_option
from mindiffusion.config.process import PROCESSES


def add_commands(commands: Any) -> None:
    """Add this room's commands to the parser's."""
    difficulty = commands.add_parser("difficulty", help="measure which noise levels are hard")
    difficulty.add_argument("dataset", help="avatars, celeba, photos, or a folder or zip of images")
    difficulty.add_argument(
        "--process", metavar="KIND", help=f"how noise is added: {', '.join(PROCESSES)}"
    )
    difficulty.add_argument(
        "--intervals", type=int, default=10, metavar="N", help="of equal noise time (default 10)"
    )
    difficulty.add_argument(
        "--num-seeds", type=int, default=3, metavar="S", help="training seeds (default 3)"
    )
    difficulty.add_argument(
        "--output", type=Path, help="folder of the results; default results/difficulty-DATASET"
    )
    add_set_option(
        difficulty, "of all nets, such as training.steps=1000 or model.n_feat=16; repeatable"
    )
    difficulty.set_defaults(run=_difficulty)


def _difficulty(options: argparse.Namespace) -> int:
    from benchmark.difficulty.setting import make_setting

    setting = make_setting(
        options.dataset,
        options.process,
        options.intervals,
        options.num_seeds,
        options.output,
        options.overrides,
    )
    from benchmark.difficulty.measure import measure_difficulty

    return measure_difficulty(setting)
