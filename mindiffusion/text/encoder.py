"""From a network's settings to its encoder, and from captions to the table that it reads."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mindiffusion.config.text import TextConfig
from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write, exclusive_lock, sha256_of_json
from mindiffusion.outside.arrays import map_npy
from mindiffusion.text.frozen import FrozenEncoder, open_frozen
from mindiffusion.text.reading import TextEncoder
from mindiffusion.text.table import TextTable
from mindiffusion.text.words import Vocabulary, WordEncoder
from mindiffusion.writable import check_room

_LAYOUT = 1
"""Of the files in the cache; part of their key."""
_FEW = 64
"""Texts, such as prompts, whose states are not kept."""


def encoder_for(config: TextConfig, vocabulary: Sequence[str]) -> TextEncoder:
    """The encoder of a network.

    Args:
        config: its ``model.text``.
        vocabulary: words in the order of their rows; of "words" alone.

    Raises:
        UserError: a package or a file is missing, damaged, or of another width than the config's.
        OSError: a file can't be read.
    """
    if config.is_trained:
        return WordEncoder(Vocabulary(tuple(vocabulary)), config)
    return open_frozen(config)


def table_of(encoder: TextEncoder, texts: Sequence[str], cache: Path) -> TextTable:
    """What a network reads of texts; states of a frozen encoder are computed once and kept.

    Files are named by what determines them. One that is cut or altered in shape is computed again.
    Of several processes one computes; the others wait, and all map the same file.

    Args:
        encoder: of the network.
        texts: caption k is the k-th.
        cache: folder of what is computed once.

    Raises:
        UserError: the disk has no room for the states.
        OSError: they can't be written.
    """
    if not isinstance(encoder, FrozenEncoder) or len(texts) <= _FEW:
        return encoder.table(texts)
    key = {"layout": _LAYOUT, "encoder": encoder.sha256, "kind": encoder.config.kind}
    key |= {"max_tokens": encoder.config.max_tokens, "texts": list(texts)}
    path = cache / "text" / f"{encoder.config.kind}-{sha256_of_json(key)[:16]}.npy"
    with exclusive_lock(path.with_name(f".{path.stem}.lock"), wait_seconds=math.inf):
        found = _kept(path, encoder.config, len(texts))
        if found is None:
            _keep(path, encoder, texts)
            found = _kept(path, encoder.config, len(texts))
    assert found is not None
    return found


def _lengths_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}-lengths.npy")


def _kept(path: Path, config: TextConfig, count: int) -> TextTable | None:
    """The table of a file, mapped; None if it is not whole."""
    try:
        states, lengths = map_npy(path), np.array(map_npy(_lengths_path(path)))
    except (OSError, UserError):
        return None
    shape = (count + 1, config.max_tokens, config.token_width)
    is_whole = (
        (states.dtype, states.shape) == (np.float16, shape)
        and (lengths.dtype, lengths.shape) == (np.int64, shape[:1])
        and bool(((lengths >= 1) & (lengths <= config.max_tokens)).all())
    )
    return TextTable(_as_tensor(states), torch.from_numpy(lengths)) if is_whole else None


def _as_tensor(mapped: NDArray[Any]) -> torch.Tensor:
    """A mapped array as a tensor that shares its pages; nothing writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")
        return torch.from_numpy(mapped)


def _keep(path: Path, encoder: FrozenEncoder, texts: Sequence[str]) -> None:
    """Write a table's lengths and, as the sign that it is whole, its states."""
    config, lengths = encoder.config, []
    shape = (len(texts) + 1, config.max_tokens, config.token_width)
    advice = "free some, or give MINDIFFUSION_CACHE a folder on another."
    check_room(path.parent, 2 * math.prod(shape), "states of captions", advice)
    with atomic_write(path) as handle:
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(handle, header)
        for states, own in encoder.batches(texts):
            handle.write(states.contiguous().numpy().data)
            lengths.append(own.numpy())
        with atomic_write(_lengths_path(path)) as beside:
            np.save(beside, np.concatenate(lengths).astype(np.int64))
