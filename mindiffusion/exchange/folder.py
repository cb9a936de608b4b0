"""A folder with a checkpoint as U-ViT's public code keeps it: plain state dicts and no config.

``nnet.pth`` holds the weights, ``nnet_ema.pth`` their average over training; the folder is called
``<step>.ckpt``. What else lies there is not read. Source: the public code of Bao et al. 2023 (file
names and layout only). State dicts of other public code may be put there under the same names; of
EDM's the weights that hear how an image was augmented are left out, since here none is.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mindiffusion.build import expected_tensors
from mindiffusion.config.run import RunConfig, to_kept
from mindiffusion.outside.weights import check_tensors, tensors_of_file
from mindiffusion.runtime import resolve_runtime
from mindiffusion.sampling import primary_weights

_RAW, _AVERAGE = "nnet.pth", "nnet_ema.pth"
_PRECONDITIONED = "model."
_AUGMENTATION, _ITS_READER = "map_augment.weight", "map_layer0.weight"
"""Of a SongUNet: a linear map without a bias, whose answer is added to what the second reads."""


def is_checkpoint_folder(path: Path) -> bool:
    """Whether this is a folder with such weights."""
    return path.is_dir() and any((path / name).exists() for name in (_RAW, _AVERAGE))


def load(path: Path, config: RunConfig) -> dict[str, Any]:
    """Read such a folder's weights onto the CPU, as a milestone's content.

    Args:
        path: the folder, of which ``is_checkpoint_folder`` holds; a link in it is not followed.
        config: what its weights are of. The average counts as this config's primary one.

    Raises:
        UserError: weights that are not of this config's network, or no weights.
        OSError: they can't be read.
    """
    weights = {}
    for name, file in ((primary_weights(config), path / _AVERAGE), ("raw", path / _RAW)):
        if file.exists():
            expected = expected_tensors(config)
            found = _bare(tensors_of_file(file, follow=False))
            weights[name] = _without_augmentation(found, expected)
            check_tensors(weights[name], expected, str(file))
    # What it was trained with is not known; nothing is trained or compiled here.
    here = replace(config, training=replace(config.training, compile="off"))
    return {
        "config": to_kept(config),
        "runtime": asdict(resolve_runtime(here, local_ranks=1)),
        "train_seconds": 0.0,
        "stage_log": [],
        "manifest": None,
        "weights": weights,
    } | _step(path)


def _bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights without the name under which a preconditioner of EDM's public code keeps them all."""
    if not all(name.startswith(_PRECONDITIONED) for name in tensors):
        return tensors
    return {name.removeprefix(_PRECONDITIONED): tensor for name, tensor in tensors.items()}


def _without_augmentation(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Weights without the map of augmentations, if the network has none but would read its answer.

    Of an image that was not augmented the map's inputs are 0, and so is its answer.
    """
    weight, reader = tensors.get(_AUGMENTATION), expected.get(_ITS_READER)
    if weight is None or reader is None or _AUGMENTATION in expected:
        return tensors
    if weight.dim() != 2 or len(weight) != reader.shape[1]:
        return tensors
    return {name: tensor for name, tensor in tensors.items() if name != _AUGMENTATION}


def _step(path: Path) -> dict[str, int]:
    """Optimizer steps done, where the folder's name says so."""
    found = re.fullmatch(r"(\d{1,9})\.ckpt", path.name)
    return {} if found is None else {"step": int(found[1])}
