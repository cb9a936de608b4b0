"""A difficulty run from its start or from wherever it is: rows, then what follows from them."""

import shutil
from pathlib import Path

import numpy as np

from benchmark.difficulty.data_rows import add_data_rows
from benchmark.difficulty.nets import is_done
from benchmark.difficulty.outcome import write_outcome
from benchmark.difficulty.scoring import Scoring
from benchmark.difficulty.setting import Net, Setting, claim_folder
from benchmark.difficulty.shares import train_side_by_side
from benchmark.difficulty.yardsticks import Measured
from benchmark.rows.file import ROWS_FILE, read_rows
from mindiffusion.data.prepared import PreparedData
from mindiffusion.data.store import prepared_data
from mindiffusion.errors import UserError
from mindiffusion.files import exclusive_lock
from mindiffusion.outside.paths import refuse_links
from mindiffusion.training.preflight import check_run
from mindiffusion.writable import try_folder

_FEWEST_HELD_OUT = 2


def measure_difficulty(setting: Setting) -> int:
    """Measure, write tables and figure, print the verdicts; returns the exit code.

    Args:
        setting: what is measured.

    Raises:
        UserError: the folder holds another run, data that can't be had, or a net that failed.
        Terminated: stopped; the same command goes on.
    """
    folder = Path(setting.folder)
    try_folder(folder)
    if folder.exists():
        refuse_links(folder)
    data = prepared_data(setting.run.data, show_progress=True)
    if len(data.held_out) < _FEWEST_HELD_OUT:
        raise UserError(
            f"{data.folder} has {len(data.held_out)} held-out images; errors are measured on "
            f"{_FEWEST_HELD_OUT} or more. Give more images, or a higher data.num_held_out."
        )
    for net in setting.nets:
        check_run(setting.config_of(net), len(data.train))
    with exclusive_lock(folder / ".lock"):
        claim_folder(setting, data.manifest_id)
        add_data_rows(setting, data)
        left = [net for net in setting.nets if not is_done(Scoring(setting, net, data))]
        train_side_by_side(setting, left, data)
        shutil.rmtree(folder / "nets", ignore_errors=True)
        print(write_outcome(measured_of(setting, data)))
    return 0


def measured_of(setting: Setting, data: PreparedData) -> Measured:
    """The rows of a whole run as arrays."""
    levels = Scoring(setting, Net(0, None), data).levels
    ratio = np.array([float(level.sigma / level.alpha) for level in levels])
    times = np.array([level.time for level in levels])
    rows = read_rows(Path(setting.folder) / ROWS_FILE)
    return Measured(setting, rows, times, ratio, data)
