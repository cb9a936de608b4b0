"""Trains runs in a process of its own, so that a test can kill it or give it several ranks.

Usage: drive_training.py IMAGES JOB…, each JOB a JSON file: a config, for one with classes
``label_names`` (their codes are in ``labels.npy`` beside IMAGES), and optionally ``at`` (step)
with ``signal`` (sent to itself after that step), ``dump`` (folder for what each rank saw) and
``fault``: a ``signal`` that ``rank`` sends to itself, only once, before the step after ``step``;
it leaves its process id in the file ``note``.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

from mindiffusion.config.presets import build_config
from mindiffusion.data.captions import Captions, ImageCaptions
from mindiffusion.data.classes import Classes
from mindiffusion.data.training_data import TrainingData
from mindiffusion.errors import guarded, leave
from mindiffusion.training.loop import Hooks
from mindiffusion.training.ranks import ranks_from_environment
from mindiffusion.training.run_folder import run
from mindiffusion.training.signals import Interrupted
from mindiffusion.training.trainer import Trainer


class Recorder:
    """Keeps all batches of a trainer.

    Of each image: (step, position), values, noise time, noise, class, labels of augmentation.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.seen = []
        self._trainer = trainer
        self._batch = trainer.source.batch
        trainer.source.batch = self._record

    def _record(self, step, start, stop, *streams):
        batch = self._batch(step, start, stop, *streams)
        if not streams:
            _, level = self._trainer.noisy(batch, self._trainer.density)
            for j in range(stop - start):
                key = (step, start + j)
                told = torch.tensor(-2) if batch.condition is None else batch.condition[j]
                changed = batch.augment_labels
                changed = torch.zeros(0) if changed is None else changed[j]
                drawn = (batch.images[j], level.t[j], batch.noise[j], told, changed)
                self.seen.append((key, *drawn))
        return batch

    def arrays(self):
        """Arrays in the order of (step, position)."""
        rows = sorted(self.seen, key=lambda row: row[0])
        return {
            "key": np.array([row[0] for row in rows]),
            **{
                name: torch.stack([row[i] for row in rows]).numpy()
                for i, name in enumerate(("images", "times", "noise", "told", "changed"), 1)
            },
        }


def state_arrays(trainer: Trainer):
    """The network's weights and buffers as arrays, under "state." names."""
    return {f"state.{k}": v.numpy() for k, v in trainer.network.state_dict().items()}


def plant(fault, trainer: Trainer) -> None:
    """Make one rank send itself a signal, unless it has done so already."""
    note = Path(fault["note"])
    train_step = trainer.train_step

    def step():
        if trainer.step == fault["step"] and not note.exists():
            note.write_text(str(os.getpid()))
            os.kill(os.getpid(), fault["signal"])
        train_step()

    if trainer.ranks.rank == fault["rank"]:
        trainer.train_step = step


TEXTS = ("a bald man", "a hat", "no hat, no beard", "a beard", "somebody with a hat and a beard")
"""Of the captions: the last is of held-out images alone."""


def captions_for(count: int, held_out: int = 3) -> Captions:
    """One or two captions for each image, by its number."""
    numbers = np.arange(count) % 4
    two = np.stack([numbers, (numbers + 1) % 4], 1).ravel()
    train = ImageCaptions(np.arange(count + 1) * 2, two)
    held = ImageCaptions(np.arange(held_out + 1), np.arange(held_out) % 4)
    return Captions("txt", TEXTS, 4, train, held, np.full(held_out, 4))


def data_of(images, job, config) -> TrainingData:
    """The images, and their classes or captions where the config's network is told any."""
    if config.data.captions is not None:
        return TrainingData(images, job["manifest"], captions=captions_for(len(images)))
    if config.data.labels is None:
        return TrainingData(images, job["manifest"])
    names, codes = job["label_names"], np.load(Path(sys.argv[1]).with_name("labels.npy"))
    counts = np.bincount(codes, minlength=len(names)).tolist()
    classes = Classes(config.data.labels, tuple(names), tuple(counts))
    return TrainingData(images, job["manifest"], codes.astype(np.int64), classes)


def drive(images, job) -> None:
    config = build_config(job["config"], "job")
    ranks = ranks_from_environment()
    recorders = []

    def hooks(trainer: Trainer) -> Hooks:
        recorders.append(Recorder(trainer))
        if "fault" in job:
            plant(job["fault"], trainer)

        def on_step(done: int, total: int) -> None:
            if done == job.get("at"):
                os.kill(os.getpid(), job["signal"])

        return Hooks(on_step=on_step)

    data = data_of(images, job, config)
    trainer = run(config, data, ranks, hooks, job.get("stop_after"))
    if "dump" in job:
        path = Path(job["dump"]) / f"rank{ranks.rank}.npz"
        np.savez(path, **recorders[0].arrays(), **state_arrays(trainer))


def main() -> int:
    images = np.load(sys.argv[1])
    try:
        for path in sys.argv[2:]:
            drive(images, json.loads(Path(path).read_text()))
    except Interrupted as stop:
        return 128 + stop.signal_number
    return 0


if __name__ == "__main__":
    leave(guarded(main))
