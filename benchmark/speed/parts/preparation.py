"""``--part preparation``: our preparation beside a bare process pool that does the same work.

The pool decodes, crops and resizes (or draws) every image once on as many workers, and drops it:
no files, no hashes, no resume, nothing sent back.
"""

import json
import tempfile
from dataclasses import asdict, replace
from typing import Any

from tqdm import tqdm

from benchmark.speed.child import run_python
from benchmark.speed.pictures import jpeg_folder, speed_cache
from benchmark.speed.report import Report, Row
from benchmark.speed.timing import paired_ratio, spread, turns
from mindiffusion.config.presets import apply_overrides, build_config, load_preset, merge
from mindiffusion.data.prepare import plan_data
from mindiffusion.data.spec import DataConfig
from mindiffusion.machine import available_cores

NUM_PICTURES = 20_000
AVATARS_PER_FILE = 0.25
"""Portraits take longer to draw than files to decode, so fewer are drawn."""
NUM_HELD_OUT = 64
COLUMNS = {
    "": "row",
    "images": "images",
    "images/s": "images_per_second",
    "× bare pool": "over_bare_pool",
    "peak memory, MiB": "peak_mebibytes",
    "of a quarter, MiB": "peak_mebibytes_of_a_quarter",
}


def preparation(overrides: list[str], repeats: int) -> Report:
    """Prepare a folder of JPEGs and a set of avatars, in turns with the bare pool.

    Args:
        overrides: ``--set`` words; those of ``data`` matter.
        repeats: turns of each.
    """
    base = {"data": {"dataset": "avatars", "num_train": NUM_PICTURES, "num_held_out": NUM_HELD_OUT}}
    content = apply_overrides(merge(load_preset("celeba_b_32"), base), overrides)
    data = build_config(content, "preset celeba_b_32").data
    count, workers = data.num_train or NUM_PICTURES, available_cores()
    folder = jpeg_folder(count)
    for path in folder.glob("*/*.jpg"):
        path.read_bytes()  # into the system's file cache, for both alike
    # A folder is used whole: the held-out images are some of its files.
    files = replace(data, dataset=str(folder.resolve()), num_train=None)
    avatars = replace(data, num_train=max(1, int(count * AVATARS_PER_FILE)))
    rows = []
    for name, config in (("JPEG folder", files), ("avatars", avatars)):
        rows += _side_by_side(name, config, workers, repeats)
    setting = {"side": data.size, "crop": data.crop, "workers": workers, "repeats": repeats}
    return Report("preparation", setting, COLUMNS, rows)


def _side_by_side(name: str, config: DataConfig, workers: int, repeats: int) -> list[Row]:
    """The bare pool's row and ours, on one data set."""
    num_train = len(plan_data(config, None).train)
    quarter = timed("ours", replace(config, num_train=max(1, num_train // 4)), workers)
    results: tuple[list[dict[str, Any]], ...] = ([], [])
    for index in tqdm(list(turns(2, repeats)), desc=name, unit="turn", disable=None):
        results[index].append(timed(("bare_pool", "ours")[index], config, workers))
    bare, ours = ([one["images"] / one["seconds"] for one in taken] for taken in results)
    rows: list[Row] = []
    for row, rates in ((f"{name}, bare pool", bare), (f"{name}, ours", ours)):
        images = results[0][0]["images"]
        entry = {"row": row, "images": images, "images_per_second": asdict(spread(rates))}
        ratio = asdict(paired_ratio(rates, bare))
        rows.append(entry | {"repeats": rates, "over_bare_pool": ratio})
    rows[1]["peak_mebibytes"] = results[1][-1]["peak_mebibytes"]
    rows[1]["peak_mebibytes_of_a_quarter"] = quarter["peak_mebibytes"]
    return rows


def timed(how: str, config: DataConfig, workers: int) -> dict[str, Any]:
    """Prepare from nothing, in a process of its own.

    Args:
        how: "ours" or "bare_pool".
        config: what to prepare.
        workers: processes.

    Returns:
        ``images``, ``seconds``, and ``peak_mebibytes`` of the process with its workers (None
        where the system does not tell).
    """
    speed_cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=speed_cache()) as root:
        job = {"how": how, "config": asdict(config), "root": root, "workers": workers}
        printed = run_python(["-m", "benchmark.speed.prepare_once", json.dumps(job)])
    result: dict[str, Any] = json.loads(printed)
    return result
