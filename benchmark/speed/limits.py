"""What the machine allows at best: bytes and operations of a step over measured rates."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import conv2d

from benchmark.speed.setting import wait_for
from mindiffusion.runtime import supports_bf16
from mindiffusion.step_cost import StepCost

TRIALS = 7
_IMAGES = 16
"""As which a matrix is convolved: of fewer, PyTorch does not ask its library on one thread."""


@dataclass(frozen=True)
class Rates:
    """What this machine was measured to do.

    Attributes:
        copy_bytes: bytes read and written a second, copying a large array.
        fp32_flops: operations a second of large float32 matrix products.
        bf16_flops: likewise in bf16; None: the machine only emulates it, many times slower.
    """

    copy_bytes: float
    fp32_flops: float
    bf16_flops: float | None

    @property
    def fastest(self) -> float:
        """Operations a second in the faster of the two."""
        return max(self.fp32_flops, self.bf16_flops or 0.0)

    def of(self, precision: str) -> float:
        """Operations a second in a run's precision: float32's but for bf16 that is not emulated."""
        bf16 = self.bf16_flops if precision == "bf16" else None
        return self.fp32_flops if bf16 is None else bf16

    @property
    def words(self) -> str:
        """Both rates, for a note."""
        bf16 = "emulated" if self.bf16_flops is None else f"{self.bf16_flops / 1e12:.3g} TFLOP/s"
        return f"float32 {self.fp32_flops / 1e12:.3g} TFLOP/s, bf16 {bf16}"


def floors(cost: StepCost, rates: Rates) -> dict[str, float]:
    """Seconds an image that no step of this kind can undercut, by what limits it."""
    return {
        "bandwidth": cost.bytes / rates.copy_bytes,
        "matrices": cost.flops / rates.fastest,
    }


def measure_rates(device: torch.device) -> Rates:
    """Copy bandwidth and matrix rates of a device, the best of several trials."""
    has_bf16 = supports_bf16(device.type)
    return Rates(
        copy_bytes=_copy_rate(device),
        fp32_flops=_matrix_rate(device, torch.float32),
        bf16_flops=_matrix_rate(device, torch.bfloat16) if has_bf16 else None,
    )


def _copy_rate(device: torch.device) -> float:
    """Bytes read and written a second between arrays far larger than any cache."""
    source = torch.ones(2**30 if device.type == "cuda" else 2**26, device=device)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()
    return moved / _best_seconds(lambda: target.copy_(source), device)


def _matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a square matrix product, by the faster of two libraries.

    PyTorch has matrix products from one and convolutions from another: on an AMD CPU with AVX-512
    that of convolutions is twice as fast.
    """
    side = 8192 if device.type == "cuda" else 1536
    a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    pixels = a.view(_IMAGES, -1, side).transpose(1, 2).unsqueeze(2)
    kernel = b[:, :, None, None]
    products = (lambda: a @ b, lambda: conv2d(pixels, kernel))
    # Else a GPU's convolutions are in TF32, which is not the rate of float32.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return 2 * side**3 / min(_best_seconds(product, device) for product in products)


def _best_seconds(action: Callable[[], object], device: torch.device) -> float:
    seconds = []
    for _ in range(TRIALS + 1):
        wait_for(device)
        started = time.perf_counter()
        action()
        wait_for(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
