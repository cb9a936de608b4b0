"""A process that draws shards: jobs come in on stdin, outcomes go out on stdout, both pickled.

A plain subprocess, not ``multiprocessing``: that imports the caller's main script again (with
torch, or without a guard), and its workers outlive a killed parent. This one ends with its stdin.
"""

import contextlib
import os
import pickle
import sys
from typing import BinaryIO

from mindiffusion.data.shard import write_shard
from mindiffusion.errors import UserError


def main() -> None:
    """Read a source, then jobs, until the parent closes the pipe or is gone."""
    with contextlib.suppress(EOFError, BrokenPipeError), _outcomes() as outcomes:
        source = pickle.load(sys.stdin.buffer)
        while True:
            job = pickle.load(sys.stdin.buffer)
            outcome: list[tuple[str, str]] | OSError | UserError
            try:
                outcome = write_shard(source, job)
            except (OSError, UserError) as error:  # such as a full disk: the parent says so, once
                outcome = error
            pickle.dump(outcome, outcomes)
            outcomes.flush()


def _outcomes() -> BinaryIO:
    """The pipe to the parent; from here on, what a library prints goes to stderr instead."""
    descriptor = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(descriptor, "wb")


if __name__ == "__main__":
    main()
