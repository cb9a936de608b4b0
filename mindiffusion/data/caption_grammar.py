"""Captions of avatars: sentences made of what their attributes are, and read back from them.

A caption is a phrasing and some statements: "a portrait of someone with long red hair, without
glasses" states three things. Writing and reading are inverse, so what a caption says is known
exactly: a test can ask whether it is true, a score whether a picture drawn by it obeys, and one
statement can be changed while all other words stay. Phrasings that are held out consist of words
that training sees, in sentences that it never sees.
"""

import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from mindiffusion.data.attribute_words import COLOUR_OF, FEATURES, MEANINGS, Word
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.files import sha256_of_json
from mindiffusion.printable import printable

CAPTIONS_OF_AN_IMAGE = 4
_STREAM = 0x63617074696F6E73  # key of the Philox stream, apart from all others
_FEWEST_STATEMENTS, _MOST_STATEMENTS = 2, 4
_WEIGHT_OF_DENIALS = 0.4
"""Of a feature of which only denials are true: most portraits have no beard."""
_SHOWN = 120


class Statement(NamedTuple):
    """What a caption says of one feature: one of ``FEATURES``, and the name of one of its words."""

    feature: str
    word: str

    @property
    def denies(self) -> bool:
        """Whether it says that the person lacks something."""
        return _words(self.feature)[self.word].denies


@dataclass(frozen=True)
class Phrasing:
    """A form of sentences.

    Attributes:
        both: the sentence where the person has things, ``{has}``, and lacks others, ``{lacks}``.
        has: the sentence where nothing is denied.
        lacks: the sentence where all is denied.
        last: what stands before the last of several things; a comma stands before the others.
        no: whether each thing that the person lacks has "no" before it, and not an article.
        is_held_out: whether no training image has such a caption.
    """

    both: str
    has: str
    lacks: str
    last: str = " and "
    no: bool = True
    is_held_out: bool = False


PHRASINGS = (
    Phrasing(
        both="a person with {has}, {lacks}",
        has="a person with {has}",
        lacks="a person with {lacks}",
    ),
    Phrasing(
        both="a portrait of someone with {has}, without {lacks}",
        has="a portrait of someone with {has}",
        lacks="a portrait of someone without {lacks}",
        no=False,
    ),
    Phrasing(both="{has}, {lacks}", has="{has}", lacks="{lacks}", last=", "),
    Phrasing(
        both="this is someone who has {has} but {lacks}",
        has="this is someone who has {has}",
        lacks="this is someone who has {lacks}",
    ),
    Phrasing(
        both="this person has {has}, without {lacks}",
        has="this person has {has}",
        lacks="this person is without {lacks}",
        no=False,
        is_held_out=True,
    ),
    Phrasing(
        both="{has} but {lacks}, a portrait",
        has="{has}, a portrait",
        lacks="{lacks}, a portrait",
        last=", ",
        is_held_out=True,
    ),
)
_TRAINED = tuple(number for number, one in enumerate(PHRASINGS) if not one.is_held_out)
_HELD_OUT = tuple(number for number, one in enumerate(PHRASINGS) if one.is_held_out)


@dataclass(frozen=True)
class Caption:
    """What a caption consists of.

    Attributes:
        phrasing: number of one of ``PHRASINGS``.
        statements: at most one of each feature, in the order of ``FEATURES``.
    """

    phrasing: int
    statements: tuple[Statement, ...]

    @property
    def text(self) -> str:
        """The sentence."""
        form = PHRASINGS[self.phrasing]
        said = dict(self.statements)
        has = [
            _nominal(statement, said) for statement in self.statements if _is_said(statement, said)
        ]
        lacks = [_lacked(statement, form.no) for statement in self.statements if statement.denies]
        template = form.has if not lacks else form.both if has else form.lacks
        last_denied = form.last if form.no else " or "
        return template.format(has=_listed(has, form.last), lacks=_listed(lacks, last_denied))

    def restated(self, feature: str, word: str) -> "Caption":
        """The same caption with another word of a feature that it speaks of.

        Raises:
            UserError: it does not speak of the feature, or the feature has no such word.
        """
        features = [statement.feature for statement in self.statements]
        if feature not in features:
            raise UserError(
                f"the caption {self.text!r} says nothing of {feature!r}."
                + did_you_mean(feature, features)
            )
        if word not in _words(feature):
            raise UserError(
                f"no word of {feature!r} is {word!r}." + did_you_mean(word, _words(feature))
            )
        return Caption(
            self.phrasing,
            tuple(
                Statement(feature, word) if one.feature == feature else one
                for one in self.statements
            ),
        )


