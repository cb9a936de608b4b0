"""A simulation from its first step to its last, which may be interrupted anywhere."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mindiffusion.theory.kept_state import load_state, save_state
from mindiffusion.theory.setting import TheoryRun
from mindiffusion.theory.simulation import Simulation, Snapshot

_STEPS_AT_ONCE = 100
"""Between two looks at the clock."""


def simulate(
    runs: Sequence[TheoryRun],
    on_milestone: Callable[[Snapshot], None],
    *,
    state_path: Path | None = None,
    save_seconds: float = 60.0,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train runs to their ends, and hand out their weights at every milestone.

    Called again with the same runs and the same ``state_path``, it goes on where it was, with the
    same bits. A milestone is handed out before its state is kept, so after a crash it may come
    twice, and is never missed. The file goes when all is done.

    Args:
        runs: as of ``Simulation``.
        on_milestone: takes the weights of the runs that have a milestone at a step.
        state_path: where the state is kept; None: nowhere.
        save_seconds: how long it trains between two states.
        should_stop: asked often; if it says so, the state is kept, and this returns.

    Returns:
        Whether all runs have come to their end.

    Raises:
        UserError: as for ``Simulation``; a state of other runs; or weights that are not finite.
    """
    simulation = Simulation(runs)
    if state_path is not None and state_path.exists():
        simulation.load_state(load_state(state_path), f"state {state_path}")
    saved_at = time.monotonic()
    while not simulation.is_done:
        milestone = simulation.next_milestone
        simulation.advance(min(milestone, simulation.step + _STEPS_AT_ONCE))
        if simulation.step == milestone:
            on_milestone(simulation.snapshot())
        is_stopped = not simulation.is_done and should_stop()
        is_due = time.monotonic() - saved_at >= save_seconds or simulation.step == milestone
        if state_path is not None and not simulation.is_done and (is_stopped or is_due):
            save_state(state_path, simulation.state())
            saved_at = time.monotonic()
        if is_stopped:
            return False
    if state_path is not None:
        state_path.unlink(missing_ok=True)
    return True
