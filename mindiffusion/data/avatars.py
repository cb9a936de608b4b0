"""DiceBear portraits: faces without a download, a pure function of (style, index, size).

Portraits are by DiceBear (https://www.dicebear.com); the licence of each style stands in the
manifest. They lie over a smooth two-colour ramp of mid tones: on plain white a young noise
predictor misses the brightness of the whole image, and a background is a coarse feature to learn.
"""

import functools
import importlib.metadata
import importlib.resources
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import resvg_py
from dicebear import Avatar, Style
from PIL import Image

from mindiffusion.data.caption_grammar import captions_of, grammar_digest, prompt_of
from mindiffusion.data.names import ATTRIBUTES, AUTO, AVATAR_STYLES
from mindiffusion.data.source import Plan, Sample, digest64
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_json

DEFAULT_NUM_TRAIN = 50_000
#: Held-out portraits start here, far above any train index.
FIRST_HELD_OUT = 2**31
#: Zoom that fills a small image with the face and still leaves the upper corners to the background.
ZOOM = {"personas": 1.25, "toon-head": 1.1, "open-peeps": 1.0}
BACKGROUND_STREAM = 0x6261636B67726F75  # key of the Philox stream, apart from all others
BACKGROUND_RANGE = (56, 200)  # mid tones, in grey levels
#: What an attribute is where a style or portrait lacks it.
ABSENT = "none"
DRAWN_BY = ("dicebear-core", "dicebear-styles", "resvg-py", "pillow")


@dataclass(frozen=True)
class AvatarSource:
    """Draws portrait ``index`` of one style, or of several in turn."""

    styles: tuple[str, ...]
    size: int

    def draw(self, item: int) -> Sample:
        """Portrait number ``item`` over its background, with its attributes' codes."""
        return self._draw(item, {})

    def counterfactual(self, item: int, attribute: str, value: str) -> Sample:
        """Portrait number ``item`` with one attribute set to ``value`` and all else as it was.

        DiceBear draws each option by its own name from the seed, so that setting one moves no
        other. Where the option has no effect (the hair colour of a bald head), the pixels are
        those of ``draw``.

        Args:
            item: the portrait.
            attribute: one of the keys of ``values_of(item)``.
            value: one of that attribute's values.

        Raises:
            UserError: the portrait's style has no such option.
        """
        allowed = self.values_of(item).get(attribute, ())
        if value not in allowed:
            raise UserError(
                f"{attribute}={value!r} asked for portrait {item}; its style allows "
                f"{', '.join(allowed) or 'no such attribute'}."
            )
        if attribute.endswith("Color"):
            return self._draw(item, {attribute: [value]})
        if value == ABSENT:
            return self._draw(item, {f"{attribute}Probability": 0})
        return self._draw(item, {f"{attribute}Probability": 100, f"{attribute}Variant": value})

    def values_of(self, item: int) -> dict[str, tuple[str, ...]]:
        """What each attribute of portrait ``item`` may be set to alone, by the portrait's style.

        ``none`` is among the values of a part that the style may leave out. A colour cannot be
        ``none`` by itself, and the style is no option of a portrait.
        """
        return settable(self._style_of(item))

    def _style_of(self, item: int) -> str:
        return self.styles[item % len(self.styles)]

    def _draw(self, item: int, options: Mapping[str, Any]) -> Sample:
        style = self._style_of(item)
        fixed = {"seed": f"avatar-{item}", "scale": ZOOM[style]}
        avatar = Avatar(_style(style), {**fixed, **options})
        portrait = rasterize(avatar.to_string(), self.size)
        image = Image.fromarray(background(item, self.size))
        image.paste(portrait, mask=portrait)
        chosen = _chosen(style, avatar.to_json()["options"])
        names = label_names(self.styles)
        codes = [values.index(chosen.get(key, ABSENT)) for key, values in names.items()]
        # Of the portrait alone: two equal faces over two backgrounds are duplicates.
        return Sample(np.asarray(image), codes, digest64(portrait.tobytes()))

    def name_of(self, item: int) -> str:
        """``avatar-<index>``."""
        return f"avatar-{item}"


@dataclass(frozen=True)
class AvatarCaptioner:
    """Says in words what portraits of these styles show."""

    styles: tuple[str, ...]
    source: str = ATTRIBUTES

    @property
    def identity(self) -> str:
        """SHA-256 of the grammar."""
        return grammar_digest()

    def captions(self, item: int, codes: Sequence[int]) -> tuple[str, ...]:
        """Captions of portrait ``item`` in phrasings that training sees."""
        return captions_of(item, values_of(codes, self.styles))

    def prompt(self, item: int, codes: Sequence[int]) -> str:
        """A caption of it in a phrasing that training never sees."""
        return prompt_of(item, values_of(codes, self.styles))


