"""The text that a network reads: whether it is the data's, and what a milestone keeps of it.

A milestone keeps what ``sample`` needs: the vocabulary of an encoder that is trained with the
network, the hash of one that is frozen, and the held-out prompts. So it needs no data.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mindiffusion.config.run import RunConfig
from mindiffusion.config.text import SPECIAL_WORDS, TextConfig
from mindiffusion.data.captions import Captions
from mindiffusion.errors import UserError
from mindiffusion.kept_classes import check_labels
from mindiffusion.network import Network
from mindiffusion.outside.documents import Name
from mindiffusion.places import cache_root
from mindiffusion.text.encoder import encoder_for, table_of
from mindiffusion.text.reading import TextEncoder
from mindiffusion.text.table import TextTable
from mindiffusion.text.words import MOST_WORD, Vocabulary

MOST_PROMPTS = 2048
"""Of the held-out prompts so many are kept: as many as images are usually held out."""
MOST_PROMPT = 4096
"""Characters of a prompt that is kept; a longer one is not."""


class KeptText(BaseModel):
    """What a checkpoint's file says of the text that its network reads.

    Attributes:
        encoder: its name.
        sha256: of a frozen encoder's files; None: it is trained with the network.
        vocabulary: words in the order of their rows; empty for a frozen encoder.
        prompts: held-out captions, prompt k for image k, as far as they are kept.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    encoder: Name
    sha256: Annotated[str, Field(max_length=64)] | None
    vocabulary: Annotated[
        list[Annotated[str, Field(max_length=2 * MOST_WORD)]], Field(max_length=65_536)
    ]
    prompts: Annotated[
        list[Annotated[str, Field(max_length=MOST_PROMPT)]], Field(max_length=MOST_PROMPTS)
    ]


def check_told(config: RunConfig) -> None:
    """Refuse settings of what a network is told, labels or captions, that contradict each other.

    Raises:
        UserError: they do, or a frozen encoder is not there.
    """
    _check_captions(config)
    check_labels(config)


def _check_captions(config: RunConfig) -> None:
    """Refuse settings of captions that contradict each other, or an encoder that is not there.

    Raises:
        UserError: they do, or it is not.
    """
    captions, text = config.data.captions, config.model.text
    if captions is not None and text is None:
        told = "classes" if config.model.num_classes is not None else "no captions"
        raise UserError(
            f"data.captions is {captions!r}, but the network {config.model.network} is told {told};"
            " give model.text={} (of a network that has it), or leave data.captions out."
        )
    if text is None:
        return
    if captions is None:
        given = config.data.labels
        instead = "data.captions is not given" if given is None else f"data.labels is {given!r}"
        raise UserError(
            f"model.text is given, but {instead}, so there are no captions for the network to read;"
            " give data.captions=auto, or leave model.text out."
        )
    if not text.is_trained:
        _encoder(text, ())


def text_encoder(config: RunConfig, captions: Captions | None) -> TextEncoder | None:
    """The encoder of a run that is trained on captions; None if its network reads no text.

    Raises:
        UserError: there are no captions but the network reads text, or the reverse; or as of
            ``encoder_for``.
    """
    text = config.model.text
    if (text is None) != (captions is None):
        has, wants = ("no ", "reads") if captions is None else ("", "does not read")
        raise UserError(
            f"the training data came with {has}captions, but the network {config.model.network} "
            f"{wants} text; give both data.captions and model.text, or neither."
        )
    if text is None or captions is None:
        return None
    if not text.is_trained:
        return _encoder(text, ())
    return _encoder(text, Vocabulary.of(captions.learned, text.vocabulary).words)


def text_part(encoder: TextEncoder | None, captions: Captions | None) -> dict[str, Any]:
    """What a checkpoint holds of the text that its network reads; nothing where it reads none."""
    if encoder is None or captions is None:
        return {}
    prompts = [captions.texts[number] for number in captions.prompts[:MOST_PROMPTS].tolist()]
    kept = KeptText(
        encoder=encoder.config.title,
        sha256=encoder.sha256,
        vocabulary=list(encoder.words),
        prompts=[prompt for prompt in prompts if len(prompt) <= MOST_PROMPT],
    )
    return {"text": kept.model_dump()}


