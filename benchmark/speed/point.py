"""One rank of one point of ``--part scaling``: ``torchrun -m benchmark.speed.point JOB RESULT``."""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmark.speed.ours import OurLoop
from benchmark.speed.setting import speed_config
from benchmark.speed.timing import measure
from mindiffusion.files import write_json
from mindiffusion.runtime import resolve_runtime
from mindiffusion.training.ranks import process_group, ranks_from_environment

NUM_PICTURES = 512
"""Their content does not matter here."""


def main(job_file: Path, result_file: Path) -> None:
    """Time one config on all ranks; the main rank writes the result.

    Args:
        job_file: JSON with ``preset``, ``overrides``, ``repeats`` and ``turn_seconds``.
        result_file: gets ``images_per_second`` (a value a repeat) and ``runtime`` in words.
    """
    job = json.loads(job_file.read_text(encoding="utf-8"))
    config = speed_config(job["preset"], job["overrides"])
    ranks = ranks_from_environment()
    runtime = resolve_runtime(config, ranks.local_world)
    images = np.zeros((NUM_PICTURES, config.data.size, config.data.size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as run_dir, process_group(ranks, runtime.device) as device:
        loop = OurLoop(config.arm, config, images, Path(run_dir), device, ranks)
        # All ranks must do equally many steps.
        (measured,) = measure(
            [loop], job["repeats"], agree=ranks.max, turn_seconds=job["turn_seconds"]
        )
        words = f"{runtime.precision}, {'compiled' if runtime.compile else 'eager'}"
    if ranks.is_main:
        rates = {"images_per_second": list(measured.images_per_second)}
        write_json(result_file, rates | {"runtime": f"{words}, {runtime.threads} threads a rank"})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
