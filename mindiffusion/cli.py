"""The train scripts' command line: options, one clear line per mistake, exit codes.

Exit codes: 0 done, 1 or 2 bad input, 70 a fault of the program, 129, 130 and 143 stopped by SIGHUP,
SIGINT or SIGTERM with the state saved.
"""

import argparse
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from dotenv import load_dotenv

from mindiffusion.config.plan import Plan, resolve_plan
from mindiffusion.config.presets import apply_overrides, build_config, load_preset, merge
from mindiffusion.config.run import RunConfig, to_dict
from mindiffusion.errors import UserError, guarded, leave
from mindiffusion.machine import yield_cores
from mindiffusion.outside.documents import read_text

_MOST_SETTINGS_BYTES = 1_000_000
_log = logging.getLogger(__name__)
SMOKE = {
    "data": {"num_train": 256, "num_held_out": 32},
    "training": {"milestones": [1], "compile": "off"},
    "sampler": {"steps": 5, "grid": 8, "chunk": 8},
}


def add_seed_option(parser: argparse.ArgumentParser) -> None:
    """``--seed``, which an entry to one run has."""
    parser.add_argument("--seed", type=int, help="training seed; runs live in seed<k>/")


def add_run_options(
    parser: argparse.ArgumentParser,
    output: str = "folder of checkpoints and sample grids",
    smoke: str = "one step and one small grid",
) -> None:
    """The options that every entry to training has; what two of them mean may differ."""
    parser.add_argument("--output", help=output)
    parser.add_argument("--dataset", help="avatars, celeba, photos, or a folder or zip of images")
    parser.add_argument("--global-batch", type=int, help="images per step over all ranks")
    add_set_option(parser, "change one value of the config, such as training.lr=1e-4; repeatable")
    parser.add_argument("--smoke", action="store_true", help=smoke)
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be done, or what is wrong"
    )


def add_set_option(parser: argparse.ArgumentParser, explanation: str) -> None:
    """``--set KEY=VALUE``, as often as wanted, collected in ``overrides``."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help=explanation,
    )


def config_from_options(preset: str, options: argparse.Namespace) -> RunConfig:
    """The preset with the options laid over it."""
    content = load_preset(preset)
    given: dict[str, object] = {"seed": options.seed}
    if options.output is not None:
        given |= {"output": options.output}
        content["samples"] = None
    if options.dataset is not None:
        given["data"] = {"dataset": options.dataset}
    if options.global_batch is not None:
        given["training"] = {"global_batch": options.global_batch}
    content = merge(content, {key: value for key, value in given.items() if value is not None})
    content = apply_overrides(content, options.overrides)
    if options.smoke:
        content = merge(content, SMOKE)
        for folder in ("output", "samples"):
            if content.get(folder):
                content[folder] = str(Path(content[folder]) / "smoke")
    return build_config(content, f"preset {preset}")


def describe(config: RunConfig) -> str:
    """The resolved config as JSON, with the steps of its stages and milestones.

    Raises:
        UserError: what a real start would refuse too.
        OSError: likewise.
    """
    from mindiffusion.data.store import num_classes, num_train_images
    from mindiffusion.training.preflight import preflight
    from mindiffusion.training.ranks import ranks_from_environment

    content, num_train, classes = to_dict(config), None, None
    try:
        num_train, classes = num_train_images(config.data), num_classes(config.data)
    except UserError as error:
        content["resolved"] = f"not known yet: {error}"
    for note in preflight(config, num_train, ranks_from_environment().world, classes):
        _log.warning("%s", note)
    if num_train is not None:
        resolved = resolve_plan(config, num_train)
        content["resolved"] = {
            "total_steps": resolved.total_steps,
            "stages": _spans(resolved),
            "milestones": list(resolved.milestones),
        }
    return json.dumps(content, indent=2)


def _spans(plan: Plan) -> dict[str, list[int | None]]:
    """First step of each stage, and the one past its last; null where the run will decide it."""
    starts: list[int | None] = [stage.start for stage in plan.pacer().stages]
    starts += [None] * (len(plan.curriculum) - len(starts))
    ends = [*starts[1:], plan.total_steps]
    return {
        stage.name: [start, end]
        for stage, start, end in zip(plan.curriculum, starts, ends, strict=True)
    }


def train_preset(preset: str, options: argparse.Namespace) -> int:
    """Train one preset with these options; what a train script does."""
    config = config_from_options(preset, options)
    if options.dry_run:
        print(describe(config))
        return 0
    from mindiffusion.training.console import train_on_console

    return train_on_console(config, stop_after=1 if options.smoke else None)


def load_settings(path: Path = Path(".env")) -> None:
    """Take over the variables of a ``.env``; those that are set already stand.

    Raises:
        UserError: it is not UTF-8, too large, or holds what no variable can hold.
    """
    if not path.is_file():  # some keep a virtual environment in a folder of that name
        return
    text = read_text(path, _MOST_SETTINGS_BYTES)
    try:
        if "\0" in text:
            raise ValueError("a zero byte")
        load_dotenv(stream=io.StringIO(text))
    except ValueError as error:
        raise UserError(
            f"{path}: no variable can hold what it says ({error}); write NAME=value lines as UTF-8."
        ) from None


def main(preset: str, argv: Sequence[str] | None = None) -> None:
    """Entry of the train scripts: parse the options, train, exit.

    Args:
        preset: name of the run's preset, such as "celeba_c_32".
        argv: arguments; those of the process if not given.
    """
    leave(guarded(lambda: _train_script(preset, argv)))


def _train_script(preset: str, argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(description=f"Train the preset {preset}.")
    add_seed_option(parser)
    add_run_options(parser)
    options = parser.parse_args(argv)
    load_settings()
    yield_cores()
    return train_preset(preset, options)
