"""From a config to a network and a process: names to classes, one entry each."""

import functools
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from mindiffusion.config.run import RunConfig
from mindiffusion.data.mean_and_spread import ImageStatistics
from mindiffusion.ddpm import DDPMProcess
from mindiffusion.parameterization import EpsPrediction, Parameterization, Preconditioned
from mindiffusion.reg_unet import RegNaiveUnet
from mindiffusion.sparse_unet import SparseNaiveUnet
from mindiffusion.unet import NaiveUnet, check_sizes

IMAGE_CHANNELS = 3
_OF_EDM = ImageStatistics(np.zeros((1, 1, IMAGE_CHANNELS)), 0.5)
"""Before any data are known: mean 0 and σ_d .5, as Karras et al. 2022 take them."""


def _naive(config: RunConfig) -> NaiveUnet:
    return NaiveUnet(IMAGE_CHANNELS, IMAGE_CHANNELS, config.model.base_width)


def _sparse(config: RunConfig) -> NaiveUnet:
    return SparseNaiveUnet(
        IMAGE_CHANNELS,
        IMAGE_CHANNELS,
        config.model.base_width,
        config.curriculum[0].sparsity,
        placement=config.model.placement,
        regrow_method=config.model.regrow_method,
        seed=config.seed,
    )


def _reg(config: RunConfig) -> NaiveUnet:
    return RegNaiveUnet(IMAGE_CHANNELS, IMAGE_CHANNELS, config.model.base_width)


NETWORKS: dict[str, Callable[[RunConfig], NaiveUnet]] = {
    "naive_unet": _naive,
    "sparse_unet": _sparse,
    "reg_unet": _reg,
}


def build_network(config: RunConfig) -> NaiveUnet:
    """The network with the initial weights of the config's seed, on the CPU, in float32.

    Layers are made in one order by all classes, so arms of one seed start from the same weights.
    The caller's generator is left as it was.
    """
    check_sizes(config.model.base_width, config.data.size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return NETWORKS[config.model.network](config)


@functools.lru_cache(maxsize=8)
def expected_tensors(config: RunConfig) -> Mapping[str, Tensor]:
    """Names, shapes and dtypes of a network's state, without the memory that it takes.

    Raises:
        UserError: sizes that no network has.
    """
    check_sizes(config.model.base_width, config.data.size)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return NETWORKS[config.model.network](config).state_dict()


def build_process(config: RunConfig, statistics: ImageStatistics | None = None) -> DDPMProcess:
    """How a run adds noise, and how its network's answer is read.

    Args:
        config: the run.
        statistics: of its training images, where ``config.process.uses_statistics``; None: mean 0
            and σ_d .5, until they are known.
    """
    process, known = config.process, statistics or _OF_EDM
    reads: Parameterization = EpsPrediction()
    if process.parameterization != "eps":
        reads = Preconditioned(known)
    return DDPMProcess(process.chain, reads, process.loss_weight, known.std)
