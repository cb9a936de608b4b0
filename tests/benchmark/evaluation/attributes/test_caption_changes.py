"""Captions with one word changed, against the portraits that they are true of."""

from collections import Counter

import numpy as np
import pytest

from benchmark.evaluation.attributes.caption_changes import (
    changed_portraits,
    drawn_change,
    possible_changes,
)
from mindiffusion.data.attribute_words import FEATURES
from mindiffusion.data.avatars import AvatarSource, values_of
from mindiffusion.data.caption_grammar import holds, parse, prompt_of
from mindiffusion.data.names import AVATAR_STYLES

ALL = frozenset(FEATURES)


def portrait(item, styles=("personas",), side=16):
    sample = AvatarSource(styles, side).draw(item)
    values = values_of(sample.codes, styles)
    return values, parse(prompt_of(item, values))


@pytest.mark.parametrize("style", AVATAR_STYLES)
def test_a_change_makes_one_statement_false_and_another_word_of_its_feature_true(style):
    seen = 0
    for item in range(12):
        values, caption = portrait(item, (style,))
        for change in possible_changes(caption.statements, values):
            after = {**values, change.attribute: change.value}
            said = {one.feature: one for one in caption.statements}
            assert not holds(said[change.statement.feature], after)
            assert not holds(change.statement, values)
            changed = caption.restated(*change.statement)
            assert all(holds(one, after) for one in changed.statements)
            assert parse(changed.text) == changed != caption
            seen += 1
    assert seen > 100


def test_what_is_drawn_is_a_function_of_the_arguments_and_spares_no_feature():
    found = Counter()
    for item in range(200):
        values, caption = portrait(item)
        one, again = (drawn_change(caption.statements, values, item, ALL) for _ in range(2))
        assert one == again
        found[one.statement.feature] += 1
    # Features are equally likely however many options they have.
    asked = Counter(one.feature for item in range(200) for one in portrait(item)[1].statements)
    for feature in ("skin", "hair", "clothes", "eyewear"):
        assert 0.15 < found[feature] / asked[feature] < 0.7
    values, caption = portrait(0)
    assert drawn_change(caption.statements, values, 0, frozenset()) is None
    only = drawn_change(caption.statements, values, 0, {caption.statements[0].feature})
    assert only is None or only.statement.feature == caption.statements[0].feature


def test_changed_portraits_differ_where_they_should_and_large_features_come_first():
    found = changed_portraits(("personas", "toon-head"), 32, 96, ALL)
    assert len(found.changes) == len(found.before) == len(found.after) > 90
    assert found.before.shape[1:] == (32, 32, 3) and found.before.dtype == np.uint8
    moved = (found.before != found.after).any(axis=(1, 2, 3))
    assert moved.mean() > 0.95  # words are of what one can see
    amplitudes = found.amplitudes
    assert set(amplitudes) == {change.statement.feature for change in found.changes}
    assert amplitudes["skin"] > amplitudes["mouth"] > 0
    assert changed_portraits(("personas", "toon-head"), 32, 96, ALL) is found


def test_no_data_set_has_these_portraits():
    found = changed_portraits(("personas",), 16, 4, ALL)
    source = AvatarSource(("personas",), 16)
    for first in (0, 2**31):
        near = [source.draw(item).pixels for item in range(first, first + 40)]
        assert not any(np.array_equal(one, other) for one in found.before for other in near)
