"""A network that is told what an image shows: trained, resumed and sampled with classes."""

from typing import Literal

import numpy as np
import pytest
import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import nn

from mindiffusion.build import NETWORKS
from mindiffusion.config.model import MODELS, ModelConfig
from mindiffusion.config.presets import build_config
from mindiffusion.data.codec import PIXELS
from mindiffusion.data.training_data import TrainingData
from mindiffusion.network import Network
from mindiffusion.process import stitched
from mindiffusion.runtime import resolve_sampler
from mindiffusion.sampling import load_weights, model_of, sample_images, sampling_network
from mindiffusion.training import checkpoint
from mindiffusion.training.loop import Hooks
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.run_folder import run

CPU = torch.device("cpu")


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class PainterConfig(ModelConfig):
    network: Literal["painter"] = "painter"


class Painter(Network):
    """A convolution, and a colour for each of three classes; class 2 where nothing is told."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 3, padding=1)
        self.colour = nn.Embedding(3, 3)
        self.probed = []

    def forward(self, x, told, condition=None):
        if condition is None:
            condition = torch.full((len(x),), 2)
        assert condition.shape == told.shape
        return self.mix(x) + (told[:, None] * self.colour(condition))[:, :, None, None]

    def enter_stage(self, capacity, probe):
        self.probed += [batch.condition for batch in probe(1, 4)]
        return {}


@pytest.fixture
def painter(monkeypatch, tiny_content):
    """A function: output folder, words → the config of a tiny run with the network."""
    monkeypatch.setitem(MODELS, "painter", PainterConfig)
    monkeypatch.setitem(NETWORKS, PainterConfig, lambda model, config: Painter())

    def make(output, *words):
        content = tiny_content("b", "training.lr=0.05", *words, output=output)
        return build_config(content | {"model": {"network": "painter"}}, "mine")

    return make


@pytest.fixture(scope="module")
def shades():
    """Dark pictures of class 0 and light ones of class 1, taking turns."""
    labels = np.arange(64) % 2
    images = np.broadcast_to((40 + 175 * labels)[:, None, None, None], (64, 32, 32, 3))
    return TrainingData(images.astype(np.uint8), "shades", labels)


def trained(config, data, stop_after=None):
    return run(config, data, Ranks(), lambda trainer: Hooks(), stop_after)


def even_odd(index):
    return index % 2


def test_network_is_trained_with_labels_and_resumed_to_the_same_bits(
    painter, workdir, shades, assert_same
):
    whole, parts = painter("whole"), painter("parts")
    end = trained(whole, shades)
    assert trained(parts, shades, stop_after=10).step == 10
    trained(parts, shades)
    ends = [checkpoint.load(checkpoint.weights_path(c.run_dir, 24)) for c in (whole, parts)]
    assert_same(*ends)
    colours = end.network.colour.weight.detach()
    assert not torch.equal(colours[0], colours[1])
    # A stage's probe is told what a step is.
    assert [tuple(seen.shape) for seen in end.network.probed] == [(4,)]
    without = trained(painter("none"), TrainingData(shades.images, "shades"))
    assert without.network.probed == [None]
    moments = without.optimizer.state[without.network.colour.weight]["exp_avg"]
    assert moments[2].abs().min() > 0 == moments[:2].abs().max()


def test_images_show_what_they_are_told_to(painter, workdir, shades):
    config = painter("run")
    trained(config, shades)
    content = checkpoint.load(checkpoint.weights_path(config.run_dir, 24))
    model, side = model_of(content, "raw", CPU), config.data.size

    def drawn(denoise, conditions, count=6, **settings):
        sampler = type(config.sampler)(steps=2, chunk=settings.pop("chunk", 4), **settings)
        return sample_images(
            denoise, model.process, PIXELS, sampler, count, side, conditions=conditions
        )

    mixed, dark, light = (drawn(model, c) for c in (even_odd, torch.zeros_like, torch.ones_like))
    assert not np.array_equal(dark, light)
    np.testing.assert_array_equal(mixed[::2], dark[::2])
    np.testing.assert_array_equal(mixed[1::2], light[1::2])
    # By image, whatever the chunk; also without clipping, and through the whole chain.
    np.testing.assert_array_equal(drawn(model, even_odd, chunk=3), mixed)
    assert not np.array_equal(drawn(model, None), mixed)
    bare = [drawn(model, c, clip=False) for c in (even_odd, torch.zeros_like)]
    np.testing.assert_array_equal(bare[0][::2], bare[1][::2])
    # A network that serves many milestones, and two that are stitched, are told the same.
    network = sampling_network(config, resolve_sampler(config, "cpu"), CPU)
    shared = load_weights(network, content, "raw")
    np.testing.assert_array_equal(drawn(shared, even_odd), mixed)
    np.testing.assert_array_equal(drawn(stitched(model, shared, 0.5), even_odd), mixed)


def test_ancestral_samples_are_told_too(painter, workdir, shades):
    config = painter("run", "process.n_T=4", "process.beta2=0.5", "sampler.name=ddpm")
    trained(config, shades, stop_after=12)
    model = model_of(checkpoint.load(checkpoint.weights_path(config.run_dir, 12)), "raw", CPU)
    dark, light = (
        sample_images(model, model.process, PIXELS, config.sampler, 4, 32, conditions=c)
        for c in (torch.zeros_like, torch.ones_like)
    )
    assert not np.array_equal(dark, light)
