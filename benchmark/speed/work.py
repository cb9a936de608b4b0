"""What is timed besides training: a loop around any work, and a model to draw from."""

from collections.abc import Callable

import torch

from benchmark.speed.setting import wait_for
from benchmark.speed.timing import Loop
from mindiffusion.build import build_process
from mindiffusion.config.run import RunConfig
from mindiffusion.process import Model
from mindiffusion.runtime import resolve_sampler
from mindiffusion.sampling import sampling_network


class NumberedWork(Loop):
    """Work that is done once a step, such as drawing a chunk of images.

    Args:
        name: its row.
        images: images that a step counts as.
        device: where it runs.
        threads: CPU threads.
        work: does it, given how often it was done before.
    """

    warm_up = 1
    lead_in = 0
    min_steps = 1

    def __init__(
        self,
        name: str,
        images: int,
        device: torch.device,
        threads: int,
        work: Callable[[int], object],
    ) -> None:
        self.name = name
        self.images_per_step = images
        self._device = device
        self._threads = threads
        self._work = work
        self._number = 0

    def run(self, steps: int) -> None:
        """Do it."""
        torch.set_num_threads(self._threads)
        for _ in range(steps):
            self._work(self._number)
            self._number += 1
        wait_for(self._device)


def untrained(config: RunConfig, device: torch.device) -> Model:
    """A network with fresh weights: speed does not depend on their values."""
    network = sampling_network(config, resolve_sampler(config, device.type), device)
    return Model(network, build_process(config).to(device))
