"""One set of a milestone's weights as a ``.safetensors`` file, which other programs can read.

The tensors have the network's names. The header's metadata has one entry, ``mindiffusion``: a JSON
document with all that sampling and scoring need of a milestone besides. It is one entry because the
library writes several in an order of chance, and the same weights are to be the same bytes.
"""

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field
from torch import Tensor

from mindiffusion.config.codec import MOST_CHANNELS
from mindiffusion.config.run import to_kept
from mindiffusion.data.mean_and_spread import ImageStatistics
from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write
from mindiffusion.kept_latents import KeptLatents, latents_of, latents_part
from mindiffusion.kept_statistics import statistics_of
from mindiffusion.outside.documents import Name, parse_json
from mindiffusion.outside.weights import (
    MOST_HEADER_BYTES,
    safetensors_header,
    sha256_of_safetensors,
    tensors_of_file,
)
from mindiffusion.sampling import config_of, kept_weights
from mindiffusion.training.checkpoint import check_milestone, kept_stages

ENDING = ".safetensors"
FORMAT = 1
_ENTRY = "mindiffusion"
_ADVICE = "give a file that python -m benchmark export wrote, as it was written."


class _Statistics(BaseModel):
    """Of the training images: the mean picture as float64, little-endian, and the spread.

    The channels stand here where they are not three colours.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    mean: Base64Bytes
    std: float
    channels: Annotated[int, Field(ge=1, le=MOST_CHANNELS)] = 3


class _Document(BaseModel):
    """The entry of the header's metadata.

    Attributes:
        weights: "raw" or an average such as "ema0.9999".
        sha256: of all that stands behind the header.
        manifest: id of the training data; None where it is not known.
        milestone: its step, config, runtime, training time, and stages.
        statistics: where the process uses them.
        latents: where the network sees them.
    """

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1]
    weights: Name
    sha256: str
    manifest: Name | None
    milestone: dict[str, Any]
    statistics: _Statistics | None
    latents: KeptLatents | None = None


def save(path: Path, content: Mapping[str, Any], weights: str) -> None:
    """Write one set of weights with all that they need to be drawn from and scored.

    Args:
        path: the file, which is replaced.
        content: a milestone's, as ``mindiffusion.exchange.by_path.open_weights`` gives it.
        weights: "raw" or an average.

    Raises:
        UserError: the content has no such weights, or its config is not theirs.
        OSError: the file can't be written.
    """
    from safetensors.torch import save as safetensors_bytes

    config = config_of(content)
    # Two names may stand for one tensor, and the library takes no shared memory.
    tensors = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in kept_weights(content, weights).items()
    }
    plain = safetensors_bytes(tensors)
    document = {
        "format": FORMAT,
        "weights": weights,
        "sha256": hashlib.sha256(memoryview(plain)[_behind_header(plain) :]).hexdigest(),
        "manifest": content["manifest"],
        "milestone": _described(content) | {"config": to_kept(config)},
        "statistics": _statistics_part(statistics_of(content, config)),
        **(latents_part(latents_of(content, config)) if "latents" in content else {}),
    }
    del plain
    whole = safetensors_bytes(tensors, {_ENTRY: json.dumps(document)})
    assert _behind_header(whole) <= MOST_HEADER_BYTES
    with atomic_write(path) as handle:
        handle.write(whole)


def _described(content: Mapping[str, Any]) -> dict[str, Any]:
    """What goes along as it is, in the order in which files have it."""
    stages = kept_stages(content)
    keys = ("step", "runtime", "train_seconds", "stage_log", *stages, "classes", "text")
    return {key: content[key] for key in keys if key in content}


def _statistics_part(statistics: ImageStatistics | None) -> dict[str, Any] | None:
    if statistics is None:
        return None
    mean, channels = statistics.mean.astype("<f8").tobytes(), statistics.mean.shape[2]
    other = {} if channels == 3 else {"channels": channels}
    return {"mean": base64.b64encode(mean).decode("ascii"), "std": statistics.std, **other}


def _behind_header(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


def load(path: Path) -> dict[str, Any]:
    """Read an exported file onto the CPU, as the content of a milestone with this one set.

    Its header is compared with its config before any of its tensors is read.

    Raises:
        UserError: not there, damaged, not one of ours, or of another network than its config's.
        OSError: it can't be read.
    """
    source = str(path)
    try:
        header = safetensors_header(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    if _ENTRY not in header.metadata:
        raise UserError(
            f"{path} holds tensors, but nothing says of which network and at which step; {_ADVICE}"
        )
    entry = header.metadata[_ENTRY].encode()
    document = parse_json(entry, _Document, source, _ADVICE)
    content = document.milestone | {
        "manifest": document.manifest,
        "weights": {document.weights: header.tensors},
    }
    content.pop("statistics", None)
    if document.statistics is not None:
        content["statistics"] = {
            "mean": _picture(document.statistics, source),
            "std": document.statistics.std,
        }
    content.pop("latents", None)
    if document.latents is not None:
        content["latents"] = document.latents.model_dump()
    check_milestone(content, source)
    config_of(content)
    if sha256_of_safetensors(path) != document.sha256:
        raise UserError(f"{path} is damaged: its SHA-256 is not the one in its header.")
    content["weights"] = {document.weights: tensors_of_file(path)}
    return content


def _picture(statistics: _Statistics, source: str) -> Tensor:
    """The mean picture (side, side, C); the sizes are compared with the config's."""
    content, channels = statistics.mean, statistics.channels
    side = math.isqrt(len(content) // (8 * channels))
    if not content or len(content) != 8 * channels * side**2:
        raise UserError(
            f"{source}: statistics.mean has {len(content):,} bytes, which are no square picture; "
            f"{_ADVICE}"
        )
    return torch.tensor(np.frombuffer(content, dtype="<f8")).reshape(side, side, channels)
