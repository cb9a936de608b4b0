"""One run in progress: its network, optimizer and averages, one step at a time.

The trainer knows no arm. It asks the pacer what to train, the network for a penalty, and the batch
source for data and noise; these are functions of the step and of the run's state, so a run that was
interrupted goes on as if it had not been.
"""

import contextlib
import inspect
import logging
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mindiffusion.augment import told_changes
from mindiffusion.build import build_codec, build_network, build_process
from mindiffusion.config.plan import Plan, rank_share, resolve_plan
from mindiffusion.config.run import RunConfig, ema_name, to_kept
from mindiffusion.curriculum.noise_time import NoiseTimeDensity, relative_density
from mindiffusion.curriculum.pacer import Pacer
from mindiffusion.curriculum.stages import Stage
from mindiffusion.data.mean_and_spread import ImageStatistics, image_statistics
from mindiffusion.data.training_data import TrainingData
from mindiffusion.errors import UserError
from mindiffusion.kept_classes import check_num_classes, classes_part
from mindiffusion.kept_latents import known_latents, latents_part
from mindiffusion.kept_statistics import statistics_part
from mindiffusion.kept_text import check_same_text, text_encoder, text_part, text_table
from mindiffusion.machine import denormals_flushed, keep_freed_memory
from mindiffusion.network import Network, Probe, ProbeBatch, StageCapacity
from mindiffusion.noise import Stream
from mindiffusion.process import Level, add_noise, eps_error, training_losses
from mindiffusion.runtime import Runtime
from mindiffusion.text.reading import notes_on_all
from mindiffusion.training.batches import Batch, BatchSource
from mindiffusion.training.ema import Averages
from mindiffusion.training.optimizer import frozen_kept, lr_at, make_optimizer
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.watch import Watch

_log = logging.getLogger(__name__)
# Stages change buffers, on all ranks alike: no step has to. Newer versions of torch renamed it.
_KEEP_BUFFERS: dict[str, Any] = {
    next(
        name
        for name in ("forward_sync_buffers", "broadcast_buffers")
        if name in inspect.signature(DistributedDataParallel).parameters
    ): False
}


