"""One timed preparation in a process of its own: ``python -m benchmark.speed.prepare_once JOB``.

Ours, or a bare process pool that decodes, crops and resizes (or draws) every image once and drops
it: no files, no hashes, no resume, nothing sent back.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from mindiffusion.data.crops import crop_and_resize
from mindiffusion.data.folder import FileSource
from mindiffusion.data.prepare import plan_data, prepare
from mindiffusion.data.source import Source
from mindiffusion.data.spec import DataConfig
from mindiffusion.outside.pictures import picture_bytes, read_picture

CHUNK = 64
"""Items handed to a worker of the bare pool at a time."""
LOOK_SECONDS = 0.25


class MemoryWatch(threading.Thread):
    """Adds up the largest resident sets of this process and of its children; Linux only.

    The system keeps each process's high-water mark, so looking now and then misses little.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._done = threading.Event()
        self._peaks: dict[int, int] = {}

    def run(self) -> None:
        """Look until ``stop``."""
        while not self._done.wait(LOOK_SECONDS):
            self._look()

    def stop(self) -> float | None:
        """MiB of all processes seen; None where the system does not tell."""
        self._done.set()
        self.join()
        self._look()
        return sum(self._peaks.values()) / 1024 if self._peaks else None

    def _look(self) -> None:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                status = (folder / "status").read_text()
            except OSError:  # it has just ended
                continue
            facts = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            own = int(folder.name) == os.getpid() or int(facts["PPid"]) == os.getpid()
            if own and "VmHWM" in facts:
                self._peaks[int(folder.name)] = int(facts["VmHWM"].split()[0])


def main(job: str) -> None:
    """Do what the JSON ``job`` says (how, config, root, workers); print what it took."""
    told = json.loads(job)
    # Through JSON: its lists are the config's tuples.
    config = TypeAdapter(DataConfig).validate_json(json.dumps(told["config"]))
    plan = plan_data(config, None)
    items = [*plan.train, *plan.held_out[: plan.num_held_out]]
    watch = MemoryWatch()
    watch.start()
    started = time.perf_counter()
    if told["how"] == "ours":
        prepare(config, Path(told["root"]), told["workers"], show_progress=False)
    else:
        bare_pool(plan.source, items, told["workers"])
    seconds = time.perf_counter() - started
    result = {"images": len(items), "seconds": seconds, "peak_mebibytes": watch.stop()}
    print(json.dumps(result))


def bare_pool(source: Source, items: Sequence[Any], workers: int) -> None:
    """Draw all items on a plain process pool, and keep none."""
    with Pool(workers) as pool:
        for _ in pool.imap_unordered(partial(bare_draw, source), items, chunksize=CHUNK):
            pass


def bare_draw(source: Source, item: Any) -> None:
    """Decode, crop and resize a file, or draw a portrait; nothing else."""
    if not isinstance(source, FileSource):
        source.draw(item)
        return
    image = read_picture(picture_bytes(Path(source.place) / item.path)).image
    np.asarray(crop_and_resize(image, source.crop, source.size))


if __name__ == "__main__":
    main(sys.argv[1])
