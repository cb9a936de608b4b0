"""The command that measures this machine: speed."""

import argparse
from pathlib import Path
from typing import Any

from benchmark.speed.networks import NETWORK_PARTS
from mindiffusion.cli import add_set_option


def add_commands(commands: Any) -> None:
    """Add this room's commands to the parser's."""
    speed = commands.add_parser("speed", help="measure this machine beside plain ways to train")
    speed.add_argument("presets", nargs="*", help="such as celeba_b_32; the four arms if none")
    speed.add_argument(
        "--part",
        default="training",
        help="training (default), preparation, sampling, evaluation, scaling, busy, or of another "
        f"network: {', '.join(NETWORK_PARTS)}",
    )
    speed.add_argument(
        "--evaluation", dest="part", action="store_const", const="evaluation", help="that part"
    )
    speed.add_argument("--repeats", type=int, default=5, help="turns of every row")
    speed.add_argument("--json", type=Path, help="keep the table, and each turn, in this file")
    add_set_option(
        speed, "such as model.n_feat=64, or data.num_train=20000 for the number of pictures"
    )
    speed.set_defaults(run=_speed)


def _speed(options: argparse.Namespace) -> int:
    from benchmark.speed.measure import speed

    return speed(options.part, options.presets, options.overrides, options.repeats, options.json)