def rasterize(svg: str, size: int) -> Image.Image:
    """An SVG as a ``size`` × ``size`` RGBA image: drawn at twice the size, then box-filtered."""
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=2 * size, height=2 * size, skip_system_fonts=True
    )
    with Image.open(io.BytesIO(png)) as image:
        return image.convert("RGBA").reduce(2)


def background(index: int, size: int) -> np.ndarray:
    """A linear ramp between two mid-tone colours, its direction and colours drawn by ``index``.

    Only exactly rounded operations are used, so the bytes are the same on every machine.

    Returns:
        (size, size, 3) uint8.
    """
    generator = np.random.Generator(np.random.Philox(key=[BACKGROUND_STREAM, index]))
    start, end = generator.uniform(*BACKGROUND_RANGE, size=(2, 3))
    right, down = generator.uniform(-1, 1, size=2)
    axis = np.linspace(-1, 1, size)
    along = (right * axis[None, :] + down * axis[:, None]) / (abs(right) + abs(down))
    ramp = start + (end - start) * (along[:, :, None] + 1) / 2
    return np.rint(ramp).astype(np.uint8)


def plan_avatars(config: DataConfig) -> Plan:
    """The avatars a config asks for; nothing is drawn yet."""
    styles = avatar_styles(config)
    num_train = DEFAULT_NUM_TRAIN if config.num_train is None else config.num_train
    description = {
        "dataset": "avatars",
        "style": config.style,
        "styles": {style: _credits(style) for style in styles},
        "zoom": {style: ZOOM[style] for style in styles},
        "split": f"train: indices from 0; held-out: indices from {FIRST_HELD_OUT}",
        "crop": config.crop,
        "filter": "drawn at twice the size, then 2x2 box",
        "versions": {package: importlib.metadata.version(package) for package in DRAWN_BY},
    }
    return Plan(
        name=f"avatars-{config.style}",
        origin=f"avatars of style {config.style}",
        source=AvatarSource(styles, config.size),
        size=config.size,
        train=range(num_train),
        held_out=range(FIRST_HELD_OUT, 2**32),
        num_held_out=config.num_held_out,
        replace_duplicates=True,
        label_names=label_names(styles),
        description=description,
        fingerprint="",
        captioner=AvatarCaptioner(styles) if config.captions in (AUTO, ATTRIBUTES) else None,
    )


def avatar_styles(config: DataConfig) -> tuple[str, ...]:
    """The styles that portraits take in turn."""
    return AVATAR_STYLES if config.style == "mixed" else (config.style,)


@functools.cache
def label_names(styles: tuple[str, ...]) -> dict[str, list[str]]:
    """Attribute to the names of its codes; what a style or portrait lacks is ``none``, code 0.

    Components and colours with one value only say nothing and are left out.
    """
    values: dict[str, set[str]] = {}
    for style in styles:
        definition = _definition(style)
        for name, component in definition["components"].items():
            values.setdefault(name, set()).update(component["variants"])
        for name, color in definition["colors"].items():
            values.setdefault(f"{name}Color", set()).update(color["values"])
    varied = {name: [ABSENT, *sorted(found)] for name, found in values.items() if len(found) > 1}
    return {"style": list(styles), **dict(sorted(varied.items()))}


def values_of(codes: Sequence[int], styles: tuple[str, ...]) -> dict[str, str]:
    """A portrait's attributes by name, of its codes in the order of ``label_names``."""
    names = label_names(styles).items()
    return {label: own[code] for (label, own), code in zip(names, codes, strict=True)}


@functools.cache
def settable(style: str) -> dict[str, tuple[str, ...]]:
    """What each attribute of a style may be set to alone; of those that ``label_names`` has."""
    values: dict[str, tuple[str, ...]] = {}
    for name, component in _definition(style)["components"].items():
        if len(component["variants"]) > 1:
            absent = (ABSENT,) if component.get("probability", 100) < 100 else ()
            values[name] = (*absent, *sorted(component["variants"]))
    for name, color in _definition(style)["colors"].items():
        if len(color["values"]) > 1:
            values[f"{name}Color"] = tuple(sorted(color["values"]))
    return dict(sorted(values.items()))


def _chosen(style: str, options: dict[str, Any]) -> dict[str, str]:
    """A resolved avatar's attributes by the keys of :func:`label_names`."""
    chosen = {"style": style}
    for key, value in options.items():
        if key.endswith("Variant") and value is not None:
            chosen[key.removesuffix("Variant")] = value
        elif key.endswith("Color") and value:
            chosen[key] = value[0]
    return chosen


@functools.cache
def _definition(style: str) -> dict[str, Any]:
    text = (importlib.resources.files("dicebear_styles") / f"{style}.json").read_text("utf-8")
    definition: dict[str, Any] = json.loads(text)
    return definition


@functools.cache
def _style(style: str) -> Style:
    return Style(_definition(style))


def _credits(style: str) -> dict[str, Any]:
    definition = _definition(style)
    return {"definition_sha256": sha256_of_json(definition), **definition["meta"]}
