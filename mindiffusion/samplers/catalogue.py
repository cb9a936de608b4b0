"""The function that draws for each ``sampler.name`` of ``mindiffusion.config.sampler.SAMPLERS``."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from mindiffusion.config.sampler import SamplerConfig
from mindiffusion.process import Denoiser, Jump, Process, clipped
from mindiffusion.samplers.ancestral import ancestral_sample
from mindiffusion.samplers.ddim import ddim_sample
from mindiffusion.samplers.dpm_solver import single_step_sample, two_step_sample
from mindiffusion.samplers.edm import Churn, edm_sample
from mindiffusion.samplers.euler import euler_sample
from mindiffusion.samplers.heun import heun_sample


@dataclass(frozen=True, eq=False)
class Start:
    """What an image is drawn from.

    Attributes:
        x: (B, C, H, W), standard normal.
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
    from_noise = replace(start, x=process.pure_noise(start.x))
    return _DRAW[sampler.name](asked, process, sampler, from_noise)


def _jumps(process: Process, sampler: SamplerConfig) -> tuple[Jump, ...]:
    spacing = sampler.spacing_on(process.spacing)
    return process.jumps(sampler.kind.levels(sampler.steps), spacing, sampler.rho)


def _ddim(denoise: Denoiser, process: Process, sampler: SamplerConfig, start: Start) -> Tensor:
    jumps = _jumps(process, sampler)
    return ddim_sample(denoise, jumps, start.x, start.noise, start.on_step, eta=sampler.eta)


def _ddpm(denoise: Denoiser, process: Process, sampler: SamplerConfig, start: Start) -> Tensor:
    return ancestral_sample(denoise, process.chain_jumps(), start.x, start.noise, start.on_step)


def _euler(denoise: Denoiser, process: Process, sampler: SamplerConfig, start: Start) -> Tensor:
    jumps = _jumps(process, sampler)
    return euler_sample(
        denoise, jumps, process, start.x, start.noise, start.on_step, eta=sampler.eta
    )


def _heun(denoise: Denoiser, process: Process, sampler: SamplerConfig, start: Start) -> Tensor:
    return heun_sample(denoise, _jumps(process, sampler), start.x, start.on_step)


def _edm(denoise: Denoiser, process: Process, sampler: SamplerConfig, start: Start) -> Tensor:
    jumps, most = _jumps(process, sampler), math.inf if sampler.S_max is None else sampler.S_max
    churn = Churn(sampler.S_churn, sampler.S_min, most, sampler.S_noise)
    return edm_sample(
        denoise, jumps, start.x, start.noise, process.level_at, start.on_step, churn=churn
    )


def _single_step(
    denoise: Denoiser, process: Process, sampler: SamplerConfig, start: Start, order: int
) -> Tensor:
    jumps = _jumps(process, sampler)
    return single_step_sample(denoise, jumps, start.x, start.on_step, order=order)


def _two_step(denoise: Denoiser, process: Process, sampler: SamplerConfig, start: Start) -> Tensor:
    return two_step_sample(denoise, _jumps(process, sampler), start.x, start.on_step)


_DRAW: dict[str, Draw] = {
    "ddim": _ddim,
    "ddpm": _ddpm,
    "euler": _euler,
    "heun": _heun,
    "edm": _edm,
    **{f"dpm_solver_{order}": partial(_single_step, order=order) for order in (1, 2, 3)},
    "dpm_solver_pp_2m": _two_step,
}
