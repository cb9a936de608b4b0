"""What avatars' attributes are called in captions, and when each word is true of a portrait.

A *feature* is what a caption may speak of; its *words* are what it may say. A word is true by what
it requires of the attributes, so a caption can be checked against its portrait, and the attributes
that are read in a drawn picture against the caption. Words are of what one can see: the colour of
hair below a hat is none, nor is a mouth behind a beard that covers it. Measured with 64 pixels over
all values of a style: hair colour is spoken of only where it changes 4 % of the pixels or more, and
a mouth not with a ``beardMustache``, behind which it changes none.
"""

import itertools
from collections.abc import Mapping
from typing import NamedTuple


class Word(NamedTuple):
    """One thing that a caption may say of a feature.

    Attributes:
        noun: what the person has, or has not.
        article: whether it takes "a" or "an".
        adjective: stands before the noun, and before a colour of it.
        denies: whether the person has it not.
    """

    noun: str
    article: bool = False
    adjective: str = ""
    denies: bool = False

    @property
    def name(self) -> str:
        """What it is called: unique among its feature's words."""
        first = "no" if self.denies else self.adjective
        return f"{first} {self.noun}" if first else self.noun


class Requirement(NamedTuple):
    """Whether an attribute has one of some values; or, where ``among`` is false, none of them."""

    attribute: str
    values: tuple[str, ...]
    among: bool = True

    def passes(self, values: Mapping[str, str]) -> bool:
        """Whether a portrait with these values passes."""
        return (values[self.attribute] in self.values) == self.among


Meaning = tuple[tuple[Requirement, ...], ...]
"""A word is true where all requirements of any of these are met."""
COLOUR_OF = {"hair colour": "hair"}
"""A feature that is a colour, to the feature whose noun it stands before."""


def _a(noun: str) -> Word:
    return Word(noun, article=True)


def _coloured(colours: str, noun: str) -> tuple[Word, ...]:
    return tuple(Word(noun, adjective=colour) for colour in colours.split())


_HAIR_COLOURS = "black brown auburn red orange pink blond white"
_CLOTHES_COLOURS = "black blue gray green orange pink purple red teal white yellow"
FEATURES: dict[str, tuple[Word, ...]] = {
    "skin": _coloured("light tan dark", "skin"),
    "hair": (
        Word("head", article=True, adjective="bald"),
        Word("hair", denies=True),
        *_coloured("thinning short shoulder-length long curly spiky", "hair"),
        *(_a(noun) for noun in ("bob", "bun", "mohawk", "afro")),
        *(Word(noun) for noun in ("pigtails", "braids", "dreadlocks")),
    ),
    "hair colour": _coloured(_HAIR_COLOURS, "hair"),
    "headwear": (
        *(_a(noun) for noun in ("beanie", "cap", "hat", "turban", "hijab")),
        Word("hat", article=True, denies=True),
    ),
    "eyewear": (
        Word("glasses"),
        Word("sunglasses"),
        _a("eyepatch"),
        Word("glasses", denies=True),
    ),
    "face mask": (_a("mask"),),
    "facial hair": (
        *(_a(noun) for noun in ("beard", "goatee", "moustache")),
        Word("stubble"),
        Word("beard", article=True, denies=True),
        Word("moustache", article=True, denies=True),
    ),
    "mouth": (
        *(_a(noun) for noun in ("smile", "frown", "pacifier")),
        Word("mouth", article=True, adjective="open"),
        Word("smile", article=True, denies=True),
    ),
    "eyes": (
        _a("wink"),
        *(Word("eyes", adjective=adjective) for adjective in ("closed", "three")),
        Word("eye", adjective="one"),
    ),
    "clothes": _coloured(_CLOTHES_COLOURS, "clothes"),
    "accessories": (
        Word("accessories", denies=True),
        Word("accessory", adjective="one"),
        *(Word("accessories", adjective=number) for number in ("two", "three")),
    ),
}
"""Feature to its words, in the order in which captions speak of them."""


def _is(attribute: str, values: str) -> Requirement:
    return Requirement(attribute, tuple(values.split()))


def _not(attribute: str, values: str) -> Requirement:
    return Requirement(attribute, tuple(values.split()), among=False)


def _any(*ways: Requirement | tuple[Requirement, ...]) -> Meaning:
    return tuple(
        way if isinstance(way, tuple) and not isinstance(way, Requirement) else (way,)
        for way in ways
    )


def _colours(
    attribute: str, noun: str, seen: tuple[Requirement, ...], **values: str
) -> dict[str, Meaning]:
    """Words of colours, each by the values of an attribute, true where the others are met too."""
    return {
        f"{colour} {noun}": ((_is(attribute, codes), *seen),) for colour, codes in values.items()
    }


def _counted(*parts: Requirement) -> dict[str, Meaning]:
    """Words that say of how many accessories there are: how many of them are met."""
    names = ("no accessories", "one accessory", "two accessories", "three accessories")
    ways: dict[str, list[tuple[Requirement, ...]]] = {name: [] for name in names[: len(parts) + 1]}
    for present in itertools.product((False, True), repeat=len(parts)):
        all_of = tuple(
            part._replace(among=part.among == is_there)
            for part, is_there in zip(parts, present, strict=True)
        )
        ways[names[sum(present)]].append(all_of)
    return {name: tuple(found) for name, found in ways.items()}


