"""Avatars' captions: true of their portraits, read back whole, the same wherever they are made."""

import itertools

import pytest

from mindiffusion.data.attribute_words import FEATURES, MEANINGS
from mindiffusion.data.avatars import AVATAR_STYLES, AvatarSource, label_names
from mindiffusion.data.caption_grammar import (
    PHRASINGS,
    Caption,
    Statement,
    captions_of,
    holds,
    parse,
    prompt_of,
    true_statements,
)
from mindiffusion.errors import UserError

PORTRAITS = 60


@pytest.fixture(scope="module", params=AVATAR_STYLES)
def portraits(request):
    """Index and attributes of portraits of a style."""
    source, names = AvatarSource((request.param,), 8), label_names((request.param,))
    return [
        (index, {one: names[one][code] for one, code in zip(names, sample.codes, strict=True)})
        for index in range(PORTRAITS)
        for sample in (source.draw(index),)
    ]


def test_every_caption_says_what_is_true_and_is_read_back_whole(portraits):
    for index, values in portraits:
        texts = (*captions_of(index, values), prompt_of(index, values))
        for caption in map(parse, texts):
            assert 1 <= len(caption.statements) <= 4
            assert all(holds(statement, values) for statement in caption.statements), caption.text
        assert [parse(text).text for text in texts] == list(texts)


def test_held_out_phrasings_are_never_trained_and_bring_no_new_word(portraits):
    trained = {text for index, values in portraits for text in captions_of(index, values)}
    assert not any(PHRASINGS[parse(text).phrasing].is_held_out for text in trained)
    assert {parse(text).phrasing for text in trained} == {0, 1, 2, 3}
    prompts = {prompt_of(index, values) for index, values in portraits}
    assert {parse(text).phrasing for text in prompts} == {4, 5}
    words = {word for one in every_caption() for word in split(one.text)}
    learned = {
        word
        for one in every_caption()
        if not PHRASINGS[one.phrasing].is_held_out
        for word in split(one.text)
    }
    assert words == learned


def split(text):
    return text.replace(",", " ,").split()


def every_caption():
    """Captions of one and of two statements, in all phrasings."""
    statements = [
        Statement(feature, word.name) for feature in FEATURES for word in FEATURES[feature]
    ]
    pairs = [(a, b) for a, b in itertools.combinations(statements, 2) if a.feature != b.feature]
    some = [(statement,) for statement in statements] + pairs[::7]
    return [Caption(number, one) for number in range(len(PHRASINGS)) for one in some]


def test_writing_and_reading_are_inverse_for_all_words():
    for caption in every_caption():
        assert parse(caption.text) == caption
    assert len({caption.text for caption in every_caption()}) == len(every_caption())


def test_words_of_a_meaning_are_those_of_the_features_and_their_values_exist():
    for style, features in MEANINGS.items():
        names = label_names((style,))
        for feature, words in features.items():
            assert set(words) <= {word.name for word in FEATURES[feature]}, feature
            tests = [test for ways in words.values() for way in ways for test in way]
            for test in tests:
                assert set(test.values) <= set(names[test.attribute]), (style, test)


def test_a_denied_thing_is_not_there(portraits):
    """ "no hat" is true of nobody of whom "hat" or another word of headwear is."""
    opposite = {"no hat": "headwear", "no glasses": "glasses", "no beard": "beard",
                "no smile": "smile", "no moustache": "moustache"}  # fmt: skip
    for _, values in portraits:
        for feature, statements in true_statements(values).items():
            said = {statement.word for statement in statements}
            for denial, thing in opposite.items():
                if denial in said:
                    others = said - {denial} if feature == thing else said & {thing}
                    assert not others, (values, said)


def test_accessories_are_counted():
    values = {"style": "personas", "eyes": "glasses", "hair": "cap"}
    words = {"no accessories": 0, "one accessory": 1, "two accessories": 2}
    for eyes, hair in itertools.product(("glasses", "open"), ("cap", "long")):
        count = (eyes == "glasses") + (hair == "cap")
        at = values | {"eyes": eyes, "hair": hair}
        found = [word for word in words if holds(Statement("accessories", word), at)]
        assert [words[word] for word in found] == [count]


def test_one_claim_is_changed_and_the_rest_stays():
    caption = parse("a portrait of someone with an orange mohawk and glasses, without a smile")
    assert [statement.word for statement in caption.statements] == [
        "mohawk", "orange hair", "glasses", "no smile",
    ]  # fmt: skip
    changed = caption.restated("eyewear", "no glasses").text
    assert changed == "a portrait of someone with an orange mohawk, without glasses or a smile"
    assert caption.restated("hair", "long hair").text.startswith(
        "a portrait of someone with long orange hair and glasses"
    )
    with pytest.raises(UserError, match="says nothing of 'skin'"):
        caption.restated("skin", "dark skin")
    with pytest.raises(UserError, match="no word of 'eyewear' is 'monocle'"):
        caption.restated("eyewear", "monocle")


def test_captions_stay_what_they_are(portraits):
    """Prepared data of captions have these in their hash: golden values of the first portrait."""
    golden = {
        "personas": "a person with long hair, a wink and green clothes, no accessories",
        "toon-head": "a person with spiky hair, a moustache, a wink and gray clothes",
        "open-peeps": "a person with tan skin, a goatee and teal clothes, no accessories",
    }
    index, values = portraits[0]
    assert captions_of(index, values)[0] == golden[values["style"]]


def test_what_is_no_caption_is_refused_in_one_line():
    for text in (
        "",
        "a person with wings",
        "a person with glasses and sunglasses",
        "no glasses and",
    ):
        with pytest.raises(UserError, match="is no caption of avatars' grammar") as caught:
            parse(text)
        assert "\n" not in str(caught.value)
