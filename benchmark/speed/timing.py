"""Loops measured side by side: turns in alternation, medians, ratios within a repeat.

On a machine with other work a number alone says little. Here every loop takes a short turn in
every repeat, so that all see the same weather, and a ratio is taken within a repeat.
"""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

TURN_SECONDS = 4.0
"""About how long a timed turn takes: long against a clock's and a scheduler's grain."""
MAX_STEPS = 1000


class Loop:
    """Something that does equal steps again and again.

    Attributes:
        name: its row in the table.
        images_per_step: images that a step trains on, or makes.
        warm_up: steps before anything else: what happens once happens there.
        lead_in: steps before the clock starts in each turn: caches fill, queues settle.
        min_steps: least steps of a timed turn.
    """

    name: str
    images_per_step: int
    warm_up = 3
    lead_in = 1
    min_steps = 2

    def run(self, steps: int) -> None:
        """Do so many steps, and wait until the device has done them."""
        raise NotImplementedError

    def turn(self) -> contextlib.AbstractContextManager[object]:
        """What holds during this loop's turns, such as company on the cores."""
        return contextlib.nullcontext()


@dataclass(frozen=True)
class Spread:
    """A median with the lowest and the highest of its values."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Measurement:
    """What one loop's turns gave.

    Attributes:
        name: the loop's name.
        images_per_second: one value a repeat.
        first_seconds: the warm-up steps with all that happens once, such as compiling.
    """

    name: str
    images_per_second: tuple[float, ...]
    first_seconds: float


def spread(values: Sequence[float]) -> Spread:
    """Median, minimum and maximum."""
    return Spread(statistics.median(values), min(values), max(values))


def paired_ratio(ours: Sequence[float], base: Sequence[float]) -> Spread:
    """The spread of ours over base, each taken within one repeat."""
    return spread([a / b for a, b in zip(ours, base, strict=True)])


def turns(num_loops: int, repeats: int) -> Iterator[int]:
    """Indices of the loops in the order of their turns.

    Every loop has one turn a repeat; each repeat starts one loop later, so that none always
    follows the same neighbour at the same end of a repeat.
    """
    for repeat in range(repeats):
        for place in range(num_loops):
            yield (repeat + place) % num_loops


def steps_that_take(seconds: float, seconds_per_step: float) -> int:
    """How many steps take about so long, from 1 to ``MAX_STEPS``."""
    return max(1, math.ceil(min(MAX_STEPS, seconds / max(seconds_per_step, 1e-9))))


def measure(
    loops: Sequence[Loop],
    repeats: int,
    on_turn: Callable[[str], object] = lambda name: None,
    agree: Callable[[int], int] = lambda steps: steps,
    turn_seconds: float | None = None,
) -> list[Measurement]:
    """Warm all loops up, then time their turns.

    Args:
        loops: what to measure.
        repeats: turns of each.
        on_turn: called with a loop's name before its warm-up and each of its turns.
        agree: what several ranks make of the steps that each finds right for a turn.
        turn_seconds: about how long a timed turn takes; ``TURN_SECONDS`` if not given.
    """
    wanted = TURN_SECONDS if turn_seconds is None else turn_seconds
    first, steps = [], []
    for loop in loops:
        on_turn(loop.name)
        with loop.turn():
            first.append(_seconds(loop, loop.warm_up))
            trial = max(loop.min_steps, loop.lead_in)
            seconds = _seconds(loop, trial) / trial
            steps.append(agree(max(loop.min_steps, steps_that_take(wanted, seconds))))
    rates: list[list[float]] = [[] for _ in loops]
    for index in turns(len(loops), repeats):
        loop = loops[index]
        on_turn(loop.name)
        with loop.turn():
            loop.run(loop.lead_in)
            seconds = _seconds(loop, steps[index])
        rates[index].append(steps[index] * loop.images_per_step / seconds)
    return [
        Measurement(loop.name, tuple(rate), seconds)
        for loop, rate, seconds in zip(loops, rates, first, strict=True)
    ]


def _seconds(loop: Loop, steps: int) -> float:
    started = time.perf_counter()
    loop.run(steps)
    return time.perf_counter() - started
