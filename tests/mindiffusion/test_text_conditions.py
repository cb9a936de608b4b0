import numpy as np
import pytest
import torch

from mindiffusion.data.captions import Captions, ImageCaptions
from mindiffusion.text_conditions import CaptionDraw, prompt_conditions

CPU = torch.device("cpu")


def image_captions(*numbers):
    """Captions of images, each given as a list of numbers."""
    ends = np.cumsum([len(one) for one in numbers], dtype=np.int64)
    return ImageCaptions(
        np.concatenate([np.zeros(1, np.int64), ends]), np.concatenate(numbers).astype(np.int64)
    )


@pytest.fixture
def captions():
    """Captions of three training images and two held-out ones."""
    return Captions(
        source="txt",
        texts=("a", "b", "c", "d", "e"),
        num_learned=4,
        train=image_captions([0], [1, 2, 3], [2, 0]),
        held_out=image_captions([3], [1]),
        prompts=np.array([4, 1]),
    )


def drawn(captions, images, step=0, seed=5, start=0, variant=0):
    position = torch.arange(start, start + len(images))
    return CaptionDraw(captions, CPU)(torch.as_tensor(images), seed, position, step, variant)


def test_a_caption_is_one_of_its_image(captions):
    images = torch.arange(3).repeat(100)
    for image, number in zip(images, drawn(captions.train, images), strict=True):
        assert int(number) in captions.train.of(int(image))


def test_all_captions_of_an_image_are_equally_likely(captions):
    counts = torch.bincount(drawn(captions.train, [1] * 30_000), minlength=5)
    assert counts[[0, 4]].sum() == 0
    # Three standard deviations of a count of 10,000.
    assert (counts[1:4] - 10_000).abs().max() < 3 * (30_000 * 2 / 9) ** 0.5


def test_a_draw_depends_on_seed_step_and_position_alone(captions):
    whole = drawn(captions.train, [1] * 64, step=3)
    parts = [drawn(captions.train, [1] * 32, step=3, start=start) for start in (0, 32)]
    assert torch.equal(whole, torch.cat(parts))
    others = [
        drawn(captions.train, [1] * 64, step=4),
        drawn(captions.train, [1] * 64, step=3, seed=6),
        drawn(captions.train, [1] * 64, step=3, variant=1),
    ]
    assert not any(torch.equal(whole, other) for other in others)


def test_drawn_images_take_the_prompts_in_turn(captions):
    of = prompt_conditions(captions)
    assert of(torch.arange(5)).tolist() == [4, 1, 4, 1, 4]
    assert of(torch.tensor([3])).tolist() == [1]


def test_first_captions_and_learned_texts(captions):
    assert captions.train.first.tolist() == [0, 1, 2]
    assert captions.learned == ("a", "b", "c", "d")
    assert len(captions.train) == 3
