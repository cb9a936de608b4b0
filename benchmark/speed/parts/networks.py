"""The parts of networks: one by width, trained and sampled, beside plain ways and the machine."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.speed.limits import measure_rates
from benchmark.speed.networks import NETWORK_PARTS, NetworkPart
from benchmark.speed.ours import OurLoop
from benchmark.speed.pictures import jpeg_folder, prepared_array
from benchmark.speed.report import Report, Row, measured_row, run_setting
from benchmark.speed.rivals.plain_network import PlainTraining, with_plain_layers
from benchmark.speed.rivals.plain_process import plain_process
from benchmark.speed.setting import device_of, speed_config, uses_gpu
from benchmark.speed.timing import Loop, Measurement, measure
from benchmark.speed.work import NumberedWork, untrained
from mindiffusion.build import build_codec, build_network
from mindiffusion.config.presets import apply_overrides
from mindiffusion.config.run import RunConfig
from mindiffusion.runtime import resolve_sampler
from mindiffusion.sampling import sample_chunk, sampler_steps
from mindiffusion.step_cost import step_cost
from mindiffusion.training.ema import Averages
from mindiffusion.training.optimizer import make_optimizer

STEPS = 10
"""Of a sampler, in place of its config's: each costs the same."""
PLAIN, OURS = "plain", "ours"
COLUMNS = {
    "": "row",
    "images/s": "images_per_second",
    "× plain": "over_plain",
    "% of matrix rate": "percent_of_rate",
    "% of a step": "percent_of_step",
}


def of_network(name: str, overrides: list[str], repeats: int) -> Report:
    """Time each width: a training step, its optimizer and its averages alone, and sampling.

    Args:
        name: of the part, in ``NETWORK_PARTS``.
        overrides: ``--set`` words; they win.
        repeats: turns of each row.

    Raises:
        UserError: another network, or a process without a plain program.
    """
    configs = _configs(NETWORK_PARTS[name], overrides)
    first = next(iter(configs.values()))
    plain = plain_process(first.process)
    rates = measure_rates(device_of(first))
    images = prepared_array(jpeg_folder(first.data.num_train or 0), first.data.size)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for width, config in configs.items():
            loops = _loops(config, images, Path(scratch) / str(width))
            found = {one.name: one for one in measure(list(loops.values()), repeats)}
            ours = loops[f"{OURS}, training"]
            assert isinstance(ours, OurLoop)
            runtime = ours.trainer.runtime
            rate = rates.of(runtime.precision)
            rows += [row | {"row": f"width {width}, {row['row']}"}
                     for row in _rows(config, found, rate)]  # fmt: skip
    setting = run_setting(first, runtime, repeats)
    setting["chunk"] = resolve_sampler(first, runtime.device).chunk
    del setting["network"]
    notes = [
        *(f"width {width}: {config.model.words}" for width, config in configs.items()),
        f"matrix rate: {rate / 1e12:.3g} TFLOP/s, of large products; {rates.words}",
        "plain: float32, eager, PyTorch's layout, layers and AdamW, one average",
        f"sampling: {sampler_steps(first)} calls; ours {first.sampler.way}, plain {plain.sampler}",
    ]
    return Report(name, setting, COLUMNS, rows, notes)


def _configs(part: NetworkPart, overrides: list[str]) -> dict[int, RunConfig]:
    """The preset by width; with a width of their own, the overrides leave one."""
    given = _given_width(part, overrides)
    published = part.words(given or part.gpu_widths[0], is_on_gpu=True)
    is_on_gpu = uses_gpu(speed_config(part.preset, [*published, *overrides]))
    of_device = part.gpu_widths if is_on_gpu else part.cpu_widths
    widths = of_device if given is None else (given,)
    words = (part.words(width, is_on_gpu=is_on_gpu) for width in widths)
    configs = (speed_config(part.preset, [*own, *overrides]) for own in words)
    return {
        getattr(config.model, part.width): replace(
            config, sampler=replace(config.sampler, steps=STEPS)
        )
        for config in configs
    }


def _given_width(part: NetworkPart, overrides: list[str]) -> int | None:
    """The width that the overrides set, from which heads are derived; None: they set no number."""
    model = apply_overrides({}, overrides).get("model")
    width = model.get(part.width) if isinstance(model, Mapping) else None
    return width if type(width) is int else None


def _loops(config: RunConfig, images: np.ndarray, scratch: Path) -> dict[str, Loop]:
    """By name, within one width."""
    device, batch = device_of(config), config.training.global_batch
    ours = OurLoop(f"{OURS}, training", config, images, scratch, device)
    threads = ours.trainer.runtime.threads
    codec, plain = build_codec(config), plain_process(config.process)
    pixels = codec.inputs(torch.from_numpy(images).to(device), torch.float32)
    loops: list[Loop] = [
        PlainTraining(
            f"{PLAIN}, training", _plain_network(config, device), pixels.contiguous(), batch,
            threads, plain,
        ),
        ours,
        *(
            NumberedWork(name, count, device, threads, work)
            for name, (count, work) in {**_alone(config, device), **_drawn(config, device)}.items()
        ),
    ]  # fmt: skip
    return {loop.name: loop for loop in loops}


def _plain_network(config: RunConfig, device: torch.device) -> nn.Module:
    return with_plain_layers(build_network(config)).to(device)


Works = Mapping[str, tuple[int, Callable[[int], Tensor | object]]]
"""Name of a row → images that the work counts as, and the work."""


def _alone(config: RunConfig, device: torch.device) -> Works:
    """What a training step does besides asking the network."""
    network = build_network(config).to(device)
    for weight in network.parameters():
        # A trainer's has none between its steps.
        weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
    optimizer = make_optimizer(network.parameters(), config.training, fused=True)
    # An update costs the same whatever the averages' lengths.
    averages = Averages(network, config.training.ema_decays, total_steps=1)
    batch = config.training.global_batch
    return {
        f"{OURS}, optimizer alone": (batch, lambda k: optimizer.step()),
        f"{OURS}, averages alone": (batch, lambda k: averages.update()),
    }


def _drawn(config: RunConfig, device: torch.device) -> Works:
    """Images drawn from untrained weights, in as many network calls either way."""
    codec, side, calls = build_codec(config), config.data.size, sampler_steps(config)
    chunk = resolve_sampler(config, device.type).chunk
    shape = (chunk, *codec.shape(side))
    network = _plain_network(config, device).eval().requires_grad_(False)
    plain, model = plain_process(config.process), untrained(config, device)
    return {
        f"{PLAIN}, sampling": (chunk, lambda k: plain.sample(network, shape, calls, device)),
        f"{OURS}, sampling": (
            chunk, lambda k: sample_chunk(model, model.process, codec, config.sampler, k, side)
        ),
    }  # fmt: skip


def _rows(config: RunConfig, found: Mapping[str, Measurement], rate: float) -> Iterator[Row]:
    """The rows of one width."""
    cost = step_cost(build_network(config), *config.input_shape[:2])
    operations = {"training": cost.flops, "sampling": sampler_steps(config) * cost.flops / 3}
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
        yield row


def _median(measured: Measurement) -> float:
    return float(np.median(measured.images_per_second))
