"""Prepares a data set once: draws or decodes it on all cores, then maps it from disk.

``root/<name>-<size>-<crop>-<key>/`` ends as ``train.npy, held_out.npy, labels.npz`` and, written
last, ``manifest.json``; ``root/config-<key>.json`` then names it. Until then ``parts/`` in it holds
what is done, and any later run goes on.

One bad picture stops a preparation, at its end: a data set that silently lacks some is another
one. All of them are named in a file, so that they can be mended or taken away at once.
"""

import contextlib
import errno
import functools
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from mindiffusion.data.avatars import plan_avatars
from mindiffusion.data.caption_file import captions_table, write_captions
from mindiffusion.data.captions import Captions
from mindiffusion.data.celeba import plan_celeba
from mindiffusion.data.cifar import is_cifar, plan_cifar
from mindiffusion.data.folder import plan_folder
from mindiffusion.data.mean_and_spread import image_statistics
from mindiffusion.data.photos import plan_photos
from mindiffusion.data.pool import draw_shards
from mindiffusion.data.prepared import (
    CAPTIONS,
    FORMAT,
    LABELS,
    SPLITS,
    PreparedData,
    check_label,
    is_whole,
    label_counts,
    load_prepared,
    write_array,
    write_manifest,
)
from mindiffusion.data.public_layouts import layout_of, plan_layout
from mindiffusion.data.record import write_record
from mindiffusion.data.shard import (
    ShardJob,
    has_oddity,
    read_shard,
    shard_is_whole,
    shard_jobs,
)
from mindiffusion.data.source import Plan
from mindiffusion.data.spec import DataConfig
from mindiffusion.data.summary import summary
from mindiffusion.errors import UserError
from mindiffusion.files import (
    atomic_write,
    exclusive_lock,
    sha256_of_file,
    sha256_of_json,
    write_text,
)
from mindiffusion.machine import available_cores
from mindiffusion.outside.arrays import map_npy
from mindiffusion.printable import printable

PARTS = "parts"
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
SHOWN_BAD_IMAGES = 3
SHOWN_CHARACTERS = 100


class Kept(NamedTuple):
    """A shard, what it was drawn of, and which of its images go into the array."""

    path: Path
    items: Sequence[Any]
    rows: np.ndarray  # (n,) bool


def prepare(
    config: DataConfig,
    root: Path,
    workers: int | None = None,
    celeba_path: str | None = None,
    show_progress: bool = True,
) -> PreparedData:
    """Open the prepared data set of a config, after preparing what is missing of it.

    The bytes depend on neither the number of workers nor interruptions. Of several processes
    that want one data set, one prepares it and the others wait.

    Args:
        config: what to prepare.
        root: folder of all prepared data sets.
        workers: processes (None: one for each core).
        celeba_path: where CelebA is; only for dataset ``celeba``.
        show_progress: on stderr a bar with the time left and, of files, what became of them.

    Raises:
        UserError: nothing to read, bad images, no space left.
    """
    plan = plan_data(config, celeba_path)
    return prepare_plan(plan, config, root, workers, show_progress)


def prepare_plan(
    plan: Plan,
    config: DataConfig,
    root: Path,
    workers: int | None = None,
    show_progress: bool = True,
) -> PreparedData:
    """As :func:`prepare`, of a source that is listed already; ``plan`` is the config's."""
    folder = root / _folder_name(plan, config.crop)
    parts = folder / PARTS
    if not is_whole(folder) or parts.exists():
        lock = root / f".{folder.name}.lock"
        say = functools.partial(_say_waiting, folder.name) if show_progress else None
        with (
            _full_disk_is_a_user_error(plan, root),
            exclusive_lock(lock, wait_seconds=math.inf, on_wait=say),
        ):
            if not is_whole(folder):
                _build(plan, folder, workers or available_cores(), show_progress)
            shutil.rmtree(parts, ignore_errors=True)
    data = load_prepared(folder)
    write_record(config, data)
    for line in summary(plan, data.manifest) if show_progress else []:
        print(line, file=sys.stderr)
    return data


def plan_data(config: DataConfig, celeba_path: str | None) -> Plan:
    """What preparing a data set would draw: lists files, decodes no picture, writes nothing.

    Raises:
        SourceAbsent: there are no images.
        UserError: images that make no data set, or that lack the label which is asked for.
    """
    plan = _plan(config, celeba_path)
    if config.labels is not None:
        check_label(config.labels, plan.label_names, plan.origin)
    if config.captions is not None and plan.captioner is None:
        raise UserError(
            f"data.captions is {config.captions}, which {plan.origin} does not have; leave it out, "
            "or give images with captions (avatars, photos, COCO, a folder with captions)."
        )
    return plan


