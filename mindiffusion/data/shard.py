"""Shards: runs of drawn images, each one atomic file, so that a killed preparation can go on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mindiffusion.data.source import Sample, Source
from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write
from mindiffusion.outside.pictures import ODDITIES, BadImage

ITEMS_PER_SHARD = 256
"""Few enough that the last shards keep many cores busy, and that a killed run loses little."""
_MEMBERS = {
    "pixels": ("|u1", (None, None, None, 3)),
    "codes": ("<i2", (None, None)),
    "digests": ("<u8", (None,)),
    "oddities": ("|u1", (None,)),
}


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
                oddities=np.array([_bits(sample.oddities) for sample in samples], dtype=np.uint8),
            )
    return bad


def _bits(oddities: Sequence[str]) -> int:
    return sum(1 << ODDITIES.index(oddity) for oddity in oddities)


def has_oddity(bits: np.ndarray, oddity: str) -> np.ndarray:
    """Which images (n,) have one of ``ODDITIES``, by a shard's member ``oddities``."""
    return (bits >> ODDITIES.index(oddity)) & 1 == 1


def read_shard(path: Path, member: str) -> np.ndarray:
    """A member of a shard.

    ``pixels`` (n, H, W, 3) uint8, ``codes`` (n, labels) int16, ``digests`` (n,) uint64 or
    ``oddities`` (n,) uint8, a bit for each of ``ODDITIES``.

    Raises:
        UserError: no whole shard.
        OSError: there is none, or it can't be read.
    """
    # Here, for workers only write: it brings pydantic, which takes longer than all else they load.
    from mindiffusion.outside.arrays import Wanted, read_npz

    wanted = {member: Wanted(*_MEMBERS[member])}
    return read_npz(path, wanted, path.stat().st_size)[member]


def shard_is_whole(job: ShardJob) -> bool:
    """Whether the job's file is there, readable (its checksums hold) and of the right length."""
    try:
        members = [read_shard(job.path, member) for member in _MEMBERS]
    except (OSError, UserError):
        return False
    return all(len(member) == len(job.items) for member in members)
