"""Processes of ours that a command starts, follows and ends: cells, and nets of difficulty."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from mindiffusion.errors import FAULT_CODE, STOP_CODES, Terminated, ToldFault, UserError
from mindiffusion.machine import module_command
from mindiffusion.outside.paths import open_to_change
from mindiffusion.training.run_files import last_line
from mindiffusion.training.signals import Interrupted

STOP_SECONDS = 10.0
"""How long they may take to save their state; one that needs longer has its last checkpoint."""
GO_ON = "Run the same command again to go on."


def start_child(
    module: str, document: Path, log: Path, gpu: str | None, environment: Mapping[str, str]
) -> "subprocess.Popen[str]":
    """Start ``python -m module document``; its lines come by ``stdout``, its stderr goes to a log.

    Args:
        module: what runs.
        document: what it is told.
        log: written anew.
        gpu: the only one that it sees; None: as this process.
        environment: beside this process's.
    """
    devices = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
    with os.fdopen(open_to_change(log, os.O_WRONLY | os.O_TRUNC), "wb") as errors:
        return subprocess.Popen(
            [*module_command(module), str(document)],
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
            env=dict(os.environ) | dict(environment) | devices,
            # Ctrl-C is for the parent, which then asks each one once to save its state.
            process_group=0,
        )


def tell_parent(line: str) -> None:
    """In such a process: print a line for the command; end if that is gone.

    Raises:
        Interrupted: nobody reads it any more, so no orphan goes on computing.
    """
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # Nothing more can be said, and stdout must not be flushed again at exit.
        sys.stdout = None
        raise Interrupted(signal.SIGTERM) from None


def check_end(code: int, log: Path, who: str) -> None:
    """Raise if a process did not end well.

    Args:
        code: its exit code.
        log: where its stderr went.
        who: what the error calls it.

    Raises:
        Terminated: it was stopped.
        UserError: it failed; the line is the last one of its log.
    """
    if code == 0:
        return
    if code in STOP_CODES:
        raise Terminated(-code if code < 0 else code - 128)
    last = last_line(log) or f"exit code {code}"
    if code == -signal.SIGBUS:
        last = "a file that it had mapped was cut; leave prepared data alone while a study runs"
    kind = ToldFault if code == FAULT_CODE else UserError
    raise kind(f"{who} stopped: {last} (log: {log}). {GO_ON}")


def end_children(children: "Collection[subprocess.Popen[str]]") -> None:
    """Let processes save their state, then end those that have not ended by themselves."""
    for child in children:
        child.terminate()
    give_up = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.wait(max(0.0, give_up - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            # Its lock is let go before the command ends.
            child.wait()
