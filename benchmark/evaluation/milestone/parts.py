"""The parts that a milestone's results come in; never imports torch."""

from typing import Literal

from benchmark.study.study import EvaluationConfig

Part = Literal["own", "stitched"]


def parts_of(evaluation: EvaluationConfig) -> tuple[Part, ...]:
    """What a milestone is scored in: by itself, and stitched to a finisher that must be trained."""
    return ("own", "stitched") if "stitched" in evaluation.metrics else ("own",)
