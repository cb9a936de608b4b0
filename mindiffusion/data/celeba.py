"""CelebA as its authors ship it: ``img_align_celeba`` as a folder or zip, partition, attributes."""

from collections.abc import Iterable
from pathlib import Path

from mindiffusion.data.folder import ImageFile, max_held_out, name_hash, plan_files
from mindiffusion.data.listing import Listing, is_image, list_images
from mindiffusion.data.source import Plan, SourceAbsent
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_json
from mindiffusion.outside.documents import read_text, shown_value
from mindiffusion.printable import is_printable, printable

# Kaggle's copies of the lists are .csv, with a header.
PARTITION_FILES = ("list_eval_partition.txt", "list_eval_partition.csv")
ATTRIBUTE_FILES = ("list_attr_celeba.txt", "list_attr_celeba.csv")
MOST_ATTRIBUTES = 200
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
        SourceAbsent: no path, or no images there.
        UserError: a list that does not fit the images.
    """
    listing = locate(celeba_path)
    by_name = {ImageFile(path).name: path for path in listing.paths}
    if len(by_name) < len(listing.paths):
        raise UserError(f"{listing.place} holds several images of one name; keep one copy of each.")
    names = sorted(by_name)
    lists = {kind: _find(listing, kind) for kind in (PARTITION_FILES, ATTRIBUTE_FILES)}
    label_names, codes = _attributes(lists[ATTRIBUTE_FILES], listing, names)
    parts = _partition(lists[PARTITION_FILES], listing, names)
    limit = max_held_out(config.num_held_out, len(names))
    if parts is None:
        held_out_names = sorted(names, key=name_hash)[:limit]
        train_names = sorted(set(names).difference(held_out_names))
        split = "held-out: smallest SHA-256 of the file name"
    else:
        held_out_names = [name for name in names if parts[name] == VALIDATION][:limit]
        train_names = [name for name in names if parts[name] == TRAIN]
        split = "CelebA's partition: train; held-out: first of validation"
    if not train_names or not held_out_names:
        raise UserError(
            f"{lists[PARTITION_FILES]} leaves train or validation of {listing.place} empty."
        )
    description = {"dataset": "celeba", "files_sha256": sha256_of_json(names), "split": split}
    train, held_out = (
        [ImageFile(by_name[name], codes.get(name, ())) for name in part]
        for part in (train_names, held_out_names)
    )
    read = ", ".join(path.name for path in lists.values() if path) or "none"
    notes = [f"split: {split}", f"lists read: {read}"]
    return plan_files(config, listing, train, held_out, description, label_names, notes)


def locate(celeba_path: str | None) -> Listing:
    """The images at ``CELEBA_PATH``.

    Raises:
        SourceAbsent: unset, missing, empty or without images.
        UserError: neither a folder nor a zip.
    """
    how = ": set CELEBA_PATH in .env to img_align_celeba (folder or .zip), or use dataset avatars."
    if not celeba_path:
        raise SourceAbsent("CELEBA_PATH is not set", how)
    given = Path(celeba_path).expanduser()
    if not given.exists():
        raise SourceAbsent(f"CELEBA_PATH is {given}, which does not exist", how)
    if not given.is_dir():
        return list_images(given)
    if not any(given.iterdir()):
        raise SourceAbsent(f"CELEBA_PATH is {given}, an empty folder", how)
    for below in IMAGE_PLACES:
        place = given / below
        if place.is_file() or (place.is_dir() and any(is_image(p.name) for p in place.iterdir())):
            return list_images(place, recursive=False)
    raise SourceAbsent(f"CELEBA_PATH is {given}, which holds no images", how)


def _find(listing: Listing, names: Iterable[str]) -> Path | None:
    """A list that lies beside the images or up to two folders above them."""
    place = listing.place.resolve()
    for name in names:
        for folder in (place, *list(place.parents)[:2]):
            for below in (".", "Eval", "Anno"):
                if (folder / below / name).is_file():
                    return folder / below / name
    return None


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Number and cells of each line that is not empty.

    Raises:
        UserError: not UTF-8, or too large.
    """
    separator = "," if path.suffix == ".csv" else None
    lines = enumerate(read_text(path).splitlines(), start=1)
    return [
        (number, [cell.strip() for cell in line.split(separator)])
        for number, line in lines
        if line.strip()
    ]


def _partition(path: Path | None, listing: Listing, names: list[str]) -> dict[str, int] | None:
    """Image name to 0 (train), 1 (validation) or 2 (test); None without the list."""
    if path is None:
        return None
    lines = _lines(path)
    parts = {}
    for number, cells in lines[1:] if path.suffix == ".csv" else lines:
        match cells:
            case [name, "0" | "1" | "2" as part]:
                parts[name] = int(part)
            case _:
                raise UserError(
                    f"{path} line {number} is {shown_value(' '.join(cells))}; expected a name and "
                    "0, 1 or 2, as in 'name.jpg 0'."
                )
    _check_names(path, parts, names, listing)
    return parts


def _attributes(
    path: Path | None, listing: Listing, names: list[str]
) -> tuple[dict[str, list[str]], dict[str, tuple[int, ...]]]:
    """CelebA's 40 binary attributes, 0 or 1, by image name; nothing without the list."""
    if path is None:
        return {}, {}
    is_csv = path.suffix == ".csv"
    # "image_id,A,B", or a line with the number of images and one with "A B".
    lines = _lines(path) if is_csv else _lines(path)[1:]
    attributes = lines[0][1][1 if is_csv else 0 :] if lines else []
    is_wrong = not 0 < len(set(attributes)) == len(attributes) <= MOST_ATTRIBUTES
    if is_wrong or not all(0 < len(name) <= 80 and is_printable(name) for name in attributes):
        raise UserError(f"{path} must name its attributes once each, before the images' values.")
    codes = {}
    for number, (name, *values) in lines[1:]:
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
            f"(first: {printable(missing[0], 80)}); complete the images, or take the list away."
        )
    unlisted = sorted(set(names).difference(listed))
    if unlisted:
        raise UserError(
            f"{listing.place} holds {len(unlisted)} images that are not in {path} "
            f"(first: {printable(unlisted[0], 80)}); remove them, or take the list away."
        )
