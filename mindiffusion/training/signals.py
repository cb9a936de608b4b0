"""Asked to stop by SIGINT, SIGTERM or SIGHUP: what each moment of a run does about it.

Between steps there is much to lose: signals are collected and acted on once the state is saved.
While a step compiles, for minutes, there is nothing to lose: the process leaves at once. Anywhere
else a signal ends the command as Ctrl-C does (``mindiffusion.errors.guarded``).
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from mindiffusion.errors import (
    Terminated,
    ending_signals,
    is_main_process,
    let_go_of_terminal,
)

RELAY_SECONDS = 5.0
"""Launchers such as torchrun pass on, a moment later, a Ctrl-C that the terminal sent to all."""

_received: list[int] = []


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
    """Collect signals to stop in a list instead of dying at once; one that comes later dies."""
    first = 0.0

    def remember(number: int, frame: object) -> None:
        nonlocal first
        if number == signal.SIGHUP:
            let_go_of_terminal()
        if not _received:
            first = time.monotonic()
            _received.append(number)
        elif time.monotonic() - first > RELAY_SECONDS:
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    try:
        with _handled_by(remember):
            yield _received
    finally:
        _received.clear()


def was_stopped() -> bool:
    """Whether a signal has been collected by the ``stop_signals`` that this is called in."""
    return bool(_received)


def raise_if_stopped() -> None:
    """For long work inside ``stop_signals``: leave it if a signal has been collected.

    Raises:
        Interrupted: one has.
    """
    if _received:
        raise Interrupted(_received[0])


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """Inside ``stop_signals``, around work that may take minutes and leaves nothing to save.

    A compiler swallows exceptions and waits for its workers: the process exits in the signal
    handler itself, and takes the C++ compilers along where the system names them (Linux).
    """
    with _handled_by(_leave):
        if _received:
            _leave(_received[0], None)
        yield


def _leave(number: int, frame: object) -> None:
    if number == signal.SIGHUP:
        let_go_of_terminal()
    if is_main_process():
        line = "stopped while compiling; the last checkpoint stands, the same command goes on."
        # Not print: the main thread may be inside one, holding its lock.
        os.write(2, f"\n{line}\n".encode())
    for process in list(_descendants(os.getpid())):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    os._exit(128 + number)


def _descendants(process: int) -> Iterator[int]:
    """Process ids of the children of a process, and theirs."""
    for path in Path("/proc").glob(f"{process}/task/*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                yield child
                yield from _descendants(child)


@contextlib.contextmanager
def _handled_by(handler: "signal._HANDLER") -> Iterator[None]:
    numbers = (signal.SIGINT, *ending_signals())
    old = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)
