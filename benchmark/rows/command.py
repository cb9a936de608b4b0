"""The commands that keep and carry rows: merge, compress, pack, unpack."""

import argparse
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add this room's commands to the parser's."""
    merge = commands.add_parser("merge", help="join the results of several machines")
    merge.add_argument("folders", type=Path, nargs="+", help="results folders of one study")
    merge.add_argument("--output", type=Path, required=True, help="may be one of them")
    compress = commands.add_parser("compress", help="keep a finished study's rows compressed")
    compress.add_argument("folder", type=Path, help="a study's folder, such as results/avatars32")
    pack = commands.add_parser(
        "pack", help="a study on its way: rows and unfinished cells in files"
    )
    pack.add_argument("folder", type=Path, help="a study's folder, such as results/avatars32")
    pack.add_argument("output", type=Path, help="folder for the files")
    unpack = commands.add_parser("unpack", help="take such files into a study's folder")
    unpack.add_argument("packed", type=Path, help="the folder that pack wrote")
    unpack.add_argument("folder", type=Path, help="the study's folder, there already or not")
    merge.set_defaults(run=_merge)
    compress.set_defaults(run=_compress)
    pack.set_defaults(run=_pack)
    unpack.set_defaults(run=_unpack)


def _merge(options: argparse.Namespace) -> int:
    from benchmark.rows.merge import merge

    print(merge(options.folders, options.output))
    return 0


def _compress(options: argparse.Namespace) -> int:
    from benchmark.rows.merge import compress

    print(compress(options.folder))
    return 0


def _pack(options: argparse.Namespace) -> int:
    from benchmark.rows.pack import pack

    for path in pack(options.folder, options.output):
        print(path)
    return 0


def _unpack(options: argparse.Namespace) -> int:
    from benchmark.rows.pack import unpack

    print(unpack(options.packed, options.folder))
    return 0
