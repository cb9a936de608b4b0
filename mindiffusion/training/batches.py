"""Training batches: a pure function of (seed, step, position), free of ranks and batch split."""

import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mindiffusion.augment import augmented, draw_augmentation
from mindiffusion.classes import NOT_TOLD
from mindiffusion.data.codec import Codec
from mindiffusion.data.latents import drawn
from mindiffusion.data.training_data import TrainingData
from mindiffusion.noise import Stream, normals, permutation, uniforms
from mindiffusion.text_conditions import CaptionDraw


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, size: int, variant: int) -> Tensor:
    return permutation(seed, epoch, size, variant)


def image_indices(seed: int, step: int, global_batch: int, size: int, variant: int = 0) -> Tensor:
    """Images of one global batch: (global_batch,) int64 indices into the training array.

    Position p = step · global_batch + j is visited as image ``order(p // size)[p % size]``: every
    epoch has its own permutation, and a batch may span two of them. ``variant`` is as in
    ``noise.random_bits``.
    """
    positions = torch.arange(step * global_batch, (step + 1) * global_batch)
    epochs = positions // size
    indices = torch.empty_like(positions)
    for epoch in epochs.unique().tolist():
        inside = epochs == epoch
        indices[inside] = _order(seed, epoch, size, variant)[positions[inside] % size]
    return indices


def stratum(u: Tensor, position: Tensor, global_batch: int) -> Tensor:
    """Uniforms, one in each of ``global_batch`` equal shares of [0, 1): that of its position.

    Which images stand at a position is random, so each image is still trained at all noise times.

    Args:
        u: (B,) uniforms in [0, 1), multiples of 2⁻²⁴.
        position: (B,) positions in the global batch.
        global_batch: number of positions.

    Returns:
        (B,) float32 in [0, 1), multiples of 2⁻²⁴.
    """
    shares = (position + u.double()) / global_batch
    return ((shares * 2.0**24).floor() * 2.0**-24).float()


@dataclass(frozen=True)
class Batch:
    """A slice of the global batch of one step.

    Attributes:
        images: (B, C, H, W), a network's inputs, in channels-last memory.
        u: (B,) uniforms behind the noise times.
        noise: (B, C, H, W), standard normal.
        condition: (B, …), what the images show: classes, or numbers of captions; ``NOT_TOLD`` where
            it was dropped; None: the network is told nothing.
        augment_labels: (B, 9), how the images were augmented; None: not at all.
    """

    images: Tensor
    u: Tensor
    noise: Tensor
    condition: Tensor | None = None
    augment_labels: Tensor | None = None


