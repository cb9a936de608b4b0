"""``--part busy``: our loop alone and beside one process that never rests."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmark.speed.ours import OurLoop
from benchmark.speed.report import Report, measured_row, run_setting
from benchmark.speed.setting import device_of, speed_config
from benchmark.speed.timing import Loop, measure
from mindiffusion.machine import available_cores
from mindiffusion.runtime import has_cxx_compiler

# Ends with its parent, however that ends.
SPIN = (
    "import os\nparent = os.getppid()\nprint('on', flush=True)\nwhile os.getppid() == parent: pass"
)
NUM_PICTURES = 512
COLUMNS = {
    "": "row",
    "images/s": "images_per_second",
    "× alone": "over_alone",
    "first steps, s": "first_seconds",
}


@contextlib.contextmanager
def busy_process() -> Iterator[None]:
    """One process that keeps one core busy."""
    with subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it is under way
        try:
            yield
        finally:
            process.kill()


class Beside(Loop):
    """A loop whose turns run beside a busy process.

    Args:
        loop: the loop.
    """

    def __init__(self, loop: Loop) -> None:
        self.name = f"{loop.name}, beside"
        self.images_per_step = loop.images_per_step
        self.lead_in = loop.lead_in
        self.run = loop.run  # type: ignore[method-assign]

    def turn(self) -> contextlib.AbstractContextManager[object]:
        """With company."""
        return busy_process()


def busy(preset: str, overrides: list[str], repeats: int) -> Report:
    """Time training alone and beside a busy process, for all cores and one, compiled and eager.

    Args:
        preset: what to train.
        overrides: ``--set`` words.
        repeats: turns of each row.
    """
    compiled = ["on", "off"] if has_cxx_compiler() else ["off"]
    loops: list[Loop] = []
    with tempfile.TemporaryDirectory() as scratch:
        for threads in sorted({available_cores(), 1}, reverse=True):
            for switch in compiled:
                own = [f"training.threads={threads}", f"training.compile={switch}"]
                config = speed_config(preset, [*overrides, *own])
                name = f"{threads} thread{'s' * (threads > 1)}, "
                name += "compiled" if switch == "on" else "eager"
                # The pictures' content does not matter here, and a run needs few of them.
                side = config.data.size
                images = np.zeros((NUM_PICTURES, side, side, 3), dtype=np.uint8)
                loop = OurLoop(name, config, images, Path(scratch) / name, device_of(config))
                loops += [loop, Beside(loop)]
        measured = {one.name: one for one in measure(loops, repeats)}
    rows = [
        measured_row(one, {"alone": measured[name.removesuffix(", beside")]})
        for name, one in measured.items()
    ]
    setting = run_setting(config, loop.trainer.runtime, repeats)
    del setting["threads"]
    setting["ours"] = setting["ours"].partition(",")[0]
    return Report("busy", setting, COLUMNS, rows)
