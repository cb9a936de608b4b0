"""The training images' statistics inside a checkpoint, for processes that use them."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from mindiffusion.config.run import RunConfig
from mindiffusion.data.mean_and_spread import ImageStatistics
from mindiffusion.errors import UserError
from mindiffusion.outside.weights import check_tensors, named_tensors


def statistics_part(statistics: ImageStatistics | None) -> dict[str, Any]:
    """What a checkpoint holds of the training images' statistics; nothing where none are used."""
    if statistics is None:
        return {}
    return {"statistics": {"mean": torch.tensor(statistics.mean), "std": statistics.std}}


def statistics_of(content: Mapping[str, Any], config: RunConfig) -> ImageStatistics | None:
    """The statistics of the training images inside a loaded checkpoint; None if none are used.

    Args:
        content: as ``checkpoint.load`` gives it.
        config: the one inside it.

    Raises:
        UserError: they are used, but missing or of no images of the config's size.
    """
    if not config.process.uses_statistics:
        return None
    source = "checkpoint"
    found = content.get("statistics")
    if found is None:
        raise UserError(
            f"{source} lacks the statistics of its training images, which its process uses; give "
            "one as it was written."
        )
    (channels, height, width), name = config.input_shape, "statistics.mean"
    mean = named_tensors({name: found["mean"]}, source)
    expected = torch.empty(height, width, channels, dtype=torch.float64, device="meta")
    check_tensors(mean, {name: expected}, source)
    most, std = (1.0 if config.codec.is_bounded else math.inf), float(found["std"])
    if not bool((mean[name].abs() <= most).all() and mean[name].isfinite().all()):
        raise UserError(f"{source}: {name} has values outside [-1, 1]; it is not one of ours.")
    if std > most:
        raise UserError(f"{source}: statistics.std is {std:g}, above 1; it is not one of ours.")
    return ImageStatistics(mean[name].detach().double().numpy(), std)
