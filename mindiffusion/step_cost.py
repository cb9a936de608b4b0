"""What training on one image takes: bytes moved and operations, counted from the network."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

MOVERS = (nn.Conv2d, nn.ConvTranspose2d, nn.GroupNorm, nn.MaxPool2d, nn.AvgPool2d)
"""Layers that must read their input and write their output; ReLU rides along with its norm."""
BF16_BYTES = 2
STEP_OVER_FORWARD = 3
"""The backward pass moves twice what the forward pass does: gradients in, gradients out."""


@dataclass(frozen=True)
class StepCost:
    """What training on one image takes.

    Attributes:
        bytes: moved between memory and cores, in bf16, by the layers of U-Nets.
        flops: floating-point operations of forward and backward pass.
    """

    bytes: int
    flops: int


def step_cost(network: nn.Module, channels: int, side: int) -> StepCost:
    """Count one training step on one image.

    Args:
        network: called as ``network(x, told)``, on the CPU or the meta device.
        channels: channels of the image.
        side: its side in pixels.
    """
    moved, device = 0, next(network.parameters()).device

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += inputs[0].numel() + output.numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, MOVERS)]
    try:
        # One way to attend on every device: fused ones compute some products twice.
        plain = sdpa_kernel(SDPBackend.MATH)
        with FlopCounterMode(display=False) as flops, device, plain:
            network(torch.zeros(1, channels, side, side), torch.ones(1)).sum().backward()
    finally:
        for hook in hooks:
            hook.remove()
        network.zero_grad(set_to_none=True)
    return StepCost(moved * BF16_BYTES * STEP_OVER_FORWARD, flops.get_total_flops())