_EYE_WEAR = _is("eyes", "glasses sunglasses")
_CAPS = _is("hair", "beanie cap")
_BARE_MOUTH = _not("facialHair", "beardMustache")
_PERSONAS: dict[str, dict[str, Meaning]] = {
    "skin": _colours(
        "skinColor",
        "skin",
        (),
        light="#eeb4a4 #e7a391 #e5a07e",
        tan="#d78774 #b16a5b",
        dark="#92594b #623d36",
    ),
    "hair": {
        "bald head": _any(_is("hair", "bald")),
        "no hair": _any(_is("hair", "bald")),
        "thinning hair": _any(_is("hair", "balding")),
        "short hair": _any(_is("hair", "buzzcut fade shortCombover shortComboverChops")),
        "long hair": _any(_is("hair", "extraLong long")),
        "curly hair": _any(_is("hair", "curly curlyHighTop")),
        "bob": _any(_is("hair", "bobBangs bobCut")),
        "bun": _any(_is("hair", "bunUndercut curlyBun straightBun")),
        "mohawk": _any(_is("hair", "mohawk")),
        "pigtails": _any(_is("hair", "pigtails")),
    },
    "hair colour": _colours(
        "hairColor",
        "hair",
        (_not("hair", "bald balding beanie cap"),),
        black="#362c47",
        brown="#6c4545",
        white="#dee1f5",
        red="#e15c66",
        pink="#e16381",
        orange="#f27d65 #f29c65",
    ),
    "headwear": {
        "beanie": _any(_is("hair", "beanie")),
        "cap": _any(_is("hair", "cap")),
        "no hat": _any(_not("hair", "beanie cap")),
    },
    "eyewear": {
        "glasses": _any(_is("eyes", "glasses")),
        "sunglasses": _any(_is("eyes", "sunglasses")),
        "no glasses": _any(_not("eyes", "glasses sunglasses")),
    },
    "facial hair": {
        "beard": _any(_is("facialHair", "beardMustache")),
        "goatee": _any(_is("facialHair", "goatee")),
        "moustache": _any(_is("facialHair", "pyramid walrus")),
        "stubble": _any(_is("facialHair", "shadow")),
        "no beard": _any(_is("facialHair", "none pyramid walrus")),
        "no moustache": _any(_is("facialHair", "none soulPatch")),
    },
    "mouth": {
        "smile": _any((_is("mouth", "bigSmile smile"), _BARE_MOUTH)),
        "frown": _any((_is("mouth", "frown"), _BARE_MOUTH)),
        "pacifier": _any((_is("mouth", "pacifier"), _BARE_MOUTH)),
        "open mouth": _any((_is("mouth", "surprise"), _BARE_MOUTH)),
        "no smile": _any((_is("mouth", "frown lips pacifier surprise"), _BARE_MOUTH)),
    },
    "eyes": {
        "wink": _any(_is("eyes", "wink")),
        "closed eyes": _any(_is("eyes", "sleep")),
    },
    "clothes": _colours(
        "clothingColor",
        "clothes",
        (),
        blue="#456dff",
        green="#6dbb58",
        pink="#f55d81",
        purple="#7555ca",
        red="#e24553",
        teal="#54d7c7",
        yellow="#f3b63a",
    ),
    "accessories": _counted(_EYE_WEAR, _CAPS),
}
_TOON_HEAD: dict[str, dict[str, Meaning]] = {
    "skin": _colours(
        "skinColor", "skin", (), light="#f1c3a5", tan="#a36b4f #b98e6a #c68e7a", dark="#5c3829"
    ),
    "hair": {
        "bun": _any(_is("hair", "bun")),
        "spiky hair": _any(_is("hair", "spiky")),
        "short hair": _any((_is("hair", "sideComed spiky undercut"), _is("rearHair", "none"))),
        "shoulder-length hair": _any(_is("rearHair", "neckHigh shoulderHigh")),
        "long hair": _any(_is("rearHair", "longStraight longWavy")),
    },
    "hair colour": _colours(
        "hairColor",
        "hair",
        (),
        black="#2c1b18",
        brown="#724133",
        auburn="#a55728",
        blond="#b58143 #d6b370",
    ),
    "facial hair": {
        "beard": _any(_is("beard", "fullBeard longBeard")),
        "moustache": _any(_is("beard", "moustacheTwirl")),
        "no beard": _any(_is("beard", "none moustacheTwirl")),
        "no moustache": _any(_is("beard", "none chin")),
    },
    "mouth": {
        "smile": _any(_is("mouth", "laugh smile")),
        "frown": _any(_is("mouth", "sad")),
        "open mouth": _any(_is("mouth", "agape")),
        "no smile": _any(_is("mouth", "agape angry sad")),
    },
    "eyes": {
        "wink": _any(_is("eyes", "wink")),
        "closed eyes": _any(_is("eyes", "bow humble")),
    },
    "clothes": _colours(
        "clothesColor",
        "clothes",
        (),
        black="#151613",
        blue="#0b3286",
        gray="#545454",
        green="#147f3c",
        orange="#f97316",
        pink="#ec4899",
        purple="#731ac3",
        red="#b11f1f",
        white="#e8e9e6",
        yellow="#eab308",
    ),
}
_GLASSES = "glasses glasses2 glasses3 glasses4 glasses5"
_SUNGLASSES = "sunglasses sunglasses2"
_HATS = "hatBeanie hatHip hijab turban"
_MOUSTACHES = " ".join(f"moustache{number}" for number in range(1, 10))
_NO_MASK = _is("mask", "none")
_SEEN_EYES = _not("accessories", f"eyepatch {_SUNGLASSES}")
_OPEN_PEEPS: dict[str, dict[str, Meaning]] = {
    "skin": _colours(
        "skinColor", "skin", (), light="#ffdbb4 #edb98a", tan="#d08b5b #ae5d29", dark="#694d3d"
    ),
    "hair": {
        "bald head": _any(_is("head", "noHair1 noHair2 noHair3")),
        "short hair": _any(_is("head", "grayShort short1 short2 short3 short4 short5")),
        "shoulder-length hair": _any(
            _is("head", "bangs medium1 medium2 medium3 mediumBangs mediumBangs2 mediumStraight")
        ),
        "long hair": _any(_is("head", "long longBangs longCurly")),
        "bun": _any(_is("head", "bun bun2 grayBun")),
        "mohawk": _any(_is("head", "mohawk mohawk2")),
        "afro": _any(_is("head", "afro longAfro")),
        "braids": _any(_is("head", "cornrows cornrows2")),
        "dreadlocks": _any(_is("head", "dreads1 dreads2")),
    },
    # All other hair is drawn with ink, whatever its colour.
    "hair colour": _colours(
        "headContrastColor",
        "hair",
        (_is("head", "bangs grayBun grayMedium grayShort mediumBangs2 mohawk short4"),),
        black="#2c1b18",
        brown="#4a312c #724133",
        auburn="#a55728",
        red="#c93305",
        pink="#f59797",
        blond="#b58143 #d6b370 #ecdcbf",
        white="#e8e1e1",
    ),
    "headwear": {
        "beanie": _any(_is("head", "hatBeanie")),
        "hat": _any(_is("head", "hatHip")),
        "turban": _any(_is("head", "turban")),
        "hijab": _any(_is("head", "hijab")),
        "no hat": _any(_not("head", f"bear {_HATS}")),
    },
    "eyewear": {
        "glasses": _any(_is("accessories", _GLASSES)),
        "sunglasses": _any(_is("accessories", _SUNGLASSES)),
        "eyepatch": _any(_is("accessories", "eyepatch")),
        "no glasses": _any(_not("accessories", f"{_GLASSES} {_SUNGLASSES}")),
    },
    "face mask": {"mask": _any(_not("mask", "none"))},
    "facial hair": {
        "beard": _any((_is("facialHair", "full full2 full3 full4"), _NO_MASK)),
        "goatee": _any((_is("facialHair", "goatee1 goatee2"), _NO_MASK)),
        "moustache": _any((_is("facialHair", _MOUSTACHES), _NO_MASK)),
        "no beard": _any((_is("facialHair", f"none {_MOUSTACHES}"), _NO_MASK)),
        "no moustache": _any((_is("facialHair", "none chin"), _NO_MASK)),
    },
    "mouth": {
        "smile": _any(
            (
                _is("expression", "lovingGrin1 lovingGrin2 smile smileBig smileLOL smileTeethGap"),
                _NO_MASK,
            )
        ),
        "frown": _any((_is("expression", "solemn veryAngry"), _NO_MASK)),
        "open mouth": _any((_is("expression", "explaining rage"), _NO_MASK)),
        "no smile": _any((_is("expression", "explaining rage solemn veryAngry"), _NO_MASK)),
    },
    "eyes": {
        "closed eyes": _any((_is("expression", "eyesClosed"), _SEEN_EYES)),
        "one eye": _any((_is("expression", "cyclops"), _SEEN_EYES)),
        "three eyes": _any((_is("expression", "monster"), _SEEN_EYES)),
    },
    "clothes": _colours(
        "clothingColor",
        "clothes",
        (),
        blue="#8fa7df",
        green="#78e185",
        orange="#ffcf77",
        pink="#e279c7",
        red="#e78276",
        teal="#9ddadb",
        yellow="#fdea6b",
    ),
    "accessories": _counted(
        _is("accessories", f"eyepatch {_GLASSES} {_SUNGLASSES}"),
        _is("head", _HATS),
        _not("mask", "none"),
    ),
}
MEANINGS: dict[str, dict[str, dict[str, Meaning]]] = {
    "personas": _PERSONAS,
    "toon-head": _TOON_HEAD,
    "open-peeps": _OPEN_PEEPS,
}
"""Style to feature to word to what it means; a word that is missing is never true of the style."""
