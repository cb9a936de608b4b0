"""Classifier-free guidance mixes what a network says with and without a class."""

import numpy as np
import pytest
import torch

from mindiffusion.build import build_process
from mindiffusion.classes import NOT_TOLD
from mindiffusion.config.process import PROCESSES
from mindiffusion.config.sampler import SAMPLERS
from mindiffusion.data.codec import PIXELS
from mindiffusion.errors import UserError
from mindiffusion.process import (
    Level,
    Prediction,
    clipped,
    from_x0,
    given,
    guided,
    stitched,
)
from mindiffusion.sampling import sample_images
from mindiffusion.training.preflight import check_sampler

SHAPE = (3, 4, 2, 2)
"""Of four channels: guidance acts on all of them."""
TOLD = torch.tensor([0, 2, 1])


def level(*times):
    t = torch.tensor(times, dtype=torch.float64)
    return Level(t, (1 - t**2 / 2).sqrt(), t / 2**0.5, t, torch.ones_like(t))


class Net:
    """ε̂ differs by class and image; counts its calls."""

    def __init__(self, says_x0=False):
        self.asked = []
        self.says_x0 = says_x0

    def __call__(self, x_t, at, condition=None):
        self.asked.append(condition.tolist())
        answer = x_t * 0.3 + (condition.to(x_t) * 0.7 + 0.1).sin()[:, None, None, None]
        return from_x0(x_t, at, answer) if self.says_x0 else Prediction(x_t, at, answer)


@pytest.fixture
def x_t():
    return torch.linspace(-2, 2, 48, dtype=torch.float64).view(SHAPE)


@pytest.mark.parametrize(("scale", "said"), [(1.0, TOLD), (0.0, torch.full((3,), NOT_TOLD))])
def test_scale_1_is_told_and_scale_0_is_not_to_the_bit_in_one_call(x_t, scale, said):
    net = Net()
    found = guided(net, scale)(x_t, level(0.5), TOLD)
    assert net.asked == [said.tolist()]
    assert torch.equal(found.eps, Net()(x_t, level(0.5), said).eps)


@pytest.mark.parametrize("says_x0", [False, True])
@pytest.mark.parametrize("scale", [0.4, 2.0, 7.5])
def test_other_scales_go_along_the_line_through_both_in_all_channels(x_t, scale, says_x0):
    net, at = Net(says_x0), level(0.5)
    found = guided(net, scale)(x_t, at, TOLD)
    assert net.asked == [TOLD.tolist(), [NOT_TOLD] * 3]
    told, plain = (Net(says_x0)(x_t, at, c) for c in (TOLD, torch.full_like(TOLD, NOT_TOLD)))
    torch.testing.assert_close(found.eps, (1 - scale) * plain.eps + scale * told.eps)
    # Both readings of one answer agree, whichever the process says first.
    torch.testing.assert_close(at.alpha * found.x0 + at.sigma * found.eps, x_t)
    assert (found.known_x0 is not None) == says_x0
    assert ((found.eps - told.eps).abs() > 1e-3).all()


def test_it_guides_inside_its_interval_alone_with_both_ends(x_t):
    for time, calls in ((0.2, 1), (0.3, 2), (0.5, 2), (0.7, 2), (0.71, 1)):
        net = Net()
        found = guided(net, 3.0, (0.3, 0.7))(x_t, level(time), TOLD)
        assert len(net.asked) == calls
        if calls == 1:
            assert torch.equal(found.eps, Net()(x_t, level(time), TOLD).eps)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_levels_of_each_image_are_guided_as_one_for_all_would_be(x_t, scale):
    times = (0.2, 0.5, 0.9)
    denoise = guided(Net(), scale, (0.3, 0.7))
    mixed = denoise(x_t, level(*times), TOLD)
    for number, time in enumerate(times):
        alone = denoise(x_t, level(time), TOLD)
        assert torch.equal(mixed.eps[number], alone.eps[number])


def test_it_goes_into_clipping_and_around_stitching(x_t):
    at = level(0.5)
    pair = stitched(Net(), Net(), 0.5)
    found = clipped(given(guided(pair, 2.0), TOLD))(x_t, at)
    assert found.x0.abs().max() <= 1
    expected = guided(Net(), 2.0)(x_t, at, TOLD).x0.clamp(-1, 1)
    torch.testing.assert_close(found.x0, expected)


def test_guidance_without_classes_is_refused(x_t):
    with pytest.raises(UserError, match="it was given no classes; draw with guidance 1"):
        guided(Net(), 2.0)(x_t, level(0.5))


@pytest.mark.parametrize("kind", list(PROCESSES))
@pytest.mark.parametrize("name", list(SAMPLERS))
def test_every_sampler_guides_on_every_process(name, kind, tiny_config):
    """Strength 0 draws what is told nothing, to the bit; image k is the same in any chunk."""
    config = tiny_config("b", f"process={{kind: {kind}}}", f"sampler.name={name}")
    try:
        check_sampler(config)
    except UserError as refused:
        pytest.skip(str(refused))
    process = build_process(config)

    def shown(guidance, told, chunk=2):
        own = type(config.sampler)(name=name, steps=3, chunk=chunk, guidance=guidance)
        return sample_images(painter, process, PIXELS, own, 4, 2, conditions=told)

    def in_turn(index):
        return index % 3

    def told_nothing(index):
        return torch.full_like(index, NOT_TOLD)

    assert np.array_equal(shown(0.0, in_turn), shown(1.0, told_nothing))
    strong, plain = shown(4.0, in_turn), shown(1.0, in_turn)
    assert not np.array_equal(strong, plain)
    assert np.array_equal(shown(4.0, in_turn, chunk=3), strong)


def painter(x_t, at, condition):
    """Predicts a grey by class: −1, "not told", is the darkest."""
    grey = (condition.to(x_t) * 0.1 - 0.2).view(-1, 1, 1, 1)
    return from_x0(x_t, at, grey.expand_as(x_t))