class Trainer:
    """One run in progress.

    Args:
        config: the run.
        runtime: resolved device, precision, compiler and threads.
        ranks: this process among its peers.
        device: this rank's device.
        data: what it is trained on, with latents where the network sees them.

    Raises:
        UserError: the global batch does not divide by the ranks, sizes do not fit, or the process
            needs images that differ and they do not.
    """

    def __init__(
        self,
        config: RunConfig,
        runtime: Runtime,
        ranks: Ranks,
        device: torch.device,
        data: TrainingData,
    ) -> None:
        global_batch = config.training.global_batch
        self.share = rank_share(global_batch, ranks.world)
        torch.set_num_threads(runtime.threads)
        if device.type == "cpu":
            keep_freed_memory()
        self.config = config
        self.runtime = runtime
        self.ranks = ranks
        self.plan: Plan = resolve_plan(config, len(data))
        self.pacer: Pacer = self.plan.pacer()
        self.data = data
        self.latents = known_latents(data.latents)
        self.source = BatchSource(
            data,
            build_codec(config, self.latents),
            seed=config.seed,
            global_batch=global_batch,
            flip=config.data.horizontal_flip,
            device=device,
            dtype=runtime.dtype,
            compile_draws=runtime.compile and device.type == "cuda",
            noise_stream=config.noise_stream,
            stratified=config.training.stratified,
            label_drop=config.training.label_drop,
            augment=config.training.augment,
        )
        check_num_classes(config, None if data.classes is None else len(data.classes.names))
        self.statistics = statistics_for(config, data)
        self.process = build_process(config, self.statistics).to(device)
        self.network: Network = build_network(config)
        self.network.to(runtime.dtype)
        self.network.to(memory_format=torch.channels_last)
        self.network.to(device)
        self.encoder = text_encoder(config, data.captions)
        self._read_captions()
        self.density: NoiseTimeDensity = self.pacer.stages[0].density
        self.optimizer = make_optimizer(
            self.network.parameters(), config.training, fused=runtime.precision != "fp64"
        )
        self.averages = Averages(self.network, config.training.ema_decays, self.plan.total_steps)
        self.watch = Watch(
            ranks,
            config.training.log_every,
            self.share,
            device,
            runtime.dtype,
            self.pacer.take,
            self._tell_images if self.pacer.wants_images else None,
        )
        self.step = 0
        self.train_seconds = 0.0
        self.stage_log: list[dict[str, Any]] = []
        if runtime.compile:
            self.network.compile()
        # What the process calls; ``network`` stays the bare one.
        self._wrapped: nn.Module = self.network
        if ranks.world > 1:
            ids = [device] if device.type == "cuda" else None
            self._wrapped = DistributedDataParallel(self.network, ids, **_KEEP_BUFFERS)

    def _read_captions(self) -> None:
        """Give the network the captions, whose numbers are its conditions."""
        captions = self.data.captions
        if self.encoder is None or captions is None:
            return
        self.network.read_texts(text_table(self.encoder, captions))
        for note in notes_on_all(captions.learned, self.encoder) if self.ranks.is_main else ():
            _log.warning("%s", note)

    # -- one step ---------------------------------------------------------------------------

    def micro_batches(self) -> Iterator[tuple[int, int]]:
        """This rank's share as (start, stop) positions of the global batch."""
        first = self.ranks.rank * self.share
        size = self.config.training.micro_batch or self.share
        for start in range(first, first + self.share, size):
            yield start, min(start + size, first + self.share)

    @denormals_flushed()
    def train_step(self) -> None:
        """One optimizer step. Its losses stay on the device, in ``watch``."""
        first = self.ranks.rank * self.share
        for start, stop in self.micro_batches():
            is_last = stop == first + self.share
            with self._gradient_exchange(is_last):
                loss = self._loss(self.source.batch(self.step, start, stop), start - first)
                penalty = self.network.penalty() if is_last else None
                (loss if penalty is None else loss + penalty).backward()
        self.watch.end_step(self._clip_gradient())
        self._change_weights()
        self.optimizer.zero_grad(set_to_none=True)
        self.averages.update()
        self.step += 1

    def _change_weights(self) -> None:
        """One step of the optimizer; between steps, and so in states, it has the config's rate."""
        training = self.config.training
        self._set_rate(lr_at(training, self.step, self.plan.total_steps))
        with frozen_kept(self.network):
            self.optimizer.step()
        self._set_rate(training.lr)

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _clip_gradient(self) -> Tensor:
        """Scale the gradient down to the config's limit, if any; returns its norm before."""
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        limit = self.config.training.clip_grad_norm
        if limit is not None:
            nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        return norm

    def _gradient_exchange(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Ranks exchange gradients once a step, with its last micro-batch."""
        if isinstance(self._wrapped, DistributedDataParallel) and not is_last:
            return self._wrapped.no_sync()
        return contextlib.nullcontext()

    def noisy(self, batch: Batch, density: NoiseTimeDensity) -> tuple[Tensor, Level]:
        """A batch's images with noise, (B, C, H, W), at the levels that its u have in a density."""
        level = self.process.level(density.quantile(batch.u, self.process.num_levels))
        return add_noise(batch.images, level, batch.noise), level

    def _loss(self, batch: Batch, first: int) -> Tensor:
        """A micro-batch's part of the mean loss of this rank's share, a scalar."""
        network = told_changes(self._wrapped, batch.augment_labels)
        with self.runtime.autocast():
            x_t, level = self.noisy(batch, self.density)
            said = self.process.predict(network, x_t, level, batch.condition)
            errors = eps_error(said, batch.noise)
            of_variance = self.process.variance_loss(said, batch.images)
        self.watch.add_losses(first, errors.detach(), level.t)
        often = None
        if self.pacer.is_unbiased:
            often = relative_density(self.density, level.t, self.process.num_levels)
        return training_losses(errors, level, of_variance, often).sum() / self.share

    def _tell_images(self, times: np.ndarray, losses: np.ndarray) -> None:
        """Give the pacer what ``watch`` read of all images, (S, B) each."""
        if self.pacer.wants_weighted:
            level = self.process.level(torch.from_numpy(times).flatten().to(self.process.device))
            losses = losses * level.weight.cpu().numpy().reshape(losses.shape)
        self.pacer.take_images(times, losses)

    # -- stages -----------------------------------------------------------------------------

    def enter_stage(self, stage: Stage) -> None:
        """Train on the stage's density with its capacity; doing so again changes nothing."""
        self.density = stage.density
        capacity = StageCapacity(
            stage.index, stage.config.sparsity, stage.config.penalty_lambda, self.config.seed
        )
        event = self.network.enter_stage(capacity, self._probe_of(stage))
        for buffer in self.network.buffers():
            # All ranks computed the same; unlike GPUs may still round a near-tie apart.
            self.ranks.same(buffer)
        if self.step == stage.start:
            entry = {"step": self.step, "stage": stage.config.name, **event}
            self.stage_log.append(entry | self.network.capacity_report())

    def _probe_of(self, stage: Stage) -> Probe:
        """Probe batches of a stage: whole on every rank, so that all ranks choose alike.

        Images are those of the stage's first steps; u and ε come from streams of their own.
        """
        streams = (Stream.PROBE_TIME, Stream.PROBE_NOISE)

        def probe(num_batches: int, batch_size: int) -> Iterator[ProbeBatch]:
            size = min(batch_size, self.config.training.global_batch)
            for step in range(stage.start, stage.start + num_batches):
                batch = self.source.batch(step, 0, size, streams)
                x_t, level = self.noisy(batch, stage.density)
                yield ProbeBatch(x_t, level, batch.noise, self.process, batch.condition)

        return probe

    @torch.no_grad()
    def probe_loss(self, count: int) -> float:
        """Mean unweighted ε-MSE of a fixed probe in the stage of the last step.

        Images are those of the first steps; u and ε come from streams of their own. Every rank
        computes all of it, and all take the main rank's.

        Args:
            count: number of images.
        """
        streams = (Stream.PROBE_TIME, Stream.PROBE_NOISE)
        whole = self.config.training.global_batch
        most = self.config.training.micro_batch or whole
        total = torch.zeros((), dtype=torch.float64)
        with self._as_trained():
            for first in range(0, count, whole):
                size = min(whole, count - first)
                for start in range(0, size, most):
                    places = (start, min(start + most, size))
                    batch = self.source.batch(first // whole, *places, streams)
                    with self.runtime.autocast():
                        x_t, level = self.noisy(batch, self.density)
                        said = self.process.predict(self.network, x_t, level, batch.condition)
                        losses = eps_error(said, batch.noise)
                    total += losses.double().sum().cpu()
        self.ranks.same(total)
        return float(total) / count

    @contextlib.contextmanager
    def _as_trained(self) -> Iterator[None]:
        """The network without chance, such as dropout, but with the mask that training has."""
        was_training = self.network.training
        self.network.eval()
        mask = self.network.mask()
        try:
            with mask.imposed() if mask and mask.imposed else contextlib.nullcontext():
                yield
        finally:
            self.network.train(was_training)

    # -- state ------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, as plain types and tensors."""
        return {
            "step": self.step,
            "config": to_kept(self.config),
            "runtime": asdict(self.runtime),
            "network": self.network.state_dict(),
            "averages": self.averages.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "train_seconds": self.train_seconds,
            "stage_log": self.stage_log,
            "unlogged": self.watch.unlogged,
            "pacing": self.pacer.state_dict(self.step),
            **statistics_part(self.statistics),
            **latents_part(self.latents),
            **text_part(self.encoder, self.data.captions),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from ``state``.

        Raises:
            UserError: its network reads text in another way.
        """
        check_same_text(state, text_part(self.encoder, self.data.captions))
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.averages.load_state_dict(state["averages"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.train_seconds = state["train_seconds"]
        self.stage_log = state["stage_log"]
        self.watch.unlogged = state["unlogged"]
        self.pacer.load_state_dict(state.get("pacing"))

    def is_finite(self) -> bool:
        """Whether all weights and averages are finite, at the cost of one wait for the device."""
        tensors = [*self.network.parameters(), *self.averages.tensors()]
        return bool(nn.utils.get_total_norm(tensors).isfinite())

    def milestone_weights(self) -> dict[str, Any]:
        """What a milestone keeps: raw and averaged weights, and how they came about."""
        averages = {ema_name(decay): self.averages.weights(decay) for decay in self.averages.decays}
        raw = {name: tensor.cpu().clone() for name, tensor in self.network.state_dict().items()}
        keys = ("step", "config", "runtime", "train_seconds", "stage_log")
        whole = self.state()
        described = {key: whole[key] for key in keys} | statistics_part(self.statistics)
        described |= classes_part(self.data.classes) | latents_part(self.latents)
        described |= text_part(self.encoder, self.data.captions)
        return described | self.pacer.kept(self.step) | {"weights": averages | {"raw": raw}}


def statistics_for(config: RunConfig, data: TrainingData) -> ImageStatistics | None:
    """Statistics of a run's training images, or of their latents, if its process uses them.

    Raises:
        UserError: they are used, but the images are all the same.
    """
    if not config.process.uses_statistics:
        return None
    latents = data.latents
    found = image_statistics(data.images) if latents is None else latents.statistics
    if not found.std:
        raise UserError(
            f"the {len(data)} training images are all the same, which leaves nothing for "
            "process.parameterization=preconditioned, a loss weight by their spread or sigma_data "
            "auto; give images that differ, or set none of these."
        )
    return found
