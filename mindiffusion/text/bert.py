"""BERT's encoder as one function of its tensors, as packages of sentence encoders keep them.

Source: Devlin et al. 2019, "BERT" (1810.04805); the tensors' names are those of public checkpoints.
"""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from mindiffusion.errors import UserError

_EPS = 1e-12
_TABLES = ("word", "position", "token_type")
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.")
_PARTS = (
    *("attention.self.query", "attention.self.key", "attention.self.value"),
    *("attention.output.dense", "attention.output.LayerNorm"),
    *("intermediate.dense", "output.dense", "output.LayerNorm"),
)


def check_bert(tensors: Mapping[str, Tensor], width: int, source: str) -> None:
    """Refuse tensors that are not all of a BERT of this width.

    Raises:
        UserError: one is missing, or the states have another width.
    """
    layers = range(_num_layers(tensors))
    names = [f"embeddings.{table}_embeddings.weight" for table in _TABLES]
    names += [f"embeddings.LayerNorm.{kind}" for kind in ("weight", "bias")]
    for layer in layers:
        names += [
            f"encoder.layer.{layer}.{part}.{kind}" for part in _PARTS for kind in ("weight", "bias")
        ]
    missing = [name for name in names if name not in tensors]
    if missing or not layers:
        raise UserError(
            f"{source} lacks the tensor {missing[0] if missing else names[-1]} of BERT."
        )
    found = tensors[names[0]].shape[1]
    if found != width:
        raise UserError(
            f"{source}: its states have {found} dimensions, but model.text.width is {width}; give "
            "the encoder that the network was trained with."
        )


def bert_states(
    tensors: Mapping[str, Tensor], ids: Tensor, is_there: Tensor, num_heads: int
) -> Tensor:
    """The last layer's states of tokens, (B, L, W) float32.

    Args:
        tensors: by name, as ``check_bert`` takes them.
        ids: (B, L) int64.
        is_there: bool (B, L), which of them are no padding.
        num_heads: of W / heads dimensions each.
    """
    words, places, kinds = (tensors[f"embeddings.{table}_embeddings.weight"] for table in _TABLES)
    x = words[ids] + places[: ids.shape[1]] + kinds[0]
    x = _norm(x, tensors, "embeddings.LayerNorm")
    for layer in range(_num_layers(tensors)):
        at = f"encoder.layer.{layer}"
        query, key, value = (
            _linear(x, tensors, f"{at}.attention.self.{part}")
            .unflatten(-1, (num_heads, -1))
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        read = F.scaled_dot_product_attention(query, key, value, is_there[:, None, None])
        read = _linear(read.transpose(1, 2).flatten(2), tensors, f"{at}.attention.output.dense")
        x = _norm(x + read, tensors, f"{at}.attention.output.LayerNorm")
        hidden = F.gelu(_linear(x, tensors, f"{at}.intermediate.dense"))
        x = _norm(
            x + _linear(hidden, tensors, f"{at}.output.dense"), tensors, f"{at}.output.LayerNorm"
        )
    return x


def _num_layers(tensors: Mapping[str, Tensor]) -> int:
    numbers = [int(found[1]) for found in map(_LAYER.match, tensors) if found]
    return 1 + max(numbers, default=-1)


def _linear(x: Tensor, tensors: Mapping[str, Tensor], name: str) -> Tensor:
    return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _norm(x: Tensor, tensors: Mapping[str, Tensor], name: str) -> Tensor:
    weight: Tensor = tensors[f"{name}.weight"]
    return torch.layer_norm(x, weight.shape, weight, tensors[f"{name}.bias"], _EPS)
