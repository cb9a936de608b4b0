"""A network trained plainly: float32, eager, PyTorch's own layout and layers, AdamW as it comes.

The network is ours, with PyTorch's own linear layers; what surrounds it is not.
"""

import torch
from torch import Tensor, nn

from benchmark.speed.rivals.plain_process import PlainProcess
from benchmark.speed.setting import wait_for
from benchmark.speed.timing import Loop

_DECAY = 0.9999


def with_plain_layers(network: nn.Module) -> nn.Module:
    """The network, with each linear layer of a class of our own replaced by nn.Linear."""
    for module in list(network.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.Linear) and type(layer) is not nn.Linear:
                plain = nn.Linear(
                    layer.in_features, layer.out_features, bias=layer.bias is not None
                )
                plain.load_state_dict(layer.state_dict())
                setattr(module, name, plain)
    return network


class PlainTraining(Loop):
    """A plain training step on images in memory, with one average of the weights.

    Args:
        name: its row.
        network: what is trained, on its device.
        images: (N, 3, H, W) in [-1, 1], on the device.
        batch: images of a step.
        threads: CPU threads, as many as ours.
        process: how noise is added, and what the loss is.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        images: Tensor,
        batch: int,
        threads: int,
        process: PlainProcess,
    ) -> None:
        self.name = name
        self.images_per_step = batch
        self._network, self._images, self._threads = network, images, threads
        self._process = process
        self._average = [p.detach().clone() for p in network.parameters()]
        self._optimizer = torch.optim.AdamW(network.parameters(), lr=2e-4)

    def run(self, steps: int) -> None:
        """Train."""
        torch.set_num_threads(self._threads)
        device = self._images.device
        for _ in range(steps):
            chosen = torch.randint(len(self._images), (self.images_per_step,), device=device)
            loss = self._process.loss(self._network, self._images[chosen])
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            with torch.no_grad():
                for average, weight in zip(self._average, self._network.parameters(), strict=True):
                    average.mul_(_DECAY).add_(weight, alpha=1 - _DECAY)
        wait_for(device)
