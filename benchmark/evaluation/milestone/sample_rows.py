"""Rows of generated images: distances, neighbours, Inception score, memorisation, attributes.

Images are drawn once and rounded to uint8 once; every metric reads these. They lie in a file
without a name, so memory does not grow with their number, except where a metric needs features.
"""

import sys
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.evaluation.features.extract import (
    GROUPS,
    FeatureExtractor,
    FeatureSet,
    array_batches,
    feature_set,
    group_ranges,
    own_ranges,
)
from benchmark.evaluation.metrics.colour import colour_offset, colour_spread, picture_means
from benchmark.evaluation.metrics.roughness import corner_roughness
from benchmark.evaluation.milestone.attribute_rows import attribute_rows
from benchmark.evaluation.milestone.class_scores import (
    OneClass,
    class_scores,
    classes_apart,
)
from benchmark.evaluation.milestone.faithful_rows import faithful_rows, flip_rows, judge_of
from benchmark.evaluation.milestone.feature_scores import (
    Score,
    memorisation_score,
    net_scores,
)
from benchmark.evaluation.milestone.jacobian_rows import spectrum_rows
from benchmark.evaluation.milestone.milestone import Milestone, OnProgress
from benchmark.evaluation.milestone.text_rows import clip_rows, prompt_rows, prompts_of
from benchmark.evaluation.milestone.yardstick import NetYardstick, Yardstick, image_store
from benchmark.rows.keeper import INSTRUMENT
from benchmark.rows.metric_names import (
    CLASS,
    CLASS_STRIP,
    FLIP_STRIP,
    MEMORISED_PIXELS,
    MOST_CLASSES,
    PROMPT_CHANGED,
    VARIANT,
    metric_label,
)
from benchmark.rows.row import Row
from benchmark.study.metric_catalogue import metrics_needing, metrics_of_every_seed
from benchmark.study.study import EvaluationConfig
from benchmark.study.variants import Variant
from mindiffusion.config.run import RunConfig
from mindiffusion.data.codec import Codec
from mindiffusion.process import Denoiser, Process
from mindiffusion.runtime import chunk_size
from mindiffusion.sampling import (
    Conditions,
    load_weights,
    sample_chunk,
    save_png,
    tile,
)
from mindiffusion.text_conditions import in_turn
from mindiffusion.training.ranks import Ranks

_BATCH = 256
_COUNTS = ("n_generated", "n_reference")


@dataclass(frozen=True)
class ImageSet:
    """Images that are drawn from one sampling seed, and what is made of them.

    Attributes:
        sampling_seed: the seed.
        sizes: how many of the first images are scored, rising; all are as many as the last says.
        metrics: by what.
        variant: how they are drawn, where it is not as the run's config says.
    """

    sampling_seed: int
    sizes: tuple[int, ...]
    metrics: frozenset[str]
    variant: Variant | None = None


def image_sets(evaluation: EvaluationConfig, sampling_seed: int, is_last: bool) -> list[ImageSet]:
    """What is drawn at a milestone: the curve's images; at the last one all, and in other ways.

    Args:
        evaluation: the settings.
        sampling_seed: the run's.
        is_last: whether this is the run's last milestone.
    """
    metrics = frozenset(evaluation.metrics) & metrics_needing("samples")
    if not is_last:
        return [ImageSet(sampling_seed, (evaluation.curve_size,), metrics)]
    whole = evaluation.num_generated
    sizes = tuple(sorted({evaluation.curve_size, whole}))
    further = range(sampling_seed + 1, sampling_seed + evaluation.num_sampling_seeds)
    distances = metrics & metrics_of_every_seed()
    return [
        ImageSet(sampling_seed, sizes, metrics),
        *(ImageSet(seed, (whole,), distances) for seed in further),
        *(ImageSet(sampling_seed, (whole,), distances, one) for one in evaluation.variants),
    ]


