"""``--part uvit``: U-ViT by width, trained and sampled, beside plain ways and the machine."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.speed.limits import measure_rates
from benchmark.speed.ours import OurLoop
from benchmark.speed.pictures import jpeg_folder, prepared_array
from benchmark.speed.report import Report, Row, measured_row, run_setting
from benchmark.speed.rivals.plain_uvit import PlainTraining, plain_ode
from benchmark.speed.setting import device_of, speed_config, uses_gpu
from benchmark.speed.timing import Loop, Measurement, measure
from benchmark.speed.work import NumberedWork, untrained
from mindiffusion.build import build_codec, build_network
from mindiffusion.chain import LinearBeta
from mindiffusion.config.model import UViTConfig
from mindiffusion.config.process import VPSDEConfig
from mindiffusion.config.run import RunConfig
from mindiffusion.errors import UserError
from mindiffusion.runtime import resolve_sampler
from mindiffusion.sampling import sample_chunk
from mindiffusion.step_cost import step_cost
from mindiffusion.training.ema import Averages
from mindiffusion.training.optimizer import make_optimizer

PRESET = "avatars64_uvit_small"
CPU_WIDTHS, GPU_WIDTHS = (128, 192, 256), (128, 256, 512)
_HEAD = 64
"""Width of a head in the published networks."""
_ON_A_CPU = ["data.size=32", "model.depth=4", "training.global_batch=32", "sampler.chunk=16"]
"""The published size would take minutes for a turn. What is given with ``--set`` wins."""
CALLS = 10
PLAIN, OURS = "plain", "ours"
COLUMNS = {
    "": "row",
    "images/s": "images_per_second",
    "× plain": "over_plain",
    "% of matrix rate": "percent_of_rate",
    "% of a step": "percent_of_step",
}


def uvit(overrides: list[str], repeats: int) -> Report:
    """Time each width: a training step, its optimizer and its averages alone, and sampling.

    Args:
        overrides: ``--set`` words.
        repeats: turns of each row.
    """
    config = _config(overrides, GPU_WIDTHS[0])
    own_width, _ = _width(config), _schedule(config)
    widths = GPU_WIDTHS if uses_gpu(config) else CPU_WIDTHS
    rates = measure_rates(device_of(config))
    images = prepared_array(jpeg_folder(config.data.num_train or 0), config.data.size)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for width in widths:
            own = _config(overrides, width)
            loops = _loops(own, images, Path(scratch) / str(width))
            found = {one.name: one for one in measure(list(loops.values()), repeats)}
            rows += _rows(own, found, rates.fastest)
            ours = loops[f"{OURS}, training"]
    assert isinstance(ours, OurLoop)
    setting = run_setting(config, ours.trainer.runtime, repeats) | {
        "network": config.model.words.replace(f"width {own_width}", "width as in the rows"),
        "chunk": resolve_sampler(config, ours.trainer.runtime.device).chunk,
    }
    notes = [
        f"matrix rate: {rates.fastest / 1e12:.3g} TFLOP/s, of large products; {rates.words}",
        "plain: float32, eager, PyTorch's attention, AdamW weight by weight, one average",
        f"sampling: {CALLS} calls; ours {config.sampler.way}, plain Euler's method",
    ]
    return Report("uvit", setting, COLUMNS, rows, notes)


def _width(config: RunConfig) -> int:
    # Another network has no such width, and was refused.
    assert isinstance(config.model, UViTConfig)
    return config.model.embed_dim


def _schedule(config: RunConfig) -> LinearBeta:
    if not isinstance(config.process, VPSDEConfig):
        raise UserError(
            f"--part uvit with the process {config.process.kind}; leave process.kind out."
        )
    return config.process.noise


def _config(overrides: list[str], width: int) -> RunConfig:
    """The preset at a width."""
    of_width = [f"model.embed_dim={width}", f"model.num_heads={max(1, width // _HEAD)}"]
    config = speed_config(PRESET, [*of_width, *overrides])
    if uses_gpu(config):
        return config
    return speed_config(PRESET, [*_ON_A_CPU, *of_width, *overrides])


def _loops(config: RunConfig, images: np.ndarray, scratch: Path) -> dict[str, Loop]:
    """By name, within one width."""
    device, batch = device_of(config), config.training.global_batch
    schedule = _schedule(config)
    ours = OurLoop(f"{OURS}, training", config, images, scratch, device)
    threads = ours.trainer.runtime.threads
    codec, side = build_codec(config), config.data.size
    plain = build_network(config).to(device)
    pixels = codec.inputs(torch.from_numpy(images).to(device), torch.float32)
    sampler = replace(config.sampler, steps=CALLS)
    drawn = resolve_sampler(config, device.type)
    model = untrained(config, device)
    chunk = (drawn.chunk, codec.channels, side, side)
    asked = build_network(config).to(device).eval().requires_grad_(False)
    # A network with gradients to work on: ours has none between its steps.
    alone = build_network(config).to(device)
    for weight in alone.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer = make_optimizer(alone.parameters(), config.training, fused=True)
    # An update costs the same whatever the averages' lengths.
    averages = Averages(alone, config.training.ema_decays, total_steps=1)
    works: Mapping[str, tuple[int, Callable[[int], Tensor | object]]] = {
        f"{OURS}, optimizer alone": (batch, lambda k: optimizer.step()),
        f"{OURS}, averages alone": (batch, lambda k: averages.update()),
        f"{PLAIN}, sampling": (
            drawn.chunk, lambda k: plain_ode(asked, schedule, chunk, CALLS, device)
        ),
        f"{OURS}, sampling": (
            drawn.chunk, lambda k: sample_chunk(model, model.process, codec, sampler, k, side)
        ),
    }  # fmt: skip
    loops: list[Loop] = [
        PlainTraining(f"{PLAIN}, training", plain, pixels, batch, threads, schedule),
        ours,
        *(
            NumberedWork(name, count, device, threads, work)
            for name, (count, work) in works.items()
        ),
    ]
    return {loop.name: loop for loop in loops}


def _rows(config: RunConfig, found: Mapping[str, Measurement], rate: float) -> Iterator[Row]:
    """The rows of one width."""
    cost = step_cost(build_network(config), build_codec(config).channels, config.data.size)
    operations = {"training": cost.flops, "sampling": CALLS * cost.flops / 3}
    for name, one in found.items():
        what = name.split(", ")[1]
        plain = found.get(f"{PLAIN}, {what}")
        row = measured_row(one, {} if plain is None else {PLAIN: plain})
        speed = row["images_per_second"]["median"]
        if what in operations:
            row["percent_of_rate"] = 100 * speed * operations[what] / rate
        else:
            whole = found[f"{OURS}, training"]
            row["percent_of_step"] = 100 * _median(whole) / speed
        yield row | {"row": f"D {_width(config)}, {name}"}


def _median(measured: Measurement) -> float:
    return float(np.median(measured.images_per_second))
