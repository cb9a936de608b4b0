"""The commands that draw and score images, and pass weights on: sample, evaluate, export."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindiffusion.cli import add_set_option
from mindiffusion.config.presets import apply_overrides, build_config, load_preset
from mindiffusion.config.run import RunConfig
from mindiffusion.errors import UserError

_WEIGHTS = "a weights-<step>.pt, what was exported of one, or a folder with nnet_ema.pth"


def add_commands(commands: Any) -> None:
    """Add this room's commands to the parser's."""
    sample = commands.add_parser("sample", help="sample images from a milestone's weights")
    sample.add_argument("checkpoint", type=Path, help=_WEIGHTS)
    sample.add_argument("--count", type=int, default=64, help="number of images")
    sample.add_argument("--weights", help="raw or an average such as ema0.9999")
    sample.add_argument(
        "--output",
        type=Path,
        default=Path("samples.png"),
        help="a .png grid, or a .npy array (N, H, W, 3) uint8",
    )
    sample.add_argument("--seed", type=int, help="sampling seed")
    sample.add_argument(
        "--class", dest="shown", metavar="CLASS", help="what all images show, by name or number"
    )
    sample.add_argument(
        "--prompt", help="what all images show, in words; of a network that reads text"
    )
    sample.add_argument(
        "--interactive",
        action="store_true",
        help="ask for prompts or classes, one after the other, and write the output again",
    )
    sample.add_argument(
        "--guidance", type=float, help="strength of guidance: 1 is none, 0 leaves classes out"
    )
    _add_preset_option(sample)
    add_set_option(sample, "with --preset: change one value of it, such as sampler.steps=20")
    sample.set_defaults(run=_sample)
    _add_evaluate(commands)
    export = commands.add_parser("export", help="keep one set of weights as a .safetensors file")
    export.add_argument("checkpoint", type=Path, help="a weights-<step>.pt")
    export.add_argument("output", type=Path, help="the .safetensors file to write")
    export.add_argument("--weights", help="raw or an average; default: the primary average")
    export.set_defaults(run=_export)


def _add_preset_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset", help="for a folder with nnet_ema.pth or nnet.pth: the preset of its network"
    )


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="score a run, a checkpoint, or any images")
    evaluate.add_argument(
        "path", type=Path, help=f"a run's folder, {_WEIGHTS}; or images: a folder, zip or npy"
    )
    evaluate.add_argument(
        "--metrics", metavar="A,B", help="such as fd,kd,prdc,is,memorisation; default: what fits"
    )
    evaluate.add_argument(
        "--net", action="append", default=[], help="feature net, the primary one first; repeatable"
    )
    evaluate.add_argument(
        "--reference",
        type=Path,
        help="for images: what they are held against, images or a data folder",
    )
    evaluate.add_argument("--finisher", type=Path, help="for a run: what finishes stitched samples")
    evaluate.add_argument(
        "--against", type=Path, help="for a run: another one, whose layers the metric cka compares"
    )
    evaluate.add_argument("--json", type=Path, help="for images: keep the results in this file")
    _add_preset_option(evaluate)
    add_set_option(
        evaluate,
        "for a run, such as evaluation.num_generated=2048; with --preset any value of that too; "
        "repeatable",
    )
    evaluate.set_defaults(run=_evaluate)


def _sample(options: argparse.Namespace) -> int:
    from benchmark.evaluation.images.sample import draw
    from benchmark.evaluation.images.wish import Wish

    told = _told(options.preset, options.overrides)
    wish = Wish(options.seed, options.shown, options.guidance, options.prompt)
    asked = sys.stdin if options.interactive else None
    path, weights = options.checkpoint, options.weights
    return draw(path, options.count, weights, options.output, wish, told, asked)


def _export(options: argparse.Namespace) -> int:
    from benchmark.evaluation.images.export import export

    return export(options.checkpoint, options.output, options.weights)


def _told(preset: str | None, overrides: Sequence[str]) -> RunConfig | None:
    """The config that the options tell of weights that come without one."""
    if preset is None:
        if overrides:
            raise UserError(
                f"--set {overrides[0]} changes a preset; give --preset too, or leave it out: other "
                "weights have their config in their file."
            )
        return None
    content = apply_overrides(load_preset(preset), overrides)
    return build_config(content, f"preset {preset}")


def _is_of_preset(override: str, preset: str | None) -> bool:
    """Whether a ``--set`` of ``evaluate`` changes the preset that it is given, not the scoring."""
    return preset is not None and re.split("[.=]", override)[0] != "evaluation"


def _evaluate(options: argparse.Namespace) -> int:
    from benchmark.evaluation.evaluate_images import evaluate_images
    from benchmark.evaluation.evaluate_run import evaluate_run, is_run_or_checkpoint, run_evaluation
    from benchmark.study.choice import words_of

    metrics = words_of(options.metrics, "--metrics") if options.metrics else None
    is_run = is_run_or_checkpoint(options.path)
    idle = ("reference", "json") if is_run else ("finisher", "against", "preset", "overrides")
    for name in idle:
        if getattr(options, name):
            word = "set" if name == "overrides" else name
            kinds, what = (
                ("images", "is a run or a checkpoint")
                if is_run
                else ("runs and checkpoints", "holds images")
            )
            raise UserError(
                f"--{word} applies only to {kinds}, but {options.path} {what}; remove the option."
            )
    if is_run:
        of_preset = [word for word in options.overrides if _is_of_preset(word, options.preset)]
        of_scoring = [word for word in options.overrides if word not in of_preset]
        evaluation = run_evaluation(metrics, options.net, of_scoring)
        told = _told(options.preset, of_preset)
        return evaluate_run(options.path, evaluation, options.finisher, told, options.against)
    return evaluate_images(options.path, options.reference, options.net, metrics, options.json)
