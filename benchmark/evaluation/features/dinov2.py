"""DINOv2 by timm: the [CLS] token after the last norm, of 224-pixel images.

Weights are a file of the user's, or what timm or Hugging Face fetched before; never a download.
timm resamples the position embedding of the published 518-pixel nets to 224 pixels (bicubic,
antialiased), so features differ a little from those of the authors' own code, which does not
antialias: compare distances only within this net.

Source: Oquab et al. 2023, "DINOv2: Learning Robust Visual Features without Supervision"; Stein et
al. 2023, "Exposing flaws of generative model evaluation metrics", for its use here.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.evaluation.features.net import Backbone, given_file, settled
from mindiffusion.errors import UserError
from mindiffusion.outside.weights import tensors_of_file
from mindiffusion.printable import printable

INPUT_SIZE = 224
MAX_GREY = 255.0
PATH_VARIABLE = "DINOV2_PATH"
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_FILE_NAMES = ("model.safetensors", "pytorch_model.bin")


class _Features(nn.Module):
    """The [CLS] token of images in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network((pixels - self.mean) / self.std)


def load_dinov2(model: str, weights: Path, device: torch.device) -> Backbone:
    """The network ``model`` of timm with the weights of a file.

    Args:
        model: timm's name, such as "vit_small_patch14_dinov2.lvd142m".
        weights: a .safetensors file or what torch.save wrote, of timm's or of the authors' own
            names; nothing in it runs.
        device: where it is to run.

    Raises:
        UserError: the file is cut, or of another network.
    """
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    # timm's own loader would unpickle the file in its older versions, so it is read by us.
    try:
        tensors = tensors_of_file(weights)
        network: Any = timm.create_model(
            model, pretrained=False, img_size=INPUT_SIZE, num_classes=0
        )
        network.load_state_dict(checkpoint_filter_fn(tensors, network), strict=True)
    except (RuntimeError, ValueError, LookupError, AttributeError, TypeError) as error:
        reason = printable(" ".join(str(error).split()), 120)
        raise UserError(
            f"{weights} does not hold the weights of timm's {model} ({reason}); "
            f"give {PATH_VARIABLE} the file of that net."
        ) from error
    return Backbone(settled(_Features(network), device))


def find_dinov2(model: str, path: str | None) -> Path:
    """The weights file: the one given, else the one in Hugging Face's cache. Never downloads.

    Args:
        model: timm's name.
        path: value of DINOV2_PATH, if set.

    Raises:
        UserError: neither is there.
    """
    given = given_file(PATH_VARIABLE, path, _how_to_supply(model))
    if given is not None:
        return given
    from huggingface_hub import try_to_load_from_cache

    for name in _FILE_NAMES:
        found: Any = try_to_load_from_cache(f"timm/{model}", name)
        if isinstance(found, str):
            return Path(found)
    raise UserError(
        f"DINOv2 weights are neither given nor in Hugging Face's cache; {_how_to_supply(model)}."
    )


def given_path() -> str | None:
    """What the environment says."""
    return os.environ.get(PATH_VARIABLE) or None


def _how_to_supply(model: str) -> str:
    return f"set {PATH_VARIABLE} to the model.safetensors of huggingface.co/timm/{model}"
