"""The commands that look at the instrument: selfcheck, doctor."""

import argparse
from pathlib import Path
from typing import Any

from mindiffusion.cli import add_set_option


def add_commands(commands: Any) -> None:
    """Add this room's commands to the parser's."""
    check = commands.add_parser("selfcheck", help="do the metrics say what they should, here?")
    check.add_argument("--net", action="append", default=[], help="feature net; else all at hand")
    check.add_argument("--count", type=int, default=1024, help="images in each set")
    check.add_argument("--json", type=Path, help="keep the results in this file")
    add_set_option(check, "of the data, such as data.dataset=celeba; repeatable")
    check.set_defaults(run=_selfcheck)
    own = commands.add_parser("doctor", help="versions, devices, weights, known-bad pairs")
    own.set_defaults(run=_doctor)


def _selfcheck(options: argparse.Namespace) -> int:
    from benchmark.selfcheck.check_nets import selfcheck

    return selfcheck(options.net, options.overrides, options.count, options.json)


def _doctor(options: argparse.Namespace) -> int:
    from benchmark.selfcheck.doctor import doctor

    return doctor()
