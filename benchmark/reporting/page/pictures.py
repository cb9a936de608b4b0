"""Figures and sample strips as data URIs: each picture is in the page once."""

import base64
import contextlib
import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmark.rows.frames import arm_order, rows_with_strips
from benchmark.study.arm_catalogue import arm_note
from mindiffusion.outside.pictures import PNG_SIGNATURE, BadImage, read_named

MAIN_FIGURE = "fid_vs_steps"
SAMPLES_FIGURE = "samples"
STRIP_BUDGET = 2_000_000
"""Bytes of strips in a page: seeds are embedded while they fit, the first one always."""
MOST_STRIP_BYTES = 256_000_000
"""Bytes of strips that are looked at, by name; those beyond count as missing."""
_WIDE = 1500
"""Pixels of width from which on a figure was drawn for a page, not for a column of a paper."""


@dataclass(frozen=True)
class Picture:
    """A figure in the page; ``width`` and ``height`` in pixels."""

    name: str
    title: str
    caption: str
    uri: str
    width: int
    height: int

    @property
    def is_wide(self) -> bool:
        """Whether it needs the page's whole width."""
        return self.width >= _WIDE

    @property
    def alt(self) -> str:
        """What the picture is, for those who cannot see it; the caption says what it shows."""
        return f"Figure: {self.title}."


@dataclass(frozen=True)
class Slot:
    """One strip of an arm, shown at the positions ``first`` to ``last`` of the gallery's steps."""

    seed: int
    step: int
    first: int
    last: int
    uri: str
    width: int
    height: int
    full_range: bool


@dataclass(frozen=True)
class ArmStrips:
    """All slots of an arm."""

    arm: str
    note: str
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Gallery:
    """What can be flicked through: all arms by step, each strip from the same sampling noise.

    ``steps`` are those of the longest runs. Where an arm has no strip at one of them it shows its
    newest one before, by its own step.
    """

    arms: tuple[ArmStrips, ...]
    steps: tuple[int, ...]
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    total_steps: int
    sampling: str
    missing: tuple[str, ...]


def figures_of(
    study_dir: Path, legends: Mapping[str, tuple[str, str]], but: Collection[str] = ()
) -> dict[str, Picture]:
    """The figures of ``<study_dir>/figures``, in the order of ``legends``, then by name.

    They are embedded as lossless WebP, pixel for pixel the same in a third of the bytes.

    Args:
        study_dir: the study's folder.
        legends: title and caption by name; another figure is called by its name.
        but: names of figures that are not wanted.
    """
    found = {path.stem for path in (study_dir / "figures").glob("*.png")} - set(but)
    names = [*(name for name in legends if name in found), *sorted(found - set(legends))]
    pictures = {}
    for name in names:
        with contextlib.suppress(BadImage):
            _, (image, _) = read_named(study_dir, f"figures/{name}.png")
            content = io.BytesIO()
            image.save(content, "WEBP", lossless=True, method=4)
            uri = _uri(content.getvalue(), "webp")
            legend = legends.get(name, (name.replace("_", " ").capitalize(), ""))
            pictures[name] = Picture(name, *legend, uri, *image.size)
    return pictures


def _uri(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")


def strip_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per strip: arm, seed, step, ``samples``, ``full_range``, of one way of sampling."""
    rows = rows_with_strips(frame)
    how = ["weights", "sampler", "sampler_steps", "sampling_seed"]
    rows = rows.sort_values([*how, "seed", "step", "samples"], kind="stable")
    if not rows.empty:
        rows = rows[(rows[how] == rows.iloc[0][how]).all(axis=1)]
    return rows.drop_duplicates(["arm", "seed", "step"])


def gallery(frame: pd.DataFrame, study_dir: Path) -> Gallery | None:
    """The strips that the rows name and that are there; None if there is none.

    Which arm and step a strip is of is read from its row, never from its name.
    """
    rows = strip_rows(frame)
    if rows.empty:
        return None
    strips = _strips_in(study_dir, sorted(set(rows["samples"])))
    there = rows[[name in strips for name in rows["samples"]]]
    if there.empty:
        return None
    seeds = _seeds_that_fit(there, strips)
    shown = there[there["seed"].isin(seeds)]
    total = int(shown["total_steps"].max())
    records = shown.to_dict("records")
    steps = sorted(set(shown[shown["total_steps"] == total]["step"]))
    first = rows.iloc[0]
    return Gallery(
        arms=tuple(
            ArmStrips(arm, arm_note(arm), tuple(_slots(own, strips, steps)))
            for arm in arm_order(shown)
            if (own := [record for record in records if record["arm"] == arm])
        ),
        steps=tuple(steps),
        seeds=tuple(seeds),
        left_out=tuple(sorted(set(there["seed"]) - set(seeds))),
        total_steps=total,
        sampling=f"{first['weights']} weights, {first['sampler']}, {first['sampler_steps']} steps",
        missing=tuple(sorted(set(rows["samples"]) - set(strips))),
    )


class _Strip(NamedTuple):
    """A strip as it stands in the page; ``width`` and ``height`` in pixels."""

    uri: str
    width: int
    height: int
    num_bytes: int


def _strips_in(study_dir: Path, names: Iterable[str]) -> dict[str, _Strip]:
    """The strips of those names that are whole PNGs inside the study's folder."""
    strips, total = {}, 0
    for name in names:
        with contextlib.suppress(BadImage):
            content, (image, _) = read_named(study_dir, name)
            total += len(content)
            if content.startswith(PNG_SIGNATURE) and total <= MOST_STRIP_BYTES:
                strips[name] = _Strip(_uri(content), *image.size, len(content))
    return strips


def _seeds_that_fit(rows: pd.DataFrame, strips: Mapping[str, _Strip]) -> list[int]:
    sizes = rows["samples"].map(lambda name: strips[name].num_bytes)
    total = sizes.groupby(rows["seed"]).sum().cumsum()
    return [
        int(total.index[0]),
        *(int(seed) for seed in total.index[1:] if total[seed] <= STRIP_BUDGET),
    ]


def _slots(
    rows: Sequence[Mapping[Any, Any]], strips: Mapping[str, _Strip], steps: Sequence[int]
) -> Iterator[Slot]:
    """The strips of one arm that are shown at some step, seed by seed."""
    for seed in sorted({row["seed"] for row in rows}):
        own = sorted((row for row in rows if row["seed"] == seed), key=lambda row: row["step"])
        newest = [max((r["step"] for r in own if r["step"] <= at), default=None) for at in steps]
        for row in own:
            places = [place for place, step in enumerate(newest) if step == row["step"]]
            strip = strips.get(row["samples"])
            if places and strip is not None:
                full = bool(row["full_range"])
                yield Slot(seed, row["step"], places[0], places[-1], *strip[:3], full)
