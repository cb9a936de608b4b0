"""What a feature net is: facts about it, and how it comes into memory."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mindiffusion.errors import UserError


@dataclass(frozen=True, eq=False)
class Head:
    """The linear map from a net's features to the logits of its classes.

    Attributes:
        weight: (K, D) float64.
        bias: (K,) float64, or None where the net's Inception score is made without one.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64] | None = None

    def __call__(self, features: NDArray) -> NDArray[np.float64]:
        """Logits (N, K) float64 of features (N, D)."""
        logits = features.astype(np.float64, copy=False) @ self.weight.T
        return logits if self.bias is None else logits + self.bias


@dataclass(frozen=True, eq=False)
class Backbone:
    """A net in memory.

    Attributes:
        module: from (B, 3, S, S) float32, in the net's own range of values, to (B, D);
            on its device.
        head: its classifier, if it has one.
    """

    module: nn.Module
    head: Head | None = None


def _unknown(cache_dir: Path) -> Path:
    raise UserError(f"Nothing says where this net's weights are in {cache_dir}; give their file.")


@dataclass(frozen=True)
class FeatureNet:
    """Facts about a feature net.

    Attributes:
        label: name in tables, with the input size where that is ours to choose.
        dim: width D of a feature.
        input_size: side S in pixels that images are resized to, by ``features.resize``.
        resize: how; text for records.
        needs_weights_file: whether the user supplies the weights.
        build: weights file → net on a device.
        weights: where the weights come from; text for people.
        find: folder of caches → weights file; a UserError says why there is none.
        shift: grey level (0–255) that the net gets as 0.
        scale: grey levels that the net gets as 1.
        num_classes: classes K of its head; None if it has none.
        version: raise it when the features of an image change by more than rounding.
    """

    label: str
    dim: int
    input_size: int
    resize: str
    needs_weights_file: bool
    build: Callable[[Path, torch.device], Backbone]
    weights: str = ""
    find: Callable[[Path], Path] = _unknown
    shift: float = 0.0
    scale: float = 1.0
    num_classes: int | None = None
    version: int = 1

    @property
    def values(self) -> str:
        """The range of values that the net gets, such as "-1 to 0.992"."""
        low, high = ((grey - self.shift) / self.scale for grey in (0, 255))
        return f"{low:.3g} to {high:.3g}"

    @property
    def frechet_name(self) -> str:
        """Name of the Fréchet distance on this net: FID for Inception only."""
        return "FID" if self.label == "Inception" else f"FD-{self.label}"

    @property
    def kernel_name(self) -> str:
        """Name of the kernel distance on this net: KID for Inception only."""
        return "KID" if self.label == "Inception" else f"KD-{self.label}"


def given_file(variable: str, path: str | None, how_to_supply: str) -> Path | None:
    """The weights file that a variable of the environment names; None if it is not set.

    Args:
        variable: its name.
        path: its value.
        how_to_supply: ends the message.

    Raises:
        UserError: it names no file.
    """
    if not path:
        return None
    given = Path(path).expanduser()
    if not given.is_file():
        raise UserError(f"{variable}={path} is not a file; {how_to_supply}.")
    return given


def settled(module: nn.Module, device: torch.device) -> nn.Module:
    """The module ready to be called on a device, its weights in the order that is fastest there."""
    return module.eval().to(device).to(memory_format=torch.channels_last)
