"""SparseUViT: U-ViT with a hard mask on the dimensions of its embedding, lifted stage by stage.

Source: docs/methods.md, Embedding mask. Three placements:

- ``patch``: patches' tokens are masked before their positions are added. Blocks still read every
  dimension, which positions, time and their own outputs fill.
- ``patch+decoder``: what the decoder reads is masked too.
- ``stream``: a masked dimension is 0 at every depth. Norms take mean and variance of the dimensions
  that are on: the network is the one of a narrower stream, with heads of the full width.
"""

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mindiffusion.errors import UserError
from mindiffusion.network import Births, Mask, Probe, StageCapacity
from mindiffusion.sparsity import all_on, held, keyed_order
from mindiffusion.uvit import Masks, UViT
from mindiffusion.uvit_layers import masked

Placement = Literal["patch", "patch+decoder", "stream"]
Sampling = Literal["lifted", "masked"]
_FIRST_AXIS: dict[Placement, tuple[str, ...]] = {
    "patch": ("patch_embed.proj",),
    "patch+decoder": ("patch_embed.proj", "norm"),
    "stream": (
        *("patch_embed.proj", "time_embed.2", "context_embed", "norm1", "attn.proj", "norm2"),
        *("mlp.fc2", "skip_linear", "norm"),
    ),
}
"""Layers whose weights and biases are indexed by a masked dimension along their first axis."""
_LAST_AXIS: dict[Placement, tuple[str, ...]] = {
    "patch": (),
    "patch+decoder": ("decoder_pred.weight",),
    "stream": (
        *("pos_embed", "label_emb.weight", "attn.qkv.weight", "mlp.fc1.weight"),
        *("skip_linear.weight", "decoder_pred.weight"),
    ),
}
"""Parameters that are so along their last axis; ``skip_linear`` reads two streams, one by one."""
_OF_TEXTS = "texts."
"""What reads captions has a width of its own, which no mask is on."""
_PATCH = {"patch": "patch_embed.proj.weight"}
_WEIGHTS: dict[Placement, dict[str, str]] = {
    "patch": _PATCH,
    "patch+decoder": _PATCH,
    "stream": _PATCH
    | {"attention": "mid_block.attn.proj.weight", "mlp": "mid_block.mlp.fc2.weight"},
}


def active_dimensions(embed_dim: int, sparsity: float) -> int:
    """floor(embed_dim · (1 − sparsity)), at least 1, for the decimal number that is written.

    At 256: 217, 222, 230, 235, 243 for .15, .13, .1, .08, .05. In floats 100 · (1 − .8) is 19.99….

    Args:
        embed_dim: dimensions in all.
        sparsity: in [0, 1).
    """
    return max(1, math.floor(embed_dim * (1 - Fraction(repr(float(sparsity))))))


