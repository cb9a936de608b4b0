"""Where cells run side by side: GPUs, or shares of the CPU's cores."""

import os
from collections.abc import Sequence

import torch

from mindiffusion.config.run import RunConfig
from mindiffusion.machine import available_cores


def device_slots(configs: Sequence[RunConfig], runs_per_device: int = 1) -> list[str | None]:
    """Places to run cells side by side: a GPU index each, or None for a share of the CPU's cores.

    One process a GPU beats several GPUs a process while there are more cells than GPUs; where one
    run cannot fill a GPU, several share it. On the CPU a run's own ``training.threads`` say how
    many fit; where they are null, the CPU is one device.

    Args:
        configs: the runs.
        runs_per_device: runs that share a GPU, or the CPU where its threads are not given.
    """
    if configs[0].training.device != "cpu" and torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        count = torch.cuda.device_count()
        gpus = visible.split(",") if visible else [str(i) for i in range(count)]
        return [*gpus] * runs_per_device
    threads = configs[0].training.threads
    cores = available_cores()
    return [None] * max(1, cores // threads if threads else min(cores, runs_per_device))
