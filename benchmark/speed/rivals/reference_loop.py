"""How the public three-way code trains and samples, rewritten plainly: what we measure against.

Facts, not text, of that code: an ImageFolder of JPEGs resized for every visit by four workers,
float32, eager, default memory format, torch's own generators, Adam as it comes, and two looks at
the loss a step, each of which waits for the device. The network is ours, the same for all rows.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmark.speed.setting import ddpm_of, device_of, n_feat_of, wait_for
from benchmark.speed.timing import Loop
from mindiffusion.config.run import RunConfig
from mindiffusion.data.codec import PIXELS
from mindiffusion.process import Forward
from mindiffusion.schedules import linear_tables
from mindiffusion.unet import NaiveUnet

WORKERS = 4
PREFETCHED = 2 * WORKERS
"""Batches that DataLoader's workers keep ready by default."""
RUNNING_LOSS_DECAY = 0.9


def picture_set(folder: Path, side: int) -> ImageFolder:
    """The folder's JPEGs as (3, side, side) tensors in [-1, 1], decoded at every visit."""
    steps = [
        transforms.Resize((side, side)),
        transforms.ToTensor(),
        transforms.Normalize((0.5,) * PIXELS.channels, (0.5,) * PIXELS.channels),
    ]
    return ImageFolder(str(folder), transforms.Compose(steps))


def decoded_batches(folder: Path, side: int, batch: int) -> Iterator[Tensor]:
    """Shuffled batches (B, 3, side, side) without end, decoded by four workers."""
    pictures = picture_set(folder, side)
    # One endless epoch: CelebA's lasts hundreds of steps, so workers hardly ever start anew.
    sampler = RandomSampler(pictures, num_samples=2**40)
    with warnings.catch_warnings():
        # Four is what the public code asks for, however few cores there are.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        loader = iter(DataLoader(pictures, batch, sampler=sampler, num_workers=WORKERS))
    for images, _ in loader:
        yield images


def batches_in_memory(folder: Path, side: int, batch: int) -> Iterator[Tensor]:
    """The same pictures, decoded once and gathered from one float tensor."""
    pictures = picture_set(folder, side)
    whole = torch.stack([image for image, _ in pictures])
    while True:
        yield whole[torch.randint(len(whole), (batch,))]


class ReferenceLoop(Loop):
    """The plain training loop.

    Args:
        name: its row.
        batches: images (B, 3, H, W) in [-1, 1], on the CPU, without end.
        config: network width, learning rate, process, batch and device.
        threads: CPU threads, as many as ours.
        lead_in: untimed steps of a turn.
    """

    def __init__(
        self, name: str, batches: Iterator[Tensor], config: RunConfig, threads: int, lead_in: int
    ) -> None:
        self.name = name
        self.images_per_step = config.training.global_batch
        self.lead_in = lead_in
        self._batches = batches
        self._threads = threads
        self._device = device_of(config)
        process = ddpm_of(config)
        self._n_T = process.n_T
        self._network = NaiveUnet(PIXELS.channels, PIXELS.channels, n_feat_of(config))
        self._network.to(self._device)
        tables = linear_tables(process.beta1, process.beta2, self._n_T)
        alpha_bar = tables.alpha_bar.float().to(self._device)
        self._signal, self._sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=config.training.lr)
        self.running_loss: float | None = None
        self.description = ""

    def run(self, steps: int) -> None:
        """Train."""
        torch.set_num_threads(self._threads)
        for _ in range(steps):
            self._step(next(self._batches).to(self._device))
        wait_for(self._device)

    def _step(self, x: Tensor) -> None:
        self._optimizer.zero_grad()
        t = torch.randint(1, self._n_T + 1, (len(x),), device=self._device)
        noise = torch.randn_like(x)
        x_t = self._signal[t, None, None, None] * x + self._sigma[t, None, None, None] * noise
        loss = nn.functional.mse_loss(self._network(x_t, t / self._n_T), noise)
        loss.backward()
        if self.running_loss is None:
            self.running_loss = loss.item()
        else:
            decay = RUNNING_LOSS_DECAY
            self.running_loss = decay * self.running_loss + (1 - decay) * loss.item()
        self.description = f"loss {loss.item():.4f}, running {self.running_loss:.4f}"
        self._optimizer.step()


@torch.no_grad()
def plain_ancestral(network: Forward, alpha_bar: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Ancestral sampling through every level of ``alpha_bar`` (n_T + 1,); σ_t² = β_t."""
    n_T = len(alpha_bar) - 1
    x = torch.randn(shape, device=alpha_bar.device)
    for t in range(n_T, 0, -1):
        eps = network(x, torch.full((shape[0],), t / n_T, device=x.device))
        beta = 1 - alpha_bar[t] / alpha_bar[t - 1]
        noise = torch.randn_like(x) if t > 1 else torch.zeros_like(x)
        x = (x - beta / (1 - alpha_bar[t]).sqrt() * eps) / (1 - beta).sqrt() + beta.sqrt() * noise
    return x


@torch.no_grad()
def plain_ddim(
    network: Forward, alpha_bar: Tensor, shape: tuple[int, ...], levels: list[int]
) -> Tensor:
    """Stochastic DDIM (η = 1, x̂₀ clipped) over falling ``levels`` of ``alpha_bar`` (n_T + 1,)."""
    n_T = len(alpha_bar) - 1
    one = torch.ones((), device=alpha_bar.device)
    x = torch.randn(shape, device=alpha_bar.device)
    for level, following in zip(levels, [*levels[1:], 0], strict=True):
        a, b = alpha_bar[level], alpha_bar[following] if following else one
        eps = network(x, torch.full((shape[0],), level / n_T, device=x.device))
        x0 = ((x - (1 - a).sqrt() * eps) / a.sqrt()).clamp(-1, 1)
        eps = (x - a.sqrt() * x0) / (1 - a).sqrt()
        sigma = ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
        x = b.sqrt() * x0 + (1 - b - sigma**2).clamp(min=0).sqrt() * eps
        x = x + sigma * torch.randn_like(x)
    return x
