"""What became of the images of a data set, in a few lines."""

from collections.abc import Mapping
from typing import Any

from mindiffusion.data.source import Plan
from mindiffusion.printable import printable

_MOST_CHARACTERS = 600
_DONE = {
    "turned": "turned upright by EXIF",
    "grey": "converted from grey",
    "palette": "converted from a palette",
    "alpha": "had an opaque alpha channel, dropped",
    "lossy": "are JPEG or another lossy format",
}


def summary(plan: Plan, manifest: Mapping[str, Any]) -> list[str]:
    """What was taken, turned, converted, doubled and left out; of drawn images the notes alone.

    What is left out is looked up each time and is not part of the manifest: other files in a
    folder don't make other data.

    Args:
        plan: of the same data set, just made.
        manifest: of the prepared data.
    """
    lines = [*_of_files(manifest), *plan.notes]
    return [printable(f"{plan.name}: {line}", _MOST_CHARACTERS) for line in lines]


def _of_files(manifest: Mapping[str, Any]) -> list[str]:
    counted = manifest.get("pictures")
    if not isinstance(counted, Mapping):
        return []
    counts, doubled = manifest["counts"], manifest["duplicates"]
    taken = counts["train"] + counts["held_out"]
    done = [f"{counted[key]} {text}" for key, text in _DONE.items() if counted.get(key)]
    return [
        f"{taken} of {manifest['num_files']} images taken, {counts['train']} for training and "
        f"{counts['held_out']} held out",
        "; ".join(done) or "all were plain RGB",
        f"{doubled['within_train']} training images are copies of others, "
        f"{doubled['held_out_in_train']} held-out ones of training images",
    ]