def _plan(config: DataConfig, celeba_path: str | None) -> Plan:
    if config.dataset == "avatars":
        return plan_avatars(config)
    if config.dataset == "celeba":
        return plan_celeba(config, celeba_path)
    if config.dataset == "photos":
        return plan_photos(config)
    if is_cifar(config.dataset):
        return plan_cifar(config)
    layout = layout_of(config.dataset)
    return plan_folder(config) if layout is None else plan_layout(config, layout)


def _folder_name(plan: Plan, crop: str) -> str:
    """Differs wherever the arrays would."""
    identity = {
        "format": FORMAT,
        "size": plan.size,
        "num_train": len(plan.train),
        "num_held_out": plan.num_held_out,
        "fingerprint": plan.fingerprint,
        **_described(plan),
    }
    return f"{_file_name(plan)}-{plan.size}-{crop}-{sha256_of_json(identity)[:10]}"


def _described(plan: Plan) -> dict[str, Any]:
    """What the manifest says of a plan; of captions only where they are asked for."""
    if plan.captioner is None:
        return dict(plan.description)
    said = {"source": plan.captioner.source, "sha256": plan.captioner.identity}
    return {**plan.description, "captions": said}


def _file_name(plan: Plan) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", plan.name)


def _refused_file(plan: Plan, folder: Path) -> Path:
    """Where the images that can't be used are named; one file for all tries to mend them."""
    return folder.with_name(f"refused-{_file_name(plan)}.txt")


def _say_waiting(name: str) -> None:
    print(f"Another process is preparing {name}; waiting for it.", file=sys.stderr)


@contextlib.contextmanager
def _full_disk_is_a_user_error(plan: Plan, root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        images = len(plan.train) + plan.num_held_out
        # The parts and the arrays made of them lie side by side until the end.
        needed = 2 * images * plan.size * plan.size * 3
        raise UserError(
            f"no space left in {root}: {images} images need about {needed} bytes there; "
            "make room and run again, it goes on where it was."
        ) from error


def _build(plan: Plan, folder: Path, workers: int, show_progress: bool) -> None:
    """Draw the missing shards, then write arrays, labels and, last, the manifest."""
    parts = folder / PARTS
    jobs = {
        "train": shard_jobs(parts, "train", plan.train),
        "held_out": shard_jobs(parts, "held_out", plan.held_out[: plan.num_held_out]),
    }
    bad = _draw_missing(plan, jobs["train"] + jobs["held_out"], workers, show_progress)
    if bad:
        # Mending the source changes the data set's key, so these parts would never be used.
        shutil.rmtree(folder, ignore_errors=True)
        raise _bad_images_error(plan, bad, _refused_file(plan, folder))
    train = [
        Kept(job.path, job.items, np.ones(len(job.items), dtype=bool)) for job in jobs["train"]
    ]
    held_out, num_duplicates = _select_held_out(plan, jobs, workers, show_progress)
    kept = {"train": train, "held_out": held_out}
    for split in SPLITS:
        shape = (sum(int(part.rows.sum()) for part in kept[split]), plan.size, plan.size, 3)
        chunks = (read_shard(part.path, "pixels")[part.rows] for part in kept[split])
        write_array(parts / f"{split}.npy", chunks, shape)
    _write_labels(parts / LABELS, plan, kept)
    names = [f"{split}.npy" for split in SPLITS] + [LABELS]
    captions = _captions(plan, kept)
    if captions is not None:
        write_captions(parts / CAPTIONS, captions)
        names.append(CAPTIONS)
    for name in names:
        os.replace(parts / name, folder / name)
    manifest = _manifest(plan, folder, names, kept, num_duplicates)
    if captions is not None:
        manifest["captions"] |= captions.counts
    statistics = image_statistics(map_npy(folder / "train.npy"))
    counts = label_counts(plan.label_names, [_codes(plan, kept[split]) for split in SPLITS])
    write_manifest(folder, manifest, statistics.summary, counts)
    _refused_file(plan, folder).unlink(missing_ok=True)


def _draw_missing(
    plan: Plan, jobs: Sequence[ShardJob], workers: int, show_progress: bool
) -> list[tuple[str, str]]:
    missing = [job for job in jobs if not shard_is_whole(job)]
    total, left = (sum(len(job.items) for job in some) for some in (jobs, missing))
    with tqdm(
        total=total,
        initial=total - left,
        desc=f"preparing {plan.name} {plan.size}px",
        unit="img",
        disable=not show_progress,
    ) as progress:
        return draw_shards(plan.source, missing, workers, progress.update)


def _select_held_out(
    plan: Plan, jobs: dict[str, list[ShardJob]], workers: int, show_progress: bool
) -> tuple[list[Kept], int]:
    """The held-out images, and how many of the candidates looked at are in train as well.

    Where duplicates are replaced, later candidates are drawn until there are enough.

    Raises:
        UserError: there are not enough candidates that differ from the train images.
    """
    in_train = np.concatenate([read_shard(job.path, "digests") for job in jobs["train"]])
    kept: list[Kept] = []
    num_duplicates, num_kept, start = 0, 0, 0
    round_jobs = jobs["held_out"]
    while True:
        for job in round_jobs:
            duplicate = np.isin(read_shard(job.path, "digests"), in_train)
            rows = ~duplicate if plan.replace_duplicates else np.ones_like(duplicate)
            kept.append(Kept(job.path, job.items, rows))
            num_duplicates += int(duplicate.sum())
            num_kept += int(rows.sum())
            start += len(job.items)
        missing = plan.num_held_out - num_kept
        if not missing:
            return kept, num_duplicates
        if start > 100 * plan.num_held_out:
            raise UserError(
                f"{plan.origin}: nearly every held-out image is a train image; lower num_train."
            )
        candidates = plan.held_out[start : start + missing]
        round_jobs = shard_jobs(round_jobs[0].path.parent, "held_out", candidates, start)
        _draw_missing(plan, round_jobs, workers, show_progress)


def _write_labels(path: Path, plan: Plan, kept: dict[str, list[Kept]]) -> None:
    arrays = {}
    for split in SPLITS:
        for label, codes in _codes(plan, kept[split]).items():
            arrays[f"{split}/{label}"] = codes
    with atomic_write(path) as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]


