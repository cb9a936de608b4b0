"""Weights by path: whatever kind of file or folder they are in, the content is a milestone's."""

from pathlib import Path
from typing import Any

from mindiffusion.config.run import RunConfig
from mindiffusion.errors import UserError
from mindiffusion.exchange import exported, folder
from mindiffusion.training import checkpoint
from mindiffusion.training.run_folder import trained_on


def is_weights(path: Path) -> bool:
    """Whether ``open_weights`` is who opens this: by its name, or by what is in a folder."""
    if path.is_dir():
        return folder.is_checkpoint_folder(path)
    return path.suffix in (".pt", exported.ENDING)


def open_weights(path: Path, told: RunConfig | None = None) -> dict[str, Any]:
    """Read weights onto the CPU: what ``mindiffusion.sampling`` takes as a checkpoint's content.

    Args:
        path: a milestone's ``weights-<step>.pt``, a ``.safetensors`` file that was exported of one,
            or a folder with ``nnet_ema.pth`` or ``nnet.pth``.
        told: the config of a folder's weights, which it does not hold; None for files, which do.

    Returns:
        A milestone's content; under "manifest" the id of the data that it was trained on, or None
        where that is not known. A folder of another name than ``<step>.ckpt`` says no "step".

    Raises:
        UserError: nothing there, damaged, not one of these, or of another network than its
            config's; a folder without a config, or a file with a second one.
        OSError: it can't be read.
    """
    if path.is_dir():
        if not folder.is_checkpoint_folder(path):
            raise UserError(
                f"{path} is a folder without nnet_ema.pth and nnet.pth; give one that has them, or "
                "a file: weights-<step>.pt or what was exported of one."
            )
        if told is None:
            raise UserError(
                f"{path} is a folder, which says nothing of the network of its weights; sample and "
                "evaluate take it with --preset and the preset that has the same network."
            )
        return folder.load(path, told)
    if told is not None:
        raise UserError(
            f"{path} is no folder of another program's weights; --preset is for those alone, so "
            "leave it out."
        )
    if path.suffix == exported.ENDING:
        return exported.load(path)
    return checkpoint.load(path) | {"manifest": trained_on(path.parent)}
