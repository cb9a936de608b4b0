"""Exponential moving averages of the weights, of several lengths at once.

The decay warms up as min(d, (1 + k)/(10 + k)) after k updates, so that the random start is
forgotten within a few steps. Buffers (masks) are copied, never averaged.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from mindiffusion.config.run import ema_name
from mindiffusion.config.shares import decay_of

StateDict = dict[str, Tensor]


class Averages:
    """Averages of a network's parameters, one set per decay.

    Args:
        network: the unwrapped network, in training dtype and place.
        decays: each in (0, 1), or a half-life as a share of the run's steps.
        total_steps: the run's.
    """

    def __init__(
        self, network: nn.Module, decays: tuple[float | str, ...], total_steps: int
    ) -> None:
        self._parameters = dict(network.named_parameters())
        self._buffers = dict(network.named_buffers())
        self.decays = decays
        self._rates = {decay: decay_of(decay, total_steps) for decay in decays}
        self.num_updates = 0
        self._averages = {
            decay: {name: p.detach().clone() for name, p in self._parameters.items()}
            for decay in decays
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Labels of the averages."""
        return tuple(map(ema_name, self.decays))

    @torch.no_grad()
    def update(self) -> None:
        """Move every average towards the current weights."""
        self.num_updates += 1
        warm_up = (1 + self.num_updates) / (10 + self.num_updates)
        current = [p.detach() for p in self._parameters.values()]
        for length, average in self._averages.items():
            decay = self._rates[length]
            torch._foreach_lerp_(list(average.values()), current, 1.0 - min(decay, warm_up))

    def tensors(self) -> Iterator[Tensor]:
        """All averages of all parameters."""
        for average in self._averages.values():
            yield from average.values()

    def weights(self, decay: float | str) -> StateDict:
        """A state dict of the network with averaged parameters and current buffers, on the CPU."""
        whole = {**self._averages[decay], **self._buffers}
        return {name: tensor.detach().cpu().clone() for name, tensor in whole.items()}

    def state_dict(self) -> dict[str, object]:
        """Everything needed to go on, as plain types and tensors."""
        return {
            "num_updates": self.num_updates,
            "averages": {ema_name(decay): dict(a) for decay, a in self._averages.items()},
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over a state of the same network and decays."""
        self.num_updates = int(state["num_updates"])  # type: ignore[call-overload]
        saved: Mapping[str, Mapping[str, Tensor]] = state["averages"]  # type: ignore[assignment]
        for decay, average in self._averages.items():
            for name, tensor in average.items():
                tensor.copy_(saved[ema_name(decay)][name])
