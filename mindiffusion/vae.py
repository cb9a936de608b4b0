"""A variational autoencoder out of a folder: ``config.json`` and tensors, as diffusers keeps them.

Nothing is downloaded, and no pickle runs: the document is checked against a schema, the network is
built from it on the meta device, and the tensors' names and shapes are compared with it before any
of them is read. Source: Rombach et al. 2022 (2112.10752); ``AutoencoderKL`` of diffusers.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from mindiffusion.config.codec import VAEConfig
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_file, sha256_of_json
from mindiffusion.outside.documents import read_json
from mindiffusion.outside.weights import (
    check_tensors,
    safetensors_header,
    sha256_of_safetensors,
    tensors_of_file,
)

DOCUMENT, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
PICKLED = "diffusion_pytorch_model.bin"
"""What older folders have: a state dict, which is read by ``outside.weights`` alone."""
_ADVICE = "give a folder of an AutoencoderKL, as diffusers' save_pretrained writes it."
_FORMER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of an attention's layers in older files, and what they are called now."""
_Width = Annotated[int, Field(ge=1, le=4096)]


class _Document(BaseModel):
    """What is used of ``config.json``; the rest is the program's that wrote it."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    class_name: Annotated[Literal["AutoencoderKL"], Field(alias="_class_name")]
    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    latent_channels: _Width = 4
    block_out_channels: Annotated[list[_Width], Field(min_length=1, max_length=8)]
    down_block_types: Annotated[list[Literal["DownEncoderBlock2D"]], Field(max_length=8)]
    up_block_types: Annotated[list[Literal["UpDecoderBlock2D"]], Field(max_length=8)]
    layers_per_block: Annotated[int, Field(ge=1, le=16)] = 1
    norm_num_groups: Annotated[int, Field(ge=1, le=1024)] = 32
    act_fn: Literal["silu", "swish", "mish", "gelu", "relu"] = "silu"
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True
    shift_factor: None = None
    latents_mean: None = None
    latents_std: None = None

    @property
    def factor(self) -> int:
        """Pixels along a side of a latent's cell: each block but the last halves the sides."""
        return 1 << (len(self.block_out_channels) - 1)

    @property
    def settings(self) -> dict[str, Any]:
        """What the network is built from."""
        return self.model_dump(
            exclude={"class_name", "shift_factor", "latents_mean", "latents_std"}
        )


@dataclass(frozen=True, eq=False)
class VAE:
    """An autoencoder on its device, in eval mode, in float32.

    Attributes:
        network: diffusers' AutoencoderKL.
        sha256: of its weights and of what it was built from.
    """

    network: nn.Module
    sha256: str

    @torch.no_grad()
    def moments(self, images: Tensor) -> Tensor:
        """Mean and standard deviation of latents (B, 2, C, h, w), of images (B, 3, H, W)."""
        said = self.network.encode(images).latent_dist  # type: ignore[operator]
        return torch.stack((said.mean, said.std), 1)

    @torch.no_grad()
    def decoded(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W), about [-1, 1], of latents (B, C, h, w)."""
        found: Tensor = self.network.decode(latents).sample  # type: ignore[operator]
        return found


def check_vae(config: VAEConfig) -> None:
    """Refuse an autoencoder that is not there or does not fit; none of its tensors is read.

    Raises:
        UserError: no such folder, a file that is missing, cut or of something else, other latents
            than the config says, or diffusers is not installed.
        OSError: a file can't be read.
    """
    document = _document(config)
    path = _weights_path(Path(config.path))
    expected = _network(document, Path(config.path)).state_dict()
    if path.suffix == ".safetensors":
        header = safetensors_header(path)
        check_tensors(_present_names(header.tensors, expected), expected, str(path))


@functools.lru_cache(maxsize=8)
def vae_sha256(config: VAEConfig) -> str:
    """What tells one autoencoder from another: a hash of its weights and of their network.

    It needs no diffusers.

    Raises:
        UserError: as ``check_vae``, but for tensors.
        OSError: a file can't be read.
    """
    document = _document(config)
    path = _weights_path(Path(config.path))
    is_plain = path.suffix == ".safetensors"
    weights = sha256_of_safetensors(path) if is_plain else sha256_of_file(path)
    return sha256_of_json({"network": document.settings, "weights": weights})


@functools.lru_cache(maxsize=2)
def open_vae(config: VAEConfig, device: torch.device) -> VAE:
    """The autoencoder of a codec's folder.

    Args:
        config: names the folder, and says what its latents are.
        device: where it goes.

    Raises:
        UserError: as ``check_vae``, or tensors that are not its network's.
        OSError: a file can't be read.
    """
    document = _document(config)
    path = _weights_path(Path(config.path))
    network = _network(document, Path(config.path))
    tensors = _present_names(tensors_of_file(path), network.state_dict())
    check_tensors(tensors, network.state_dict(), str(path))
    here = {name: tensor.to(device, torch.float32) for name, tensor in tensors.items()}
    network.load_state_dict(here, assign=True)
    network.eval().requires_grad_(False)
    return VAE(network, vae_sha256(config))


def _document(config: VAEConfig) -> _Document:
    """The document of a folder whose latents are what the config says."""
    folder = Path(config.path)
    try:
        document = read_json(folder / DOCUMENT, _Document, _ADVICE, follow=True)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"codec.path: {folder / DOCUMENT} is not there; {_ADVICE}") from None
    for name, wanted, found in (
        ("channels", config.channels, document.latent_channels),
        ("factor", config.factor, document.factor),
    ):
        if wanted != found:
            raise UserError(
                f"codec.{name} is {wanted}, but the latents of {folder} have {name} {found}; give "
                f"--set codec.{name}={found}, or another codec.path."
            )
    return document


def _weights_path(folder: Path) -> Path:
    """The file with the tensors.

    Raises:
        UserError: there is none.
    """
    for name in (WEIGHTS, PICKLED):
        if (folder / name).exists():
            return folder / name
    raise UserError(f"codec.path: {folder / WEIGHTS} is not there; {_ADVICE}")


def _network(document: _Document, folder: Path) -> nn.Module:
    """The network of a document, without memory.

    Raises:
        UserError: diffusers is not installed, or can't build it.
    """
    try:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    except ImportError:
        raise UserError(
            "codec vae needs diffusers; install it by pip install "
            "'mindiffusion-curriculum[latents]'."
        ) from None
    try:
        with torch.device("meta"):
            network: nn.Module = AutoencoderKL(**document.settings)
    except (ValueError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder / DOCUMENT}: no network can be built ({reason}); {_ADVICE}"
        ) from None
    return network


def _present_names(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Tensors under the names that they have now; of older files attention's layers are renamed.

    Oldest ones keep them as convolutions of one pixel.
    """
    named: dict[str, Tensor] = {}
    for name, tensor in found.items():
        above, _, last = name.rpartition(".")
        stem, _, layer = above.rpartition(".")
        now = f"{stem}.{_FORMER[layer]}.{last}" if layer in _FORMER else name
        ours = expected.get(now)
        is_pixel = layer in _FORMER and tensor.dim() == 4 and tensor.shape[2:] == (1, 1)
        named[now] = tensor[:, :, 0, 0] if is_pixel and ours is not None else tensor
    return named