def _codes(plan: Plan, kept: Sequence[Kept]) -> dict[str, np.ndarray]:
    """Label to the codes (N,) of a split's images."""
    codes = np.concatenate([read_shard(part.path, "codes")[part.rows] for part in kept])
    return {label: codes[:, column] for column, label in enumerate(plan.label_names)}


def _captions(plan: Plan, kept: dict[str, list[Kept]]) -> Captions | None:
    """The captions of both splits; None where nobody asked for them."""
    captioner = plan.captioner
    if captioner is None:
        return None
    shown = {split: list(_shown(kept[split])) for split in SPLITS}
    train, held_out = ((captioner.captions(*one) for one in shown[split]) for split in SPLITS)
    prompts = (captioner.prompt(*one) for one in shown["held_out"])
    return captions_table(captioner.source, train, held_out, prompts)


def _shown(kept: Sequence[Kept]) -> Iterator[tuple[Any, list[int]]]:
    """Item and codes of each image of a split."""
    for part in kept:
        codes = read_shard(part.path, "codes").tolist()
        for item, own, is_kept in zip(part.items, codes, part.rows.tolist(), strict=True):
            if is_kept:
                yield item, own


def _manifest(
    plan: Plan,
    folder: Path,
    names: Sequence[str],
    kept: dict[str, list[Kept]],
    num_duplicates: int,
) -> dict[str, Any]:
    digests = np.concatenate([read_shard(part.path, "digests") for part in kept["train"]])
    return {
        "format": FORMAT,
        **_described(plan),
        "size": plan.size,
        "counts": {split: sum(int(part.rows.sum()) for part in kept[split]) for split in SPLITS},
        "duplicates": {
            "within_train": len(digests) - len(np.unique(digests)),
            "held_out_in_train": num_duplicates,
            "replaced": plan.replace_duplicates,
        },
        **({"pictures": _oddities(plan, kept)} if plan.oddities else {}),
        "label_names": dict(plan.label_names),
        "sha256": {name: sha256_of_file(folder / name) for name in names},
        "file_bytes": {name: (folder / name).stat().st_size for name in names},
    }


def _oddities(plan: Plan, kept: dict[str, list[Kept]]) -> dict[str, int]:
    """How many of the kept images have each oddity."""
    parts = [part for split in SPLITS for part in kept[split]]
    bits = np.concatenate([read_shard(part.path, "oddities")[part.rows] for part in parts])
    return {oddity: int(has_oddity(bits, oddity).sum()) for oddity in plan.oddities}


def _bad_images_error(plan: Plan, bad: Sequence[tuple[str, str]], refused: Path) -> UserError:
    """One line, after all bad images were named in a file."""
    lines = [f"{printable(name)}\t{printable(reason)}" for name, reason in bad]
    write_text(refused, "\n".join(lines) + "\n")
    first = [printable(f"{name} {reason}", SHOWN_CHARACTERS) for name, reason in bad]
    more = "; …" if len(bad) > SHOWN_BAD_IMAGES else ""
    total = len(plan.train) + plan.num_held_out
    return UserError(
        f"{len(bad)} of {total} images in {plan.origin} can't be used: "
        f"{'; '.join(first[:SHOWN_BAD_IMAGES])}{more}. {refused} names all with their reasons: "
        "mend, convert or remove them, then run again."
    )
