"""Measurements in processes of their own, which must find this very package."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import benchmark
from mindiffusion.errors import UserError


def run_python(words: Sequence[str]) -> str:
    """Run ``python words…`` to its end; returns what it printed.

    Raises:
        UserError: it failed; with the line of its output that says why.
    """
    root = str(Path(benchmark.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *words],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "Error" in line or "error: " in line]
        reason = said[0] if said else f"exit code {done.returncode}"
        raise UserError(f"a measuring process failed ({reason}); mend that and measure again.")
    return done.stdout
