"""``--part evaluation``: from images to a Fréchet distance, beside other tools on the same net.

Three tables in one: the whole way with an Inception of random weights; the reading and resizing
alone, before a net that does nothing; and the distance alone.
"""

import importlib.metadata
import math
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import linalg
from torch import Tensor, nn

from benchmark.evaluation.features import inception
from benchmark.evaluation.features.extract import array_batches, feature_set
from benchmark.evaluation.features.reference_set import ReferenceSet
from benchmark.evaluation.metrics.frechet import Moments, covariance_root, frechet_distance, moments
from benchmark.speed.report import Report, Row, measured_row
from benchmark.speed.rivals.random_inception import (
    random_inception_extractor,
    read_layers,
    write_random_inception,
)
from benchmark.speed.rivals.scorers import (
    ScoringLoop,
    Task,
    Way,
    other_ways,
    our_pipeline,
    our_way,
)
from benchmark.speed.setting import device_of
from benchmark.speed.timing import Loop, Measurement, measure, spread
from mindiffusion.config.presets import apply_overrides, build_config, load_preset, merge
from mindiffusion.config.run import RunConfig
from mindiffusion.data.avatars import AvatarSource
from mindiffusion.machine import available_cores

NUM_IMAGES, RECKONED_IMAGES = 512, 10_000
REFERENCE_FIRST = 10**6
"""Portraits of the reference are others than those that are scored."""
FEATURES_PER_DIM = 2
"""Features behind a covariance of the distance's table, so that it has full rank."""
CLEAN_FID = "clean-fid"
TOOLS = ("clean-fid", "torch-fidelity", "pytorch-fid", "scipy")
COLUMNS = {
    "": "row",
    "seconds": "seconds",
    "images/s": "images_per_second",
    "× fastest other": "over_fastest_other",
    "× clean-fid": "over_clean_fid",
    "× sqrtm": "over_sqrtm",
    f"{RECKONED_IMAGES} images, s (reckoned)": "reckoned_seconds",
    "distance": "value",
    "note": "note",
}


def evaluation(preset: str, overrides: list[str], repeats: int) -> Report:
    """Score portraits in every way, in turns.

    Args:
        preset: sets the device and the threads.
        overrides: ``--set`` words; ``data.num_train`` is the number of images.
        repeats: turns of each row.
    """
    base = {"data": {"dataset": "avatars", "num_train": NUM_IMAGES}}
    config = build_config(apply_overrides(merge(load_preset(preset), base), overrides), preset)
    n, device = config.data.num_train or NUM_IMAGES, device_of(config)
    threads = config.training.threads or available_cores()
    with tempfile.TemporaryDirectory() as scratch:
        task = _inception_task(Path(scratch), config, n, threads)
        rows = _whole_way(task, _reference(task, config.data.size), repeats)
        rows += _pipeline(_idle(task), repeats)
    rows += _distance(inception.DIM, repeats)
    setting = {
        "images": n,
        "side": config.data.size,
        "features": inception.DIM,
        "device": device.type,
        "threads": threads,
        "workers": task.workers,
        "our batch": task.extractor.batch_size,
        "repeats": repeats,
        **{name: _version(name) for name in TOOLS},
    }
    notes = [
        "whole: PNGs to a distance, statistics of the reference given; Inception with random "
        "weights, so distances mean nothing but that equal ways agree",
        "pipeline: PNGs, read and resized by each tool's own means, to a net that copies numbers; "
        "no statistics",
        f"{RECKONED_IMAGES} images are reckoned: the time of {n} scaled, but for the distance's",
    ]
    return Report("evaluation", setting, COLUMNS, rows, notes)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _portraits(first: int, n: int, side: int) -> NDArray[np.uint8]:
    source = AvatarSource(("personas",), side)
    return np.stack([source.draw(first + index).pixels for index in range(n)])


def _inception_task(scratch: Path, config: RunConfig, n: int, threads: int) -> Task:
    """Portraits as PNGs, and one Inception of random weights for all."""
    images, device = _portraits(0, n, config.data.size), device_of(config)
    folder, weights = scratch / "images", scratch / "inception.pt"
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:06d}.png")
    sha256 = write_random_inception(weights)
    extractor = random_inception_extractor(weights, sha256, device)
    extractor = replace(extractor, net=replace(extractor.net, dim=inception.DIM))
    layers = read_layers(weights, sha256, device)
    return Task(folder, images, layers, extractor, device, threads, available_cores())


def _reference(task: Task, side: int) -> ReferenceSet:
    """As many other portraits: what all ways are given for a reference."""
    images = _portraits(REFERENCE_FIRST, len(task.images), side)
    batches = array_batches(images, task.extractor.batch_size)
    found = feature_set(task.extractor, batches, len(images), groups=1, keep=True)
    assert found.features is not None
    return ReferenceSet(found.features, found.moments, covariance_root(found.moments), found.n)


