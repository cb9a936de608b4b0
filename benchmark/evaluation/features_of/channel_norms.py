"""How strong each channel of a layer is: its root mean square over images and positions."""

from dataclasses import dataclass

import numpy as np

from benchmark.evaluation.features_of.layers import FloatArray, LayerFeatures

SHARES = (5, 25, 50, 75, 95)
"""Percentiles over the channels."""
DEAD_BELOW = 0.01
"""A channel counts as dead below this share of the layer's root mean square."""


@dataclass(frozen=True, eq=False)
class ChannelNorms:
    """The channels of one layer.

    Attributes:
        norms: (C,), root mean squares.
        dead: share of channels below 1 % of the root mean square over all channels.
    """

    norms: FloatArray
    dead: float

    def percentiles(self) -> dict[int, float]:
        """Norm by percentile of the channels."""
        found = np.percentile(self.norms, SHARES)
        return {share: float(value) for share, value in zip(SHARES, found, strict=True)}


def channel_norms(features: LayerFeatures) -> ChannelNorms:
    """The norms of a layer's channels over all its images."""
    squares = features.mean_square.mean(0)
    norms = np.sqrt(squares)
    return ChannelNorms(norms, float(np.mean(norms <= DEAD_BELOW * np.sqrt(squares.mean()))))
