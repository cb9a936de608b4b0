"""``--part training``: our arms beside the reference loop, the peer, and the machine's limits."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from benchmark.speed.limits import Rates, floors, measure_rates
from benchmark.speed.ours import OurLoop
from benchmark.speed.pictures import jpeg_folder, names, prepared_array
from benchmark.speed.report import Report, Row, measured_row, run_setting
from benchmark.speed.rivals.peer import PeerLoop, why_not
from benchmark.speed.rivals.reference_loop import (
    PREFETCHED,
    ReferenceLoop,
    batches_in_memory,
    decoded_batches,
)
from benchmark.speed.setting import PRESETS, device_of, n_feat_of, speed_configs, uses_gpu
from benchmark.speed.timing import Loop, Measurement, measure
from mindiffusion.config.run import RunConfig
from mindiffusion.data.codec import PIXELS
from mindiffusion.machine import available_cores
from mindiffusion.step_cost import StepCost, step_cost
from mindiffusion.unet import NaiveUnet

REFERENCE, IN_MEMORY, PEER = "reference loop", "reference, data in memory", "peer"
COLUMNS = {
    "": "row",
    "images/s": "images_per_second",
    "× reference": "over_reference",
    "× in memory": "over_in_memory",
    "× first arm": "over_first_arm",
    "first steps, s": "first_seconds",
    "data wait": "data_wait",
    "% of floor": "percent_of_floor",
}


def training(presets: Sequence[str], overrides: list[str], repeats: int) -> Report:
    """Train a few steps in every way, in turns; count and measure the limits.

    Args:
        presets: our rows; the first one's config sets up the other rows too.
        overrides: ``--set`` words.
        repeats: turns of each row.
    """
    configs = speed_configs(list(presets) or list(PRESETS), overrides)
    config = configs[0]
    folder = jpeg_folder(config.data.num_train or 0)
    with tempfile.TemporaryDirectory() as scratch:
        loops = _loops(configs, folder, Path(scratch))
        ours = [loop for loop in loops if isinstance(loop, OurLoop)]
        with tqdm(total=len(loops) * (repeats + 1), unit="turn", disable=None) as bar:

            def on_turn(name: str) -> None:
                bar.set_description(name)
                bar.update()

            measured = measure(loops, repeats, on_turn)
    refused = why_not(config, len(names(folder)))
    cost = step_cost(
        NaiveUnet(PIXELS.channels, PIXELS.channels, n_feat_of(config)),
        PIXELS.channels,
        config.data.size,
    )
    limits, notes = limit_rows(cost, measure_rates(device_of(config)))
    floor = max(limit["seconds_per_image"] for limit in limits)
    rows = table_rows(measured, {loop.name: loop.data_wait for loop in ours}, floor)
    if refused is not None:
        notes.append(f"{PEER} left out: {refused}")
    setting = run_setting(config, ours[0].trainer.runtime, repeats)
    setting["pictures"] = config.data.num_train
    return Report("training", setting, COLUMNS, [*rows, *limits], notes)


def _loops(configs: Sequence[RunConfig], folder: Path, scratch: Path) -> list[Loop]:
    config = configs[0]
    side, batch = config.data.size, config.training.global_batch
    threads = config.training.threads or available_cores()
    # On a GPU a queue of decoded batches would carry a turn's first steps: it is used up first.
    lead_in = PREFETCHED if uses_gpu(config) else 1
    loops: list[Loop] = [
        ReferenceLoop(REFERENCE, decoded_batches(folder, side, batch), config, threads, lead_in),
        ReferenceLoop(IN_MEMORY, batches_in_memory(folder, side, batch), config, threads, 1),
    ]
    if why_not(config, len(names(folder))) is None:
        lead_in = 2 * available_cores() if uses_gpu(config) else 1
        loops.append(PeerLoop(config, folder, scratch / "peer", threads, lead_in))
    images, device = prepared_array(folder, side), device_of(config)
    for number, own in enumerate(configs):
        loops.append(OurLoop(f"ours, {own.arm}", own, images, scratch / str(number), device))
    return loops


def table_rows(
    measured: Sequence[Measurement],
    data_wait: dict[str, float],
    floor: float,
) -> list[Row]:
    """The table's measured rows.

    Args:
        measured: the two references, then the others.
        data_wait: of our rows, by name; its first name is the arm that others are held against.
        floor: seconds an image that no step can undercut.
    """
    by_name = {one.name: one for one in measured}
    bases = {"reference": by_name[REFERENCE], "in_memory": by_name[IN_MEMORY]}
    own_bases = bases | {"first_arm": by_name[next(iter(data_wait))]}
    rows = []
    for one in measured:
        row = measured_row(one, own_bases if one.name in data_wait else bases)
        row["data_wait"] = data_wait.get(one.name)
        row["percent_of_floor"] = 100 * floor * row["images_per_second"]["median"]
        rows.append(row)
    return rows


def limit_rows(cost: StepCost, rates: Rates) -> tuple[list[Row], list[str]]:
    """What the machine allows at best: a row for each limit, and how they come about."""
    rows: list[Row] = [
        {"row": f"limit: {name}", "images_per_second": 1 / seconds, "seconds_per_image": seconds}
        for name, seconds in floors(cost, rates).items()
    ]
    rows[0] |= {"cost": asdict(cost), "rates": asdict(rates)}
    notes = [
        f"bandwidth: {cost.bytes / 1e6:.1f} MB an image, every layer in and out once in bf16, over "
        f"copies at {rates.copy_bytes / 1e9:.3g} GB/s",
        f"matrices: {cost.flops / 1e9:.3g} GFLOP an image over products at {rates.words}",
        "the floor is the slower of the two limits",
    ]
    return rows, notes
