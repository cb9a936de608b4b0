"""The parts that a milestone's results come in; never imports torch."""

from typing import Literal

from benchmark.study.study import EvaluationConfig

Part = Literal["own", "stitched", "cka"]


def parts_of(evaluation: EvaluationConfig) -> tuple[Part, ...]:
    """What a milestone is scored in: by itself, and by what other runs must be trained for.

    "stitched" needs a finisher, "cka" the milestones that layers are compared with.
    """
    waiting: tuple[Part, ...] = ("stitched", "cka")
    return ("own", *(part for part in waiting if part in evaluation.metrics))