def holds(statement: Statement, values: Mapping[str, str]) -> bool:
    """Whether a statement is true of a portrait.

    Args:
        statement: what is said.
        values: attribute to value, with "style", as ``avatars.label_names`` calls them; those that
            the portrait was drawn with, or that are read from a picture.
    """
    meaning = MEANINGS[values["style"]].get(statement.feature, {}).get(statement.word, ())
    return any(all(one.passes(values) for one in way) for way in meaning)


def true_statements(values: Mapping[str, str]) -> dict[str, tuple[Statement, ...]]:
    """Feature to the statements that are true of a portrait; a feature without any is left out."""
    style = values["style"]
    found = {}
    for feature in MEANINGS[style]:
        attributes = attributes_of(style, feature)
        statements = _true_of(feature, style, tuple(values[one] for one in attributes))
        if statements:
            found[feature] = statements
    return {feature: found[feature] for feature in FEATURES if feature in found}


@functools.cache
def attributes_of(style: str, feature: str) -> tuple[str, ...]:
    """The attributes that words of a feature depend on; none where a style lacks the feature."""
    ways = itertools.chain.from_iterable(MEANINGS[style].get(feature, {}).values())
    return tuple(sorted({one.attribute for way in ways for one in way}))


@functools.lru_cache(maxsize=1 << 16)
def _true_of(feature: str, style: str, chosen: tuple[str, ...]) -> tuple[Statement, ...]:
    """The statements of a feature that are true where its attributes have these values."""
    values = {"style": style, **dict(zip(attributes_of(style, feature), chosen, strict=True))}
    statements = (Statement(feature, word) for word in _words(feature))
    return tuple(statement for statement in statements if holds(statement, values))


def captions_of(index: int, values: Mapping[str, str]) -> tuple[str, ...]:
    """A portrait's captions in phrasings that training sees: a function of index and values.

    Args:
        index: the portrait's number.
        values: as of ``holds``.
    """
    drawn = _draws(index, CAPTIONS_OF_AN_IMAGE + 1)[1:]
    true = true_statements(values)
    return tuple(_drawn(true, _TRAINED, uniforms).text for uniforms in drawn)


def prompt_of(index: int, values: Mapping[str, str]) -> str:
    """A caption of a portrait in a phrasing that training never sees; arguments as before."""
    return _drawn(true_statements(values), _HELD_OUT, _draws(index, 1)[0]).text


def parse(text: str) -> Caption:
    """What a caption consists of.

    Raises:
        UserError: it is none of this grammar.
    """
    for number, form in enumerate(PHRASINGS):
        for template in (form.both, form.has, form.lacks):
            matched = _pattern(template, form.no).fullmatch(text)
            statements = None if matched is None else _statements(matched.groupdict(), form)
            if statements is not None:
                return Caption(number, statements)
    raise UserError(
        f"{printable(text, _SHOWN)!r} is no caption of avatars' grammar; one is 'a person with "
        "long red hair and a smile, no glasses'."
    )


def grammar_digest() -> str:
    """SHA-256 of all that captions of avatars depend on but for the avatars."""
    return sha256_of_json(
        {
            "features": FEATURES,
            "meanings": MEANINGS,
            "phrasings": [asdict(one) for one in PHRASINGS],
            "draws": [
                CAPTIONS_OF_AN_IMAGE,
                _FEWEST_STATEMENTS,
                _MOST_STATEMENTS,
                _WEIGHT_OF_DENIALS,
            ],
        }
    )


# -- drawing --------------------------------------------------------------------------------------


def _draws(index: int, count: int) -> np.ndarray:
    """(count, 2 + 2·features) uniforms: a row for each caption of a portrait."""
    generator = np.random.Generator(np.random.Philox(key=[_STREAM, index]))
    return generator.random((count, 2 + 2 * len(FEATURES)))


