"""A TorchScript Inception with random weights: the public file's interface, without the file.

It costs what the real one costs, so that tools can be timed on it where no weights are at hand;
no number that it scores means anything.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmark.evaluation.features.extract import FeatureExtractor
from benchmark.evaluation.features.inception import load_inception
from benchmark.evaluation.features.nets import FEATURE_NETS, extractor_of
from mindiffusion.files import sha256_of_file
from mindiffusion.outside.weights import known_torchscript, silent_torchscript

NUM_CLASSES = 1008
_DIM = 2048


class RandomInception(nn.Module):
    """torchvision's Inception v3 with ``layers`` and ``output`` as clean-fid's file has them.

    Args:
        seed: of the weights, which are He et al.'s normal ones.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        from torchvision.models import inception_v3

        whole = inception_v3(aux_logits=False, init_weights=False, transform_input=False)
        kept = [part for name, part in whole.named_children() if name not in ("dropout", "fc")]
        self.layers = nn.Sequential(*kept)
        self.output = nn.Linear(_DIM, NUM_CLASSES)
        generator = np.random.default_rng(seed)
        with torch.no_grad():
            for weight in self.parameters():
                if weight.dim() > 1:
                    deviation = np.sqrt(2 / weight[0].numel())
                    drawn = generator.standard_normal(weight.shape, dtype=np.float32)
                    weight.copy_(torch.from_numpy(drawn * np.float32(deviation)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, 1008) of images (B, 3, 299, 299) in [-1, 1]."""
        return self.output(self.layers(x).flatten(1))


def write_random_inception(path: Path, seed: int = 0) -> str:
    """Script it into a file like clean-fid's; returns the file's SHA-256."""
    with silent_torchscript():
        torch.jit.save(torch.jit.script(RandomInception(seed).eval()), str(path))
    return sha256_of_file(path)


def random_inception_extractor(
    path: Path, sha256: str, device: torch.device | str = "cpu"
) -> FeatureExtractor:
    """The extractor "inception" with the file that ``write_random_inception`` wrote.

    Args:
        path: the file.
        sha256: what writing it returned: other files than clean-fid's are opened only so.
        device: where it runs.
    """
    net = replace(FEATURE_NETS["inception"], build=partial(load_inception, sha256=sha256))
    return extractor_of(net, path, device)


def read_layers(
    path: Path, sha256: str, device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The file's ``layers`` as they are: (B, 3, 299, 299) in [-1, 1] → (B, D)."""
    layers = known_torchscript(path, sha256, "write it again").to(device).layers
    return lambda pixels: layers(pixels).flatten(1)
