import warnings

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.evaluation.features import inception
from benchmark.evaluation.features.extract import FeatureExtractor
from benchmark.evaluation.features.net import Backbone, FeatureNet
from mindiffusion.files import sha256_of_file


class StubLayers(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.linear = nn.Linear(48, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.pool(x).flatten(1))


class StubInception(nn.Module):
    """Stands in for the TorchScript file: the same interface, random weights."""

    def __init__(self, dim):
        super().__init__()
        self.layers = StubLayers(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture(scope="session")
def save_script():
    """A function: module, path → the path, with the module scripted in it."""

    def save(module, path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates TorchScript
            torch.jit.save(torch.jit.script(module), str(path))
        return path

    return save


@pytest.fixture
def known(monkeypatch):
    """A function: path → the path, whose file is for this test the one Inception that is known."""

    def make(path):
        monkeypatch.setattr(inception, "SHA256", sha256_of_file(path))
        return path

    return make


@pytest.fixture
def save_stub(save_script, known):
    """A function: path, width, seed → the path, with a small Inception in it, the known one."""

    def save(path, dim=2048, seed=0):
        torch.manual_seed(seed)
        return known(save_script(StubInception(dim), path))

    return save


@pytest.fixture(scope="session")
def written_inception(tmp_path_factory):
    """A file like clean-fid's, under its name: a whole Inception with random weights."""
    from benchmark.speed.rivals.random_inception import write_random_inception

    path = tmp_path_factory.mktemp("inception") / "inception-2015-12-05.pt"
    write_random_inception(path)
    return path


@pytest.fixture
def random_inception(written_inception, known):
    """The same, as the one Inception that is known."""
    return known(written_inception)


@pytest.fixture(scope="session")
def make_extractor():
    """A function: width, batch size → an extractor of a small linear net, the same every time."""

    def make(dim=6, batch_size=4, input_size=8):
        rng = np.random.default_rng(0)
        module = StubLayers(dim).eval().requires_grad_(False)
        module.linear.weight.copy_(torch.from_numpy(rng.normal(size=(dim, 48))))
        module.linear.bias.zero_()
        net = FeatureNet(
            label="Stub",
            dim=dim,
            input_size=input_size,
            resize="bicubic",
            needs_weights_file=False,
            build=lambda path, device: Backbone(module),
            scale=255.0,
        )
        return FeatureExtractor(net, "0" * 64, module, torch.device("cpu"), batch_size)

    return make


@pytest.fixture(scope="session")
def smooth_images():
    """A function: n, seed, side → two-colour gradients with a disc: nothing is rough."""

    def make(n, seed=0, side=32):
        rng = np.random.default_rng(seed)
        grid = np.linspace(0, 1, side)
        centre = rng.uniform(0.3, 0.7, size=(n, 2, 1, 1))
        down, across = grid[None, :, None], grid[None, None, :]
        radius = (down - centre[:, 0]) ** 2 + (across - centre[:, 1]) ** 2
        colours = rng.uniform(0, 255, size=(3, n, 1, 1, 3))
        background = colours[0] * down[..., None] + colours[1] * (1 - down[..., None])
        return np.where((radius < 0.05)[..., None], colours[2], background).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def noisy():
    """A function: images, standard deviation, seed → images with noise."""

    def add(images, std, seed=1):
        noise = np.random.default_rng(seed).normal(size=images.shape) * std
        return (images + noise).clip(0, 255).astype(np.uint8)

    return add
