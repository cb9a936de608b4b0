from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mindiffusion.build import build_network
from mindiffusion.chain import Chain
from mindiffusion.config.model import NaiveUnetConfig
from mindiffusion.config.process import DDPMConfig
from mindiffusion.config.run import RunConfig, TrainingConfig, to_dict
from mindiffusion.config.sampler import SamplerConfig
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.data.codec import PIXELS
from mindiffusion.ddpm import DDPMProcess
from mindiffusion.errors import UserError
from mindiffusion.process import Model, Prediction, stitched
from mindiffusion.runtime import SamplerRuntime
from mindiffusion.sampling import (
    config_of,
    load_weights,
    model_of,
    primary_weights,
    sample_chunk,
    sample_images,
    sampler_name,
    sampler_steps,
    sampling_network,
    save_png,
    tile,
)
from mindiffusion.unet import NaiveUnet

CONFIG = RunConfig(
    arm="B",
    curriculum=(StageConfig("all", 1.0),),
    output="unused",
    model=NaiveUnetConfig(n_feat=8),
    process=DDPMConfig(beta1=1e-3, beta2=0.1, n_T=12),
    training=TrainingConfig(steps=4, ema_decays=(0.995, 0.9)),
)
SAMPLERS = {
    "ddim": SamplerConfig(name="ddim", steps=4, chunk=4),
    "ddpm": SamplerConfig(name="ddpm", chunk=4),
    "edm": SamplerConfig(name="edm", steps=7, chunk=4, S_churn=4.0),
}
each_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


