"""CelebA as its authors ship it: ``img_align_celeba`` as a folder or zip, partition, attributes."""

from collections.abc import Iterable
from pathlib import Path

from mindiffusion.data.folder import (
    ImageFile,
    Listing,
    is_image,
    list_images,
    max_held_out,
    name_hash,
    plan_files,
)
from mindiffusion.data.source import Plan
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_json

PARTITION_FILE = "list_eval_partition.txt"
ATTRIBUTE_FILE = "list_attr_celeba.txt"
TRAIN, VALIDATION, TEST = 0, 1, 2
#: Where the images may lie below the given folder (Kaggle's zip nests the folder in itself).
IMAGE_PLACES = (
    ".",
    "img_align_celeba",
    "img_align_celeba/img_align_celeba",
    "img_align_celeba.zip",
    "Img/img_align_celeba",
    "Img/img_align_celeba.zip",
)


def plan_celeba(config: DataConfig, celeba_path: str | None) -> Plan:
    """CelebA's images, split by the partition file, or by name hash where there is none.

    Args:
        config: the data set.
        celeba_path: ``img_align_celeba``, its parent, or its zip.

    Raises:
        UserError: no path, no images there, or a list that does not fit the images.
    """
    listing = locate(celeba_path)
    by_name = {ImageFile(path).name: path for path in listing.paths}
    if len(by_name) < len(listing.paths):
        raise UserError(f"{listing.place} holds several images of one name; keep one copy of each.")
    names = sorted(by_name)
    label_names, codes = _attributes(listing, names)
    parts = _partition(listing, names)
    limit = max_held_out(config.num_held_out, len(names))
    if parts is None:
        held_out_names = sorted(names, key=name_hash)[:limit]
        train_names = sorted(set(names).difference(held_out_names))
        split = "held-out: smallest SHA-256 of the file name"
    else:
        held_out_names = [name for name in names if parts[name] == VALIDATION][:limit]
        train_names = [name for name in names if parts[name] == TRAIN]
        split = f"{PARTITION_FILE}: train; held-out: first of validation"
    if not train_names or not held_out_names:
        raise UserError(f"{PARTITION_FILE} of {listing.place} leaves train or validation empty.")
    description = {"dataset": "celeba", "files_sha256": sha256_of_json(names), "split": split}
    train, held_out = (
        [ImageFile(by_name[name], codes.get(name, ())) for name in part]
        for part in (train_names, held_out_names)
    )
    return plan_files(config, listing, train, held_out, description, label_names)


def locate(celeba_path: str | None) -> Listing:
    """The images at ``CELEBA_PATH``.

    Raises:
        UserError: unset, missing, empty or without images.
    """
    how = "set CELEBA_PATH in .env to img_align_celeba (folder or .zip), or use dataset avatars."
    if not celeba_path:
        raise UserError(f"CELEBA_PATH is not set: {how}")
    given = Path(celeba_path).expanduser()
    if not given.exists():
        raise UserError(f"CELEBA_PATH is {given}, which does not exist: {how}")
    if given.is_file():
        return list_images(given)
    if not any(given.iterdir()):
        raise UserError(f"CELEBA_PATH is {given}, an empty folder: {how}")
    for below in IMAGE_PLACES:
        place = given / below
        if place.is_file() or (place.is_dir() and any(is_image(p.name) for p in place.iterdir())):
            return list_images(place, recursive=False)
    raise UserError(f"CELEBA_PATH is {given}, which holds no images: {how}")


def _find(listing: Listing, name: str) -> Path | None:
    """A list that lies beside the images or up to two folders above them."""
    place = listing.place.resolve()
    for folder in (place, *list(place.parents)[:2]):
        for below in (".", "Eval", "Anno"):
            if (folder / below / name).is_file():
                return folder / below / name
    return None


def _partition(listing: Listing, names: list[str]) -> dict[str, int] | None:
    """Image name to 0 (train), 1 (validation) or 2 (test)."""
    path = _find(listing, PARTITION_FILE)
    if path is None:
        return None
    parts = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        match line.split():
            case [name, "0" | "1" | "2" as part]:
                parts[name] = int(part)
            case []:
                continue
            case _:
                raise UserError(f"{path} line {number} is {line!r}; expected 'name.jpg 0|1|2'.")
    _check_names(path, parts, names, listing)
    return parts


def _attributes(
    listing: Listing, names: list[str]
) -> tuple[dict[str, list[str]], dict[str, tuple[int, ...]]]:
    """CelebA's 40 binary attributes, 0 or 1, by image name; nothing without the list."""
    path = _find(listing, ATTRIBUTE_FILE)
    if path is None:
        return {}, {}
    lines = path.read_text("utf-8").splitlines()
    attributes = lines[1].split() if len(lines) > 1 else []
    codes = {}
    for number, line in enumerate(lines[2:], start=3):
        name, *values = line.split() or [""]
        if len(values) != len(attributes) or not set(values) <= {"1", "-1"}:
            raise UserError(
                f"{path} line {number}: expected a name and {len(attributes)} values, 1 or -1."
            )
        codes[name] = tuple(int(value == "1") for value in values)
    _check_names(path, codes, names, listing)
    return {attribute: ["no", "yes"] for attribute in attributes}, codes


def _check_names(path: Path, listed: Iterable[str], names: list[str], listing: Listing) -> None:
    """Raise unless the list and the images name the same files."""
    missing = sorted(set(listed).difference(names))
    if missing:
        raise UserError(
            f"{path} names {len(missing)} images that are not in {listing.place} "
            f"(first: {missing[0]}); complete the images, or take the list away."
        )
    unlisted = sorted(set(names).difference(listed))
    if unlisted:
        raise UserError(
            f"{listing.place} holds {len(unlisted)} images that are not in {path} "
            f"(first: {unlisted[0]}); remove them, or take the list away."
        )