def sample_rows(
    milestone: Milestone, yardstick: Yardstick, on_progress: OnProgress
) -> Iterator[Row]:
    """Draw a milestone's images, keep a strip of them, and score them by every feature net.

    Args:
        milestone: the milestone.
        yardstick: feature nets and references.
        on_progress: told how far the milestone's scoring is.
    """
    is_last = milestone.step == milestone.plan.total_steps
    sets = image_sets(milestone.evaluation, milestone.config.sampler.seed, is_last)
    for number, one in enumerate(sets):

        def tell(what: str, fraction: float, number: int = number) -> None:
            on_progress(what, 0.3 + 0.7 * (number + fraction) / len(sets))

        rows = _set_rows(milestone, yardstick, one, tell)
        if one.variant is None:
            yield from rows
        else:
            start = f"{VARIANT}{one.variant.name}/"
            yield from (replace(row, metric=start + row.metric) for row in rows)


def _set_rows(
    milestone: Milestone, yardstick: Yardstick, images_of: ImageSet, on_progress: OnProgress
) -> Iterator[Row]:
    """Draw one set of images and score it, at each of its sizes."""
    n, seed, variant = images_of.sizes[-1], images_of.sampling_seed, images_of.variant
    own = milestone.config if variant is None else variant.of(milestone.config)
    config = replace(own, sampler=replace(own.sampler, seed=seed))
    common = milestone.sampler_fields(variant) | {"sampling_seed": seed}

    def on_chunk(done: int) -> None:
        on_progress("sampling", 0.7 * done / n)

    told, texts = yardstick.conditions(config), yardstick.texts
    images = _drawn(milestone, yardstick, config, common["weights"], n, texts, told, on_chunk)
    on_progress("features", 0.7)
    is_shown = variant is None and milestone.has_pictures
    if seed == milestone.config.sampler.seed and is_shown:
        name = f"samples-{milestone.step:09d}.png"
        common |= {"samples": _kept_strip(milestone, name, images, yardstick.ranks)}
        if config.model.text is not None:
            yield from prompt_rows(milestone, prompts_of(yardstick))
    for size in images_of.sizes:
        some, fields = images[:size], common | {"n_generated": size}
        yield from _image_rows(milestone, yardstick, some, images_of.metrics, fields)
        by_class = _by_class(milestone, yardstick, images_of, some)
        for net in yardstick.nets:
            metrics = images_of.metrics
            yield from _net_rows(milestone, yardstick, net, some, metrics, fields, by_class)
    if "faithfulness" in images_of.metrics:
        some, fields = images[: images_of.sizes[0]], common | {"n_generated": images_of.sizes[0]}
        yield from _flipped_rows(milestone, yardstick, some, config, fields)


def _flipped_rows(
    milestone: Milestone,
    yardstick: Yardstick,
    before: NDArray[np.uint8],
    config: RunConfig,
    common: dict[str, Any],
) -> Iterator[Row]:
    """Draw images again from the same noise, with one word of each prompt changed."""
    prompts = judge_of(yardstick, config.data).changed_prompts
    told, weights = in_turn(range(len(prompts))), common["weights"]
    after = _drawn(milestone, yardstick, config, weights, len(before), prompts, told)
    fields = dict(common)
    if milestone.has_pictures:
        name = f"{FLIP_STRIP}{milestone.step:09d}.png"
        fields["samples"] = _kept_strip(milestone, name, after, yardstick.ranks)
        yield from prompt_rows(milestone, prompts, PROMPT_CHANGED)
    yield from flip_rows(milestone, yardstick, before, after, fields)


def _drawn(
    milestone: Milestone,
    yardstick: Yardstick,
    config: RunConfig,
    weights: str,
    n: int,
    texts: Sequence[str] | None,
    told: Conditions | None,
    on_chunk: Callable[[int], None] = lambda done: None,
) -> NDArray[np.uint8]:
    """The first n images (n, H, W, 3) of a milestone, by ``told``: classes, or numbers of texts."""
    network = yardstick.sampling_network(milestone.config)
    model = load_weights(network, milestone.content, weights, texts)
    images = image_store(n, config.data.size)
    codec, ranks = milestone.codec, yardstick.ranks
    draw_into(images, model, model.process, codec, config, ranks, on_chunk, told)
    return images


