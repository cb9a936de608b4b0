"""What "auto" means here and now: device, precision, compiler, threads.

Resolved once when a run starts, kept in its config file and checkpoints, and reused on resume, so
that a run never changes its arithmetic half-way.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from mindiffusion.errors import UserError
from mindiffusion.training.config import RunConfig

_DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}
_CPU_BF16_MIN_N_FEAT = 64
"""On CPUs bf16 and the compiler were measured slower below this width (docs/design.md)."""


@dataclass(frozen=True)
class Runtime:
    """Resolved choices.

    Attributes:
        device: "cpu" or "cuda".
        precision: "fp32", "bf16" (autocast over float32 weights) or "fp64".
        compile: whether the network is compiled.
        threads: CPU threads of each rank.
    """

    device: str
    precision: str
    compile: bool
    threads: int

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of weights, images and loss."""
        return _DTYPES[self.precision]

    def autocast(self) -> torch.autocast:
        """The context for forward passes."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16")


def has_cxx_compiler() -> bool:
    """Whether the compiler that torch.compile needs on a CPU is there."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++"))


def resolve_runtime(config: RunConfig, local_ranks: int) -> Runtime:
    """Decide what is "auto".

    Args:
        config: the run.
        local_ranks: ranks on this machine, which share its cores.

    Raises:
        UserError: a device or compiler is asked for that is not there.
    """
    training = config.training
    device = training.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "training.device is cuda, but torch sees no GPU here; use --set training.device=cpu."
        )
    threads = training.threads or max(1, available_cores() // local_ranks)
    wide = device == "cuda" or config.model.n_feat >= _CPU_BF16_MIN_N_FEAT
    precision = training.precision
    if precision == "auto":
        precision = "bf16" if wide and supports_bf16(device) else "fp32"
    compiler = device == "cuda" or has_cxx_compiler()
    if training.compile == "on" and not compiler:
        raise UserError(
            "training.compile is on, but no C++ compiler (g++, clang++ or $CXX) is on the PATH; "
            "install one or use --set training.compile=off."
        )
    use_compile = training.compile == "on" or (training.compile == "auto" and wide and compiler)
    return Runtime(device, precision, use_compile, threads)


def available_cores() -> int:
    """Cores this process may use (a container or taskset may allow fewer than there are)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def supports_bf16(device: str) -> bool:
    """Whether bf16 runs in hardware, not in emulation."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and _cpu_flag("avx512_bf16")


def _cpu_flag(flag: str) -> bool:
    info = Path("/proc/cpuinfo")
    return info.exists() and flag in info.read_text(errors="replace").split()