def check_same_text(state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse to go on from a state whose network reads text in another way.

    Args:
        state: as a file keeps it.
        own: what the run would keep.

    Raises:
        UserError: another vocabulary, or another encoder.
    """
    kept, ours = state.get("text") or {}, own.get("text") or {}
    for name in ("vocabulary", "sha256"):
        if kept.get(name) != ours.get(name):
            raise UserError(
                f"the state of step {state['step']} was trained with another text encoder ({name} "
                "differs); bring the one that it was trained with, or start anew."
            )


def text_of(content: Mapping[str, Any], config: RunConfig) -> KeptText | None:
    """What a milestone keeps of the text that its network reads; None if it reads none.

    Of weights of other programs nothing is kept: a frozen encoder is taken as it is, without
    prompts.

    Args:
        content: as ``checkpoint.load`` gives it.
        config: the one inside it.

    Raises:
        UserError: a vocabulary is missing, or has more words than the network has rows.
    """
    text = config.model.text
    if text is None:
        return None
    kept = content.get("text")
    if kept is None and not text.is_trained:
        return KeptText(encoder=text.title, sha256=None, vocabulary=[], prompts=[])
    words = [] if kept is None else kept["vocabulary"]
    most = text.vocabulary - SPECIAL_WORDS if text.is_trained else 0
    if kept is None or not (bool(words) == text.is_trained and len(words) <= most):
        raise UserError(
            f"checkpoint: it keeps {len(words)} words of a vocabulary, but its network reads text "
            f"by {text.title} with at most {most}; it is not one of ours."
        )
    return KeptText.model_validate(kept)


def encoder_of(content: Mapping[str, Any], config: RunConfig) -> TextEncoder:
    """The encoder that a milestone's network was trained with; of a network that reads text.

    Raises:
        UserError: as of ``text_of`` and ``encoder_for``, or another encoder than it was.
    """
    kept, text = text_of(content, config), config.model.text
    assert kept is not None and text is not None
    encoder = _encoder(text, tuple(kept.vocabulary))
    if kept.sha256 is not None and encoder.sha256 != kept.sha256:
        raise UserError(
            f"the text encoder {text.title} is not the one that this checkpoint was trained with "
            f"(SHA-256 {str(encoder.sha256)[:12]}, not {kept.sha256[:12]}); bring that one."
        )
    return encoder


def read_texts(
    network: Network,
    content: Mapping[str, Any],
    config: RunConfig,
    texts: Sequence[str] | None = None,
) -> None:
    """Tell a milestone's network what numbers of captions stand for; nothing if it reads no text.

    Args:
        network: of the milestone, on its device.
        content: as ``checkpoint.load`` gives it.
        config: the one inside it.
        texts: caption k is the k-th; None: the prompts that the milestone keeps.

    Raises:
        UserError: as of ``encoder_of``.
    """
    kept = text_of(content, config)
    if kept is None:
        return
    wanted = kept.prompts if texts is None else texts
    network.read_texts(_table(encoder_of(content, config), tuple(wanted)))


@functools.lru_cache(maxsize=4)
def _encoder(text: TextConfig, vocabulary: tuple[str, ...]) -> TextEncoder:
    return encoder_for(text, vocabulary)


@functools.lru_cache(maxsize=4)
def _table(encoder: TextEncoder, texts: tuple[str, ...]) -> TextTable:
    return table_of(encoder, texts, cache_root())


def text_table(encoder: TextEncoder, captions: Captions) -> TextTable:
    """All captions as a network reads them; those of training images come first.

    It is the table of scoring too, so states of a frozen encoder are computed once for both.
    """
    return _table(encoder, captions.texts)
