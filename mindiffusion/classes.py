"""Classes and captions as a network's condition: a number for each image, and what stands for none.

Nothing is drawn here or in a network: labels that are dropped come so with the batch.
"""

import torch
from torch import Tensor

from mindiffusion.errors import UserError

NOT_TOLD = -1
"""The class, or the caption, of an image of which the network is not told."""


def told_classes(
    condition: Tensor | None,
    images: Tensor,
    num_classes: int,
    network: str,
    noun: str = "a class",
) -> Tensor:
    """What a network is told of each image, checked.

    Args:
        condition: (B,) int64 or int32, each from 0 to ``num_classes`` − 1, or −1 where the image's
            class is not told; None: it is told of none.
        images: (B, …), on the network's device.
        num_classes: n ≥ 1.
        network: what errors call it.
        noun: what errors call a class.

    Returns:
        (B,) int64.

    Raises:
        UserError: another shape, another dtype, or, looked at on a CPU only (for a GPU would be
            waited for), a number that is no class.
    """
    if condition is None:
        return torch.full((len(images),), NOT_TOLD, dtype=torch.int64, device=images.device)
    wanted = (
        f"this {network} wants {noun} from 0 to {num_classes - 1} for each image, int64 (B,), or "
        f"{NOT_TOLD} where it is not told, as its condition, but got"
    )
    if tuple(condition.shape) != (len(images),):
        raise UserError(f"{wanted} one of shape {tuple(condition.shape)}.")
    if condition.dtype not in (torch.int32, torch.int64):
        raise UserError(f"{wanted} {condition.dtype}.")
    is_known = condition.device.type == "cpu" and not torch.compiler.is_compiling()
    if is_known and len(condition):
        low, high = int(condition.min()), int(condition.max())
        if low < NOT_TOLD or high >= num_classes:
            raise UserError(f"{wanted} numbers from {low} to {high}.")
    return condition.long()


def told_nothing(condition: Tensor | None, network: str) -> None:
    """Refuse a condition of a network that knows none.

    Raises:
        UserError: there is one.
    """
    if condition is not None:
        raise UserError(
            f"this {network} knows no classes and takes None as its condition, but got one of "
            f"shape {tuple(condition.shape)}; leave it out, or build a network with num_classes or "
            "text."
        )
