"""The attribute classifier's network: small, convolutional, one softmax an attribute."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mindiffusion.data.codec import PIXELS
from mindiffusion.noise import Stream, normals

_LAST_SIDE = 4
_WIDEST = 4


class AttributeNet(nn.Module):
    """Images (B, 3, side, side) in [-1, 1] → logits (B, 1 + Σ head sizes).

    Column 0 is the logit of "a whole image of this data", the others the heads' in their order.
    Stages of a 3×3 convolution, 2×2 max pooling, batch norm and ReLU run down to a side of 4 to 7
    pixels; the heads see where things are, so there is no pooling over places.

    Batch norm, and not the group norm of the denoisers: what counts here are absolute colours,
    and a norm within the image takes part of them away.
    """

    def __init__(self, side: int, width: int, head_sizes: Sequence[int]) -> None:
        super().__init__()
        self.head_sizes = tuple(head_sizes)
        stages = max(1, int(math.log2(side / _LAST_SIDE)))
        channels = [PIXELS.channels, *(width * min(2**i, _WIDEST) for i in range(stages))]
        self.stages = nn.Sequential(
            *(_stage(channels[i], channels[i + 1]) for i in range(stages)), nn.Flatten()
        )
        features = channels[-1] * (side >> stages) ** 2
        self.heads = nn.Linear(features, 1 + sum(self.head_sizes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of all heads."""
        return self.heads(self.stages(images))

    def split(self, logits: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits → the "whole image" logit (B,) and each head's (B, K)."""
        whole, *heads = logits.split((1, *self.head_sizes), dim=1)
        return whole[:, 0], heads


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        # Before the norm: that then works on a quarter of the pixels.
        nn.MaxPool2d(2),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def build_attribute_net(
    side: int, width: int, head_sizes: Sequence[int], seed: int
) -> AttributeNet:
    """A network with initial weights that are a pure function of ``seed``.

    Weights are normal with variance 2 / fan-in (He et al. 2015, "Delving Deep into Rectifiers",
    eq. 10), the heads' are 0 so that training starts from equal odds; no generator is touched.

    Args:
        side: of the square images, in pixels, ≥ 4.
        width: channels of the first stage.
        head_sizes: classes of each attribute.
        seed: of the weights.
    """
    with torch.device("meta"):
        net = AttributeNet(side, width, head_sizes)
    net.to_empty(device="cpu")
    for number, module in enumerate(net.modules()):
        if isinstance(module, nn.Conv2d):
            shape = tuple(module.weight.shape)
            draws = normals(seed, Stream.CLASSIFIER_WEIGHTS, torch.tensor([number]), 0, shape)[0]
            module.weight.data = draws * math.sqrt(2 / math.prod(shape[1:]))
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            module.weight.data.zero_()
            module.bias.data.zero_()
    return net.to(memory_format=torch.channels_last)
