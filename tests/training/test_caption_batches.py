"""Captions in batches: drawn by seed, step and position alone, and dropped as classes are."""

import numpy as np
import pytest
import torch

from mindiffusion.classes import NOT_TOLD
from mindiffusion.data.caption_file import captions_table
from mindiffusion.data.codec import PIXELS
from mindiffusion.data.training_data import TrainingData
from mindiffusion.errors import UserError
from mindiffusion.training.batches import BatchSource, image_indices

IMAGES = np.zeros((40, 4, 4, 3), np.uint8)


@pytest.fixture(scope="module")
def captions():
    """Image i has the captions "i 0" … "i 3"."""
    train = [[f"{image} {turn}" for turn in range(4)] for image in range(len(IMAGES))]
    return captions_table("txt", train, [["held out"]], ["a prompt"])


def source(captions, drop=0.0, **changes):
    settings = {"seed": 3, "global_batch": 64, "flip": False} | changes
    data = TrainingData(IMAGES, "m", captions=captions)
    return BatchSource(
        data, PIXELS, device=torch.device("cpu"), dtype=torch.float32, label_drop=drop, **settings
    )


def test_a_batch_is_told_captions_of_its_images_another_at_each_step(captions):
    steps = [source(captions).batch(step, 0, 64).condition for step in range(5)]
    for step, condition in enumerate(steps):
        assert condition.dtype == torch.int64 and condition.shape == (64,)
        said = [captions.texts[number].split()[0] for number in condition.tolist()]
        assert said == [str(image) for image in image_indices(3, step, 64, 40).tolist()]
    turns = torch.stack(steps) % 4
    assert len({tuple(row.tolist()) for row in turns}) == 5
    assert set(turns.unique().tolist()) == {0, 1, 2, 3}


def test_captions_do_not_depend_on_the_split_of_a_batch(captions):
    whole = source(captions, 0.3).batch(4, 0, 64)
    for start, stop in ((0, 7), (7, 33), (33, 64)):
        part = source(captions, 0.3).batch(4, start, stop).condition
        assert torch.equal(part, whole.condition[start:stop])
    assert (whole.condition == NOT_TOLD).any()
    told = source(captions).batch(4, 0, 64)
    kept = whole.condition != NOT_TOLD
    assert torch.equal(whole.condition[kept], told.condition[kept])
    assert torch.equal(whole.noise, told.noise) and torch.equal(whole.u, told.u)


def test_captions_change_no_other_draw_and_another_run_has_others(captions):
    plain, told = (source(one).batch(2, 0, 64) for one in (None, captions))
    assert plain.condition is None and torch.equal(plain.noise, told.noise)
    other = source(captions, noise_stream=1).batch(2, 0, 64).condition
    assert not torch.equal(other % 4, told.condition % 4)


def test_labels_beside_captions_are_refused(captions):
    with pytest.raises(UserError, match="networks are told one of them"):
        TrainingData(IMAGES, "m", np.zeros(40, np.int64), captions=captions)