class BatchSource:
    """Gathers, flips and encodes training images, and draws their noise.

    Where there are latents, they are gathered and drawn instead: mirrored images have their own.

    Args:
        data: images or their latents, and labels or captions if there are any. Images and labels
            are copied to a GPU once; latents are read from their file.
        codec: how images become a network's inputs.
        seed: the run's seed.
        global_batch: images per step over all ranks.
        flip: mirror images at random.
        device: where batches go.
        dtype: float type of images and noise.
        compile_draws: compile the drawing of noise. On a GPU that makes some two hundred kernels
            one; on a CPU it gains nothing.
        noise_stream: other draws for the same seed.
        stratified: one noise time of each batch from each of as many equal shares of the draws.
        label_drop: share of images whose class or caption is not told, in [0, 1).
        augment: as of ``augment.draw_augmentation``, its probability.

    Attributes:
        size: number of training images.
        wait_seconds: time spent until the images of all batches so far were at hand.
    """

    def __init__(
        self,
        data: TrainingData,
        codec: Codec,
        *,
        seed: int,
        global_batch: int,
        flip: bool,
        device: torch.device,
        dtype: torch.dtype,
        compile_draws: bool = False,
        noise_stream: int = 0,
        stratified: bool = False,
        label_drop: float = 0.0,
        augment: float = 0.0,
    ) -> None:
        self._latents = data.latents
        self._images = data.images if data.latents else _placed(data.images, device)
        self._labels = None if data.labels is None else _placed(data.labels, device)
        self._captions = None if data.captions is None else CaptionDraw(data.captions.train, device)
        self._codec = codec
        self.size = len(data)
        self.wait_seconds = 0.0
        self._seed = seed
        self._global_batch = global_batch
        self._flip = flip
        self._variant = noise_stream
        self._stratified = stratified
        self._label_drop = label_drop
        self._augment = augment
        self._device = device
        self._dtype = dtype
        self._normals = torch.compile(normals, dynamic=False) if compile_draws else normals

    def batch(
        self,
        step: int,
        start: int,
        stop: int,
        streams: tuple[Stream, Stream] = (Stream.TIME, Stream.NOISE),
    ) -> Batch:
        """Positions ``start`` … ``stop`` − 1 of the global batch of ``step``.

        Args:
            step: step (or probe batch) number.
            start: first position.
            stop: one past the last.
            streams: what the uniforms and the noise are keyed by.
        """
        started, seed, variant = time.perf_counter(), self._seed, self._variant
        index = image_indices(seed, step, self._global_batch, self.size, variant)[start:stop]
        kept, augment_labels = self._kept(index, step, start), None
        condition = None if self._labels is None else self._gather(self._labels, index)
        self.wait_seconds += time.perf_counter() - started
        position = torch.arange(start, stop, device=self._device)
        # As a tensor, so that a compiled drawing serves all steps; filled there, not copied over,
        # since a copy waits for the device.
        at = torch.full((), step, dtype=torch.int64, device=self._device)
        if self._captions is not None:
            condition = self._captions(self._sent(index), seed, position, at, variant)
        if condition is not None and self._label_drop:
            drop = uniforms(seed, Stream.LABEL_DROP, position, at, 1, variant)[:, 0]
            condition = condition.masked_fill(drop < self._label_drop, NOT_TOLD)
        inputs = self._inputs(kept, position, at)
        is_training = streams[0] == Stream.TIME
        if self._augment and is_training:  # a probe is of images as samplers draw them
            inputs, augment_labels = self._augmented(inputs, step, start)
        shape = (inputs.shape[1], inputs.shape[2], inputs.shape[3])
        noise = self._normals(seed, streams[1], position, at, shape, variant).to(self._dtype)
        u = uniforms(seed, streams[0], position, at, 1, variant)[:, 0]
        # A probe need not have all positions, so its draws stay as they are.
        if self._stratified and is_training:
            u = stratum(u, position, self._global_batch)
        noise = noise.contiguous(memory_format=torch.channels_last)
        return Batch(inputs, u, noise, condition, augment_labels)

    def _kept(self, index: Tensor, step: int, start: int) -> Tensor:
        """Images (B, H, W, 3) uint8, or moments of their latents (B, 2, C, h, w) as drawn to be."""
        if self._latents is None:
            return self._gather(self._images, index)
        if self._flip:
            # Drawn on the CPU: a mirrored image is another row of the file.
            position = torch.arange(start, start + len(index))
            index = index + self.size * self._flips(position, step)
        moments = torch.from_numpy(self._latents.moments[index.numpy()])
        if self._device.type == "cpu":
            return moments
        return moments.pin_memory().to(self._device, non_blocking=True)

    def _inputs(self, kept: Tensor, position: Tensor, at: Tensor) -> Tensor:
        """What networks see of images, mirrored or not, or of moments; (B, C, h, w)."""
        if self._latents is None:
            if self._flip:
                flip = self._flips(position, at)
                kept = torch.where(flip[:, None, None, None], kept.flip(2), kept)
            return self._codec.inputs(kept, self._dtype)
        shape = (kept.shape[2], kept.shape[3], kept.shape[4])
        noise = self._normals(self._seed, Stream.LATENT, position, at, shape, self._variant)
        latents = drawn(kept, noise.to(self._dtype), self._latents.scale)
        return latents.contiguous(memory_format=torch.channels_last)

    def _flips(self, position: Tensor, at: int | Tensor) -> Tensor:
        """Which positions of a step are mirrored, (B,) bool; the same bits on every device."""
        u = uniforms(self._seed, Stream.FLIP, position, at, 1, self._variant)[:, 0]
        return u < 0.5

    def _augmented(self, inputs: Tensor, step: int, start: int) -> tuple[Tensor, Tensor]:
        # Drawn on the CPU: how many images are moved must be known there.
        position = torch.arange(start, start + len(inputs))
        changes = draw_augmentation(self._augment, self._seed, position, step, self._variant)
        return augmented(inputs, changes)

    def _gather(self, array: np.ndarray | Tensor, index: Tensor) -> Tensor:
        if isinstance(array, Tensor):
            return array[self._sent(index)]
        return torch.from_numpy(array[index.numpy()])

    def _sent(self, index: Tensor) -> Tensor:
        """Indices on the device; a GPU is not waited for."""
        if self._device.type == "cpu":
            return index
        return index.pin_memory().to(self._device, non_blocking=True)


def _placed(array: np.ndarray, device: torch.device) -> np.ndarray | Tensor:
    """On a CPU it stays where it is, which may be a file; a GPU takes it whole."""
    return array if device.type == "cpu" else torch.tensor(array, device=device)
