"""clean-fid's Inception: the TorchScript file of FID, given or fetched once, checked before use.

Source: the network of Heusel et al. 2017 (TensorFlow's inception-2015-12-05), translated by
Karras et al. 2020 for StyleGAN2-ADA; clean-fid's ``mode="clean"`` feeds it (grey − 128) / 128.
"""

import http.client
import io
import math
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmark.features.net import Backbone, Head, settled
from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write, exclusive_lock

DIM, INPUT_SIZE, NUM_CLASSES = 2048, 299, 1008
SHIFT, SCALE = 128.0, 128.0
_NAME = "inception-2015-12-05.pt"
HOW_TO_SUPPLY = (
    f"set INCEPTION_PATH to clean-fid's {_NAME}, "
    "or fetch it once: python -m benchmark prepare --inception"
)


class _Features(nn.Module):
    """The file's ``layers``, which end in 1 × 1 pixels."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers(pixels).flatten(1)


def load_inception(weights: Path, device: torch.device) -> Backbone:
    """The file's layers and output layer, after a trial run.

    Frozen on the device with channels last, which on a CPU took 0.62 of the time of the file as it
    is and moved features by 3e-7 relative; ``torch.jit.optimize_for_inference`` was slower.

    Raises:
        UserError: the file is cut, or something else.
    """
    layers, head = _read(weights.read_bytes(), str(weights))
    with _torchscript():
        return Backbone(_Features(torch.jit.freeze(settled(layers, device))), head)


def _read(content: bytes, origin: str) -> tuple[nn.Module, Head | None]:
    """The layers and the output layer of a file's bytes, on the CPU.

    No published checksum is known to us, so what is checked is that the file does the work.

    Args:
        content: the bytes.
        origin: where they are from, for messages.

    Raises:
        UserError: not TorchScript, or not a map from (2, 3, 299, 299) to 2048 features.
    """
    try:
        with _torchscript():
            script = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
        layers = script.layers
        with torch.inference_mode():
            shape = tuple(_Features(layers)(torch.zeros(2, 3, INPUT_SIZE, INPUT_SIZE)).shape)
    except (RuntimeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{origin} is not a whole TorchScript Inception ({len(content)} bytes); "
            f"{HOW_TO_SUPPLY}."
        ) from error
    if shape != (2, DIM):
        raise UserError(f"{origin} maps 2 images to {shape}, not to (2, {DIM}); {HOW_TO_SUPPLY}.")
    return layers, _head(script)


def _head(script: Any) -> Head | None:
    """The output layer without its bias, as the Inception score has always left it out."""
    weight = getattr(getattr(script, "output", None), "weight", None)
    if weight is None or weight.dim() != 2 or weight.shape[1] != DIM:
        return None
    return Head(weight.detach().numpy().astype(np.float64))


@contextmanager
def _torchscript() -> Iterator[None]:
    """Silence: torch has deprecated TorchScript, but these weights are in no other form."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=".*torch.jit", category=category)
        yield


def find_inception(path: str | None, cache_dir: Path) -> Path:
    """The Inception file: the one given, else the one fetched before. Never downloads.

    Args:
        path: value of INCEPTION_PATH, if set.
        cache_dir: where :func:`fetch_inception` puts it.

    Raises:
        UserError: neither is there.
    """
    if path:
        given = Path(path).expanduser()
        if not given.is_file():
            raise UserError(f"INCEPTION_PATH={path} is not a file; {HOW_TO_SUPPLY}.")
        return given
    cached = cache_dir / _NAME
    if not cached.is_file():
        raise UserError(f"Inception weights are neither given nor in {cache_dir}; {HOW_TO_SUPPLY}.")
    return cached


def fetch_inception(cache_dir: Path) -> Path:
    """Download clean-fid's Inception into ``cache_dir``, only on explicit request.

    The file appears there only after it has come whole and passed a trial run. Of several
    processes one downloads; the others wait and take its file. A file that is there and whole is
    not fetched again.

    Raises:
        UserError: the download failed or what came is not the Inception.
    """
    from cleanfid.downloads_helper import inception_url

    target = cache_dir / _NAME
    with exclusive_lock(cache_dir / f".{_NAME}.lock", wait_seconds=math.inf):
        if not _is_whole(target):
            content = _download(inception_url)
            _read(content, inception_url)
            with atomic_write(target) as handle:
                handle.write(content)
    return target


def _is_whole(path: Path) -> bool:
    try:
        _read(path.read_bytes(), str(path))
    except (OSError, UserError):
        return False
    return True


def _download(url: str) -> bytes:
    content = io.BytesIO()
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            size = int(response.headers.get("Content-Length", 0))
            with tqdm(total=size, unit="B", unit_scale=True, desc="Inception", disable=None) as bar:
                while block := response.read(1 << 20):
                    bar.update(content.write(block))
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"Download of {url} failed ({error}); {HOW_TO_SUPPLY}.") from error
    if size and content.tell() != size:
        raise UserError(
            f"Download of {url} broke off at {content.tell()} of {size} bytes; try again."
        )
    return content.getvalue()