class EmbeddingSparsityMask(nn.Module):
    """Multiplies dimensions of an embedding by 0 or 1: (…, D) → (…, D).

    Its buffer ``mask`` is (D,). What is on at some sparsity is on at every lower one.

    Args:
        embed_dim: D.
        seed: key of the order in which dimensions are switched on.

    Attributes:
        num_on: how many ``set_sparsity`` left on; known without waiting for the device.
    """

    def __init__(self, embed_dim: int, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("mask", torch.ones(embed_dim, device="cpu"))
        self.mask: Tensor
        self.num_on = embed_dim

    def forward(self, x: Tensor) -> Tensor:
        """Switch dimensions of ``x`` off."""
        return masked(x, self.mask)

    def set_sparsity(self, ratio: float) -> int:
        """Leave the first dimensions of the order on.

        Args:
            ratio: share of the dimensions that is off, in [0, 1).

        Returns:
            How many are on.

        Raises:
            UserError: a ratio outside.
        """
        if not 0 <= ratio < 1:
            raise UserError(f"sparsity is {ratio:g}; give a share of dimensions in [0, 1).")
        on = self.on_at(ratio)
        self.num_on = int(on.sum())
        self.mask.copy_(on)
        return self.num_on

    def on_at(self, ratio: float) -> Tensor:
        """Which dimensions a sparsity leaves on, (D,) bool on the CPU."""
        with torch.device("cpu"):  # also where only shapes are wanted: keyed draws need numbers
            place_in_order = keyed_order(self.seed, len(self.mask), 0).argsort()
        return place_in_order < active_dimensions(len(self.mask), ratio)


class SparseUViT(UViT):
    """U-ViT whose embedding has dimensions that can be switched off.

    Buffer ``embedding_mask.mask`` (D,), 1 on, 0 off.

    Args:
        *sizes: as UViT's.
        placement: where the mask acts, see the module's docstring.
        sampling: "lifted": in eval mode, in which networks are sampled and scored, the mask does
            not act; "masked": it does. So samples and held-out errors are of one function.
        initial_sparsity: share of dimensions off at the start, in [0, 1).
        seed: key of the order in which they are switched on.
        **options: as UViT's.
    """

    def __init__(
        self,
        *sizes: Any,
        placement: Placement = "patch",
        sampling: Sampling = "lifted",
        initial_sparsity: float = 0.0,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(*sizes, **options)
        self.placement = placement
        self.sampling = sampling
        self.embedding_mask = EmbeddingSparsityMask(self.embed_dim, seed)
        self.embedding_mask.set_sparsity(initial_sparsity)
        self._is_imposed = False
        self._axes = list(self._masked_axes())

    def forward(self, x: Tensor, told: Tensor, condition: Tensor | None = None) -> Tensor:
        """As UViT's, behind the mask."""
        return self._through(self._masks(), x, told, condition)

    def _masks(self) -> Masks:
        if not self._acts:
            return Masks()
        mask = self.embedding_mask
        if self.placement == "stream":
            return Masks(stream=mask.mask)
        return Masks(patch=mask) if self.placement == "patch" else Masks(patch=mask, decoder=mask)

    @property
    def _acts(self) -> bool:
        return self.training or self.sampling == "masked" or self._is_imposed

    def enter_stage(self, capacity: StageCapacity, probe: Probe) -> dict[str, Any]:
        """Take over the stage's sparsity, in the order of the run's seed."""
        self.embedding_mask.seed = capacity.seed
        return {"dimensions_on": self.embedding_mask.set_sparsity(capacity.sparsity)}

    def capacity_report(self) -> dict[str, float]:
        """Dimensions switched on."""
        on = float(self.embedding_mask.mask.sum())
        return super().capacity_report() | {"active_channels": on}

    def mask(self) -> Mask:
        """The mask on dimensions of the embedding."""
        mask = self.embedding_mask.mask
        lifted = functools.partial(all_on, mask)
        imposed = None if self._acts else self._imposed
        return Mask(self.placement, mask.cpu() > 0, lifted, _WEIGHTS[self.placement], imposed)

    def births(self, sparsities: Sequence[float]) -> Births:
        """By the order of the seed: in the first stage from which on a dimension stayed on."""
        stage = torch.full((self.embed_dim,), -1, dtype=torch.int64, device="cpu")
        for index, sparsity in enumerate(sparsities):
            on = self.embedding_mask.on_at(sparsity)
            stage[~on] = -1
            stage[on & (stage < 0)] = index
        return Births(stage, self._held)

    @contextlib.contextmanager
    def _held(self, on: Tensor) -> Iterator[None]:
        with self._imposed(), held(self.embedding_mask.mask, on):
            yield

    @contextlib.contextmanager
    def _imposed(self) -> Iterator[None]:
        before, self._is_imposed = self._is_imposed, True
        try:
            yield
        finally:
            self._is_imposed = before

    def frozen(self) -> dict[str, Tensor]:
        """What is indexed by dimensions that the stage has off; the mask leaves it no gradient."""
        if self.embedding_mask.num_on == self.embed_dim:
            return {}
        off = self.embedding_mask.mask == 0
        found = {}
        for name, is_first, is_last in self._axes:
            parameter = self.get_parameter(name)
            rows = off.view(-1, *[1] * (parameter.dim() - 1))
            columns = off.repeat(parameter.shape[-1] // len(off)) if is_last else rows
            found[name] = rows | columns if is_first else columns
        return found

    def _masked_axes(self) -> Iterator[tuple[str, bool, bool]]:
        """Parameters indexed by a masked dimension: name, along the first and the last axis."""
        for name, _ in self.named_parameters():
            if name.startswith(_OF_TEXTS):
                continue
            layer = name.rpartition(".")[0]
            is_first = _is_one_of(layer, _FIRST_AXIS[self.placement])
            is_last = _is_one_of(name, _LAST_AXIS[self.placement])
            if is_first or is_last:
                yield name, is_first, is_last


def _is_one_of(name: str, ends: tuple[str, ...]) -> bool:
    return any(f".{name}".endswith(f".{end}") for end in ends)