class _Idle(nn.Module):
    """A net that takes no time."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1)[:, : inception.DIM]


def _idle(task: Task) -> Task:
    """The same task before an idle net."""
    net = _Idle()
    return replace(task, layers=net, extractor=replace(task.extractor, module=net))


def _whole_way(task: Task, reference: ReferenceSet, repeats: int) -> list[Row]:
    """Images to a distance in every way."""
    ways: dict[str, Way | None] = {
        f"ours, from the {source}": our_way(task, source) for source in ("folder", "array")
    }
    ways |= other_ways(task)
    loops = [
        ScoringLoop(f"whole: {name}", way, task, reference)
        for name, way in ways.items()
        if way is not None
    ]
    rates = {one.name: one for one in measure(loops, repeats)}
    others = [rates[loop.name] for loop in loops if not loop.is_ours and loop.failure is None]
    fastest = max(others, key=lambda one: statistics.median(one.images_per_second), default=None)
    bases = {} if fastest is None else {"fastest_other": fastest}
    rows = [_row(loop, rates[loop.name], bases) for loop in loops]
    for loop, row in zip(loops, rows, strict=True):
        if loop.failure is None:
            row |= {"value": loop.value, "reckoned_seconds": _reckoned(loop, row)}
    return rows + _absent("whole", ways)


def _reckoned(loop: ScoringLoop, row: Row) -> float:
    """Seconds that ``RECKONED_IMAGES`` would take."""
    distance = statistics.median(loop.distance_seconds)
    images = row["seconds"]["median"] - distance
    return images * RECKONED_IMAGES / loop.images_per_step + distance


def _pipeline(task: Task, repeats: int) -> list[Row]:
    """Images to an idle net's features in every way."""
    ways: dict[str, Way | None] = {"ours, from the folder": our_pipeline(task)}
    ways |= other_ways(task)
    loops = [
        ScoringLoop(f"pipeline: {name}", way, task) for name, way in ways.items() if way is not None
    ]
    rates = {one.name: one for one in measure(loops, repeats)}
    named = {loop.name: loop for loop in loops}
    base = named.get(f"pipeline: {CLEAN_FID}")
    bases = {} if base is None or base.failure else {"clean_fid": rates[base.name]}
    return [_row(loop, rates[loop.name], bases) for loop in loops] + _absent("pipeline", ways)


def _row(loop: ScoringLoop, measured: Measurement, bases: dict[str, Measurement]) -> Row:
    if loop.failure is not None:
        return {"row": loop.name, "note": loop.failure}
    row = measured_row(measured, bases)
    row["seconds"] = asdict(spread([loop.images_per_step / r for r in measured.images_per_second]))
    return row


def _absent(part: str, ways: Mapping[str, Way | None]) -> list[Row]:
    return [
        {"row": f"{part}: {name}", "note": f"not installed: pip install {name}"}
        for name, way in ways.items()
        if way is None
    ]


class _DistanceLoop(Loop):
    """A distance between given moments; a step is one."""

    warm_up = 0
    lead_in = 0
    min_steps = 1
    images_per_step = 1

    def __init__(self, name: str, distance: Callable[[], float]) -> None:
        self.name = name
        self.value = math.nan
        self._distance = distance

    def run(self, steps: int) -> None:
        """Compute."""
        for _ in range(steps):
            self.value = self._distance()


def _distance(dim: int, repeats: int) -> list[Row]:
    """The distance alone: scipy's square root of a matrix beside ours."""
    mix = np.random.default_rng(0).normal(size=(dim, dim)) / dim**0.5
    a, b = (_synthetic_moments(seed, mix) for seed in (1, 2))
    root = covariance_root(b)
    loops = [
        _DistanceLoop("distance: scipy.linalg.sqrtm", lambda: _by_sqrtm(a, b)),
        _DistanceLoop("distance: ours", lambda: frechet_distance(a, b, root)),
    ]
    measured = measure(loops, repeats)
    rows = []
    for loop, one in zip(loops, measured, strict=True):
        row = measured_row(one, {"sqrtm": measured[0]})
        del row["images_per_second"]
        row["seconds"] = asdict(spread([1 / rate for rate in one.images_per_second]))
        rows.append(row | {"value": loop.value})
    difference = abs(loops[1].value / loops[0].value - 1)
    rows[1] |= {"difference": difference, "note": f"relative difference {difference:.1e}"}
    return rows


def _synthetic_moments(seed: int, mix: NDArray[np.float64]) -> Moments:
    """Moments of rectified random features, whose variances fall by a power as a net's do."""
    dim = len(mix)
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(FEATURES_PER_DIM * dim, dim)) / np.sqrt(np.arange(1, dim + 1))
    return moments(np.maximum(drawn @ mix + 0.1 * rng.normal(size=dim), 0.0))


def _by_sqrtm(a: Moments, b: Moments) -> float:
    """Heusel et al. 2017, eq. 6, as it is written."""
    shift = a.mean - b.mean
    root = linalg.sqrtm(a.covariance @ b.covariance)
    return float(shift @ shift + np.trace(a.covariance + b.covariance - 2 * root.real))
