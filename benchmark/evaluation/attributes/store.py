"""The attribute classifier of a data set, made once and kept in the cache."""

import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import torch

from benchmark.evaluation.attributes.architecture import AttributeNet
from benchmark.evaluation.attributes.classifier import Attribute, AttributeClassifier, RejectHead
from benchmark.evaluation.attributes.fit import ClassifierConfig
from benchmark.evaluation.attributes.train import train_classifier
from mindiffusion.data.prepared import PreparedData
from mindiffusion.files import atomic_write, exclusive_lock, sha256_of_json
from mindiffusion.outside.paths import open_file
from mindiffusion.outside.weights import read_tensors

VERSION = 1
"""Part of the cache's key: raise it when another classifier would come out."""


def attribute_classifier(
    data: PreparedData, config: ClassifierConfig, cache_dir: Path
) -> AttributeClassifier:
    """The classifier of a data set's attributes, from the cache or trained now; on the CPU.

    A file that is cut or altered is made anew. Processes that need it at once wait for the one
    that makes it.

    Args:
        data: the prepared data, with labels.
        config: how to make it.
        cache_dir: folder of the cache.

    Raises:
        UserError: data without labels, with too few images, or without a readable attribute.
    """
    key = {"version": VERSION, "manifest": data.manifest_id, **dataclasses.asdict(config)}
    path = cache_dir / f"attributes-{sha256_of_json(key)[:16]}.pt"
    cached = _read(path)
    if cached is not None:
        return cached
    with exclusive_lock(path.with_suffix(".lock"), wait_seconds=math.inf):
        cached = _read(path)
        if cached is None:
            cached = train_classifier(data, config)
            _write(path, cached)
    return cached


def _write(path: Path, classifier: AttributeClassifier) -> None:
    content = classifier.description() | {
        "state": classifier.net.state_dict(),
        "fingerprint": classifier.fingerprint,
    }
    # Through memory: on a full disk torch's own writer hides the OSError behind a RuntimeError.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(path) as handle:
        handle.write(buffer.getbuffer())


def _read(path: Path) -> AttributeClassifier | None:
    """The stored classifier, or None where there is no whole file."""
    try:
        with open_file(path) as handle:
            content = read_tensors(handle, str(path))
        classifier = _rebuilt(content)
        is_whole = classifier.fingerprint == content["fingerprint"]
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return classifier if is_whole else None


def _rebuilt(content: dict[str, Any]) -> AttributeClassifier:
    with torch.device("meta"):
        net = AttributeNet(content["side"], content["width"], content["head_sizes"])
    net.load_state_dict(content["state"], assign=True)
    return AttributeClassifier(
        net=net.eval().requires_grad_(False),
        heads=tuple(None if head is None else _attribute(head) for head in content["heads"]),
        reject=RejectHead(**content["reject"]),
        dropped=tuple(content["dropped"]),
        side=content["side"],
        width=content["width"],
    )


def _attribute(fields: dict[str, Any]) -> Attribute:
    # Plain types know lists only.
    sequences = {name: tuple(fields[name]) for name in ("classes", "codes", "shares")}
    return Attribute(**fields | sequences)
