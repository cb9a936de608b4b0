"""RegNaiveUnet: NaiveUnet with a group-L1 penalty on all convolutions.

Source: docs/methods.md, Group penalty: L = MSE + λ(stage) · Σ_convs Σ_c ‖W_c‖₂ with one group per
output channel. 31 of the 35 convolutions feed a GroupNorm, which undoes a rescaling of weights:
read the norms reported with every milestone before believing in sparsity.
"""

from typing import Any

import torch
from torch import Tensor

from mindiffusion.network import Probe, StageCapacity
from mindiffusion.sparsity import conv_layers, group_norms
from mindiffusion.unet import NaiveUnet


class RegNaiveUnet(NaiveUnet):
    """NaiveUnet whose ``penalty`` is λ times the sum of its group norms.

    The penalty's weight λ comes from the stage; before any stage it is 0.
    """

    def __init__(self, in_channels: int, out_channels: int, n_feat: int = 256) -> None:
        super().__init__(in_channels, out_channels, n_feat)
        self.penalty_lambda = 0.0

    def get_group_l1_penalty(self, lambda_val: float) -> Tensor:
        """λ · Σ_convs Σ_c ‖W_c‖₂, a scalar.

        Args:
            lambda_val: λ ≥ 0; at 0 the result is an exact 0 without a gradient.
        """
        if lambda_val == 0:
            return torch.zeros((), device=self.out.weight.device)
        return lambda_val * self._norm_sum()

    def _norm_sum(self) -> Tensor:
        return torch.stack([group_norms(layer).sum() for _, layer in conv_layers(self)]).sum()

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile the forward pass and, on a GPU, the norms: hundreds of kernels become a few.

        λ stays outside, so that a stage change compiles nothing.
        """
        super().compile(*args, **options)
        if self.out.weight.device.type == "cuda":
            self._norm_sum = torch.compile(self._norm_sum)  # type: ignore[method-assign]

    def enter_stage(self, capacity: StageCapacity, probe: Probe) -> dict[str, Any]:
        """Take over the stage's λ."""
        self.penalty_lambda = capacity.penalty_lambda
        return {"penalty_lambda": capacity.penalty_lambda}

    def penalty(self) -> Tensor | None:
        """The stage's penalty, or None when λ is 0."""
        return self.get_group_l1_penalty(self.penalty_lambda) if self.penalty_lambda else None

    def capacity_report(self) -> dict[str, float]:
        """λ and the mean group norm."""
        norms = torch.cat(list(self.group_norms().values()))
        return super().capacity_report() | {
            "penalty_lambda": self.penalty_lambda,
            "group_norm_mean": float(norms.mean()),
        }

    @torch.no_grad()
    def group_norms(self) -> dict[str, Tensor]:
        """Norms of all output channels, by block: "init_conv", "down1" … "out"."""
        found: dict[str, list[Tensor]] = {}
        for name, layer in conv_layers(self):
            found.setdefault(name.split(".")[0], []).append(group_norms(layer))
        return {block: torch.cat(norms) for block, norms in found.items()}
