"""``python -m benchmark evaluate FOLDER|ZIP|NPY``: anybody's images against a reference.

Files are taken in a fixed random order: sorted by class, they would make jackknife groups of one
class each, and a reference of a few classes where a metric takes as many images of each side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.evaluation.features.extract import GROUPS, FeatureExtractor, ImageBatch, feature_set
from benchmark.evaluation.features.net import FeatureNet
from benchmark.evaluation.features.nets import choose_feature_net, load_feature_net
from benchmark.evaluation.features.reference_set import (
    ReferenceSet,
    reference_of_batches,
    reference_set,
)
from benchmark.evaluation.images.image_source import ImageSource, open_images
from benchmark.evaluation.metrics.extrapolation import MIN_GROUPS, can_extrapolate
from benchmark.evaluation.milestone.feature_scores import (
    Score,
    memorisation_score,
    net_scores,
)
from benchmark.evaluation.milestone.yardstick import (
    NO_UNSEEN,
    NetYardstick,
    Yardstick,
    image_store,
)
from benchmark.rows.metric_names import MEMORISED_PIXELS, limit_name, metric_label
from benchmark.rows.provenance import git_revision, now, versions
from benchmark.rows.text_table import text_table
from benchmark.study.metric_catalogue import metrics_needing
from benchmark.study.study import EvaluationConfig
from mindiffusion.data.prepared import PreparedData, is_whole, load_prepared
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.files import write_json
from mindiffusion.places import cache_root
from mindiffusion.printable import printable
from mindiffusion.writable import try_file

METRICS = metrics_needing("samples") - metrics_needing("classifier") - metrics_needing("text")
"""What can be said of images alone, by anybody's network."""
SMOKE_NOTE = "smoke: fewer than 2048 images, far too few to compare with other work"
_ALWAYS = METRICS - metrics_needing("logits") - metrics_needing("unseen")
_FEWEST = 2 * MIN_GROUPS
_PIXEL_BATCH = 256
_COLUMNS = {
    "metric": "metric",
    "value": "value",
    "± se": "error",
    "better": "direction",
    "generated": "n_generated",
    "reference": "n_reference",
    "": "note",
}


@dataclass(frozen=True)
class Comparison:
    """Generated images, what they are held against, and the outcome.

    Attributes:
        generated: the images that are scored.
        reference: any images, or a prepared data set: then its training images.
        scores: the numbers.
        notes: lines to be read beside them.
    """

    generated: ImageSource
    reference: ImageSource | PreparedData
    scores: tuple[Score, ...]
    notes: tuple[str, ...]

    def text(self) -> str:
        """A line a number, then the notes."""
        rows = [
            asdict(score)
            | {
                "value": f"{score.value:.5g}",
                "error": f"{score.error:.2g}",
                "n_reference": score.n_reference or None,
                "note": "smoke" if score.is_smoke else "",
            }
            for score in self.scores
        ]
        smoke = [SMOKE_NOTE] if any(score.is_smoke for score in self.scores) else []
        notes = map(printable, self.notes)  # which may name files of strangers
        return "\n".join([*text_table(rows, _COLUMNS), "", *notes, *smoke]).rstrip()

    def content(self) -> dict[str, Any]:
        """Everything as plain types."""
        return {
            "generated": _facts(self.generated),
            "reference": _facts(self.reference),
            "scores": [asdict(score) | {"smoke": score.is_smoke} for score in self.scores],
            "notes": list(self.notes),
            "made": {"time": now(), "git": git_revision(), **versions()},
        }


def evaluate_images(
    path: Path,
    reference: Path | None,
    nets: Sequence[str] = (),
    metrics: Sequence[str] | None = None,
    json_path: Path | None = None,
) -> int:
    """Score images against others; prints a table, returns the exit code.

    Args:
        path: folder, zip, ``.npy`` or ``.npz`` of the images to be scored.
        reference: the same of real images, or the folder of a prepared data set.
        nets: feature nets; clean-fid's Inception if it is there, else EfficientNet-Lite0, if empty.
        metrics: of ``METRICS``; all that suit the reference, but for the Inception score, if None.
        json_path: also keep the results there.

    Raises:
        UserError: bad images, an unknown net or metric, or sets that can't be compared.
    """
    if reference is None:
        raise UserError(
            "images are scored against a reference; give --reference with a folder, zip or npy "
            "of real images, or a folder of prepared data."
        )
    if json_path is not None:
        try_file(json_path)
    generated = open_images(path)
    against = load_prepared(reference) if is_whole(reference) else open_images(reference)
    compared = score_images(generated, against, nets or ("auto",), metrics)
    if json_path is not None:
        write_json(json_path, compared.content())
    print(compared.text())
    return 0


