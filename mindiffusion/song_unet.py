"""SongUNet: DDPM++ and NCSN++, the U-Nets of score-based models, as EDM's public code builds them.

Source: Song et al. 2021, "Score-based generative modeling through SDEs" (2011.13456), and Karras et
al. 2022, "Elucidating the Design Space" (2206.00364), whose public code names the weights
(architecture only: docs/networks.md, SongUNet).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindiffusion.classes import told_classes, told_nothing
from mindiffusion.config.song_unet import (
    Sizes,
    check_song_sides,
    check_song_widths,
    plan_decoder,
    plan_encoder,
)
from mindiffusion.errors import UserError
from mindiffusion.network import Network, check_side, without_autocast
from mindiffusion.song_layers import (
    Conv2d,
    FourierEmbedding,
    PositionalEmbedding,
    UNetBlock,
    last_convolution,
    linear,
    norm,
)

ARCHITECTURES: Mapping[str, dict[str, Any]] = {
    "ddpmpp": {},
    "ncsnpp": {
        "embedding_type": "fourier",
        "channel_mult_noise": 2,
        "encoder_type": "residual",
        "resample_filter": (1, 3, 3, 1),
    },
}
"""What the constructor is given for each of the two; DDPM++ is its default."""
_EMBEDDINGS = {"positional": PositionalEmbedding, "fourier": FourierEmbedding}


class SongUNet(Network):
    """A U-Net with residual blocks, attention at chosen resolutions and an embedding in all blocks.

    Args:
        img_resolution: side of the images in pixels, a multiple of 2^(levels − 1).
        in_channels: channels of the noisy image.
        out_channels: channels of the answer.
        label_dim: number of classes; 0: it knows none.
        augment_dim: numbers that say how an image was augmented; 0: none.
        model_channels: channels of the first convolution, a multiple of 4.
        channel_mult: factor on them at each level, from the finest.
        channel_mult_emb: factor that gives the embedding's width.
        num_blocks: blocks of each level of the encoder; the decoder has one more.
        attn_resolutions: sides of the maps that have attention. The lowest level of the decoder
            has it anyway.
        dropout: share of values set to 0 in train mode. It is drawn from torch's generator, which
            no run of this program keeps, so runs are built with 0.
        label_dropout: 0; labels are dropped in the batch, not here.
        embedding_type: of the noise: "positional" or "fourier".
        channel_mult_noise: factor that gives the noise embedding's width.
        encoder_type: "standard", or "residual": the small image joins every level.
        decoder_type: "standard".
        resample_filter: taps of the filter at each change of resolution, an even number.
        time_scale: factor on what the network is told before the embedding.

    Raises:
        UserError: sizes that do not fit each other, or a word that is not one of these.
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2),
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.10,
        label_dropout: float = 0,
        embedding_type: Literal["positional", "fourier"] = "positional",
        channel_mult_noise: int = 1,
        encoder_type: Literal["standard", "residual"] = "standard",
        decoder_type: Literal["standard"] = "standard",
        resample_filter: Sequence[int] = (1, 1),
        *,
        time_scale: float = 1.0,
    ) -> None:
        super().__init__()
        _check_word("embedding_type", embedding_type, tuple(_EMBEDDINGS))
        _check_word("encoder_type", encoder_type, ("standard", "residual"))
        _check_word("decoder_type", decoder_type, ("standard",))
        if label_dropout:
            raise UserError(
                f"label_dropout is {label_dropout:g}, but this network draws no labels; leave it "
                "at 0 and give the class -1 for images whose label is dropped."
            )
        sizes = Sizes(
            img_resolution, model_channels, tuple(channel_mult), num_blocks, tuple(attn_resolutions)
        )
        check_song_widths(sizes)
        check_song_sides(sizes)
        taps = tuple(resample_filter)
        self.img_resolution, self.label_dim, self.time_scale = img_resolution, label_dim, time_scale
        self.augment_dim = augment_dim
        self.width = sizes.width * sizes.mults[-1]
        noise_channels, emb_channels = (
            model_channels * factor for factor in (channel_mult_noise, channel_mult_emb)
        )
        self.map_noise = _EMBEDDINGS[embedding_type](noise_channels)
        self.map_label = linear(label_dim, noise_channels) if label_dim else None
        self.map_augment = linear(augment_dim, noise_channels, bias=False) if augment_dim else None
        self.map_layer0 = linear(noise_channels, emb_channels)
        self.map_layer1 = linear(emb_channels, emb_channels)

        self._encoder, self._decoder = plan_encoder(sizes), plan_decoder(sizes)
        self._first = f"{img_resolution}x{img_resolution}_conv"
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        self.enc[self._first] = Conv2d(in_channels, model_channels, 3)
        self._small: dict[str, str] = {}
        small_channels = in_channels
        for plan in self._encoder:
            self.enc[plan.name] = UNetBlock(plan, emb_channels, dropout, taps)
            if plan.resample and encoder_type == "residual":
                name = self._small[plan.name] = f"{plan.name.removesuffix('_down')}_aux_residual"
                self.enc[name] = Conv2d(
                    small_channels, plan.out_channels, 3, resample="down", taps=taps, fused=True
                )
                small_channels = plan.out_channels
        for plan in self._decoder:
            self.dec[plan.name] = UNetBlock(plan, emb_channels, dropout, taps)
        end = f"{img_resolution}x{img_resolution}_aux"
        self._end_norm, self._end_conv = f"{end}_norm", f"{end}_conv"
        self.dec[self._end_norm] = norm(self._decoder[-1].out_channels)
        self.dec[self._end_conv] = last_convolution(self._decoder[-1].out_channels, out_channels)

    def forward(
        self,
        x: Tensor,
        told: Tensor,
        condition: Tensor | None = None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """Answer to noisy images.

        Args:
            x: (B, in_channels, H, W), of the side that the network was built for.
            told: (B,), what the process says of the noise.
            condition: classes (B,) int64, −1 where an image's is not told; None: none is told.
            augment_labels: (B, augment_dim), how images were augmented; None: not at all.

        Returns:
            (B, out_channels, H, W).

        Raises:
            UserError: images of another side, classes that it does not know, or labels of
                augmentation that it has no input for.
        """
        check_side(x, self.img_resolution, "SongUNet")
        emb = self._embedding(x, told, condition, augment_labels)
        with self._end(x):
            small, x = x, self.enc[self._first](x)
        skips = [x]
        for plan in self._encoder:
            x = self.enc[plan.name](x, emb)
            if plan.name in self._small:
                x = small = (x + self.enc[self._small[plan.name]](small)) * 0.5**0.5
            skips.append(x)
        for plan in self._decoder:
            x = torch.cat((x, skips.pop()), dim=1) if plan.joins else x
            x = self.dec[plan.name](x, emb)
        with self._end(x):
            x = self.dec[self._end_norm](x.to(self.map_layer0.weight.dtype))
            return self.dec[self._end_conv](F.silu(x))

    def _embedding(
        self, x: Tensor, told: Tensor, condition: Tensor | None, augment_labels: Tensor | None
    ) -> Tensor:
        """What every block is told, (B, E)."""
        weights = self.map_layer0.weight.dtype
        with without_autocast(told):  # bf16 can't tell 998 from 999
            wide = told.to(torch.promote_types(weights, torch.float32))
            emb = self.map_noise(self.time_scale * wide).to(weights)
            if self.map_label is None:
                told_nothing(condition, "SongUNet")
            else:
                classes = told_classes(condition, x, self.label_dim, "SongUNet")
                numbers = torch.arange(self.label_dim, device=classes.device)
                is_class = (classes[:, None] == numbers).to(weights)
                emb = emb + self.map_label(is_class * self.label_dim**0.5)
            if augment_labels is not None:
                emb = emb + self._told_augmentation(augment_labels.to(weights))
            return F.silu(self.map_layer1(F.silu(self.map_layer0(emb))))

    def _told_augmentation(self, labels: Tensor) -> Tensor:
        """What the embedding gains by labels (B, augment_dim)."""
        if self.map_augment is None or labels.shape[1:] != (self.augment_dim,):
            raise UserError(
                f"this SongUNet has {self.augment_dim} inputs for augmentation, but got labels of "
                f"shape {tuple(labels.shape)}; build it with augment_dim={labels.shape[-1]}."
            )
        return self.map_augment(labels)

    def capacity_report(self) -> dict[str, float]:
        """All channels of the lowest level, and no penalty."""
        return {"active_channels": float(self.width), "penalty_lambda": 0.0}


def _check_word(name: str, word: str, allowed: tuple[str, ...]) -> None:
    if word not in allowed:
        raise UserError(f"{name} is {word!r}; allowed are {', '.join(allowed)}.")
