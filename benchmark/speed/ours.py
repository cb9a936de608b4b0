"""Our training loop as users run it, in turns: batches, noise, averages, log, stop checks."""

from pathlib import Path

import numpy as np
import torch

from benchmark.speed.setting import wait_for
from benchmark.speed.timing import Loop
from mindiffusion.config.run import RunConfig
from mindiffusion.data.training_data import TrainingData
from mindiffusion.errors import UserError
from mindiffusion.runtime import resolve_runtime
from mindiffusion.training.loop import Hooks, train
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.trainer import Trainer

ALONE = Ranks()


class OurLoop(Loop):
    """One arm in the middle stage of its curriculum.

    Args:
        name: its row.
        config: the run.
        images: (N, H, W, 3) uint8.
        run_dir: a folder for its log.
        device: this rank's.
        ranks: this process among its peers.

    Attributes:
        trainer: the run itself.
    """

    def __init__(
        self,
        name: str,
        config: RunConfig,
        images: np.ndarray,
        run_dir: Path,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.name = name
        self.images_per_step = config.training.global_batch
        self._device = device
        self._run_dir = run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        runtime = resolve_runtime(config, ranks.local_world)
        self.trainer = Trainer(config, runtime, ranks, self._device, TrainingData(images, "speed"))
        stages = self.trainer.pacer.stages
        self.trainer.step = stages[len(stages) // 2].start
        self._before: tuple[float, float] | None = None

    def run(self, steps: int) -> None:
        """Train."""
        trainer = self.trainer
        last_step = trainer.step + steps
        if last_step > trainer.plan.total_steps:
            raise UserError(
                f"training.steps or training.epochs gives {trainer.plan.total_steps} steps, too "
                "few to measure; leave both out."
            )
        torch.set_num_threads(trainer.runtime.threads)
        train(trainer, self._run_dir, Hooks(), stop_after=last_step)
        wait_for(self._device)
        # The first run compiles, which is no training time.
        self._before = self._before or self._clocks()

    def _clocks(self) -> tuple[float, float]:
        return self.trainer.source.wait_seconds, self.trainer.train_seconds

    @property
    def data_wait(self) -> float:
        """Share of the training time spent waiting for data, in [0, 1], without the first run."""
        assert self._before is not None
        waited, trained = (
            now - then for now, then in zip(self._clocks(), self._before, strict=True)
        )
        return waited / trained
