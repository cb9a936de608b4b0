"""The two-layer denoisers of many runs at once: weights are stacked along a first axis of runs.

x ↦ W₂ (m ∘ relu(W₁ x + w t + b₁)) + b₂, with the mask m of hidden neurons, 1 unless a stage
switches some off. A masked neuron passes nothing on and no gradient back, so its weights stay as
they are. w is there with a time input, b₁ and b₂ with biases.

One product of batches (``torch.bmm``) serves all runs. Each run's numbers are those that it would
have alone: no operation mixes runs.

Source: docs/theory.md, The network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mindiffusion.noise import Stream, normals
from mindiffusion.theory.setting import TheoryRun


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of R runs.

    Attributes:
        incoming: (R, H, D), rows of W₁: what each hidden neuron reads.
        outgoing: (R, H, D), columns of W₂: what each hidden neuron writes.
        time: (R, H), w; None without a time input.
        bias: (R, H), b₁; None without biases.
        out_bias: (R, D), b₂; None without biases.
    """

    incoming: Tensor
    outgoing: Tensor
    time: Tensor | None = None
    bias: Tensor | None = None
    out_bias: Tensor | None = None

    def named(self) -> dict[str, Tensor]:
        """Those that there are, by name."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in parts.items() if part is not None}

    def of(self, runs: Sequence[int]) -> "Weights":
        """Those of some runs, by their places along the first axis."""
        places = list(runs)
        return Weights(**{name: part[places] for name, part in self.named().items()})


def initial_weights(runs: Sequence[TheoryRun], dtype: torch.dtype) -> Weights:
    """Keyed normals of the runs' ``init_std``; biases are 0.

    They depend on a run's seed and sizes alone, so arms of a seed start alike, and of two widths
    the first neurons are the same.

    Args:
        runs: with the same sizes.
        dtype: of the weights.
    """
    model, size = runs[0].model, runs[0].data.ambient_dim
    neuron = torch.arange(model.width)

    def drawn(layer: int, shape: tuple[int, ...]) -> Tensor:
        stream = Stream.TWO_LAYER_WEIGHTS
        of_seed = {seed: normals(seed, stream, neuron, layer, shape) for seed in seeds}
        return model.init_std * torch.stack([of_seed[run.seed] for run in runs]).to(dtype)

    seeds = sorted({run.seed for run in runs})
    count, width = len(runs), model.width
    return Weights(
        incoming=drawn(0, (size,)),
        outgoing=drawn(1, (size,)),
        time=drawn(2, (1,))[..., 0] if model.time_input else None,
        bias=torch.zeros(count, width, dtype=dtype) if model.use_bias else None,
        out_bias=torch.zeros(count, size, dtype=dtype) if model.use_bias else None,
    )


def answers(weights: Weights, x: Tensor, told: Tensor, mask: Tensor | None = None) -> Tensor:
    """What the networks answer to noisy samples.

    Args:
        weights: of R runs.
        x: (R, B, D), each run's own.
        told: (R, B), what the process tells of the noise; read with a time input alone.
        mask: (R, H) or (R, B, H) of 0 and 1; None: all neurons are on.

    Returns:
        (R, B, D).
    """
    # As columns of one product: sums over so many hidden numbers would take longer than it.
    inputs, rows = [x], [weights.incoming]
    for column, part in ((told, weights.time), (torch.ones_like(told), weights.bias)):
        if part is not None:
            inputs.append(column[..., None])
            rows.append(part[..., None])
    inner = torch.bmm(torch.cat(inputs, 2), torch.cat(rows, 2).transpose(1, 2))
    hidden = torch.relu_(inner)
    if mask is not None:
        hidden = hidden * (mask[:, None] if mask.dim() == 2 else mask)
    if weights.out_bias is None:
        return torch.bmm(hidden, weights.outgoing)
    return torch.baddbmm(weights.out_bias[:, None], hidden, weights.outgoing)


class OneNetwork:
    """One run's network as the house knows networks, for what is done run by run.

    Samples are images of D channels and one pixel, (B, D, 1, 1).

    Args:
        weights: of one run, (1, …).
        mask: (H,) of 0 and 1.
    """

    def __init__(self, weights: Weights, mask: Tensor) -> None:
        self._weights = weights
        self.channel_mask = mask

    def forward(self, x: Tensor, told: Tensor, *, channel_mask: Tensor) -> Tensor:
        """The answer (B, D, 1, 1), each sample behind its own row of ``channel_mask`` (B, H)."""
        answer = answers(self._weights, x.flatten(1)[None], told[None], channel_mask[None])
        return answer.view_as(x)
