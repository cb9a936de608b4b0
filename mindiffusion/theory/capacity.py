"""Which hidden neurons a stage switches on: the rules of the house's masked networks."""

import math
from typing import Any

import torch
from torch import Tensor

from mindiffusion.curriculum.stages import Stage
from mindiffusion.network import Probe
from mindiffusion.sparsity import (
    active_count,
    channel_saliency,
    channels_to_grow,
    initial_mask,
    keyed_order,
)
from mindiffusion.theory.networks import OneNetwork, Weights
from mindiffusion.theory.setting import TheoryRun


def switched_on(
    run: TheoryRun, stage: Stage, mask: Tensor, weights: Weights, probe: Probe
) -> tuple[Tensor, dict[str, Any]]:
    """The neurons that come on at the start of a stage, and what happened, for a log.

    The first stage has a keyed permutation's first neurons, whatever was on; each later one adds
    those of the highest saliency until its sparsity is met (docs/methods.md, Saliency).

    Args:
        run: whose network it is.
        stage: that begins.
        mask: (H,), 1 where a neuron is on.
        weights: of this run alone, (1, …).
        probe: gives batches of the new stage.

    Returns:
        Their places, (K,) int64; and the event: its stage, how many are on then, and, of a stage
        that adds some, which, and how well two halves of the probe agree.
    """
    width = len(mask)
    target = active_count(width, stage.config.sparsity)
    event = {"stage": stage.config.name, "channels_on": target}
    if stage.index == 0:
        return initial_mask(run.seed, width, stage.config.sparsity).nonzero()[:, 0], event
    to_grow = target - int(mask.sum())
    if to_grow == 0:
        return torch.zeros(0, dtype=torch.int64), event
    scores, agreement = torch.zeros(width), math.nan
    if run.model.regrow_method == "gradient":
        batches = list(probe(run.model.probe_batches, run.model.probe_batch_size))
        scores, agreement = channel_saliency(OneNetwork(weights, mask), batches)
    chosen = channels_to_grow(scores, mask, to_grow, keyed_order(run.seed, width, stage.index + 1))
    grown = {
        "channels_grown": sorted(chosen.tolist()),
        "saliency_split_half_correlation": agreement,
    }
    return chosen, event | grown
