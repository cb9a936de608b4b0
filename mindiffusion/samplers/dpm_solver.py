"""DPM-Solver of orders 1 to 3 and DPM-Solver++(2M): the probability-flow ODE in ln(alpha/sigma).

Sources: Lu et al. 2022, 2206.00927, section 3 and its algorithms for any inner points; Lu et al.
2022, 2211.01095, algorithm 2. With λ = ln(alpha/sigma) the linear part of the ODE is solved
exactly, so order 1 is DDIM with η = 0. All end with one step of order 1 to the clean image, where λ
is infinite: it is x̂₀.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mindiffusion.process import Denoiser, Jump, Level


@torch.no_grad()
def single_step_sample(
    denoise: Denoiser,
    jumps: Sequence[Jump],
    start: Tensor,
    on_step: Callable[[], object] = lambda: None,
    *,
    order: int,
) -> Tensor:
    """Sample images by DPM-Solver, with one network call at each level.

    A step of order k asks at k levels and ends where the next step starts. Levels that do not fill
    the last step before the clean image make one of lower order.

    Args:
        denoise: what is asked.
        jumps: through all levels at which it is asked, to the clean image.
        start: (B, C, H, W), pure noise.
        on_step: called before every network call; may raise to leave.
        order: 1, 2 or 3.

    Returns:
        (B, C, H, W).
    """
    step = (_first_order, _second_order, _third_order)

    def ask(x: Tensor, level: Level) -> Tensor:
        on_step()
        return denoise(x, level).eps

    x, levels = start, [jump.level for jump in jumps]
    for first in range(0, len(levels) - 1, order):
        part = levels[first : min(first + order + 1, len(levels))]
        x = step[len(part) - 2](ask, x, part)
    on_step()
    return denoise(x, levels[-1]).x0


_Ask = Callable[[Tensor, Level], Tensor]


def _first_order(ask: _Ask, x: Tensor, levels: Sequence[Level]) -> Tensor:
    """From the first level to the second: ε̂ taken as constant."""
    return _straight(x, ask(x, levels[0]), levels[0], levels[1])


def _second_order(ask: _Ask, x: Tensor, levels: Sequence[Level]) -> Tensor:
    """From the first level to the third, over one at r₁ of the way in λ."""
    start, inner, end = levels
    r1 = _span(start, inner) / _span(start, end)
    eps = ask(x, start)
    change = ask(_straight(x, eps, start, inner), inner) - eps
    whole = _straight(x, eps, start, end)
    return whole - float(end.sigma) * math.expm1(_span(start, end)) / (2.0 * r1) * change


def _third_order(ask: _Ask, x: Tensor, levels: Sequence[Level]) -> Tensor:
    """From the first level to the fourth, over two at r₁ and r₂ of the way in λ."""
    start, inner, second, end = levels
    r1 = _span(start, inner) / _span(start, end)
    r2 = _span(start, second) / _span(start, end)
    eps = ask(x, start)
    change = ask(_straight(x, eps, start, inner), inner) - eps
    tried = _straight(x, eps, start, second) - r2 / r1 * _curved(start, second) * change
    change = ask(tried, second) - eps
    return _straight(x, eps, start, end) - _curved(start, end) / r2 * change


def _span(start: Level, end: Level) -> float:
    """λ of the end minus λ of the start, above 0."""
    return _log_ratio(end) - _log_ratio(start)


def _log_ratio(level: Level) -> float:
    return math.log(float(level.alpha) / float(level.sigma))


def _straight(x: Tensor, eps: Tensor, start: Level, end: Level) -> Tensor:
    """Where x goes if ε̂ stays as it is; (B, C, H, W)."""
    ratio = float(end.alpha) / float(start.alpha)
    return ratio * x - float(end.sigma) * math.expm1(_span(start, end)) * eps


def _curved(start: Level, end: Level) -> float:
    """Factor of a slope of ε̂ over the whole span: sigma·((eʰ − 1)/h − 1)."""
    h = _span(start, end)
    return float(end.sigma) * (math.expm1(h) / h - 1.0)


@torch.no_grad()
def two_step_sample(
    denoise: Denoiser,
    jumps: Sequence[Jump],
    start: Tensor,
    on_step: Callable[[], object] = lambda: None,
) -> Tensor:
    """Sample images by DPM-Solver++(2M): each step also uses x̂₀ of the step before.

    The first and the last step are of order 1.

    Args:
        denoise: what is asked.
        jumps: the way, from pure noise to the clean image.
        start: (B, C, H, W), pure noise.
        on_step: called before every network call; may raise to leave.

    Returns:
        (B, C, H, W).
    """
    x, before, last_span = start, None, 0.0
    for jump in jumps[:-1]:
        on_step()
        found = denoise(x, jump.level).x0
        span = _span(jump.level, jump.following)
        guess = found if before is None else found + span / (2.0 * last_span) * (found - before)
        kept = float(jump.following.sigma) / float(jump.level.sigma)
        x = kept * x - float(jump.following.alpha) * math.expm1(-span) * guess
        before, last_span = found, span
    on_step()
    return denoise(x, jumps[-1].level).x0
