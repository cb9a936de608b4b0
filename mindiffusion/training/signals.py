"""Asked to stop: signals are collected and acted on between steps, with the state saved."""

import contextlib
import signal
import time
from collections.abc import Iterator

RELAY_SECONDS = 5.0
"""Launchers such as torchrun pass on, a moment later, a Ctrl-C that the terminal sent to all."""


class Interrupted(Exception):
    """The run was asked to stop; its state is on disk.

    Attributes:
        signal_number: the signal that asked.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.signal_number = signal_number


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of dying at once; one that comes later dies."""
    received: list[int] = []
    first = 0.0

    def remember(number: int, frame: object) -> None:
        nonlocal first
        if not received:
            first = time.monotonic()
            received.append(number)
        elif time.monotonic() - first > RELAY_SECONDS:
            raise KeyboardInterrupt

    old = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
