"""The commands that draw and score images: sample, evaluate."""

import argparse
from pathlib import Path
from typing import Any

from mindiffusion.cli import add_set_option
from mindiffusion.errors import UserError


def add_commands(commands: Any) -> None:
    """Add this room's commands to the parser's."""
    sample = commands.add_parser("sample", help="sample images from a milestone's weights")
    sample.add_argument("checkpoint", type=Path, help="a weights-<step>.pt file")
    sample.add_argument("--count", type=int, default=64, help="number of images")
    sample.add_argument("--weights", help="raw or an average such as ema0.9999")
    sample.add_argument(
        "--output",
        type=Path,
        default=Path("samples.png"),
        help="a .png grid, or a .npy array (N, H, W, 3) uint8",
    )
    sample.add_argument("--seed", type=int, help="sampling seed")
    sample.set_defaults(run=_sample)
    _add_evaluate(commands)


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="score a run, a checkpoint, or any images")
    evaluate.add_argument(
        "path", type=Path, help="a run's folder, a weights-<step>.pt, or a folder, zip or npy"
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
    evaluate.add_argument("--json", type=Path, help="for images: keep the results in this file")
    add_set_option(evaluate, "for a run, such as evaluation.num_generated=2048; repeatable")
    evaluate.set_defaults(run=_evaluate)


def _sample(options: argparse.Namespace) -> int:
    from benchmark.evaluation.images.sample import draw

    return draw(options.checkpoint, options.count, options.weights, options.output, options.seed)


def _evaluate(options: argparse.Namespace) -> int:
    from benchmark.evaluation.evaluate_images import evaluate_images
    from benchmark.evaluation.evaluate_run import evaluate_run, is_run_or_checkpoint, run_evaluation
    from benchmark.study.choice import words_of

    metrics = words_of(options.metrics, "--metrics") if options.metrics else None
    is_run = is_run_or_checkpoint(options.path)
    idle = ("reference", "json") if is_run else ("finisher", "overrides")
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
        evaluation = run_evaluation(metrics, options.net, options.overrides)
        return evaluate_run(options.path, evaluation, options.finisher)
    return evaluate_images(options.path, options.reference, options.net, metrics, options.json)
