"""denoising-diffusion-pytorch's Trainer around our network: what a user of it gets."""

import contextlib
import importlib.util
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.speed.setting import ddpm_of, device_of, n_feat_of, wait_for
from benchmark.speed.timing import Loop
from mindiffusion.config.run import RunConfig
from mindiffusion.data.codec import PIXELS
from mindiffusion.unet import NaiveUnet

PACKAGE = "denoising_diffusion_pytorch"
MIN_PICTURES, MIN_BATCH = 100, 16
"""The package refuses less."""
EPOCH_PICTURES = 160_000
NEVER = 2**60


class PeerNetwork(nn.Module):
    """NaiveUnet with the attributes and arguments that the package's GaussianDiffusion expects.

    Args:
        n_feat: base width.
        n_T: number of noise levels; the package counts them from 0.
    """

    channels = PIXELS.channels
    out_dim = PIXELS.channels
    self_condition = False
    random_or_learned_sinusoidal_cond = False

    def __init__(self, n_feat: int, n_T: int) -> None:
        super().__init__()
        self.network = NaiveUnet(PIXELS.channels, PIXELS.channels, n_feat)
        self.n_T = n_T

    def forward(self, x: Tensor, level: Tensor, x_self_cond: Tensor | None = None) -> Tensor:
        """Predict the noise of ``x`` at integer levels 0 … n_T − 1, (B,)."""
        return self.network(x, (level + 1) / self.n_T)


def why_not(config: RunConfig, num_pictures: int) -> str | None:
    """Why the peer can't be measured here, or None if it can."""
    if importlib.util.find_spec(PACKAGE) is None:
        return f"{PACKAGE} is not installed (pip install '.[dev]')"
    if num_pictures < MIN_PICTURES or config.training.global_batch < MIN_BATCH:
        return f"it wants {MIN_PICTURES} pictures and batches of {MIN_BATCH} at least"
    return None


class PeerLoop(Loop):
    """The package's own training loop, driven by its public API.

    Float32 and eager by its defaults, with its data loading (a worker a core), gradient clipping,
    Adam and moving average. ``train()`` goes on from where it was, so a turn raises
    ``train_num_steps`` and calls it.

    Args:
        config: network width, learning rate, process, batch and device.
        folder: JPEGs.
        results: a folder it may write to.
        threads: CPU threads, as many as ours.
        lead_in: untimed steps of a turn.
    """

    name = "peer"

    def __init__(
        self, config: RunConfig, folder: Path, results: Path, threads: int, lead_in: int
    ) -> None:
        from denoising_diffusion_pytorch import GaussianDiffusion, Trainer

        self.images_per_step = config.training.global_batch
        self.lead_in = lead_in
        self._threads = threads
        self._device = device_of(config)
        if self._device.type == "cpu":
            os.environ["ACCELERATE_USE_CPU"] = "true"
        process = ddpm_of(config)
        diffusion = GaussianDiffusion(
            PeerNetwork(n_feat_of(config), process.n_T),
            image_size=config.data.size,
            timesteps=process.n_T,
            objective="pred_noise",
            beta_schedule="linear",
        )
        with silence():
            self._trainer = Trainer(
                diffusion,
                str(folder),
                train_batch_size=self.images_per_step,
                train_lr=config.training.lr,
                train_num_steps=0,
                save_and_sample_every=NEVER,
                results_folder=str(results),
                calculate_fid=False,
            )
        # An epoch as long as CelebA's, whose workers hardly ever start anew.
        pictures = self._trainer.ds
        pictures.paths = pictures.paths * -(-EPOCH_PICTURES // len(pictures.paths))

    def run(self, steps: int) -> None:
        """Train."""
        torch.set_num_threads(self._threads)
        self._trainer.train_num_steps += steps
        with silence():
            self._trainer.train()
        wait_for(self._device)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Its bars and its warnings are not this table's."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
