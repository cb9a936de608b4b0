"""U-ViT trained and sampled plainly: float32, eager, PyTorch's own attention, AdamW as it comes.

Facts, not text, of how its public code works; the network is ours, the same for all rows.
"""

import itertools

import torch
from torch import Tensor, nn

from benchmark.speed.setting import wait_for
from benchmark.speed.timing import Loop
from mindiffusion.chain import LinearBeta
from mindiffusion.process import Forward


class PlainTraining(Loop):
    """A plain training step on images in memory, with one average of the weights.

    Args:
        name: its row.
        network: what is trained, on its device.
        images: (N, 3, H, W) in [-1, 1], on the device.
        batch: images of a step.
        threads: CPU threads, as many as ours.
        schedule: of the VP-SDE.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        images: Tensor,
        batch: int,
        threads: int,
        schedule: LinearBeta,
    ) -> None:
        self.name = name
        self.images_per_step = batch
        self._network, self._images, self._threads = network, images, threads
        self._schedule = schedule
        self._average = [p.detach().clone() for p in network.parameters()]
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=2e-4, betas=(0.99, 0.99), weight_decay=0.03, foreach=False
        )

    def run(self, steps: int) -> None:
        """Train."""
        torch.set_num_threads(self._threads)
        device = self._images.device
        for _ in range(steps):
            chosen = torch.randint(len(self._images), (self.images_per_step,), device=device)
            x = self._images[chosen]
            t, noise = torch.rand(len(x), device=device), torch.randn_like(x)
            alpha_bar = (-self._schedule.integral(t)).exp().view(-1, 1, 1, 1)
            x_t = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
            loss = nn.functional.mse_loss(self._network(x_t, t), noise)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            with torch.no_grad():
                for average, weight in zip(self._average, self._network.parameters(), strict=True):
                    average.mul_(0.9999).add_(weight, alpha=1 - 0.9999)
        wait_for(device)


@torch.no_grad()
def plain_ode(
    network: Forward, schedule: LinearBeta, shape: tuple[int, ...], calls: int, device: torch.device
) -> Tensor:
    """Euler's method for the probability-flow ODE, without a check or a clip; (B, 3, H, W)."""
    x = torch.randn(shape, device=device)
    times = torch.linspace(1.0, 0.0, calls + 1).tolist()
    for t, following in itertools.pairwise(times):
        beta, integral = schedule.rate(t), torch.tensor(schedule.integral(t))
        eps = network(x, torch.full((shape[0],), t, device=device))
        sigma = float((-torch.expm1(-integral)).sqrt())
        x = x + (t - following) * beta / 2 * (x - eps / sigma)
    return x
