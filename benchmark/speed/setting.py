"""What is measured: a preset's config, made endless and put on pictures of our own."""

import torch

from mindiffusion.config.model import UnetConfig
from mindiffusion.config.presets import apply_overrides, build_config, load_preset, merge
from mindiffusion.config.process import DDPMConfig
from mindiffusion.config.run import RunConfig
from mindiffusion.errors import UserError

PRESETS = ("celeba_b_32", "celeba_c_32", "celeba_cs_32", "celeba_cr_32")
NUM_PICTURES = 4096
ENDLESS = 10**7
CPU_BATCH, GPU_BATCH = 128, 256
CPU_CHUNK, GPU_CHUNK = 32, 512
"""Images of one sampling call."""


def speed_config(preset: str, overrides: list[str]) -> RunConfig:
    """A preset for measuring: avatars, no end, no milestones, a batch that suits the device.

    Args:
        preset: its name.
        overrides: ``--set`` words; they win.

    Raises:
        UserError: unknown preset or key, wrong value.
    """
    config = _config(preset, overrides, GPU_BATCH, GPU_CHUNK)
    if uses_gpu(config):
        return config
    return _config(preset, overrides, CPU_BATCH, CPU_CHUNK)


def _config(preset: str, overrides: list[str], batch: int, chunk: int) -> RunConfig:
    measured = {
        # Avatars are square: they refuse the crops of other presets' pictures.
        "data": {"dataset": "avatars", "num_train": NUM_PICTURES, "crop": "squash"},
        "training": {
            "epochs": None,
            "steps": ENDLESS,
            "milestones": ["100%"],
            "checkpoint_every": ENDLESS,
            "global_batch": batch,
            # The programs that are compared take images as they are.
            "augment": 0.0,
        },
        "sampler": {"chunk": chunk},
    }
    content = apply_overrides(merge(load_preset(preset), measured), overrides)
    config = build_config(content, f"preset {preset}")
    if not config.codec.is_bounded:
        raise UserError(
            f"codec.kind is {config.codec.kind}, but the programs that are compared take pixels; "
            "leave it out, or give a preset without it."
        )
    return config


def uses_gpu(config: RunConfig) -> bool:
    """Whether the run's device is, or "auto" will be, a GPU."""
    device = config.training.device
    return device == "cuda" or (device == "auto" and torch.cuda.is_available())


def device_of(config: RunConfig) -> torch.device:
    """Where everything that is compared runs."""
    return torch.device("cuda", 0) if uses_gpu(config) else torch.device("cpu")


def speed_configs(presets: list[str], overrides: list[str]) -> list[RunConfig]:
    """The configs of several presets, which must be of one size.

    Raises:
        UserError: they differ in width, image size or batch, so that a table would mislead.
    """
    configs = [speed_config(preset, overrides) for preset in presets]
    sizes = {(n_feat_of(c), c.data.size, c.training.global_batch) for c in configs}
    if len(sizes) > 1:
        raise UserError(
            f"presets {', '.join(presets)} differ in n_feat, data.size or global_batch "
            f"({sorted(sizes)}); measure them apart, or make them equal with --set."
        )
    return configs


def n_feat_of(config: RunConfig) -> int:
    """Base width of the run's U-Net: what rivals and limits are measured with too.

    Raises:
        UserError: the run has another network.
    """
    if not isinstance(config.model, UnetConfig):
        raise UserError(
            f"{config.arm} has the network {config.model.network}; speed is measured of U-Nets, so "
            "give a preset with one."
        )
    return config.model.n_feat


def ddpm_of(config: RunConfig) -> DDPMConfig:
    """The run's chain of levels: what rivals train and sample with too.

    Raises:
        UserError: the run has another process.
    """
    if not isinstance(config.process, DDPMConfig):
        raise UserError(
            f"{config.arm} has the process {config.process.kind}; speed is measured of ddpm, so "
            "give a preset with it."
        )
    return config.process


def wait_for(device: torch.device) -> None:
    """Return when the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
