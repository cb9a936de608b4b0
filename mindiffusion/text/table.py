"""What the numbers of captions stand for: the table that a network with text is given."""

from dataclasses import dataclass

import torch
from torch import Tensor

_MOST_ON_DEVICE = 2 << 30
"""Bytes of a table that are copied to a GPU; of a larger one the rows of each batch are."""


@dataclass(frozen=True, eq=False)
class TextTable:
    """Captions as an encoder reads them. Row 0 is a caption that is not told, row k + 1 caption k.

    Attributes:
        rows: (N + 1, L) whole numbers of tokens, or (N + 1, L, W) states of tokens.
        lengths: (N + 1,) int64, how many of the L places a caption fills, 1 to L.
    """

    rows: Tensor
    lengths: Tensor

    @property
    def count(self) -> int:
        """N, captions."""
        return len(self.lengths) - 1

    def to(self, device: torch.device) -> "TextTable":
        """The table with its lengths on a device, and its rows if they are not too large for it."""
        # Not nbytes, which a compiler that has met two sizes of table does not know.
        is_small = self.rows.numel() * self.rows.element_size() <= _MOST_ON_DEVICE
        return TextTable(self.rows.to(device) if is_small else self.rows, self.lengths.to(device))

    def take(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of captions, −1 for one that is not told, and which of their places are filled.

        Args:
            numbers: (B,) int64, −1 … N − 1, on the lengths' device.

        Returns:
            (B, L) or (B, L, W) as the table has them, and bool (B, L); on the numbers' device.
        """
        index = numbers + 1
        rows = self.rows[index.to(self.rows.device)].to(numbers.device)
        places = torch.arange(rows.shape[1], device=numbers.device)
        return rows, places < self.lengths[index, None]
