"""Rows of networks that are told text: the prompts' words, and whether pictures go with them."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.evaluation.features.clip import (
    Clip,
    check_clip,
    clip_folder,
    clip_scores,
    open_clip,
)
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.yardstick import Yardstick
from benchmark.rows.keeper import INSTRUMENT
from benchmark.rows.metric_names import (
    CLIP_CHANCE,
    CLIP_REAL,
    CLIP_SCORE,
    PROMPT,
    metric_label,
)
from benchmark.rows.row import Row
from benchmark.study.metric_catalogue import metrics_needing
from benchmark.study.study import EvaluationConfig
from mindiffusion.config.run import RunConfig
from mindiffusion.data.names import ATTRIBUTES, AUTO
from mindiffusion.errors import UserError
from mindiffusion.printable import printable

_WORDS = 150
"""Characters of a prompt that a row's name holds."""


def check_text_metrics(evaluation: EvaluationConfig, config: RunConfig) -> None:
    """Refuse to hold pictures against captions that nobody is told, or that nobody can judge.

    Raises:
        UserError: the network reads no text, captions are not of avatars' attributes, or there is
            no CLIP.
    """
    data, wanted = config.data, set(evaluation.metrics)
    asked = sorted(metrics_needing("text") & wanted)
    if asked and config.model.text is None:
        raise UserError(
            f"evaluation.metrics has {asked[0]}, but the network of arm {config.arm!r} reads no "
            "captions (model.text); leave the metric out."
        )
    is_judged = data.dataset == "avatars" and data.captions in (AUTO, ATTRIBUTES)
    if "faithfulness" in wanted and not is_judged:
        raise UserError(
            "evaluation.metrics has faithfulness, which judges captions of avatars' attributes, "
            f"but data.dataset is {printable(data.dataset, 80)!r} with captions {data.captions!r}; "
            "leave it out, or give clip, which judges any caption."
        )
    if metrics_needing("clip") & wanted:
        check_clip(clip_folder())


def prompt_rows(milestone: Milestone, prompts: Sequence[str], start: str = PROMPT) -> Iterator[Row]:
    """The words that the strip's images are drawn by: names of rows, after the image's number.

    Args:
        milestone: the milestone.
        prompts: image k is drawn by prompt k modulo their number.
        start: how the names begin.
    """
    for place in range(milestone.evaluation.strip):
        words = printable(prompts[place % len(prompts)], _WORDS)
        yield milestone.row(f"{start}{place}/{words}", float(place))


def clip_rows(
    milestone: Milestone, yardstick: Yardstick, images: NDArray[np.uint8], common: dict[str, Any]
) -> Iterator[Row]:
    """How well images go with their prompts, mean over images, and with those of the next ones."""
    clip = open_clip(clip_folder(), yardstick.device)
    prompts, n = _prompt_vectors(yardstick), len(images)
    own = prompts[torch.arange(n) % len(prompts)]
    shown = clip.of_images(images)
    for name, texts, direction in (
        (CLIP_SCORE, own, "higher"),
        (CLIP_CHANCE, own.roll(-1, 0), "none"),
    ):
        fields = common | {"direction": direction}
        yield _clip_row(milestone, clip, metric_label(name, n), clip_scores(shown, texts), fields)


def real_clip_rows(milestone: Milestone, yardstick: Yardstick) -> Iterator[Row]:
    """How well held-out images go with their own prompts."""
    clip = open_clip(clip_folder(), yardstick.device)
    scores = _real_scores(yardstick)
    yield _clip_row(milestone, clip, CLIP_REAL, scores, {"n_reference": len(scores)})


@functools.lru_cache(maxsize=2)
def _prompt_vectors(yardstick: Yardstick) -> Tensor:
    """CLIP's vectors of the prompts, (M, D): the same for all milestones."""
    return open_clip(clip_folder(), yardstick.device).of_texts(prompts_of(yardstick))


@functools.lru_cache(maxsize=2)
def _real_scores(yardstick: Yardstick) -> NDArray[np.float64]:
    """Scores of the held-out images, (M,): likewise."""
    held_out = np.array(yardstick.data.held_out)
    shown = open_clip(clip_folder(), yardstick.device).of_images(held_out)
    return clip_scores(shown, _prompt_vectors(yardstick))


def _clip_row(
    milestone: Milestone, clip: Clip, name: str, scores: NDArray[np.float64], fields: dict[str, Any]
) -> Row:
    error = float(scores.std(ddof=1) / len(scores) ** 0.5)
    versions = milestone.versions | {INSTRUMENT: clip.sha256[:12]}
    return milestone.row(
        name, float(scores.mean()), **fields | {"error": error, "versions": versions}
    )


def prompts_of(yardstick: Yardstick) -> list[str]:
    """The held-out prompts, in the order in which images show them."""
    captions = yardstick.data.captions
    assert captions is not None
    return [captions.texts[number] for number in captions.prompts.tolist()]
