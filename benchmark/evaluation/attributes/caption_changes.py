"""Captions of portraits with one word changed, and what that word changes in the picture.

A change starts from the portrait: one of its options is set to another value, so that exactly one
statement of its caption gets false, and another word is true in its place. So the changed caption
is that of a portrait that can be drawn, and says nothing that contradicts itself.
"""

import functools
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.attributes.amplitude import rms_difference
from mindiffusion.data.avatars import FIRST_HELD_OUT, AvatarSource, settable, values_of
from mindiffusion.data.caption_grammar import (
    Statement,
    attributes_of,
    holds,
    parse,
    prompt_of,
    true_statements,
)

_STREAM = 0x7265776F7264  # key of the Philox stream, apart from all others
_FIRST_PORTRAIT = FIRST_HELD_OUT + 2**30
"""Portraits from here on are in no data set: nothing was trained or calibrated on them."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Change:
    """One option of a portrait set to another value, and what its caption says for it.

    Attributes:
        statement: what takes the place of the caption's statement of the same feature.
        attribute: the option.
        value: what it is set to.
    """

    statement: Statement
    attribute: str
    value: str


@dataclass(frozen=True, eq=False)
class ChangedPortraits:
    """N portraits before and after their change, as they are drawn and not generated.

    Attributes:
        changes: what is changed.
        before: (N, side, side, 3) uint8.
        after: likewise.
    """

    changes: tuple[Change, ...]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]

    @functools.cached_property
    def amplitudes(self) -> dict[str, float]:
        """Feature to the root mean square difference that its changes make.

        Over pixels and channels, in the [-1, 1] scale; the mean over the changes.
        """
        found: dict[str, list[float]] = {}
        for change, *pictures in zip(self.changes, self.after, self.before, strict=True):
            found.setdefault(change.statement.feature, []).append(rms_difference(*pictures))
        return {feature: math.fsum(values) / len(values) for feature, values in found.items()}


def possible_changes(
    statements: Sequence[Statement], values: Mapping[str, str]
) -> tuple[Change, ...]:
    """All changes of a portrait that make another word of one of its features true.

    Args:
        statements: of the caption, all of them true.
        values: the portrait's attributes, with "style".

    Returns:
        Changes by which one statement gets false, a word of the same feature that was not true
        gets true, and all other statements stay true.
    """
    style = values["style"]
    asked = {name for one in statements for name in attributes_of(style, one.feature)}
    found = []
    for attribute, options in settable(style).items():
        others = options if attribute in asked else ()
        for option in others:
            changed = {**values, attribute: option}
            untrue = [one for one in statements if not holds(one, changed)]
            if len(untrue) == 1:
                words = true_statements(changed).get(untrue[0].feature, ())
                news = [word for word in words if not holds(word, values)]
                found += [Change(word, attribute, option) for word in news]
    return tuple(found)


def drawn_change(
    statements: Sequence[Statement],
    values: Mapping[str, str],
    index: int,
    features: Collection[str],
) -> Change | None:
    """One of the possible changes: a function of the arguments.

    Features are equally likely, then their words, then the ways to make a word true.

    Args:
        statements: as of ``possible_changes``.
        values: likewise.
        index: keys the draw.
        features: of which a word may be changed.

    Returns:
        The change; None where none is possible.
    """
    changes = [one for one in possible_changes(statements, values) if one.statement[0] in features]
    uniforms = np.random.Generator(np.random.Philox(key=[_STREAM, index])).random(3).tolist()
    for key, uniform in zip((_feature, _statement, _option), uniforms, strict=True):
        kinds = [list(group) for _, group in itertools.groupby(sorted(changes, key=key), key=key)]
        changes = _one(kinds, uniform) if kinds else []
    return changes[0] if changes else None


@functools.lru_cache(maxsize=4)
def changed_portraits(
    styles: tuple[str, ...], side: int, count: int, features: frozenset[str]
) -> ChangedPortraits:
    """Portraits that are in no data set, each with one change.

    Args:
        styles: that they take in turn.
        side: in pixels.
        count: how many are drawn; one of which no word can be changed is left out.
        features: as of ``drawn_change``.
    """
    source = AvatarSource(styles, side)
    changes, before, after = [], [], []
    for item in range(_FIRST_PORTRAIT, _FIRST_PORTRAIT + count):
        portrait = source.draw(item)
        values = values_of(portrait.codes, styles)
        statements = parse(prompt_of(item, values)).statements
        change = drawn_change(statements, values, item, features)
        if change is not None:
            changes.append(change)
            before.append(portrait.pixels)
            after.append(source.counterfactual(item, change.attribute, change.value).pixels)
    shape = (-1, side, side, 3)
    pictures = [np.array(some, dtype=np.uint8).reshape(shape) for some in (before, after)]
    return ChangedPortraits(tuple(changes), *pictures)


def _feature(change: Change) -> Any:
    return change.statement.feature


def _statement(change: Change) -> Any:
    return change.statement


def _option(change: Change) -> Any:
    return change.attribute, change.value


def _one(choices: Sequence[_T], uniform: float) -> _T:
    return choices[int(uniform * len(choices))]
