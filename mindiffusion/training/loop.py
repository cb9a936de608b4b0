"""The training loop: one for every network, process, curriculum and number of ranks.

The loop knows no arm. It asks the stage table what to train, the network for a penalty, and the
batch source for data and noise; all of these are pure functions of the step, so a run that was
interrupted goes on as if it had not been.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mindiffusion.curriculum.stages import Stage, stage_at
from mindiffusion.curriculum_ddpm import CurriculumDDPM
from mindiffusion.errors import UserError
from mindiffusion.networks import build_process
from mindiffusion.noise import Stream
from mindiffusion.sparsity import ProbeBatch, StageCapacity
from mindiffusion.training import checkpoint
from mindiffusion.training.batches import Batch, BatchSource
from mindiffusion.training.config import RunConfig, to_dict
from mindiffusion.training.distributed import Ranks
from mindiffusion.training.ema import Averages, ema_name
from mindiffusion.training.metrics_log import MetricsLog
from mindiffusion.training.plan import Plan, rank_share, resolve_plan
from mindiffusion.training.runtime import Runtime
from mindiffusion.training.signals import Interrupted, stop_signals
from mindiffusion.unet import NaiveUnet

_STOP_EVERY_ON_GPU = 10

OnStep = Callable[[int, int], None]
OnMilestone = Callable[[int, Path], None]


@dataclass(frozen=True)
class Hooks:
    """What the caller wants to hear of.

    Attributes:
        on_step: called with (steps done, total) after every step, on the main rank.
        on_milestone: called with (step, weights file) on the main rank.
    """

    on_step: OnStep = lambda done, total: None
    on_milestone: OnMilestone = lambda step, path: None


class Trainer:
    """One run in progress.

    Args:
        config: the run.
        runtime: resolved device, precision, compiler and threads.
        ranks: this process among its peers.
        device: this rank's device.
        images: (N, H, W, 3) uint8 training array.

    Raises:
        UserError: the global batch does not divide by the ranks, or sizes do not fit.
    """

    def __init__(
        self,
        config: RunConfig,
        runtime: Runtime,
        ranks: Ranks,
        device: torch.device,
        images: np.ndarray,
    ) -> None:
        global_batch = config.training.global_batch
        self.share = rank_share(global_batch, ranks.world)
        torch.set_num_threads(runtime.threads)
        self.config = config
        self.runtime = runtime
        self.ranks = ranks
        self.plan: Plan = resolve_plan(config, len(images))
        self.source = BatchSource(
            images,
            seed=config.seed,
            global_batch=global_batch,
            flip=config.data.horizontal_flip,
            device=device,
            dtype=runtime.dtype,
        )
        self.process: CurriculumDDPM = build_process(config)
        self.process.eps_model.to(runtime.dtype)
        self.process.eps_model.to(memory_format=torch.channels_last)
        self.process.to(device)
        self.network: NaiveUnet = self.process.eps_model  # type: ignore[assignment]
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=config.training.lr, fused=runtime.precision != "fp64"
        )
        self.averages = Averages(self.network, config.training.ema_decays)
        self.step = 0
        self.train_seconds = 0.0
        self.stage_log: list[dict[str, Any]] = []
        if runtime.compile:
            self.network.compile()
        self.model: nn.Module = self.process
        if ranks.world > 1:
            ids = [device] if device.type == "cuda" else None
            self.model = DistributedDataParallel(self.process, ids, broadcast_buffers=False)

    # -- one step ---------------------------------------------------------------------------

    def micro_batches(self) -> Iterator[tuple[int, int]]:
        """This rank's share as (start, stop) positions of the global batch."""
        first = self.ranks.rank * self.share
        size = self.config.training.micro_batch or self.share
        for start in range(first, first + self.share, size):
            yield start, min(start + size, first + self.share)

    def train_step(self) -> Tensor:
        """One optimizer step; returns the mean squared ε-error of this rank's share, a scalar."""
        spans = list(self.micro_batches())
        total = torch.zeros((), dtype=torch.float64, device=self.process.beta.device)
        for start, stop in spans:
            batch = self.source.batch(self.step, start, stop)
            is_last = stop == spans[-1][1]
            no_sync = isinstance(self.model, DistributedDataParallel) and not is_last
            with self.model.no_sync() if no_sync else contextlib.nullcontext():  # type: ignore
                loss = self._loss(batch) * ((stop - start) / self.share)
                total += loss.detach()
                penalty = self.network.penalty() if is_last else None
                (loss if penalty is None else loss + penalty).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.averages.update()
        self.step += 1
        return total

    def _loss(self, batch: Batch) -> Tensor:
        with self.runtime.autocast():
            return self.model(batch.images, batch.u, batch.noise)

    # -- stages -----------------------------------------------------------------------------

    def enter_stage(self, stage: Stage) -> None:
        """Train on the stage's density with its capacity; doing so again changes nothing."""
        self.process.set_density(stage.config.density)
        capacity = StageCapacity(
            stage.index, stage.config.sparsity, stage.config.penalty_lambda, self.config.seed
        )
        event = self.network.enter_stage(capacity, lambda: self._probe(stage))
        for buffer in self.network.buffers():
            # All ranks computed the same; unlike GPUs may still round a near-tie apart.
            self.ranks.same(buffer)
        if self.step == stage.start:
            entry = {"step": self.step, "stage": stage.config.name, **event}
            self.stage_log.append(entry | self.network.capacity_report())

    def _probe(self, stage: Stage) -> Iterator[ProbeBatch]:
        """Probe batches of a stage: whole on every rank, so that all ranks choose alike.

        Images are those of the stage's first steps; u and ε come from streams of their own.
        """
        model = self.config.model
        size = min(model.probe_batch_size, self.config.training.global_batch)
        for number in range(model.probe_batches):
            step = stage.start + number
            batch = self.source.batch(step, 0, size, (Stream.PROBE_TIME, Stream.PROBE_NOISE))
            noisy = self.process.add_noise(
                batch.images, stage.config.density.quantile(batch.u, self.process.n_T), batch.noise
            )
            yield ProbeBatch(noisy.x_t, noisy.time, batch.noise)

    # -- state ------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, as plain types and tensors."""
        return {
            "step": self.step,
            "config": to_dict(self.config),
            "runtime": asdict(self.runtime),
            "network": self.network.state_dict(),
            "averages": self.averages.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "train_seconds": self.train_seconds,
            "stage_log": self.stage_log,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.averages.load_state_dict(state["averages"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.train_seconds = state["train_seconds"]
        self.stage_log = state["stage_log"]

    def milestone_weights(self) -> dict[str, Any]:
        """What a milestone keeps: raw and averaged weights, and how they came about."""
        averages = {ema_name(decay): self.averages.weights(decay) for decay in self.averages.decays}
        raw = {name: tensor.cpu().clone() for name, tensor in self.network.state_dict().items()}
        keys = ("step", "config", "runtime", "train_seconds", "stage_log")
        whole = self.state()
        return {key: whole[key] for key in keys} | {"weights": averages | {"raw": raw}}


def train(trainer: Trainer, run_dir: Path, hooks: Hooks, stop_after: int | None = None) -> None:
    """Train to the end, from wherever ``run_dir`` says the run is.

    Args:
        trainer: a fresh Trainer.
        run_dir: the run's folder, on a file system all ranks see.
        hooks: what to report.
        stop_after: leave after this step although the plan is longer (for smoke runs).

    Raises:
        Interrupted: after SIGINT or SIGTERM, with the state saved.
        UserError: the loss is not finite; the last good checkpoint stays.
    """
    found = checkpoint.newest(run_dir, to_dict(trainer.config))
    if found is not None:
        trainer.load_state(found)
    metrics = MetricsLog(run_dir / "metrics.jsonl", trainer.step) if trainer.ranks.is_main else None
    trainer.ranks.barrier()
    total = trainer.plan.total_steps
    last_step = min(total, stop_after or total)
    if trainer.step >= last_step:
        return
    stage = stage_at(trainer.plan.stages, trainer.step)
    if trainer.step > stage.start:
        trainer.enter_stage(stage)
    watch = LossWatch(trainer)
    with stop_signals() as received:
        while trainer.step < last_step:
            stage = stage_at(trainer.plan.stages, trainer.step)
            if trainer.step == stage.start:
                trainer.enter_stage(stage)
            started = time.perf_counter()
            watch.add(trainer.train_step())
            trainer.train_seconds += time.perf_counter() - started
            if trainer.ranks.is_main:
                hooks.on_step(trainer.step, total)
            _keep_books(trainer, run_dir, hooks, watch, metrics, received)


def _keep_books(
    trainer: Trainer,
    run_dir: Path,
    hooks: Hooks,
    watch: "LossWatch",
    metrics: MetricsLog | None,
    received: list[int],
) -> None:
    """After a step: log, milestone, checkpoint, stop. All ranks take the same branches."""
    settings = trainer.config.training
    step, total = trainer.step, trainer.plan.total_steps
    is_milestone = step in trainer.plan.milestones
    is_checkpoint = step % settings.checkpoint_every == 0 or step == total or is_milestone
    is_log = step % settings.log_every == 0 or step == total
    stop = _agreed_stop(trainer, received)
    if not (is_checkpoint or is_log or stop):
        return
    entry = watch.read()
    if metrics is not None and is_log:
        metrics.write(entry)
    if trainer.ranks.is_main and (is_checkpoint or stop):
        if is_milestone:
            path = checkpoint.weights_path(run_dir, step)
            checkpoint.save(path, trainer.milestone_weights())
        checkpoint.save(checkpoint.checkpoint_path(run_dir, step), trainer.state())
        checkpoint.prune(run_dir, step)
        if is_milestone:
            hooks.on_milestone(step, path)
    trainer.ranks.barrier()
    if stop and step < total:
        raise Interrupted(stop)


def _agreed_stop(trainer: Trainer, received: list[int]) -> int:
    """The signal any rank received, the same on all ranks at the same step; 0 if none.

    Alone, a rank stops at once. Several ask each other, on GPUs not at every step, since the
    answer waits for the device.
    """
    number = received[0] if received else 0
    if trainer.ranks.world == 1:
        return number
    device = trainer.process.beta.device
    if device.type != "cpu" and trainer.step % _STOP_EVERY_ON_GPU:
        return 0
    return int(trainer.ranks.max(torch.tensor(number, device=device)))


class LossWatch:
    """Sums the loss on the device and looks at it only when asked, over all ranks.

    Args:
        trainer: whose loss to watch.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        device = trainer.process.beta.device
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        self._first_bad = torch.full((), math.inf, dtype=torch.float64, device=device)
        self._count = 0
        self._seconds = trainer.train_seconds

    def add(self, loss: Tensor) -> None:
        """Take in one step's loss, without waiting for the device."""
        bad_step = torch.where(torch.isfinite(loss), math.inf, float(self._trainer.step))
        self._first_bad = torch.minimum(self._first_bad, bad_step)
        self._sum += loss
        self._count += 1

    def read(self) -> dict[str, Any]:
        """The log's entry: mean loss and speed since the last reading, over all ranks.

        Raises:
            UserError: a loss or a weight was not finite.
        """
        trainer = self._trainer
        started = time.perf_counter()
        own_sum = float(self._sum)
        # The first look at a number waits for the device: its work is training time.
        trainer.train_seconds += time.perf_counter() - started
        weights_finite = all(bool(p.isfinite().all()) for p in trainer.network.parameters())
        bad = math.isfinite(float(self._first_bad)) or not weights_finite
        shared = torch.tensor([0.0 if bad else own_sum, float(bad)], dtype=torch.float64)
        loss_sum, num_bad = trainer.ranks.sum(shared.to(self._sum.device)).tolist()
        if num_bad:
            raise self._diverged()
        seconds = trainer.train_seconds - self._seconds
        images = self._count * trainer.config.training.global_batch
        stage = stage_at(trainer.plan.stages, trainer.step - 1)
        entry = {
            "step": trainer.step,
            "stage": stage.config.name,
            "loss": loss_sum / max(1, self._count * trainer.ranks.world),
            "images_per_second": round(images / seconds, 1) if seconds else None,
            "train_seconds": round(trainer.train_seconds, 3),
            **trainer.network.capacity_report(),
        }
        self._sum.zero_()
        self._count = 0
        self._seconds = trainer.train_seconds
        return entry

    def _diverged(self) -> UserError:
        first = float(self._first_bad)
        step = int(first) if math.isfinite(first) else self._trainer.step
        stage = stage_at(self._trainer.plan.stages, step - 1)
        density = stage.config.density
        return UserError(
            f"the loss or a weight is not finite at step {step} (rank {self._trainer.ranks.rank}, "
            f"stage {stage.config.name}, t in [{density.t_min:g}, {density.t_max:g}]); the last "
            "good checkpoint is kept. Try a smaller training.lr or training.precision=fp32."
        )
