"""From a config to a network, a process and a codec: each kind has one entry."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mindiffusion.augment import NUM_LABELS
from mindiffusion.config.codec import VAEConfig
from mindiffusion.config.model import (
    DiTConfig,
    ModelConfig,
    NaiveUnetConfig,
    RegUnetConfig,
    SongUNetConfig,
    SparseUnetConfig,
    SparseUViTConfig,
    UViTConfig,
)
from mindiffusion.config.process import (
    DDPMConfig,
    EDMConfig,
    LinearPathConfig,
    ProcessConfig,
    VariancePreservingConfig,
    VPSDEConfig,
)
from mindiffusion.config.run import RunConfig
from mindiffusion.config.text import TextConfig
from mindiffusion.curriculum.loss_weight import LossWeight
from mindiffusion.data.codec import PIXELS, Codec
from mindiffusion.data.mean_and_spread import ImageStatistics
from mindiffusion.ddpm import DDPMProcess
from mindiffusion.dit import DiT
from mindiffusion.edm import EDMProcess
from mindiffusion.errors import UserError
from mindiffusion.kept_latents import KnownLatents
from mindiffusion.latent_codec import LatentCodec
from mindiffusion.linear_path import LinearPathProcess
from mindiffusion.network import Network
from mindiffusion.parameterization import EpsPrediction, Parameterization, Preconditioned
from mindiffusion.process import Process
from mindiffusion.reg_unet import RegNaiveUnet
from mindiffusion.song_unet import ARCHITECTURES, SongUNet
from mindiffusion.sparse_unet import SparseNaiveUnet
from mindiffusion.sparse_uvit import SparseUViT
from mindiffusion.text_layers import StateReader, TextReader, WordReader
from mindiffusion.unet import NaiveUnet
from mindiffusion.uvit import UViT
from mindiffusion.vpsde import VPSDEProcess

_STD_OF_EDM = 0.5
"""σ_d before any data are known, as Karras et al. 2022 take it."""


def build_codec(config: RunConfig, known: KnownLatents | None = None) -> Codec:
    """How images become inputs of a run's network, and its samples become images.

    Training, sampling and scoring ask here. Of one autoencoder and scale it is one object, whose
    weights are read when they are first needed.

    Args:
        config: the run.
        known: where the network sees latents, which ones: of its training data
            (``kept_latents.known_latents``) or of its checkpoint (``kept_latents.latents_of``).

    Raises:
        UserError: latents, of which nothing is known.
    """
    if not isinstance(config.codec, VAEConfig):
        return PIXELS
    if known is None:
        raise UserError(
            "this works on pixels alone, and the network sees latents (codec.kind vae); leave the "
            "codec out."
        )
    return _latent_codec(config.codec, known)


@functools.lru_cache(maxsize=8)
def _latent_codec(config: VAEConfig, known: KnownLatents) -> LatentCodec:
    return LatentCodec(config, known)


def _naive(model: NaiveUnetConfig, run: RunConfig) -> Network:
    channels = run.input_shape[0]
    return NaiveUnet(channels, channels, model.base_width)


def _sparse(model: SparseUnetConfig, run: RunConfig) -> Network:
    channels = run.input_shape[0]
    return SparseNaiveUnet(
        channels,
        channels,
        model.base_width,
        run.curriculum[0].sparsity,
        placement=model.placement,
        regrow_method=model.regrow_method,
        probe_batches=model.probe_batches,
        probe_batch_size=model.probe_batch_size,
        seed=run.seed,
    )


def _reg(model: RegUnetConfig, run: RunConfig) -> Network:
    channels = run.input_shape[0]
    return RegNaiveUnet(channels, channels, model.base_width)


def _texts(text: TextConfig | None) -> TextReader | None:
    """What reads a network's captions, with first weights; None: it reads none."""
    if text is None:
        return None
    sizes = (text.max_tokens, text.token_width)
    if text.is_trained:
        return WordReader(text.vocabulary, *sizes, text.layers, text.null)
    return StateReader(*sizes, text.null)


def _uvit_words(model: UViTConfig, run: RunConfig) -> dict[str, Any]:
    """What the constructor of every U-ViT is given."""
    return {
        "img_size": run.input_shape[1],
        "patch_size": model.patch_size,
        "in_chans": run.input_shape[0],
        "embed_dim": model.embed_dim,
        "depth": model.depth,
        "num_heads": model.num_heads,
        "conv": model.conv,
        "skip": model.skip,
        # The last row is for images whose class is not told.
        "num_classes": -1 if model.num_classes is None else model.num_classes + 1,
        "clip_dim": None if model.text is None else model.text.token_width,
        "num_clip_token": 77 if model.text is None else model.text.max_tokens,
        "texts": _texts(model.text),
        "time_scale": run.process.time_scale,
    }


def _uvit(model: UViTConfig, run: RunConfig) -> Network:
    return UViT(**_uvit_words(model, run))


