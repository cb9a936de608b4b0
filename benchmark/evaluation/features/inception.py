"""clean-fid's Inception: the TorchScript file of FID, given or fetched once, known by its SHA-256.

A TorchScript can run any code, so no other file is opened.

Source: the network of Heusel et al. 2017 (TensorFlow's inception-2015-12-05), translated by
Karras et al. 2020 for StyleGAN2-ADA; clean-fid's ``mode="clean"`` feeds it (grey − 128) / 128.
"""

import hashlib
import http.client
import io
import math
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmark.evaluation.features.net import Backbone, Head, given_file, settled
from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write, exclusive_lock, sha256_of_file
from mindiffusion.outside.weights import known_torchscript, silent_torchscript

DIM, INPUT_SIZE, NUM_CLASSES = 2048, 299, 1008
SHIFT, SCALE = 128.0, 128.0
_NAME = "inception-2015-12-05.pt"
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""Of the one file that is opened.

Source: k-diffusion, ``evaluation.py``, which pins it, as other tools do.
"""
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


def load_inception(weights: Path, device: torch.device, sha256: str | None = None) -> Backbone:
    """The file's layers and output layer.

    Frozen on the device with channels last, which on a CPU took 0.62 of the time of the file as it
    is and moved features by 3e-7 relative; ``torch.jit.optimize_for_inference`` was slower.

    Args:
        weights: the file.
        device: where it is to run.
        sha256: of a file that this program has just written itself; that of clean-fid's if None.

    Raises:
        UserError: another file.
    """
    script = known_torchscript(weights, sha256 or SHA256, HOW_TO_SUPPLY)
    head = _head(script)
    with silent_torchscript():
        return Backbone(_Features(torch.jit.freeze(settled(script.layers, device))), head)


def _head(script: Any) -> Head | None:
    """The output layer without its bias, as the Inception score has always left it out."""
    weight = getattr(getattr(script, "output", None), "weight", None)
    if weight is None or weight.dim() != 2 or weight.shape[1] != DIM:
        return None
    return Head(weight.detach().numpy().astype(np.float64))


def find_inception(path: str | None, cache_dir: Path) -> Path:
    """The Inception file: the one given, else the one fetched before. Never downloads.

    Args:
        path: value of INCEPTION_PATH, if set.
        cache_dir: where :func:`fetch_inception` puts it.

    Raises:
        UserError: neither is there.
    """
    given = given_file("INCEPTION_PATH", path, HOW_TO_SUPPLY)
    if given is not None:
        return given
    cached = cache_dir / _NAME
    if not cached.is_file():
        raise UserError(f"Inception weights are neither given nor in {cache_dir}; {HOW_TO_SUPPLY}.")
    return cached


def fetch_inception(cache_dir: Path) -> Path:
    """Download clean-fid's Inception into ``cache_dir``, only on explicit request.

    The file appears there only after it has come whole and is the known one. Of several processes
    one downloads; the others wait and take its file. The known file is not fetched again.

    Raises:
        UserError: the download failed or what came is not the Inception.
    """
    from cleanfid.downloads_helper import inception_url

    target = cache_dir / _NAME
    with exclusive_lock(cache_dir / f".{_NAME}.lock", wait_seconds=math.inf):
        if not target.is_file() or sha256_of_file(target) != SHA256:
            content = _download(inception_url)
            found = hashlib.sha256(content).hexdigest()
            if found != SHA256:
                raise UserError(
                    f"{inception_url} gave {len(content)} bytes with the SHA-256 {found}, not "
                    f"{SHA256}; {HOW_TO_SUPPLY}."
                )
            with atomic_write(target) as handle:
                handle.write(content)
    return target


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
