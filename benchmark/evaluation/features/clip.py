"""CLIP out of a local folder: how well a picture and a text belong together.

The folder is one that the package transformers keeps, with both towers; it is found by CLIP_PATH.

Sources: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
Supervision"; Hessel et al. 2021, "CLIPScore".
"""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.evaluation.features.resize import resize
from mindiffusion.errors import UserError
from mindiffusion.printable import printable
from mindiffusion.text.frozen import (
    CLIP_PADDING,
    files_of_folder,
    network_of_folder,
    package_of_folders,
    sha256_of_files,
    tokenizer_of_folder,
    width_of_folder,
)

PATH_VARIABLE = "CLIP_PATH"
_GREY = 255.0
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of the channels of CLIP's training images, in [0, 1]; from its public code."""
_BATCH = 64


@dataclass(frozen=True, eq=False)
class Clip:
    """A frozen CLIP.

    Attributes:
        network: of the package transformers.
        tokenizer: of the package tokenizers.
        side: of the pictures that it sees, in pixels.
        sha256: of its files.
        device: where it runs.
    """

    network: Any
    tokenizer: Any
    side: int
    sha256: str
    device: torch.device

    @torch.inference_mode()
    def of_images(self, images: NDArray[np.uint8]) -> Tensor:
        """Unit vectors (N, D) of images (N, H, W, 3) uint8."""
        mean, std = (torch.tensor(one, device=self.device) for one in (_MEAN, _STD))
        found = []
        for start in range(0, len(images), _BATCH):
            batch = torch.from_numpy(np.array(images[start : start + _BATCH])).to(self.device)
            shown = resize(batch, self.side, scale=_GREY)
            shown = (shown - mean[:, None, None]) / std[:, None, None]
            pooled = self.network.vision_model(pixel_values=shown).pooler_output
            found.append(self.network.visual_projection(pooled))
        return torch.nn.functional.normalize(torch.cat(found), dim=1).cpu()

    @torch.inference_mode()
    def of_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (N, D) of texts; what is behind its last token is cut."""
        found = []
        for start in range(0, len(texts), _BATCH):
            encoded = self.tokenizer.encode_batch(list(texts[start : start + _BATCH]))
            ids = torch.tensor([one.ids for one in encoded], device=self.device)
            # It attends to what comes before alone, so padding changes nothing.
            pooled = self.network.text_model(input_ids=ids).pooler_output
            found.append(self.network.text_projection(pooled))
        return torch.nn.functional.normalize(torch.cat(found), dim=1).cpu()


def clip_scores(images: Tensor, texts: Tensor) -> NDArray[np.float64]:
    """100 · max(cos, 0) of pairs of unit vectors (N, D): (N,).

    Source: Hessel et al. 2021, eq. 1, with 100 in the place of 2.5, as is usual for generators.
    """
    cosines = (images.double() * texts.double()).sum(dim=1)
    return 100.0 * cosines.clamp(min=0).numpy()


def clip_folder() -> Path:
    """The folder that CLIP_PATH names.

    Raises:
        UserError: it names none.
    """
    named = os.environ.get(PATH_VARIABLE)
    if not named:
        raise UserError(
            f"evaluation.metrics has clip, which needs a CLIP; name its folder by {PATH_VARIABLE} "
            "in .env (as save_pretrained of transformers wrote it), or leave the metric out."
        )
    return Path(named)


def check_clip(folder: Path) -> None:
    """Refuse a CLIP that could not be opened, before anything is trained.

    Raises:
        UserError: a file is missing or not whole, or a package is not installed.
    """
    clip_sha256(folder)
    package_of_folders("transformers")
    package_of_folders("tokenizers")


@functools.lru_cache(maxsize=2)
def clip_sha256(folder: Path) -> str:
    """SHA-256 of a CLIP's files.

    Raises:
        UserError: a file is missing or not whole.
    """
    return sha256_of_files(files_of_folder(folder))


@functools.lru_cache(maxsize=1)
def open_clip(folder: Path, device: torch.device) -> Clip:
    """The CLIP of a folder.

    Raises:
        UserError: a file is missing or damaged, it is no CLIP, or transformers is not installed.
    """
    digest = clip_sha256(folder)
    width_of_folder(folder)
    network = network_of_folder(folder, "CLIPModel")
    config = network.config
    if getattr(config, "model_type", None) != "clip":
        raise UserError(f"{printable(folder)} holds no CLIP; give the folder of one.")
    most = config.text_config.max_position_embeddings
    tokenizer = tokenizer_of_folder(folder, most, CLIP_PADDING)
    side = config.vision_config.image_size
    return Clip(network.to(device), tokenizer, side, digest, device)
