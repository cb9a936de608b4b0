"""How a network reads captions: from their numbers to states of their tokens.

A batch's condition is the number of a caption for each image, as with classes. The network holds
the table that says what numbers stand for; it is no part of the weights, and is given again
wherever texts are read: the training captions, or a prompt. So nothing outside a network that has
text differs from classes. Source of the layers: docs/text.md.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindiffusion.classes import told_classes
from mindiffusion.config.text import SPECIAL_WORDS, WORD_HEADS
from mindiffusion.errors import UserError
from mindiffusion.text.table import TextTable
from mindiffusion.text.words import BEGIN, NULL, PADDING
from mindiffusion.uvit_layers import Block, LayerNorm, TokenLinear

Null = Literal["learned", "empty"]
_INITIAL_STD = 0.02
_MLP_RATIO = 4.0


class TextReader(nn.Module):
    """Numbers of captions (B,) → states of their tokens (B, L, W), and which there are, (B, L).

    Args:
        max_tokens: L.
        width: W.
        unread: what it reads before it is given a table: the row of a caption that is not told;
            None: it needs a table for that too.
    """

    def __init__(self, max_tokens: int, width: int, unread: Tensor | None) -> None:
        super().__init__()
        self.max_tokens, self.width = max_tokens, width
        self._table: TextTable | None = None
        if unread is not None:
            self._table = TextTable(unread[None], torch.ones(1, dtype=torch.int64))

    def read(self, table: TextTable, device: torch.device) -> None:
        """Take a table: from now on conditions are numbers of its captions.

        Raises:
            UserError: it is of other sizes than the network was built for.
        """
        wanted = self._row_shape
        if tuple(table.rows.shape[1:]) != wanted:
            raise UserError(
                f"captions came as {_sizes(table.rows.shape[1:])}, but this network reads "
                f"{_sizes(wanted)} (model.text.max_tokens and model.text.width); give the encoder "
                "that it was trained with."
            )
        self._table = table.to(device)

    @property
    def _row_shape(self) -> tuple[int, ...]:
        """Of a caption in a table."""
        raise NotImplementedError

    def _taken(self, condition: Tensor | None, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers of captions, −1 where none is told, their rows, and the places that these fill.

        Raises:
            UserError: numbers of captions that there are not.
        """
        if self._table is None:
            if not images.is_meta:
                raise UserError(
                    "this network reads the empty string where no caption is told, and has not "
                    "been given it yet; give it a table of texts first (read_texts)."
                )
            self._table = TextTable(
                torch.zeros(1, *self._row_shape, device="meta"),
                torch.ones(1, dtype=torch.int64, device="meta"),
            )
        table = self._table.to(images.device)
        numbers = told_classes(condition, images, table.count, "network", "the number of a caption")
        return numbers, *table.take(numbers)


class WordReader(TextReader):
    """The encoder "words": a row of a table for each word, then a transformer over the caption.

    Args:
        vocabulary: rows of the table.
        max_tokens: L, the token that begins a caption among them.
        width: W, a multiple of the number of heads.
        layers: of the transformer.
        null: what stands for a caption that is not told: a token of its own, or no words.
    """

    def __init__(
        self, vocabulary: int, max_tokens: int, width: int, layers: int, null: Null
    ) -> None:
        first = NULL if null == "learned" else BEGIN
        super().__init__(max_tokens, width, torch.tensor([first] + [PADDING] * (max_tokens - 1)))
        assert vocabulary > SPECIAL_WORDS
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(1, max_tokens, width))
        self.blocks = nn.ModuleList(
            Block(width, WORD_HEADS, _MLP_RATIO, qkv_bias=True, joins=False) for _ in range(layers)
        )
        self.norm = LayerNorm(width)
        # As large as a norm's output: in smaller ones words are soon alike, for steps that are the
        # same for all words move them further than what sets them apart.
        nn.init.normal_(self.words.weight)
        nn.init.normal_(self.positions, std=_INITIAL_STD)
        for layer in self.blocks.modules():
            if isinstance(layer, TokenLinear):
                nn.init.normal_(layer.weight, std=_INITIAL_STD)
                nn.init.zeros_(layer.bias)

    @property
    def _row_shape(self) -> tuple[int, ...]:
        return (self.max_tokens,)

    def forward(self, condition: Tensor | None, images: Tensor) -> tuple[Tensor, Tensor]:
        """Read captions.

        Args:
            condition: (B,) their numbers, −1 where an image's is not told; None: none is told.
            images: (B, …), on the network's device.

        Returns:
            States (B, L, W), 0 where a caption has ended, and bool (B, L): where it has not.

        Raises:
            UserError: numbers of captions that there are not.
        """
        _, tokens, is_there = self._taken(condition, images)
        states = self.words(tokens.long()) + self.positions
        for block in self.blocks:
            states = block(states, keys=is_there)
        return self.norm(states) * is_there[..., None], is_there


class StateReader(TextReader):
    """A frozen encoder: its states are in the table.

    Args:
        max_tokens: L.
        width: W.
        null: what stands for a caption that is not told: one token that is trained, or the empty
            string's states.
    """

    def __init__(self, max_tokens: int, width: int, null: Null) -> None:
        unread = torch.zeros(max_tokens, width) if null == "learned" else None
        super().__init__(max_tokens, width, unread)
        self.null = nn.Parameter(torch.empty(width)) if null == "learned" else None
        if self.null is not None:
            nn.init.normal_(self.null, std=_INITIAL_STD)

    @property
    def _row_shape(self) -> tuple[int, ...]:
        return (self.max_tokens, self.width)

    def forward(self, condition: Tensor | None, images: Tensor) -> tuple[Tensor, Tensor]:
        """As ``WordReader``'s; states behind the end of a caption are as the encoder has them."""
        numbers, states, is_there = self._taken(condition, images)
        if self.null is None:
            return states, is_there
        untold, rest = numbers < 0, self.max_tokens - 1
        null = F.pad(self.null[None], (0, 0, 0, rest))
        is_first = torch.arange(self.max_tokens, device=numbers.device) == 0
        states = torch.where(untold[:, None, None], null, states.to(self.null.dtype))
        return states, torch.where(untold[:, None], is_first, is_there)


def _sizes(shape: tuple[int, ...]) -> str:
    return " tokens of ".join(map(str, shape)) + (" tokens" if len(shape) == 1 else " dimensions")
