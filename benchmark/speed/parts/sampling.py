"""``--part sampling``: our samplers beside the same loops written plainly."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from benchmark.speed.report import Report, measured_row, run_setting
from benchmark.speed.rivals.reference_loop import plain_ancestral, plain_ddim
from benchmark.speed.setting import ddpm_of, device_of, speed_config
from benchmark.speed.timing import Loop, measure
from benchmark.speed.work import NumberedWork, untrained
from mindiffusion.build import build_codec, build_network, build_process
from mindiffusion.config.run import RunConfig
from mindiffusion.config.sampler import SamplerConfig
from mindiffusion.runtime import chunk_size, resolve_runtime, resolve_sampler
from mindiffusion.sampling import sample_chunk
from mindiffusion.schedules import linear_tables

DDIM_STEPS = 50
TIMED_LEVELS = 20
"""Of the ancestral chain's n_T levels; each costs the same, so the whole chain is extrapolated."""
COLUMNS = {
    "": "row",
    "images/s": "images_per_second",
    "× plain": "over_plain",
    "note": "note",
}


def sampling(preset: str, overrides: list[str], repeats: int) -> Report:
    """Time DDIM and ancestral sampling, ours and plain, on untrained weights.

    Args:
        preset: whose network.
        overrides: ``--set`` words.
        repeats: turns of each row.
    """
    config = speed_config(preset, overrides)
    runtime = resolve_runtime(config, 1)
    loops = _loops(config, device_of(config), runtime.threads)
    measured = {one.name: one for one in measure(loops, repeats)}
    rows = []
    for name, one in measured.items():
        sampler = name.partition(",")[0]
        rows.append(measured_row(one, {"plain": measured[f"{sampler}, plain"]}))
    n_T = ddpm_of(config).n_T
    fraction = TIMED_LEVELS / n_T
    for row in rows:
        if row["row"].startswith("ancestral"):
            row["images_per_second"] = {
                key: value * fraction for key, value in row["images_per_second"].items()
            }
            row["repeats"] = [value * fraction for value in row["repeats"]]
            row["note"] = f"{TIMED_LEVELS} of {n_T} levels timed, the rest reckoned"
    drawn = resolve_sampler(config, runtime.device)
    setting = run_setting(config, runtime, repeats) | {
        "ours": f"{drawn.precision}, {'compiled' if drawn.compile else 'eager'}",
        "chunk": drawn.chunk,
    }
    del setting["global_batch"]
    return Report("sampling", setting, COLUMNS, rows)


def _loops(config: RunConfig, device: torch.device, threads: int) -> list[Loop]:
    side = config.data.size
    chunk = chunk_size(config.sampler, side, device.type)
    codec = build_codec(config)
    shape = (chunk, *codec.shape(side))
    short = replace(config, process=replace(ddpm_of(config), n_T=TIMED_LEVELS))
    ddim = SamplerConfig(name="ddim", steps=DDIM_STEPS, chunk=chunk)
    ancestral = SamplerConfig(name="ddpm", chunk=chunk)
    plain = build_network(config).to(device).eval().requires_grad_(False)
    alpha_bar, short_alpha_bar = (
        linear_tables(*ddpm_of(one).noise.betas, ddpm_of(one).n_T).alpha_bar.float().to(device)
        for one in (config, short)
    )
    levels = [jump.key for jump in build_process(config).jumps(DDIM_STEPS)]
    ours, ours_short = (untrained(one, device) for one in (config, short))
    actions: Mapping[str, Callable[[int], Tensor | object]] = {
        "DDIM-50, plain": lambda k: plain_ddim(plain, alpha_bar, shape, levels),
        "DDIM-50, ours": lambda k: sample_chunk(ours, ours.process, codec, ddim, k, side),
        "ancestral, plain": lambda k: plain_ancestral(plain, short_alpha_bar, shape),
        "ancestral, ours": lambda k: sample_chunk(
            ours_short, ours_short.process, codec, ancestral, k, side
        ),
    }
    return [NumberedWork(name, chunk, device, threads, action) for name, action in actions.items()]
