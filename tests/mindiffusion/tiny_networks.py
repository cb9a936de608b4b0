"""Tiny networks of publications in float64, with no weight at 0 or 1, and what they are given."""

import torch

from mindiffusion.dit import DiT
from mindiffusion.song_unet import ARCHITECTURES, SongUNet
from mindiffusion.uvit import UViT

SONG = {
    "model_channels": 8, "channel_mult": (1, 2, 1), "num_blocks": 2, "attn_resolutions": (4,),
    "channel_mult_emb": 3, "dropout": 0.0,
}  # fmt: skip
DEEP = {"input_size": 8, "patch_size": 2, "in_channels": 3, "hidden_size": 24, "depth": 2,
        "num_heads": 3}  # fmt: skip


def song_unet(arch="ddpmpp", *, side=8, **options):
    torch.manual_seed(0)
    return _stirred(SongUNet(side, 3, 3, **SONG | ARCHITECTURES[arch] | options))


def dit(**options):
    """Its positions are the fixed ones."""
    torch.manual_seed(0)
    return _stirred(DiT(**DEEP | options))


def uvit(*, sides=16, **options):
    torch.manual_seed(0)
    return _stirred(UViT(sides, 4, 3, 12, 4, 3, **options))


def _stirred(net):
    with torch.no_grad():
        for parameter in net.double().parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def images(sides=(8, 8), count=3):
    """Normal numbers (count, 3, H, W)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, *sides, generator=generator, dtype=torch.float64)