def _sparse_uvit(model: SparseUViTConfig, run: RunConfig) -> Network:
    return SparseUViT(
        **_uvit_words(model, run),
        initial_sparsity=run.curriculum[0].sparsity,
        placement=model.placement,
        sampling=model.sampling,
        seed=run.seed,
    )


def _song_unet(model: SongUNetConfig, run: RunConfig) -> Network:
    channels = run.input_shape[0]
    is_fourier = ARCHITECTURES[model.arch].get("embedding_type") == "fourier"
    usual_scale = 1.0 if is_fourier else run.process.time_scale
    return SongUNet(
        run.input_shape[1],
        channels,
        channels,
        label_dim=model.num_classes or 0,
        augment_dim=NUM_LABELS if run.training.augment else 0,
        model_channels=model.model_channels,
        channel_mult=model.channel_mult,
        num_blocks=model.num_blocks,
        attn_resolutions=model.attn_resolutions,
        dropout=0.0,
        time_scale=model.time_scale or usual_scale,
        **ARCHITECTURES[model.arch],
    )


def _dit(model: DiTConfig, run: RunConfig) -> Network:
    sizes = model.sizes
    return DiT(
        run.input_shape[1],
        model.patch_size,
        run.input_shape[0],
        sizes.hidden_size,
        sizes.depth,
        sizes.num_heads,
        num_classes=model.num_classes,
        learn_sigma=model.learn_sigma,
        time_scale=model.time_scale or run.process.time_scale,
        texts=_texts(model.text),
    )


NETWORKS: dict[type[ModelConfig], Callable[[Any, RunConfig], Network]] = {
    NaiveUnetConfig: _naive,
    SparseUnetConfig: _sparse,
    RegUnetConfig: _reg,
    UViTConfig: _uvit,
    SparseUViTConfig: _sparse_uvit,
    SongUNetConfig: _song_unet,
    DiTConfig: _dit,
}
"""The builder of each network: (its config, the whole run) → the network with initial weights.

A new network is a config in ``mindiffusion.config.model.MODELS`` and its builder here.
"""


def _build(config: RunConfig) -> Network:
    config.check_model()
    return NETWORKS[type(config.model)](config.model, config)


def build_network(config: RunConfig) -> Network:
    """The network with the initial weights of the config's seed, on the CPU, in float32.

    Networks of one family make their layers in one order, so arms of one seed start from the same
    weights. The caller's generator is left as it was.

    Raises:
        UserError: sizes that the network can't take.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return _build(config)


def network_without_memory(config: RunConfig) -> Network:
    """The network on the meta device, for the names, shapes and number of its weights.

    Raises:
        UserError: sizes that the network can't take.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return _build(config).to("meta")


@functools.lru_cache(maxsize=8)
def expected_tensors(config: RunConfig) -> Mapping[str, Tensor]:
    """Names, shapes and dtypes of a network's state, on the meta device.

    Raises:
        UserError: sizes that the network can't take.
    """
    return network_without_memory(config).state_dict()


def _reading(
    process: VariancePreservingConfig, known: ImageStatistics
) -> tuple[Parameterization, LossWeight | None, float]:
    """How the network's answer is read, and the loss's weight with the σ_d that it may need."""
    is_plain = process.parameterization == "eps"
    return EpsPrediction() if is_plain else Preconditioned(known), process.loss_weight, known.std


def _ddpm(process: DDPMConfig, known: ImageStatistics) -> Process:
    return DDPMProcess(process.noise, *_reading(process, known))


def _vpsde(process: VPSDEConfig, known: ImageStatistics) -> Process:
    return VPSDEProcess(process.noise, *_reading(process, known))


def _edm(process: EDMConfig, known: ImageStatistics) -> Process:
    if process.sigma_data == "auto":
        return EDMProcess(process.noise, known)
    return EDMProcess(process.noise, replace(known, mean=0.0 * known.mean, std=process.sigma_data))


def _linear_path(process: LinearPathConfig, known: ImageStatistics) -> Process:
    return LinearPathProcess(process.noise, process.target == "x0")


PROCESSES: dict[type[ProcessConfig], Callable[[Any, ImageStatistics], Process]] = {
    DDPMConfig: _ddpm,
    VPSDEConfig: _vpsde,
    EDMConfig: _edm,
    LinearPathConfig: _linear_path,
}
"""The builder of each process: (its config, statistics of the training images) → the process.

A new process is a config in ``mindiffusion.config.process.PROCESSES`` and its builder here.
"""


def build_process(config: RunConfig, statistics: ImageStatistics | None = None) -> Process:
    """How a run adds noise, and how its network's answer is read.

    Args:
        config: the run.
        statistics: of its training images, where ``config.process.uses_statistics``; None: mean 0
            and σ_d .5, until they are known.
    """
    known = statistics or ImageStatistics(np.zeros((1, 1, config.input_shape[0])), _STD_OF_EDM)
    return PROCESSES[type(config.process)](config.process, known)
