"""The encoder "words": what a word is, which words have a row, where a caption is cut."""

import pytest

from mindiffusion.config.text import TextConfig
from mindiffusion.errors import UserError
from mindiffusion.text.reading import notes_on, notes_on_all
from mindiffusion.text.words import (
    BEGIN,
    NULL,
    PADDING,
    UNKNOWN,
    Vocabulary,
    WordEncoder,
    words_of,
)

TEXTS = ("a bald man", "a man, a hat", "hat")


def encoder(**changes):
    config = TextConfig(**{"max_tokens": 5, "width": 8} | changes)
    return WordEncoder(Vocabulary.of(TEXTS, config.vocabulary), config)


def test_words_are_runs_of_letters_or_single_signs_in_lower_case():
    found = [word for word, _ in words_of("A man’s T-shirt, Ｈat_3")]
    assert found == ["a", "man’s", "t", "-", "shirt", ",", "hat", "_", "3"]
    assert words_of("") == [] and [end for _, end in words_of("a  hat")] == [1, 6]


def test_frequent_words_come_first_and_as_many_as_there_are_rows():
    assert Vocabulary.of(TEXTS, 100).words == ("a", "hat", "man", ",", "bald")
    assert Vocabulary.of(reversed(TEXTS), 6).words == ("a", "hat")
    assert Vocabulary.of(("x" * 65,), 9).words == ()


def test_a_table_has_a_row_for_not_told_and_one_for_each_text():
    table = encoder().table(["a hat", "", "a zebra a yak a hat"])
    assert table.rows.tolist() == [
        [NULL, PADDING, PADDING, PADDING, PADDING],
        [BEGIN, 4, 5, PADDING, PADDING],
        [BEGIN, PADDING, PADDING, PADDING, PADDING],
        [BEGIN, 4, UNKNOWN, 4, UNKNOWN],
    ]
    assert table.lengths.tolist() == [1, 3, 1, 5] and table.count == 3
    assert encoder(null="empty").table([]).rows.tolist() == [[BEGIN] + [PADDING] * 4]


def test_a_text_that_is_cut_says_where_and_unknown_words_are_named():
    reader = encoder()
    assert notes_on("a bald man", reader) == []
    (cut,) = notes_on("a man, a hat", reader)
    assert "longer than 5 tokens" in cut and cut.endswith("it is cut behind 'a man, a'.")
    (unknown,) = notes_on("a Zebra zebra", reader)
    assert "the network's vocabulary has no zebra; it reads one token" in unknown
    assert notes_on_all(["a hat"], reader) == []
    (note,) = notes_on_all(["a hat", "a man, a hat"], reader)
    assert note.startswith("1 of 2 captions are cut; the first: 'a man, a hat'")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"encoder": "hf:x"}, "give model.text.width"),
        ({"encoder": "minilm", "width": 8}, "states of minilm have 384"),
        ({"width": 6}, "give a multiple of 4"),
        ({"encoder": "clip:x", "layers": 3}, "are of the encoder words alone"),
        ({"encoder": "t5"}, "give words, minilm, clip:PATH or hf:PATH"),
        ({"encoder": "words:x"}, "give words, minilm, clip:PATH or hf:PATH"),
        ({"max_tokens": 1}, "greater than or equal to 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, said):
    with pytest.raises((UserError, ValueError), match=said):
        TextConfig(**settings)


def test_a_table_says_which_encoder_a_network_has():
    config = TextConfig(encoder="clip:/models/vit-large", max_tokens=77)
    assert (config.title, config.token_width, config.is_trained) == ("clip:vit-large", 768, False)
