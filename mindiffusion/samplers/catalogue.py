"""The function that draws for each ``sampler.name`` of ``mindiffusion.config.sampler.SAMPLERS``."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from mindiffusion.config.sampler import SamplerConfig
from mindiffusion.process import Denoiser, Process, clipped
from mindiffusion.samplers.ancestral import ancestral_sample
from mindiffusion.samplers.ddim import ddim_sample
from mindiffusion.samplers.dpm_solver import single_step_sample, two_step_sample
from mindiffusion.samplers.euler import euler_sample
from mindiffusion.samplers.heun import heun_sample


@dataclass(frozen=True, eq=False)
class Start:
    """What an image is drawn from.

    Attributes:
        x: (B, C, H, W), pure noise.
        noise: key of a step → the standard normal noise that it adds, (B, C, H, W).
        on_step: called before every network call; may raise to leave.
    """

    x: Tensor
    noise: Callable[[int], Tensor]
    on_step: Callable[[], object]


Draw = Callable[[Denoiser, Process, SamplerConfig, Start], Tensor]


def draw(denoise: Denoiser, process: Process, sampler: SamplerConfig, start: Start) -> Tensor:
    """Images (B, C, H, W), about [-1, 1], as a config says.

    Args:
        denoise: what predicts.
        process: whose noise levels are gone through.
        sampler: how.
        start: the noise that they come from.

    Raises:
        UserError: the process has no such levels, or too few.
    """
    is_clipped = sampler.clip and not sampler.kind.is_whole_chain
    asked = clipped(denoise) if is_clipped else denoise
    return _DRAW[sampler.name](asked, process, sampler, start)


def _ddim(denoise: Denoiser, process: Process, sampler: SamplerConfig, start: Start) -> Tensor:
    jumps = process.jumps(sampler.steps)
    return ddim_sample(denoise, jumps, start.x, start.noise, start.on_step, eta=sampler.eta)


def _ddpm(denoise: Denoiser, process: Process, sampler: SamplerConfig, start: Start) -> Tensor:
    return ancestral_sample(denoise, process.chain_jumps(), start.x, start.noise, start.on_step)


def _euler(denoise: Denoiser, process: Process, sampler: SamplerConfig, start: Start) -> Tensor:
    jumps, rates = process.jumps(sampler.steps, "time"), process.rates
    return euler_sample(denoise, jumps, rates, start.x, start.noise, start.on_step, eta=sampler.eta)


def _heun(denoise: Denoiser, process: Process, sampler: SamplerConfig, start: Start) -> Tensor:
    jumps = process.jumps(sampler.kind.levels(sampler.steps), "log_snr")
    return heun_sample(denoise, jumps, start.x, start.on_step)


def _single_step(
    denoise: Denoiser, process: Process, sampler: SamplerConfig, start: Start, order: int
) -> Tensor:
    jumps = process.jumps(sampler.steps, "log_snr")
    return single_step_sample(denoise, jumps, start.x, start.on_step, order=order)


def _two_step(denoise: Denoiser, process: Process, sampler: SamplerConfig, start: Start) -> Tensor:
    jumps = process.jumps(sampler.steps, "log_snr")
    return two_step_sample(denoise, jumps, start.x, start.on_step)


_DRAW: dict[str, Draw] = {
    "ddim": _ddim,
    "ddpm": _ddpm,
    "euler": _euler,
    "heun": _heun,
    **{f"dpm_solver_{order}": partial(_single_step, order=order) for order in (1, 2, 3)},
    "dpm_solver_pp_2m": _two_step,
}
