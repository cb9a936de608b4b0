"""What a look at a source found, in lines."""

import contextlib
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from benchmark.data.look import Look
from benchmark.data.spectrum_slope import FEWEST_RINGS, LOWEST, spectrum_slope
from mindiffusion.data.mean_and_spread import image_statistics
from mindiffusion.data.source import Captioner, Plan
from mindiffusion.outside.pictures import BadImage
from mindiffusion.printable import printable

_MOST_CHARACTERS = 600
_SHOWN_VALUES, _SHOWN_CAPTIONS, _SHOWN_NAMES = 8, 3, 3
_SHOWN = 80


def told(look: Look) -> list[str]:
    """The lines that the command prints; each is fit for a terminal."""
    lines = [
        *_of_plan(look),
        *_of_pictures(look),
        *_of_colours(look),
        *_of_labels(look),
        *(_of_captions(look, look.plan.captioner) if look.plan.captioner else ()),
    ]
    return [printable(line, _MOST_CHARACTERS) for line in lines]


def _of_plan(look: Look) -> Iterator[str]:
    plan, config = look.plan, look.config
    yield f"{plan.name}: {plan.origin}"
    how = plan.description.get("filter", "")
    yield (
        f"images: {len(plan.train):,} for training, {plan.num_held_out:,} held out; "
        f"{plan.size} x {plan.size} pixels, crop {config.crop}{f' ({how})' if how else ''}"
    )
    yield from plan.notes
    seen, total = len(look.items), len(plan.train)
    if seen < total:
        yield f"looked at: {seen:,} of the training images, a fixed random sample; of these:"
    else:
        yield f"looked at: all {total:,} training images:"


def _of_pictures(look: Look) -> Iterator[str]:
    if look.sizes:
        heights, widths = zip(*look.sizes, strict=True)
        small = sum(min(size) < look.plan.size for size in look.sizes)
        yield (
            f"pictures: {_range(widths)} pixels wide, {_range(heights)} high"
            + (f"; {small} are smaller than {look.plan.size} and are enlarged" if small else "")
        )
    odd = Counter(oddity for _, sample in look.samples for oddity in sample.oddities)
    if odd:
        yield "kinds: " + ", ".join(f"{count} {name}" for name, count in sorted(odd.items()))
    if look.bad:
        shown = [f"{name} {reason}" for name, reason in look.bad[:_SHOWN_NAMES]]
        more = "; …" if len(look.bad) > _SHOWN_NAMES else ""
        yield (
            f"can't be used: {len(look.bad)} of {len(look.items)} ({'; '.join(shown)}{more}); a "
            "preparation would stop"
        )
    digests = [sample.digest for _, sample in look.samples]
    yield f"duplicates: {len(digests) - len(set(digests))} are copies of others"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    if low == high:
        return f"{low}"
    return f"{low} to {high} (median {statistics.median(values):g})"


def _of_colours(look: Look) -> Iterator[str]:
    found = image_statistics(look.images).summary
    colours = ", ".join(f"{value:.2f}" for value in found.mean_colour)
    yield f"sigma_data: {found.std:.3f}; mean of red, green, blue: {colours} (pixels in [-1, 1])"
    yield f"spectrum: {_slope(look)}"


def _slope(look: Look) -> str:
    finest = look.plan.size // 2 - 1
    if finest - LOWEST + 1 < FEWEST_RINGS:
        return f"too few frequencies for a slope at {look.plan.size} pixels"
    slope = spectrum_slope(look.images)
    if math.isnan(slope):
        return "no power at some frequencies, so no slope"
    return f"power falls as frequency to the {slope:.2f} ({LOWEST} to {finest} cycles a picture)"


def _of_labels(look: Look) -> Iterator[str]:
    """Each label with its most frequent values."""
    for column, (label, names) in enumerate(look.plan.label_names.items()):
        counts = Counter(names[sample.codes[column]] for _, sample in look.samples)
        shown = [f"{name} {count}" for name, count in counts.most_common(_SHOWN_VALUES)]
        more = ", …" if len(counts) > _SHOWN_VALUES else ""
        yield f"label {label}: {len(counts)} of {len(names)} values: {', '.join(shown)}{more}"


def _of_captions(look: Look, captioner: Captioner) -> Iterator[str]:
    said = [captioner.captions(item, sample.codes) for item, sample in look.samples]
    texts = [text for some in said for text in some]
    words = [len(text.split()) for text in texts]
    yield (
        f"captions: from {captioner.source}, {len(texts) / len(said):.1f} an image, "
        f"{len(set(texts)):,} of {len(texts):,} differ; {statistics.mean(words):.1f} words, at "
        f"most {max(words)}"
    )
    for text in texts[:: max(1, len(texts) // _SHOWN_CAPTIONS)][:_SHOWN_CAPTIONS]:
        yield f"  {printable(text, 2 * _SHOWN)!r}"
    prompt = _prompt(look.plan, captioner)
    if prompt is not None:
        yield f"  prompt: {printable(prompt, 2 * _SHOWN)!r}"


def _prompt(plan: Plan, captioner: Captioner) -> str | None:
    """The prompt of the first held-out item that can be drawn; None: none can."""
    for item in plan.held_out:
        with contextlib.suppress(BadImage):
            return captioner.prompt(item, plan.source.draw(item).codes)
    return None
