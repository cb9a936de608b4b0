"""What "auto" means here and now: device, precision, compiler, threads.

Resolved once when a run starts, kept in its config file and checkpoints, and reused on resume, so
that a run never changes its arithmetic half-way.
"""

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from mindiffusion.errors import UserError
from mindiffusion.machine import available_cores
from mindiffusion.training.config import RunConfig

_DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}
_CPU_BF16_MIN_N_FEAT = 32
"""On CPUs bf16 and the compiler were measured slower below this width (docs/design.md)."""


_log = logging.getLogger(__name__)


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


def resolve_runtime(config: RunConfig, local_ranks: int, runs_on_machine: int = 1) -> Runtime:
    """Decide what is "auto".

    Args:
        config: the run.
        local_ranks: ranks on this machine, which share its cores.
        runs_on_machine: runs side by side on this machine, which share them too.

    Raises:
        UserError: a device or compiler is asked for that is not there.
    """
    training = config.training
    device = training.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    wide = device == "cuda" or config.model.n_feat >= _CPU_BF16_MIN_N_FEAT
    precision = training.precision
    if precision == "auto":
        precision = "bf16" if wide and supports_bf16(device) else "fp32"
    use_compile = training.compile == "on"
    if training.compile == "auto" and wide:
        use_compile = device == "cuda" or has_cxx_compiler()
        if not use_compile:
            _log.warning("no C++ compiler (g++, clang++ or $CXX) found: training runs eager.")
    processes = local_ranks * runs_on_machine
    threads = training.threads or max(1, available_cores() // processes)
    runtime = Runtime(device, precision, use_compile, threads)
    check_runtime(runtime, local_ranks)
    return runtime


def check_runtime(runtime: Runtime, local_ranks: int) -> None:
    """Refuse what this machine cannot do, be it asked for now or settled when a run began.

    Raises:
        UserError: no GPU, fewer GPUs than ranks, or no compiler.
    """
    if runtime.device == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or count < local_ranks:
            raise UserError(
                f"the run's device is cuda with {local_ranks} ranks on this machine, but torch "
                f"sees {count} GPUs here; use fewer ranks, or a fresh run with "
                "--set training.device=cpu."
            )
    if runtime.compile and runtime.device == "cpu" and not has_cxx_compiler():
        raise UserError(
            "the run is compiled (training.compile), but no C++ compiler (g++, clang++ or $CXX) is "
            "on the PATH; install one, or use a fresh run with --set training.compile=off."
        )


def supports_bf16(device: str) -> bool:
    """Whether bf16 runs in hardware, not in emulation."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and _cpu_flag("avx512_bf16")


def _cpu_flag(flag: str) -> bool:
    info = Path("/proc/cpuinfo")
    return info.exists() and flag in info.read_text(errors="replace").split()