def _drawn(
    true: Mapping[str, Sequence[Statement]], phrasings: Sequence[int], uniforms: np.ndarray
) -> Caption:
    """A caption by a row of ``_draws``: only exactly rounded operations, the same everywhere."""
    phrasing, number, *others = uniforms.tolist()
    order = dict(zip(FEATURES, others[: len(FEATURES)], strict=True))
    word = dict(zip(FEATURES, others[len(FEATURES) :], strict=True))
    # A feature of half the weight comes, by and large, twice as late.
    late = {
        feature: order[feature] / (_WEIGHT_OF_DENIALS if all(c.denies for c in statements) else 1.0)
        for feature, statements in true.items()
    }
    count = _FEWEST_STATEMENTS + int(number * (_MOST_STATEMENTS + 1 - _FEWEST_STATEMENTS))
    chosen = set(sorted(late, key=late.__getitem__)[:count])
    statements = tuple(
        statements[int(word[feature] * len(statements))]
        for feature, statements in true.items()
        if feature in chosen
    )
    return Caption(phrasings[int(phrasing * len(phrasings))], statements)


# -- writing --------------------------------------------------------------------------------------


@functools.cache
def _words(feature: str) -> dict[str, Word]:
    return {word.name: word for word in FEATURES[feature]}


def _is_said(statement: Statement, said: Mapping[str, str]) -> bool:
    """Whether it has a noun of its own: not a denial, nor a colour before another's noun."""
    return not statement.denies and not _colours(statement.feature, said)


def _colours(feature: str, said: Mapping[str, str]) -> bool:
    """Whether a feature is a colour that stands before another feature's noun."""
    of = COLOUR_OF.get(feature, "")
    return of in said and not Statement(of, said[of]).denies


def _nominal(statement: Statement, said: Mapping[str, str]) -> str:
    """Such as "long red hair" or "an orange mohawk"."""
    colours = (
        _words(colour)[said[colour]].adjective
        for colour, of in COLOUR_OF.items()
        if of == statement.feature and colour in said
    )
    word = _words(statement.feature)[statement.word]
    return _with_article(word, " ".join(filter(None, (word.adjective, *colours, word.noun))))


def _lacked(statement: Statement, no: bool) -> str:
    word = _words(statement.feature)[statement.word]
    return f"no {word.noun}" if no else _with_article(word, word.noun)


def _with_article(word: Word, nominal: str) -> str:
    if not word.article:
        return nominal
    return f"{'an' if nominal[0] in 'aeiou' else 'a'} {nominal}"


def _listed(things: Sequence[str], last: str) -> str:
    return last.join([", ".join(things[:-1]), things[-1]] if len(things) > 1 else things)


# -- reading --------------------------------------------------------------------------------------

_BETWEEN = re.compile(", | and | or ")


@functools.cache
def _pattern(template: str, no: bool) -> re.Pattern[str]:
    """A template as a pattern; nothing that a person has begins with "no"."""
    lists = {"has": "(?P<has>.+?)", "lacks": f"(?P<lacks>{'no ' if no else ''}.+)"}
    parts = re.split(r"\{(\w+)\}", template)
    return re.compile(
        "".join(lists[part] if at % 2 else re.escape(part) for at, part in enumerate(parts))
    )


def _statements(groups: Mapping[str, str], form: Phrasing) -> tuple[Statement, ...] | None:
    """The statements of a caption's two lists; None where one is unknown."""
    known = {"has": _of_nominals(), "lacks": _of_lacked(form.no)}
    found: dict[str, str] = {}
    for name, listed in groups.items():
        for thing in _BETWEEN.split(listed):
            statements = known[name].get(thing)
            if statements is None or found.keys() & dict(statements).keys():
                return None
            found |= dict(statements)
    return tuple(Statement(feature, found[feature]) for feature in FEATURES if feature in found)


@functools.cache
def _of_nominals() -> dict[str, tuple[Statement, ...]]:
    """Everything that a person may have, as captions say it."""
    return {
        _nominal(statements[0], dict(statements)): statements for statements in _said_together()
    }


def _said_together() -> Iterator[tuple[Statement, ...]]:
    colour_of = {of: colour for colour, of in COLOUR_OF.items()}
    for feature in FEATURES:
        for word in FEATURES[feature]:
            if word.denies:
                continue
            yield (Statement(feature, word.name),)
            colour = colour_of.get(feature)
            for other in FEATURES.get(colour or "", ()):
                yield (Statement(feature, word.name), Statement(str(colour), other.name))


@functools.cache
def _of_lacked(no: bool) -> dict[str, tuple[Statement, ...]]:
    """Everything that a person may lack, as captions say it."""
    statements = [
        Statement(feature, word.name) for feature in FEATURES for word in FEATURES[feature]
    ]
    return {_lacked(statement, no): (statement,) for statement in statements if statement.denies}
