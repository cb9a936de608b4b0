"""A look at a source of images: what a preparation would take, and a sample of it, drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindiffusion.data.folder import FileSource
from mindiffusion.data.prepare import plan_data
from mindiffusion.data.source import Plan, Sample
from mindiffusion.data.spec import DataConfig
from mindiffusion.data.store import celeba_path
from mindiffusion.errors import UserError
from mindiffusion.noise import permutation
from mindiffusion.outside.pictures import BadImage
from mindiffusion.sampling import save_png, tile

SHEET_COLUMNS, SHEET_IMAGES = 8, 64
MOST_IMAGES = 20_000
_SEED = 0


@dataclass(frozen=True, eq=False)
class Look:
    """What was found.

    Attributes:
        config: the data set.
        plan: what a preparation would draw.
        items: the training items that were looked at, in the order of the plan.
        samples: what was drawn of those that can be used, with their items.
        bad: name and reason of those that can't.
        sizes: (height, width) of the samples' pictures before they are cropped; none of drawn ones.
    """

    config: DataConfig
    plan: Plan
    items: Sequence[Any]
    samples: Sequence[tuple[Any, Sample]]
    bad: Sequence[tuple[str, str]]
    sizes: Sequence[tuple[int, int]]

    @property
    def images(self) -> NDArray[np.uint8]:
        """The drawn images, (n, H, W, 3)."""
        return np.stack([sample.pixels for _, sample in self.samples])


def look_at(config: DataConfig, num_images: int) -> Look:
    """Plan a data set, and draw a fixed sample of its training images; nothing is written.

    Args:
        config: the data set.
        num_images: how many to draw; all where there are no more.

    Raises:
        UserError: the source makes no data set, or fewer than two images of the sample can be used.
    """
    if not 2 <= num_images <= MOST_IMAGES:
        raise UserError(f"--images is {num_images}; give 2 to {MOST_IMAGES:,}.")
    plan = plan_data(config, celeba_path())
    # Of a keyed order, so the same images each time, and the first ones of a larger sample.
    chosen = permutation(_SEED, 0, len(plan.train))[:num_images].sort().values
    items = [plan.train[number] for number in chosen.tolist()]
    samples, bad, sizes = [], [], []
    for item in items:
        try:
            sample, size = _drawn(plan, item)
        except BadImage as error:
            bad.append((plan.source.name_of(item), str(error)))
            continue
        samples.append((item, sample))
        sizes += size
    if len(samples) < 2:
        raise _too_few(plan, len(items), len(samples), bad)
    return Look(config, plan, items, samples, bad, sizes)


def _drawn(plan: Plan, item: Any) -> tuple[Sample, list[tuple[int, int]]]:
    """An item's image, and (height, width) of a file's picture; no size of what is no file.

    Raises:
        BadImage: the item can't be used.
    """
    if not isinstance(plan.source, FileSource):
        return plan.source.draw(item), []
    picture = plan.source.picture(item)
    width, height = picture.image.size
    return plan.source.sample(item, picture), [(height, width)]


def _too_few(plan: Plan, looked_at: int, usable: int, bad: Sequence[tuple[str, str]]) -> UserError:
    """What to say of fewer than two images."""
    if not bad:
        return UserError(f"{plan.origin} has {looked_at} training image; a look takes two or more.")
    count = "one" if usable else "none"
    name, reason = bad[0]
    return UserError(
        f"{plan.origin}: {count} of {looked_at} images can be used, and a look takes two or more; "
        f"the first bad one is {name}, which {reason}."
    )


def write_sheet(path: Path, look: Look) -> None:
    """Write a contact sheet of the first drawn images as a PNG."""
    save_png(path, tile(look.images[:SHEET_IMAGES], SHEET_COLUMNS))