class Pixelwise(nn.Module):
    """An ε-network of single pixels that remembers its batch sizes."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, x, t):
        self.batches.append(len(x))
        return 0.9 * torch.tanh(x) + 0.01 * t.view(-1, 1, 1, 1)


PROCESS = DDPMProcess(Chain((1e-3, 0.1), 12))


def pixelwise():
    return Model(Pixelwise(), PROCESS)


def draw(model, sampler, count, side=8, *told, **options):
    return sample_images(model, model.process, PIXELS, sampler, count, side, *told, **options)


def checkpoint(weights=("raw", "ema0.995")):
    kept = {
        name: build_network(replace(CONFIG, seed=seed)).state_dict()
        for seed, name in enumerate(weights)
    }
    return {"config": to_dict(CONFIG), "weights": kept}


# -- pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "columns"), [(6, 3), (5, 3), (1, 4), (4, 1)])
def test_tile_lays_images_in_rows_and_fills_with_white(count, columns):
    images = np.random.default_rng(0).integers(0, 255, (count, 2, 3, 3), dtype=np.uint8)
    sheet = tile(images, columns)
    rows = -(-count // columns)
    assert sheet.shape == (rows * 2, columns * 3, 3) and sheet.dtype == np.uint8
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        cell = sheet[2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
        assert (cell == (images[place] if place < count else 255)).all()


def test_save_png_is_lossless(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    save_png(tmp_path / "folder" / "grid.png", image)
    with Image.open(tmp_path / "folder" / "grid.png") as opened:
        assert opened.format == "PNG" and (np.asarray(opened) == image).all()


# -- chunks --------------------------------------------------------------------------------------


@each_sampler
def test_image_is_the_same_for_any_number_of_images(sampler):
    ten = draw(pixelwise(), sampler, 10, 8)
    assert ten.shape == (10, 8, 8, 3) and len(np.unique(ten, axis=0)) == 10
    for count in (1, 4, 5, 9):
        assert np.array_equal(draw(pixelwise(), sampler, count, 8), ten[:count])
    # A rank or a restart that draws only the third chunk gets the same images too.
    assert np.array_equal(sample_chunk(pixelwise(), PROCESS, PIXELS, sampler, 2, 8)[:2], ten[8:])


@each_sampler
def test_every_chunk_is_drawn_whole(sampler):
    drawn = pixelwise()
    draw(drawn, sampler, 5)
    calls = {"ddim": 4, "ddpm": 12, "edm": 7}[sampler.name]
    assert drawn.network.batches == [4] * (2 * calls)


@each_sampler
def test_images_depend_on_the_sampling_seed_and_no_chunk_size_for_pixelwise_networks(sampler):
    images = draw(pixelwise(), sampler, 6, 8)
    assert not np.array_equal(draw(pixelwise(), replace(sampler, seed=1), 6, 8), images)
    assert np.array_equal(draw(pixelwise(), replace(sampler, chunk=3), 6, 8), images)


def test_samplers_options_reach_the_sampler():
    base = SAMPLERS["ddim"]
    images = [
        draw(pixelwise(), replace(base, **change), 2, 8)
        for change in ({}, {"steps": 6}, {"eta": 0.0}, {"clip": False}, {"name": "ddpm"})
    ]
    assert len(np.unique(np.stack(images), axis=0)) == 5


def test_progress_counts_images_and_not_the_padding():
    done = []
    draw(pixelwise(), SAMPLERS["ddim"], 10, 8, done.append)
    assert done == [4, 8, 10]


@each_sampler
def test_sampling_can_be_left_before_every_network_call(sampler):
    calls = []
    draw(pixelwise(), sampler, 6, 4, on_step=lambda: calls.append(True))
    assert len(calls) == 2 * sampler_steps(replace(CONFIG, sampler=sampler))
    for last in (1, 3):
        drawing = pixelwise()

        def leave(drawing=drawing, last=last):
            if len(drawing.network.batches) == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            draw(drawing, sampler, 6, 4, on_step=leave)
        assert len(drawing.network.batches) == last


def test_sampling_leaves_no_trace_in_torchs_generator():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    draw(pixelwise(), SAMPLERS["ddpm"], 2, 8)
    assert torch.equal(torch.rand(2), expected)


# -- checkpoints ---------------------------------------------------------------------------------


def test_model_of_loads_the_weights_of_that_name():
    content = checkpoint()
    for name, kept in content["weights"].items():
        loaded = model_of(content, name, torch.device("cpu"))
        state = loaded.network.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in kept.items())
        assert loaded.process.chain == PROCESS.chain and not loaded.network.training
        assert not any(p.requires_grad for p in loaded.network.parameters())


def test_model_of_samples_the_network_it_loaded():
    content = checkpoint()
    images = [
        draw(model_of(content, name, torch.device("cpu")), SAMPLERS["ddim"], 2, 32)
        for name in ("raw", "ema0.995", "raw")
    ]
    assert np.array_equal(images[0], images[2]) and not np.array_equal(images[0], images[1])


def test_model_of_refuses_unknown_weights_and_names_the_near_ones():
    with pytest.raises(UserError, match=r"no weights 'ema0\.99' .*Did you mean 'ema0\.995'\?"):
        model_of(checkpoint(), "ema0.99", torch.device("cpu"))


def test_config_of_gives_the_config_back():
    assert config_of(checkpoint()) == CONFIG


def test_primary_weights_are_the_first_average():
    assert primary_weights(CONFIG) == "ema0.995"


def test_sampler_steps_are_network_calls():
    assert sampler_steps(replace(CONFIG, sampler=SAMPLERS["ddim"])) == 4
    assert sampler_steps(replace(CONFIG, sampler=SAMPLERS["ddpm"])) == 12


# -- one network for many milestones -------------------------------------------------------------


EAGER = SamplerRuntime(4, "fp32", False)


def draw_in_turn(runtime, names, content):
    """Images of several weights, one network for all."""
    network = sampling_network(CONFIG, runtime, "cpu")
    return [draw(load_weights(network, content, name), SAMPLERS["ddim"], 4, 32) for name in names]


def test_sampling_network_draws_what_a_fresh_one_does_whatever_it_drew_before():
    content = checkpoint()
    names = ("raw", "ema0.995", "raw")
    for name, images in zip(names, draw_in_turn(EAGER, names, content), strict=True):
        fresh = model_of(content, name, torch.device("cpu"))
        assert np.array_equal(images, draw(fresh, SAMPLERS["ddim"], 4, 32))


def test_all_milestones_share_one_compilation(monkeypatch):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    # The default backend takes long; what is counted is how often it is asked.
    monkeypatch.setattr(NaiveUnet, "compile", lambda self: nn.Module.compile(self, backend=backend))
    content, names = checkpoint(), ("raw", "ema0.995", "raw")
    compiled = draw_in_turn(SamplerRuntime(4, "fp32", True), names, content)
    assert len(graphs) == 1
    for a, b in zip(compiled, draw_in_turn(EAGER, names, content), strict=True):
        # The compiled group norm sums in another order.
        assert np.abs(a.astype(int) - b).max() <= 1


def test_load_weights_refuses_unknown_ones():
    with pytest.raises(UserError, match="no weights 'ema' "):
        load_weights(sampling_network(CONFIG, EAGER, "cpu"), checkpoint(), "ema")


def test_bf16_images_are_near_those_in_float32_and_no_less_repeatable():
    content = checkpoint()
    bf16 = SamplerRuntime(4, "bf16", False)
    first, again, other = draw_in_turn(bf16, ("raw", "raw", "ema0.995"), content)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    (exact,) = draw_in_turn(EAGER, ("raw",), content)
    rounding, weights = (np.abs(exact.astype(int) - x).mean() for x in (first, other))
    assert 0 < rounding < weights / 4


@pytest.mark.parametrize(
    ("sampler", "name"),
    [
        (SAMPLERS["ddim"], "ddim-eta1/chunk512/bf16"),
        (replace(SAMPLERS["ddim"], eta=0.5), "ddim-eta0.5/chunk512/bf16"),
        (SAMPLERS["ddpm"], "ddpm/chunk512/bf16"),
    ],
)
def test_sampler_name_has_what_bits_depend_on(sampler, name):
    assert sampler_name(sampler, SamplerRuntime(512, "bf16", True)) == name


def test_chunk_is_sized_to_the_device_unless_it_is_given():
    drawn = pixelwise()
    draw(drawn, SamplerConfig(steps=1), 3, 32)
    assert drawn.network.batches == [64]


# -- stitched ------------------------------------------------------------------------------------


def scaled(factor):
    return lambda x, level: Prediction(x, level, factor * x)


@each_sampler
def test_stitched_images_of_one_network_are_its_own(sampler):
    one = pixelwise()
    images = sample_images(stitched(one, one, 0.4), PROCESS, PIXELS, sampler, 6, 8)
    assert np.array_equal(images, draw(pixelwise(), sampler, 6))


@each_sampler
def test_stitched_images_go_from_one_network_to_the_other_with_tau(sampler):
    above, below = scaled(0.9), scaled(0.5)
    asked = [above, below, *(stitched(above, below, tau) for tau in (0.0, 0.5, 1.0))]
    own, other, *mixed = (sample_images(one, PROCESS, PIXELS, sampler, 4, 8) for one in asked)
    assert np.array_equal(mixed[0], own) and np.array_equal(mixed[2], other)
    assert not np.array_equal(mixed[1], own) and not np.array_equal(mixed[1], other)
