"""Networks in configs: a class for each, told apart by ``network``; free of PyTorch.

A network has its own fields and its own checks, in the file of its family. ``mindiffusion.build``
builds it from them.
"""

from collections.abc import Container, Mapping
from dataclasses import fields
from typing import Annotated, Any

from mindiffusion.config.dit import DiTConfig
from mindiffusion.config.model_base import CapacityLimit, ModelConfig
from mindiffusion.config.naive_unet import (
    NaiveUnetConfig,
    RegUnetConfig,
    SparseUnetConfig,
    UnetConfig,
)
from mindiffusion.config.song_unet import SongUNetConfig
from mindiffusion.config.uvit import SparseUViTConfig, UViTConfig
from mindiffusion.tagged_union import TaggedUnion

__all__ = [
    "MODELS",
    "USUAL_NETWORK",
    "AnyModelConfig",
    "CapacityLimit",
    "DiTConfig",
    "ModelConfig",
    "NaiveUnetConfig",
    "RegUnetConfig",
    "SongUNetConfig",
    "SparseUViTConfig",
    "SparseUnetConfig",
    "UViTConfig",
    "UnetConfig",
    "fields_of",
    "without_foreign",
]

MODELS: dict[str, type[ModelConfig]] = {
    "naive_unet": NaiveUnetConfig,
    "sparse_unet": SparseUnetConfig,
    "reg_unet": RegUnetConfig,
    "uvit": UViTConfig,
    "sparse_uvit": SparseUViTConfig,
    "song_unet": SongUNetConfig,
    "dit": DiTConfig,
}
"""All networks' configs by ``network``; ``mindiffusion.build.NETWORKS`` has the builder of each."""
USUAL_NETWORK = "naive_unet"
AnyModelConfig = Annotated[ModelConfig, TaggedUnion("network", MODELS, USUAL_NETWORK)]
"""The settings of any network, read by their ``network``."""


def fields_of(network: type[ModelConfig]) -> set[str]:
    """Names of a network's settings."""
    return {field.name for field in fields(network)}


def without_foreign(model: Mapping[str, Any], shared: Container[str]) -> dict[str, Any]:
    """A network's settings without shared ones that only other networks have.

    Args:
        model: settings as written; those of a study are given to all its arms.
        shared: names of settings that were given to all arms alike.
    """
    own = MODELS.get(str(model.get("network", USUAL_NETWORK)))
    if own is None:
        return dict(model)
    known = set().union(*map(fields_of, MODELS.values()))
    foreign = known - fields_of(own)
    return {k: v for k, v in model.items() if not (k in foreign and k in shared)}
