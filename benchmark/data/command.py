"""The command that looks at a source of images before it is prepared: data."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindiffusion.cli import add_set_option

if TYPE_CHECKING:
    from mindiffusion.data.spec import DataConfig


def add_commands(commands: Any) -> None:
    """Add this room's commands to the parser's."""
    data = commands.add_parser("data", help="show what images would become, before preparing them")
    data.add_argument(
        "source",
        help="avatars, celeba, photos, a folder or zip of images, a preset, or a study",
    )
    data.add_argument("--output", type=Path, metavar="PNG", help="write a contact sheet there")
    data.add_argument(
        "--images", type=int, default=512, metavar="N", help="to look at (default 512)"
    )
    add_set_option(data, "such as data.size=64 or data.captions=auto; repeatable")
    data.set_defaults(run=_data)


def _data(options: argparse.Namespace) -> int:
    from benchmark.data.look import look_at, write_sheet
    from benchmark.data.told import told

    look = look_at(_config(options.source, options.overrides), options.images)
    print("\n".join(told(look)))
    if options.output is not None:
        write_sheet(options.output, look)
        print(f"contact sheet: {options.output}")
    return 0


def _config(source: str, overrides: list[str]) -> "DataConfig":
    """The data set that a source names: of a preset, of a study, or the source itself."""
    from benchmark.study.study import Study, load_study, study_names
    from mindiffusion.config.presets import (
        apply_overrides,
        build_config,
        load_preset,
        preset_names,
    )
    from mindiffusion.config.run import check
    from mindiffusion.data.spec import DataConfig
    from mindiffusion.errors import UserError

    if source in study_names() or source.endswith((".yaml", ".yml")):
        study = load_study(source, overrides=overrides)
        if not isinstance(study, Study):
            raise UserError(f"{study.name} draws its samples as it trains: there are no images.")
        return study.runs[0].data
    if source in preset_names():
        return build_config(apply_overrides(load_preset(source), overrides), source).data
    content = apply_overrides({"data": {"dataset": source}}, overrides)
    if set(content) != {"data"}:
        raise UserError(
            f"--set changes {', '.join(sorted(set(content) - {'data'}))}, but a source of images "
            "has settings of data only, such as data.size=64."
        )
    config: DataConfig = check(DataConfig, content["data"], "--set")
    return config
