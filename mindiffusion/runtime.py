"""What "auto" means here and now: device, precision, compiler, threads.

Resolved once when a run starts, kept in its config file and checkpoints, and reused on resume, so
that a run never changes its arithmetic half-way.
"""

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from mindiffusion.config.run import RunConfig
from mindiffusion.config.sampler import SamplerConfig
from mindiffusion.errors import UserError
from mindiffusion.machine import available_cores

_DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}
_CHUNK_PIXELS = {"cpu": 64 * 32 * 32, "cuda": 512 * 32 * 32}
"""Pixels in a chunk of images to sample. Speed hardly depends on it on a CPU; a GPU wants many."""

_log = logging.getLogger(__name__)


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Runtime:
    """Resolved choices; what a file says of them is checked as a config is.

    Attributes:
        device: "cpu" or "cuda".
        precision: "fp32", "bf16" (autocast over float32 weights) or "fp64".
        compile: whether the network is compiled.
        threads: CPU threads of each rank.
    """

    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16", "fp64"]
    compile: bool
    threads: int = Field(ge=1, le=1024)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of weights, images and loss."""
        return _DTYPES[self.precision]

    def autocast(self) -> torch.autocast:
        """The context for forward passes."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16")


@dataclass(frozen=True)
class SamplerRuntime:
    """How images are drawn here.

    Attributes:
        chunk: images per forward pass.
        precision: "fp32" or "bf16" (autocast over float32 weights).
        compile: whether the network is compiled.
    """

    chunk: int
    precision: str
    compile: bool


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
    is_wide = _is_wide(config, device)
    precision = training.precision
    if precision == "auto":
        precision = _fast_precision(is_wide, device)
    use_compile = training.compile == "on"
    if training.compile == "auto" and is_wide:
        use_compile = can_compile(device)
        if not use_compile:
            _log.warning("no C++ compiler (g++, clang++ or $CXX) found: training runs eager.")
    processes = local_ranks * runs_on_machine
    threads = training.threads or max(1, available_cores() // processes)
    runtime = Runtime(device, precision, use_compile, threads)
    check_runtime(runtime, local_ranks)
    return runtime


def resolve_sampler(config: RunConfig, device: str) -> SamplerRuntime:
    """Decide what is "auto" in ``config.sampler``.

    Args:
        config: the run.
        device: "cpu" or "cuda", where it samples.

    Raises:
        UserError: a compiler is asked for that is not there.
    """
    sampler, is_wide = config.sampler, _is_wide(config, device)
    precision = sampler.precision
    if precision == "auto":
        precision = _fast_precision(is_wide, device)
    if sampler.compile == "on" and not can_compile(device):
        raise UserError(
            "sampler.compile is on, but no C++ compiler (g++, clang++ or $CXX) is on the PATH; "
            "install one, or use --set sampler.compile=off."
        )
    is_worth_it = sampler.compile == "auto" and is_wide and can_compile(device)
    chunk = chunk_size(sampler, config.input_shape[1], device)
    return SamplerRuntime(chunk, precision, sampler.compile == "on" or is_worth_it)


def chunk_size(sampler: SamplerConfig, side: int, device: str) -> int:
    """Images per forward pass; "auto" follows from the device's kind and the inputs' side alone.

    So it is the same on every machine with such a device, whatever its memory.
    """
    if isinstance(sampler.chunk, int):
        return sampler.chunk
    return max(1, _CHUNK_PIXELS[device] // side**2)


def _is_wide(config: RunConfig, device: str) -> bool:
    """Whether bf16 and the compiler are worth it."""
    return device == "cuda" or config.model.is_wide


def _fast_precision(is_wide: bool, device: str) -> Literal["fp32", "bf16"]:
    return "bf16" if is_wide and supports_bf16(device) else "fp32"


def can_compile(device: str) -> bool:
    """Whether torch.compile has what it needs for a device."""
    return device == "cuda" or has_cxx_compiler()


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
    if runtime.compile and not can_compile(runtime.device):
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
