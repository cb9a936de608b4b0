"""Latents of training images on disk: of each image what an encoder says of it, encoded once.

``root/latents-<key>/`` holds ``moments.npy``, (R, 2, C, h, w) float16: mean and standard deviation
of the latents of each image, then, where images are mirrored at random, those of each mirrored
image. Written last, ``latents.json`` says what they are of. The key is of all that they depend on.

Source: Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models"
(2112.10752, appendix G): latents are scaled to unit variance over all of their values.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from mindiffusion.data.mean_and_spread import ImageStatistics
from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write, sha256_of_file, sha256_of_json, write_json
from mindiffusion.outside.arrays import map_open
from mindiffusion.outside.documents import read_json
from mindiffusion.outside.paths import is_file, open_file

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
MOMENTS, DOCUMENT = "moments.npy", "latents.json"
MOST_FLOAT16 = float(np.finfo(np.float16).max)
_AGAIN = "delete that folder; the next run encodes the images again."
_BLOCK = 256
_Count = Annotated[int, Field(ge=1, le=2**31)]
_Size = Annotated[int, Field(ge=1, le=4096)]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Blocks = Iterator[NDArray[np.float32]]
"""Moments (B, 2, C, h, w), one block after the other."""


class LatentKey(BaseModel):
    """All that latents depend on.

    Attributes:
        manifest: id of the images' manifest.
        vae: SHA-256 of the autoencoder.
        num_images: training images.
        shape: C, h, w.
        is_mirrored: whether mirrored images are encoded too.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    manifest: str
    vae: _Digest
    num_images: _Count
    shape: Annotated[list[_Size], Field(min_length=3, max_length=3)]
    is_mirrored: bool

    @property
    def rows(self) -> tuple[int, ...]:
        """Shape of the moments."""
        return (self.num_images * (1 + self.is_mirrored), 2, *self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the moments."""
        return 2 * math.prod(self.rows)

    def folder(self, root: Path) -> Path:
        """Where they are kept."""
        return root / f"latents-{sha256_of_json(self.model_dump())[:16]}"


class _Document(BaseModel):
    """What stands beside the moments."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    of: LatentKey
    sha256: _Digest


@dataclass(frozen=True, eq=False)
class TrainingLatents:
    """The latents that a run is trained on: scale·(mean + standard deviation·η), η normal.

    Attributes:
        moments: (R, 2, C, h, w) float16, memory-mapped, read-only: of each image mean and standard
            deviation; mirrored images follow.
        num_images: N, training images.
        vae: SHA-256 of the autoencoder.
        scale: factor on latents.
    """

    moments: NDArray[np.float16]
    num_images: int
    vae: str
    scale: float

    @property
    def is_mirrored(self) -> bool:
        """Whether mirrored images were encoded too."""
        return len(self.moments) > self.num_images

    @functools.cached_property
    def statistics(self) -> ImageStatistics:
        """Mean (h, w, C) and spread of the latents of the images themselves, as they are drawn."""
        mean, squares = _sums(self.moments[: self.num_images])
        variance = math.fsum((squares - mean**2).ravel().tolist()) / mean.size
        return ImageStatistics(self.scale * mean.transpose(1, 2, 0), self.scale * variance**0.5)


def drawn(moments: "Tensor", noise: "Tensor", scale: float) -> "Tensor":
    """scale·(mean + standard deviation·noise), (B, C, h, w).

    Args:
        moments: (B, 2, C, h, w); taken to the noise's dtype.
        noise: (B, C, h, w), standard normal.
        scale: factor on latents.
    """
    mean, spread = moments.to(noise.dtype).unbind(1)
    return scale * (mean + spread * noise)


def usual_scale(moments: NDArray[np.float16]) -> float:
    """One over the standard deviation of all values of latents that are drawn of moments.

    Sums go from row to row in float64, so ranks that read one file agree to the bit.

    Args:
        moments: (N, 2, C, h, w).

    Raises:
        UserError: all values are the same.
    """
    mean, squares = (math.fsum(one.ravel().tolist()) / one.size for one in _sums(moments))
    if squares <= mean**2:
        raise UserError(
            "the latents of all training images are the same, so no scale can be measured; give "
            "images that differ, another autoencoder, or codec.scale."
        )
    return 1.0 / math.sqrt(squares - mean**2)


def _sums(moments: NDArray[np.float16]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of each value of drawn latents, and of its square, (C, h, w) each."""
    totals = np.zeros((2, *moments.shape[2:]))
    for start in range(0, len(moments), _BLOCK):
        mean, spread = moments[start : start + _BLOCK].astype(np.float64).swapaxes(0, 1)
        # Over the first axis numpy adds one row after the other.
        totals += (mean.sum(axis=0), (mean**2 + spread**2).sum(axis=0))
    first, second = totals / len(moments)
    return first, second


def open_latents(key: LatentKey, root: Path) -> NDArray[np.float16] | None:
    """The moments of a key, memory-mapped; None where they are not, or not wholly, encoded.

    Raises:
        UserError: they are damaged, or of another key.
        OSError: they can't be read.
    """
    folder = key.folder(root)
    if not is_file(folder / DOCUMENT):
        return None
    document = read_json(folder / DOCUMENT, _Document, _AGAIN)
    if document.of != key:
        raise UserError(f"{folder} holds latents of something else than its name says; {_AGAIN}")
    path = folder / MOMENTS
    with open_file(path) as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        moments = map_open(handle, str(path))
    if digest != document.sha256 or (moments.dtype, moments.shape) != (np.float16, key.rows):
        raise UserError(f"{path} is damaged, or no longer what was encoded; {_AGAIN}")
    return moments


def write_latents(key: LatentKey, root: Path, blocks: Callable[[], Blocks]) -> None:
    """Keep the moments of a key, whole or not at all.

    Args:
        key: what they are of.
        root: folder of all prepared data.
        blocks: gives all rows in order.

    Raises:
        UserError: a value that no float16 holds.
        OSError: they can't be written.
    """
    folder = key.folder(root)
    with atomic_write(folder / MOMENTS) as handle:
        header: dict[str, Any] = {"descr": "<f2", "fortran_order": False, "shape": key.rows}
        np.lib.format.write_array_header_1_0(handle, header)
        rows = 0
        for block in blocks():
            if not np.abs(block).max() <= MOST_FLOAT16:  # also where a value is no number
                raise UserError(
                    f"the autoencoder gave latents that are not finite, or above {MOST_FLOAT16:g}; "
                    "give another one."
                )
            handle.write(np.ascontiguousarray(block, dtype="<f2").data)
            rows += len(block)
        assert rows == key.rows[0], (rows, key.rows)
    digest = sha256_of_file(folder / MOMENTS)
    write_json(folder / DOCUMENT, {"of": key.model_dump(), "sha256": digest})
