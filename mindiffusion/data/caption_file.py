"""The captions of a prepared data set as one file: each distinct text once, images by its number.

``captions.npz`` holds the texts as UTF-8 bytes one after another (``text``, uint8) with the end of
each (``ends``), and for each split how many captions its images have (``train/counts``) and which
(``train/numbers``); ``prompts`` has one for each held-out image.
"""

import itertools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindiffusion.data.captions import Captions, ImageCaptions
from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write
from mindiffusion.outside.arrays import Wanted, read_npz
from mindiffusion.printable import is_printable, printable

MOST_CAPTION = 2000
"""Characters of a caption; encoders take some hundred at most."""
MOST_OF_AN_IMAGE = 1000
_SHOWN = 80
_MEMBERS = {
    "text": Wanted("|u1", (None,)),
    "ends": Wanted("<i8", (None,)),
    "train/counts": Wanted("<i4", (None,)),
    "train/numbers": Wanted("<i4", (None,)),
    "held_out/counts": Wanted("<i4", (None,)),
    "held_out/numbers": Wanted("<i4", (None,)),
    "prompts": Wanted("<i4", (None,)),
}


def clean(text: str) -> str:
    """A caption in one form: composed characters (NFC), one space between words, none around."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def fault_of(text: str) -> str | None:
    """Why a cleaned text can't be a caption; None if it can."""
    if not text:
        return "is empty"
    if len(text) > MOST_CAPTION:
        return f"has {len(text):,} characters; allowed are {MOST_CAPTION:,}"
    return None if is_printable(text) else "has characters that can't be shown"


def check_texts(texts: Mapping[str, Sequence[str]], source: str) -> None:
    """Refuse captions that can't be used: how many they are, and the first of them.

    Args:
        texts: image to its cleaned captions.
        source: where they are from, for the message.

    Raises:
        UserError: there are some, or an image has too many.
    """
    faults = [(name, text) for name, some in texts.items() for text in some if fault_of(text)]
    if faults:
        name, text = faults[0]
        raise UserError(
            f"{source}: {len(faults)} caption(s) can't be used; the first, of "
            f"{printable(name, _SHOWN)} ({printable(text, _SHOWN)!r}), {fault_of(text)}: mend them."
        )
    crowded = [name for name, some in texts.items() if len(some) > MOST_OF_AN_IMAGE]
    if crowded:
        raise UserError(
            f"{source}: {printable(crowded[0], _SHOWN)} has {len(texts[crowded[0]]):,} captions; "
            f"allowed are {MOST_OF_AN_IMAGE:,}: leave some out."
        )


def distinct(texts: Iterable[str]) -> tuple[str, ...]:
    """Texts without those that came before."""
    return tuple(dict.fromkeys(texts))


def captions_table(
    source: str,
    train: Iterable[Sequence[str]],
    held_out: Iterable[Sequence[str]],
    prompts: Iterable[str],
) -> Captions:
    """The captions of a data set, numbered.

    Args:
        source: one of ``CAPTION_SOURCES``.
        train: captions of each training image, one or more.
        held_out: captions of each held-out image, one or more.
        prompts: of each held-out image.
    """
    numbers: dict[str, int] = {}
    first = _numbered(train, numbers)
    num_learned = len(numbers)
    second = _numbered(held_out, numbers)
    third = _numbered(([one] for one in prompts), numbers).numbers
    return Captions(source, tuple(numbers), num_learned, first, second, third)


def _numbered(images: Iterable[Sequence[str]], numbers: dict[str, int]) -> ImageCaptions:
    """Captions of images by number; texts that are new are added to ``numbers``."""
    found: list[int] = []
    starts = [0]
    for texts in images:
        found += [numbers.setdefault(text, len(numbers)) for text in distinct(texts)]
        starts.append(len(found))
    return ImageCaptions(np.array(starts, np.int64), np.array(found, np.int64))


def write_captions(path: Path, captions: Captions) -> None:
    """Write the file, atomically."""
    encoded = [text.encode() for text in captions.texts]
    arrays = {
        "text": np.frombuffer(b"".join(encoded), np.uint8),
        "ends": np.cumsum([len(one) for one in encoded], dtype=np.int64),
        "prompts": captions.prompts.astype(np.int32),
    }
    for split, own in (("train", captions.train), ("held_out", captions.held_out)):
        arrays[f"{split}/counts"] = np.diff(own.starts).astype(np.int32)
        arrays[f"{split}/numbers"] = own.numbers.astype(np.int32)
    with atomic_write(path) as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]


def read_captions(
    path: Path, source: str, images: Mapping[str, int], most: int, advice: str
) -> Captions:
    """The captions of a prepared data set.

    Args:
        path: the file.
        source: where captions are from, as the manifest says it.
        images: number of images of each split.
        most: bytes that the file has.
        advice: ends the message of an error.

    Raises:
        UserError: it is not such a file, or not of these images.
        OSError: there is none.
    """
    found = read_npz(path, _MEMBERS, most)
    texts = _texts(found["text"], found["ends"])
    splits = {split: _split(found, split, images[split]) for split in images}
    prompts = found["prompts"].astype(np.int64)
    parts = [prompts, *(own.numbers for own in splits.values() if own is not None)]
    is_right = texts is not None and None not in splits.values()
    is_right = is_right and len(prompts) == images["held_out"]
    if not (is_right and all(_in_range(part, len(texts or ())) for part in parts)):
        raise UserError(f"{path} holds no captions of {images} images; {advice}")
    train, held_out = splits["train"], splits["held_out"]
    assert texts is not None and train is not None and held_out is not None
    num_learned = int(train.numbers.max()) + 1
    return Captions(source, texts, num_learned, train, held_out, prompts)


def _in_range(numbers: NDArray[np.int64], count: int) -> bool:
    return not len(numbers) or bool(numbers.min() >= 0 and numbers.max() < count)


def _texts(content: NDArray[np.uint8], ends: NDArray[np.int64]) -> tuple[str, ...] | None:
    """The texts; None unless they are distinct captions that fill the bytes."""
    whole, marks = content.tobytes(), [0, *ends.tolist()]
    if marks[-1] != len(whole) or marks != sorted(marks):
        return None
    try:
        texts = tuple(whole[start:stop].decode() for start, stop in itertools.pairwise(marks))
    except UnicodeDecodeError:
        return None
    is_right = len(set(texts)) == len(texts) and not any(map(fault_of, texts))
    return texts if is_right else None


def _split(found: Mapping[str, NDArray[np.int32]], split: str, images: int) -> ImageCaptions | None:
    """The captions of a split; None unless each image has one or more, and no number is left."""
    counts, numbers = found[f"{split}/counts"], found[f"{split}/numbers"]
    if (
        len(counts) != images
        or (counts < 1).any()
        or int(counts.sum(dtype=np.int64)) != len(numbers)
    ):
        return None
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return ImageCaptions(starts, numbers.astype(np.int64))
