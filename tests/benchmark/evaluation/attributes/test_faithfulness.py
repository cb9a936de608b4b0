"""Statements judged by what a classifier reads, on readings made by hand."""

import numpy as np
import pytest

from benchmark.evaluation.attributes.classifier import Attribute, Readings
from benchmark.evaluation.attributes.faithfulness import (
    judged,
    readable_features,
    same_readings,
    share_of,
    values_read,
)
from mindiffusion.data.caption_grammar import Statement


def attribute(name, *classes):
    count = len(classes)
    return Attribute(name, classes, tuple(range(count)), (1 / count,) * count, 1.0, 0.9, 0.01, 0.02)


READ = (
    attribute("hair", "bald", "long", "cap"),
    attribute("eyes", "open", "glasses"),
    attribute("clothingColor", "#456dff", "#e24553"),
)


def readings(*rows):
    """Readings of pictures by the numbers of their classes, one for each attribute of ``READ``."""
    columns = zip(*rows, strict=True)
    probabilities = {
        one.name: np.eye(len(one.classes), dtype=np.float32)[list(column)]
        for one, column in zip(READ, columns, strict=True)
    }
    return Readings(probabilities, np.zeros(len(rows), dtype=bool))


def test_only_features_whose_attributes_are_all_read_are_judged():
    assert readable_features(READ, ("personas",)) == (
        "hair", "headwear", "eyewear", "eyes", "clothes", "accessories",
    )  # fmt: skip
    assert "hair colour" in readable_features(
        (*READ, attribute("hairColor", "a", "b")), ("personas",)
    )
    # Of several styles each needs its own attributes, and the style has to be read.
    assert readable_features(READ, ("personas", "toon-head")) == ()
    style = attribute("style", "personas", "toon-head")
    assert readable_features((*READ, style), ("personas", "toon-head")) == (
        "headwear", "eyewear", "eyes", "accessories",
    )  # fmt: skip


def test_statements_hold_by_the_most_probable_classes():
    values = values_read(readings((0, 1, 0), (1, 0, 1)), READ, ("personas",))
    assert values == (
        {"style": "personas", "hair": "bald", "eyes": "glasses", "clothingColor": "#456dff"},
        {"style": "personas", "hair": "long", "eyes": "open", "clothingColor": "#e24553"},
    )
    said = [
        (Statement("hair", "bald head"), Statement("eyewear", "no glasses")),
        (Statement("clothes", "red clothes"), Statement("skin", "light skin")),
    ]
    found = judged(said, values, ("hair", "eyewear", "clothes"))
    assert found.image.tolist() == [0, 0, 1] and found.held.tolist() == [True, False, True]
    assert found.of(["hair", "clothes"]).held.tolist() == [True, True]
    assert len(judged([(), ()], values, ("hair",)).held) == 0


def test_a_share_is_of_statements_and_its_error_of_pictures():
    rng = np.random.default_rng(0)
    values, shares = [], []
    for _ in range(300):
        # Pictures obey all of their one to three statements or none: these go together.
        said = rng.integers(1, 4, 60)
        obeys = rng.random(60) < 0.6
        rows = [(k, "hair", obeys[k]) for k in range(60) for _ in range(said[k])]
        image, feature, held = map(np.array, zip(*rows, strict=True))
        share = share_of(type(judged([], [], ()))(image, feature, held))
        assert share.pictures == 60 and share.value == pytest.approx(held.mean())
        values.append(share.value)
        shares.append(share.standard_error)
    assert np.mean(shares) == pytest.approx(np.std(values), rel=0.12)
    bald = {"style": "personas", "hair": "bald"}
    one = judged([(Statement("hair", "bald head"),)], [bald], ["hair"])
    assert one.held.all() and share_of(one) is None


def test_all_but_the_changed_attribute_are_compared():
    values = values_read(readings((0, 1, 0), (1, 0, 1)), READ, ("personas",))
    other = values_read(readings((2, 1, 1), (1, 1, 1)), READ, ("personas",))
    found = same_readings(values, other, ["hair", "eyes"])
    assert list(zip(*(one.tolist() for one in found), strict=True)) == [
        (0, "eyes", True),
        (0, "clothingColor", False),
        (1, "hair", True),
        (1, "clothingColor", True),
    ]