def _kept_strip(milestone: Milestone, name: str, images: NDArray[np.uint8], ranks: Ranks) -> str:
    """Keep a strip of the first images; its place in the study's folder."""
    picture, count = milestone.folder / name, milestone.evaluation.strip
    if ranks.is_main:
        save_png(picture, tile(np.array(images[:count]), count))
    return milestone.relative(picture)


def draw_into(
    images: NDArray[np.uint8],
    denoise: Denoiser,
    process: Process,
    codec: Codec,
    config: RunConfig,
    ranks: Ranks,
    on_chunk: Callable[[int], None] = lambda done: None,
    conditions: Conditions | None = None,
) -> None:
    """Fill ``images`` (N, H, W, 3) with the first N that are sampled, on all ranks.

    Each rank draws the chunks that its groups need, and gives its groups' images to the others.
    ``conditions`` say what the images are to show, where the network knows classes.
    """
    n, sampler, side = len(images), config.sampler, config.data.size
    size = chunk_size(sampler, config.input_shape[1], process.device.type)
    groups = group_ranges(n, _groups(n))
    drawn: set[int] = set()
    # A group of each rank at a time: nobody waits longer than a group takes.
    for first in range(0, len(groups), ranks.world):
        turn = groups[first : first + ranks.world]
        for part in turn[ranks.rank : ranks.rank + 1]:
            for number in sorted({k // size for k in part} - drawn):
                chunk = sample_chunk(
                    denoise, process, codec, sampler, number, side, conditions=conditions
                )
                rows = images[number * size : (number + 1) * size]
                rows[:] = chunk[: len(rows)]
                drawn.add(number)
            on_chunk(turn[-1].stop)
        if ranks.world == 1:
            continue
        for source, part in enumerate(turn):
            with ranks.phase(f"samples {part.start} to {part.stop}"):
                shared = torch.from_numpy(np.array(images[part.start : part.stop]))
                ranks.same(shared, source)
                images[part.start : part.stop] = shared.numpy()


def features_of(
    extractor: FeatureExtractor, images: NDArray[np.uint8], keep: bool, ranks: Ranks
) -> FeatureSet:
    """Features of drawn images, each rank's groups by its own net."""
    n, groups = len(images), _groups(len(images))
    batches = array_batches(images, _BATCH, own_ranges(n, groups, ranks))
    return feature_set(extractor, batches, n, groups, keep, ranks)


def _groups(n: int) -> int:
    """The jackknife's groups, or fewer where images are few."""
    return min(GROUPS, n // 2)


def _image_rows(
    milestone: Milestone,
    yardstick: Yardstick,
    images: NDArray[np.uint8],
    metrics: Set[str],
    common: dict[str, Any],
) -> Iterator[Row]:
    """What is measured on pixels."""
    n = len(images)
    if milestone.config.data.dataset == "avatars":
        # Only avatars are known to have a smooth background in their corners.
        blocks = [corner_roughness(images[k : k + _BATCH]) for k in range(0, n, _BATCH)]
        roughness = np.concatenate(blocks)
        yield milestone.row(
            metric_label("corner-roughness", n),
            float(roughness.mean()),
            error=float(roughness.std(ddof=1) / n**0.5),
            direction="lower",
            **common,
        )
    yield from _colour_rows(milestone, yardstick, images, common)
    if "memorisation" in metrics and yardstick.has_unseen:
        found = yardstick.pixel_memorisation(images)
        fields = dict(common)
        if milestone.has_pictures:
            picture = milestone.folder / f"closest-{milestone.step:09d}-of-{n}.png"
            fields["samples"] = milestone.relative(picture)
            if yardstick.ranks.is_main:
                nearest = yardstick.train_and_mirrored[found.pairs.train]
                pairs = np.concatenate([images[found.pairs.generated], nearest])
                save_png(picture, tile(pairs, len(nearest)))
        yield _score_row(milestone, memorisation_score(MEMORISED_PIXELS, found), fields)
    if "spectrum" in metrics:
        yield from spectrum_rows(milestone, yardstick, images, common)
    if "attributes" in metrics:
        yield from attribute_rows(milestone, yardstick, images, common)
    if "faithfulness" in metrics:
        yield from faithful_rows(milestone, yardstick, images, common)
    if "clip" in metrics:
        yield from clip_rows(milestone, yardstick, images, common)


def _colour_rows(
    milestone: Milestone, yardstick: Yardstick, images: NDArray[np.uint8], common: dict[str, Any]
) -> Iterator[Row]:
    """Tint and variety of tints beside those of all training images."""
    n, theirs = len(images), yardstick.training_colours
    ours = picture_means(images)
    found = {"colour-offset": colour_offset(ours, theirs)}
    spread = colour_spread(ours, theirs)
    if spread is not None:
        found["colour-spread"] = spread
    for name, one in found.items():
        yield milestone.row(
            metric_label(name, n),
            one.value,
            error=one.standard_error,
            # A spread may be too small or too large.
            direction="lower" if name == "colour-offset" else "none",
            n_reference=len(theirs),
            **common,
        )


def _net_rows(
    milestone: Milestone,
    yardstick: Yardstick,
    net: NetYardstick,
    images: NDArray[np.uint8],
    metrics: Set[str],
    common: dict[str, Any],
    by_class: Sequence[OneClass],
) -> Iterator[Row]:
    """What is measured on the features of one net."""
    keep = bool(by_class) or bool(metrics & metrics_needing("features"))
    found = features_of(net.extractor, images, keep, yardstick.ranks)
    unseen = yardstick.unseen_features(net) if "memorisation" in metrics else None
    common = common | {
        "versions": milestone.versions | {INSTRUMENT: net.extractor.weights_sha256[:12]}
    }
    for score in net_scores(net.extractor, found, net.reference, metrics, unseen):
        yield _score_row(milestone, score, common)
    for one in by_class:
        for score in class_scores(net, found, one, metrics):
            row = _score_row(milestone, score, common)
            yield replace(row, metric=f"{CLASS}{one.name}/{row.metric}", samples=one.strip)


def _by_class(
    milestone: Milestone, yardstick: Yardstick, images_of: ImageSet, images: NDArray[np.uint8]
) -> Sequence[OneClass]:
    """The classes that are scored apart: of all images of the run's own way to draw them."""
    is_first = images_of.sampling_seed == milestone.config.sampler.seed
    is_whole = len(images) == images_of.sizes[-1]
    is_own = images_of.variant is None and is_first and is_whole
    if not (is_own and milestone.evaluation.per_class):
        return ()
    classes, left_out = classes_apart(milestone.config, yardstick, len(images))
    if left_out and yardstick.ranks.is_main:
        print(left_out, file=sys.stderr)
    if not milestone.has_pictures or milestone.step < milestone.plan.total_steps:
        return classes
    shown = sorted(classes, key=lambda one: (-len(one.generated), one.number))[:MOST_CLASSES]
    return [
        replace(one, strip=_class_strip(milestone, images, one, yardstick.ranks))
        if one in shown
        else one
        for one in classes
    ]


def _class_strip(
    milestone: Milestone, images: NDArray[np.uint8], one: OneClass, ranks: Ranks
) -> str:
    """Keep a strip of the first images of a class; its place in the study's folder."""
    name = f"{CLASS_STRIP}{milestone.step:09d}-{one.number:05d}.png"
    own = images[one.generated[: milestone.evaluation.strip]]
    return _kept_strip(milestone, name, own, ranks)


def _score_row(milestone: Milestone, score: Score, common: dict[str, Any]) -> Row:
    measured = {name: getattr(score, name) for name in ("error", "direction", *_COUNTS)}
    return milestone.row(score.metric, score.value, **common | measured)
