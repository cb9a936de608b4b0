"""What the machine allows at best: bytes and operations of a step over measured rates."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.speed.setting import wait_for

MOVERS = (nn.Conv2d, nn.ConvTranspose2d, nn.GroupNorm, nn.MaxPool2d, nn.AvgPool2d)
"""Layers that must read their input and write their output; ReLU rides along with its norm."""
BF16_BYTES = 2
STEP_OVER_FORWARD = 3
"""The backward pass moves twice what the forward pass does: gradients in, gradients out."""
TRIALS = 7


@dataclass(frozen=True)
class StepCost:
    """What training on one image takes.

    Attributes:
        bytes: moved between memory and cores, in bf16.
        flops: floating-point operations of forward and backward pass.
    """

    bytes: int
    flops: int


@dataclass(frozen=True)
class Rates:
    """What this machine was measured to do.

    Attributes:
        copy_bytes: bytes read and written a second, copying a large array.
        fp32_flops: operations a second of large float32 matrix products.
        bf16_flops: likewise in bf16.
    """

    copy_bytes: float
    fp32_flops: float
    bf16_flops: float


def step_cost(network: nn.Module, channels: int, side: int) -> StepCost:
    """Count one training step on one image.

    Args:
        network: called as ``network(x, t)``, on the CPU.
        channels: channels of the image.
        side: its side in pixels.
    """
    moved = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += inputs[0].numel() + output.numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, MOVERS)]
    try:
        with FlopCounterMode(display=False) as flops:
            network(torch.zeros(1, channels, side, side), torch.ones(1)).sum().backward()
    finally:
        for hook in hooks:
            hook.remove()
        network.zero_grad(set_to_none=True)
    return StepCost(moved * BF16_BYTES * STEP_OVER_FORWARD, flops.get_total_flops())


def floors(cost: StepCost, rates: Rates) -> dict[str, float]:
    """Seconds an image that no step of this kind can undercut, by what limits it."""
    return {
        "bandwidth": cost.bytes / rates.copy_bytes,
        "matrices": cost.flops / max(rates.fp32_flops, rates.bf16_flops),
    }


def measure_rates(device: torch.device) -> Rates:
    """Copy bandwidth and matrix rates of a device, the best of several trials."""
    return Rates(
        copy_bytes=_copy_rate(device),
        fp32_flops=_matrix_rate(device, torch.float32),
        bf16_flops=_matrix_rate(device, torch.bfloat16),
    )


def _copy_rate(device: torch.device) -> float:
    """Bytes read and written a second between arrays far larger than any cache."""
    source = torch.ones(2**30 if device.type == "cuda" else 2**26, device=device)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()
    return moved / _best_seconds(lambda: target.copy_(source), device)


def _matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a square matrix product."""
    side = 8192 if device.type == "cuda" else 1536
    a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / _best_seconds(lambda: a @ b, device)


def _best_seconds(action: Callable[[], object], device: torch.device) -> float:
    seconds = []
    for _ in range(TRIALS + 1):
        wait_for(device)
        started = time.perf_counter()
        action()
        wait_for(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
