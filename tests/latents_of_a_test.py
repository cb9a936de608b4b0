"""A tiny autoencoder in a folder, as diffusers keeps one: what tests encode images with."""

import json

import torch
from safetensors.torch import save_file

SETTINGS = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.35.0",
    "act_fn": "silu",
    "block_out_channels": [8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "mid_block_add_attention": False,
    "norm_num_groups": 4,
    "out_channels": 3,
    "sample_size": 32,
    "scaling_factor": 0.18215,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
}
FACTOR = 4
WORDS = (
    "data.size=32",
    "model={network: uvit, patch_size: 2, embed_dim: 16, depth: 2, num_heads: 2}",
)


def words(folder, **more):
    """``--set`` words of a run on its latents."""
    codec = {"kind": "vae", "path": str(folder), "factor": FACTOR, **more}
    return (*WORDS, f"codec={json.dumps(codec)}")


def write_vae(folder, seed=0, **changes):
    """A folder with an autoencoder of drawn weights; returns it."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    settings = SETTINGS | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AutoencoderKL(**{k: v for k, v in settings.items() if not k.startswith("_")})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    save_file(network.state_dict(), folder / "diffusion_pytorch_model.safetensors")
    return folder
