"""A labelled data set that a small network reads in a second."""

from pathlib import Path

import numpy as np
import pytest

from benchmark.evaluation.attributes.fit import ClassifierConfig
from benchmark.evaluation.attributes.train import train_classifier
from mindiffusion.data.prepared import PreparedData

SIDE = 16
NAMES = {
    "tone": ["dark", "bright", "white"],
    "place": ["left", "right"],
    "luck": ["no", "yes"],
    "same": ["always", "never"],
}
SMALL = ClassifierConfig(num_images=512, steps=80, batch=64, width=8)


def draw(count, seed):
    """Images with a square left or right of the middle, in two tones; luck leaves no trace."""
    rng = np.random.default_rng(seed)
    labels = {
        "tone": (rng.random(count) < 0.3).astype(np.int16),
        "place": rng.integers(0, 2, count).astype(np.int16),
        "luck": rng.integers(0, 2, count).astype(np.int16),
        "same": np.zeros(count, dtype=np.int16),
    }
    images = rng.integers(97, 104, (count, SIDE, SIDE, 3))
    for image, tone, place in zip(images, labels["tone"], labels["place"], strict=True):
        # The place is told by height, for images are mirrored in training.
        top = 2 if place == 0 else 9
        image[top : top + 5, 5:11] = 30 if tone == 0 else 220
    return images.astype(np.uint8), labels


@pytest.fixture(scope="package")
def squares():
    """600 training and 200 held-out images; tones and places can be read, luck cannot."""
    train, train_labels = draw(600, 0)
    held_out, held_out_labels = draw(200, 1)
    return PreparedData(
        folder=Path("nowhere"),
        train=train,
        held_out=held_out,
        train_labels=train_labels,
        held_out_labels=held_out_labels,
        label_names=NAMES,
        manifest={"dataset": "squares"},
        manifest_id="0123456789ab",
    )


@pytest.fixture(scope="package")
def classifier(squares):
    return train_classifier(squares, SMALL)


@pytest.fixture(scope="session")
def small_config():
    return SMALL
