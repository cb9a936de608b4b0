"""A TorchScript Inception with random weights: the public file's interface, without the file.

It costs what the real one costs, so that tools can be timed on it where no weights are at hand;
no number that it scores means anything.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

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


def write_random_inception(path: Path, seed: int = 0) -> None:
    """Script it into a file such as ``INCEPTION_PATH`` may name."""
    with _deprecated():
        torch.jit.save(torch.jit.script(RandomInception(seed).eval()), str(path))


def read_layers(path: Path, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """The file's ``layers`` as they are: (B, 3, 299, 299) in [-1, 1] → (B, D)."""
    with _deprecated():
        layers = torch.jit.load(str(path), map_location=device).eval().layers
    return lambda pixels: layers(pixels).flatten(1)


@contextlib.contextmanager
def _deprecated() -> Iterator[None]:
    """Silence: torch has deprecated TorchScript, but the real weights come in no other form."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=".*torch.jit", category=category)
        yield
