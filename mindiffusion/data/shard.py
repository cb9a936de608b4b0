"""Shards: runs of drawn images, each one atomic file, so that a killed preparation can go on."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mindiffusion.data.source import BadImage, Sample, Source
from mindiffusion.files import atomic_write

ITEMS_PER_SHARD = 256
"""Few enough that the last shards keep many cores busy, and that a killed run loses little."""


class ShardJob(NamedTuple):
    """A shard to draw: which items, and into which file."""

    path: Path
    items: Sequence[Any]


def shard_jobs(folder: Path, part: str, items: Sequence[Any], start: int = 0) -> list[ShardJob]:
    """Cut items into shards.

    Args:
        folder: where the shards go.
        part: first part of the shards' names.
        items: what to draw, in order.
        start: position of the first item, for the shards' names.
    """
    return [
        ShardJob(
            folder / f"{part}-{start + offset:010d}.npz", items[offset : offset + ITEMS_PER_SHARD]
        )
        for offset in range(0, len(items), ITEMS_PER_SHARD)
    ]


def write_shard(source: Source, job: ShardJob) -> list[tuple[str, str]]:
    """Draw a shard and write it, unless an image in it is bad.

    Returns:
        (name, reason) of each bad image.
    """
    samples: list[Sample] = []
    bad: list[tuple[str, str]] = []
    for item in job.items:
        try:
            samples.append(source.draw(item))
        except BadImage as error:
            bad.append((source.name_of(item), str(error)))
    if not bad:
        with atomic_write(job.path) as handle:
            np.savez(
                handle,
                pixels=np.stack([sample.pixels for sample in samples]),
                codes=np.array([sample.codes for sample in samples], dtype=np.int16),
                digests=np.array([sample.digest for sample in samples], dtype=np.uint64),
            )
    return bad


def read_shard(path: Path, member: str) -> np.ndarray:
    """``pixels`` (n, H, W, 3) uint8, ``codes`` (n, labels) int16 or ``digests`` (n,) uint64."""
    with path.open("rb") as handle, np.load(handle) as shard:
        array: np.ndarray = shard[member]
    return array


def shard_is_whole(job: ShardJob) -> bool:
    """Whether the job's file is there, readable (its checksums hold) and of the right length."""
    try:
        members = [read_shard(job.path, member) for member in ("pixels", "codes", "digests")]
    # RuntimeError: a flipped flag says that an entry is encrypted or packed in an unknown way.
    except (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile):
        return False
    return all(len(member) == len(job.items) for member in members)