def score_images(
    generated: ImageSource,
    reference: ImageSource | PreparedData,
    nets: Sequence[str],
    metrics: Sequence[str] | None = None,
) -> Comparison:
    """Score images by feature nets; of the reference's features a file is kept in the cache.

    Args:
        generated: 8 images or more.
        reference: what they are held against, 8 images or more.
        nets: names of feature nets, or "auto".
        metrics: of ``METRICS``; all that suit the reference, but for the Inception score, if None.

    Raises:
        UserError: too few images, another data set's manifest, an unknown net or metric, or a
            metric that the reference or a net can't give.
    """
    wanted = _wanted(metrics, reference)
    _check_pair(generated, reference)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = [load_feature_net(*choose_feature_net(name), device) for name in nets]
    for extractor in loaded:
        if "is" in wanted and extractor.head is None:
            extractor.logits(np.empty((0, extractor.net.dim)))  # says what to do instead
    held = [NetYardstick(extractor, _reference_set(extractor, reference)) for extractor in loaded]
    yardstick = None
    if "memorisation" in wanted:
        assert isinstance(reference, PreparedData)
        settings = EvaluationConfig(num_generated=generated.count)
        yardstick = Yardstick(settings, reference, device, tuple(held))
    scores = [] if yardstick is None else list(_pixel_scores(generated, yardstick))
    for net in held:
        found = feature_set(
            net.extractor,
            _shuffled(generated, net.extractor.batch_size),
            generated.count,
            groups=min(GROUPS, generated.count // 2),
            keep=bool(wanted & metrics_needing("features")),
        )
        unseen = None if yardstick is None else yardstick.unseen_features(net)
        scores += net_scores(net.extractor, found, net.reference, wanted, unseen)
    notes = list(_notes(generated, reference))
    if yardstick is not None and not yardstick.has_unseen:
        notes.append(NO_UNSEEN)
    if "fd" in wanted:
        notes += _notes_on_limits(generated.count, [extractor.net for extractor in loaded])
    return Comparison(generated, reference, tuple(scores), tuple(notes))


def _wanted(metrics: Sequence[str] | None, reference: ImageSource | PreparedData) -> set[str]:
    has_held_out = isinstance(reference, PreparedData)
    if metrics is None:
        return set(_ALWAYS | metrics_needing("unseen") if has_held_out else _ALWAYS)
    for metric in metrics:
        if metric not in METRICS:
            raise UserError(f"unknown metric {metric!r} of images.{did_you_mean(metric, METRICS)}")
    if metrics_needing("unseen") & set(metrics) and not has_held_out:
        raise UserError(
            "memorisation needs held-out images beside the training ones; give --reference the "
            "folder of a prepared data set (python -m benchmark prepare)."
        )
    return set(metrics)


def _check_pair(generated: ImageSource, reference: ImageSource | PreparedData) -> None:
    """Refuse sets that are too small, or known to belong to different data."""
    sides = [_facts(side) for side in (generated, reference)]
    for side in sides:
        if side["count"] < _FEWEST:
            raise UserError(
                f"{side['path']} holds {side['count']} images; scoring needs {_FEWEST} or more."
            )
    ours, theirs = (side["manifest"] for side in sides)
    if ours and theirs and ours != theirs:
        raise UserError(
            f"{generated.path} belongs to data {ours}, the reference {sides[1]['path']} to "
            f"{theirs}; score it against the data that it was learned from."
        )


def _reference_set(
    extractor: FeatureExtractor, reference: ImageSource | PreparedData
) -> ReferenceSet:
    if isinstance(reference, PreparedData):
        train = reference.train
        key = f"{reference.manifest_id}-train"
        return reference_set(extractor, train, len(train), cache_root(), key)
    return reference_of_batches(
        extractor,
        lambda: _shuffled(reference, extractor.batch_size),
        reference.count,
        cache_root(),
        f"{reference.digest}-shuffled",
    )


def _shuffled(source: ImageSource, size: int) -> Iterator[ImageBatch]:
    """A source's batches, its images renumbered in a fixed random order."""
    place = np.random.default_rng(0).permutation(source.count)
    for indices, images in source.batches(size):
        yield place[indices], images


def _pixel_scores(generated: ImageSource, yardstick: Yardstick) -> Iterator[Score]:
    """Memorisation in pixel space, where pixels can be compared."""
    side = yardstick.data.train.shape[1]
    if generated.sizes != {(side, side)} or not yardstick.has_unseen:
        return
    images = image_store(generated.count, side)
    for indices, batch in _shuffled(generated, _PIXEL_BATCH):
        images[indices] = batch
    yield memorisation_score(MEMORISED_PIXELS, yardstick.pixel_memorisation(images))


def _notes(generated: ImageSource, reference: ImageSource | PreparedData) -> Iterator[str]:
    """What a user should know of both sets."""
    yield from (f"{generated.path}: {note}" for note in generated.notes)
    if isinstance(reference, PreparedData):
        sizes = {reference.train.shape[1:3]}
    else:
        yield from (f"{reference.path}: {note}" for note in reference.notes)
        sizes = set(reference.sizes)
    if sizes != generated.sizes:
        yield "generated and reference images differ in size; a distance shows that difference too"


def _notes_on_limits(n: int, nets: Sequence[FeatureNet]) -> Iterator[str]:
    for net in nets:
        if not can_extrapolate(n, net.dim):
            name = limit_name(metric_label(net.frechet_name, n))
            yield f"{name} is left out: too few images to extrapolate {net.dim} features"


def _facts(images: ImageSource | PreparedData) -> dict[str, Any]:
    """What identifies a set."""
    if isinstance(images, PreparedData):
        count, manifest = len(images.train), images.manifest_id
        return {"path": str(images.folder), "count": count, "manifest": manifest}
    return {
        "path": str(images.path),
        "count": images.count,
        "sizes": sorted(images.sizes),
        "digest": images.digest,
        "manifest": images.manifest,
    }
