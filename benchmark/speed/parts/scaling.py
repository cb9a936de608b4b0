"""``--part scaling``: what a step costs over width, image side, batch and ranks."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmark.speed import timing
from benchmark.speed.child import run_python
from benchmark.speed.report import Report, run_setting
from benchmark.speed.setting import n_feat_of, speed_config, uses_gpu
from benchmark.speed.timing import spread
from mindiffusion.config.run import RunConfig
from mindiffusion.data.codec import PIXELS
from mindiffusion.files import write_json
from mindiffusion.machine import available_cores
from mindiffusion.runtime import resolve_runtime
from mindiffusion.step_cost import step_cost
from mindiffusion.unet import NaiveUnet

WIDTHS = (16, 32, 64, 128)
SIDES = (32, 64)
BATCH_FACTORS = (0.25, 1, 4)
RANKS = (1, 2, 4)
COLUMNS = {
    "swept": "swept",
    "n_feat": "n_feat",
    "side": "side",
    "batch": "global_batch",
    "ranks": "ranks",
    "images/s": "images_per_second",
    "ms/image": "milliseconds_per_image",
    "MB/image": "megabytes_per_image",
    "GFLOP/image": "gigaflops_per_image",
    "runtime": "runtime",
}


@dataclass(frozen=True)
class Point:
    """One setting to time.

    Attributes:
        swept: which series of the figure it belongs to: "width", "batch" or "ranks".
        n_feat: base width.
        side: image side in pixels.
        global_batch: images a step over all ranks.
        ranks: processes.
    """

    swept: str
    n_feat: int
    side: int
    global_batch: int
    ranks: int = 1

    @property
    def overrides(self) -> list[str]:
        """``--set`` words of the point."""
        return [
            f"model.n_feat={self.n_feat}",
            f"data.size={self.side}",
            f"training.global_batch={self.global_batch}",
        ]


def points(n_feat: int, side: int, batch: int, max_ranks: int) -> list[Point]:
    """Widths by sides at one batch, then batches and ranks at one size.

    Args:
        n_feat: width at which batch and ranks are swept.
        side: image side there.
        batch: global batch of the other sweeps.
        max_ranks: ranks that this machine has cores or GPUs for.
    """
    found = [Point("width", width, s, batch) for s in SIDES for width in WIDTHS]
    found += [Point("batch", n_feat, side, int(batch * factor)) for factor in BATCH_FACTORS]
    return found + [Point("ranks", n_feat, side, batch, r) for r in RANKS if r <= max_ranks]


def scaling(preset: str, overrides: list[str], repeats: int) -> Report:
    """Time every point in processes of its own, as torchrun starts them.

    Args:
        preset: what to train.
        overrides: ``--set`` words.
        repeats: turns of each point.
    """
    config = speed_config(preset, overrides)
    rows = []
    for point in tqdm(points(*_centre(config)), unit="point", disable=None):
        rows.append(time_point(preset, [*overrides, *point.overrides], point, repeats))
    setting = run_setting(config, resolve_runtime(config, 1), repeats)
    setting = {key: setting[key] for key in ("device", "repeats")}
    return Report("scaling", setting, COLUMNS, rows)


def _centre(config: RunConfig) -> tuple[int, int, int, int]:
    import torch

    most = torch.cuda.device_count() if uses_gpu(config) else available_cores()
    return n_feat_of(config), config.data.size, config.training.global_batch, most


def time_point(preset: str, overrides: Sequence[str], point: Point, repeats: int) -> dict[str, Any]:
    """The row of one point.

    Raises:
        UserError: its processes failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        job, result = Path(scratch) / "job.json", Path(scratch) / "result.json"
        told = {"preset": preset, "overrides": list(overrides), "repeats": repeats}
        write_json(job, told | {"turn_seconds": timing.TURN_SECONDS})
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
        run_python(
            [*launcher, str(point.ranks), "-m", "benchmark.speed.point", str(job), str(result)]
        )
        measured = json.loads(result.read_text(encoding="utf-8"))
    cost = step_cost(
        NaiveUnet(PIXELS.channels, PIXELS.channels, point.n_feat), PIXELS.channels, point.side
    )
    rate = spread(measured["images_per_second"])
    return {
        **asdict(point),
        "images_per_second": asdict(rate),
        "repeats": measured["images_per_second"],
        "milliseconds_per_image": 1e3 / rate.median,
        "megabytes_per_image": cost.bytes / 1e6,
        "gigaflops_per_image": cost.flops / 1e9,
        "runtime": measured["runtime"],
    }
