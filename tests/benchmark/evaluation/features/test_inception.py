import hashlib
import threading

import numpy as np
import pytest
import torch
from cleanfid import fid
from cleanfid.inception_torchscript import InceptionV3W
from cleanfid.resize import build_resizer
from PIL import Image
from torch import nn

from benchmark.evaluation.features import inception
from benchmark.evaluation.features.extract import array_batches, feature_set
from benchmark.evaluation.features.inception import fetch_inception, find_inception
from benchmark.evaluation.features.nets import load_feature_net
from benchmark.evaluation.metrics.frechet import covariance_root, frechet_distance, moments
from benchmark.speed.rivals.random_inception import random_inception_extractor
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_file
from mindiffusion.outside.weights import silent_torchscript

NAME = "inception-2015-12-05.pt"


def by_clean_fid(folder, weights):
    """Features of a folder's PNGs by clean-fid's own code, on weights under its file's name."""
    with silent_torchscript():  # newer versions of torch warn of it
        net = InceptionV3W(str(weights.parent), download=False).eval()
    device = torch.device("cpu")
    return fid.get_folder_features(
        str(folder), net, num_workers=0, batch_size=3, device=device, mode="clean", verbose=False
    )


def write_pngs(folder, images):
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:03d}.png")
    return folder


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("side", [32, 320])
def test_stub_features_equal_clean_fids_on_pngs(tmp_path, save_stub, smooth_images, noisy, side):
    images = noisy(smooth_images(7, side=side), 30)
    weights = save_stub(tmp_path / NAME)
    expected = by_clean_fid(write_pngs(tmp_path / "images", images), weights)
    features = load_feature_net("inception", weights, batch_size=3)(images)
    assert features.shape == (7, 2048) and features.dtype == np.float64
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
    assert relative(features, expected) <= 1e-6


def test_whole_inception_features_equal_clean_fids_on_pngs(
    tmp_path, random_inception, smooth_images, noisy
):
    images = noisy(smooth_images(4, side=48), 20)
    expected = by_clean_fid(write_pngs(tmp_path / "images", images), random_inception)
    extractor = load_feature_net("inception", random_inception)
    features = extractor(images)
    assert relative(features, expected) <= 1e-5
    # Images must differ by far more than that, or nothing is shown.
    assert relative(expected - expected.mean(axis=0), expected) > 1e-2
    with silent_torchscript():
        script = torch.jit.load(random_inception)
    with torch.inference_mode():
        logits = script.output(torch.from_numpy(features).float()) - script.output.bias
    np.testing.assert_allclose(extractor.logits(features), logits.numpy(), rtol=1e-3, atol=1e-4)
    assert extractor.logits(features).shape == (4, 1008)


def test_fid_on_a_stub_is_that_of_clean_fids_features(tmp_path, save_stub, smooth_images, noisy):
    weights, images = save_stub(tmp_path / NAME), noisy(smooth_images(8, seed=1), 25)
    extractor = load_feature_net("inception", weights, batch_size=5)
    ours = feature_set(extractor, array_batches(images, 5), 8, groups=2).moments
    theirs = moments(by_clean_fid(write_pngs(tmp_path / "a", images), weights))
    reference = moments(extractor(smooth_images(8, seed=2)))
    root = covariance_root(reference)
    expected = frechet_distance(theirs, reference, root)
    assert frechet_distance(ours, reference, root) == pytest.approx(expected, rel=1e-5)
    assert expected > 1e-3


def test_inception_gets_what_clean_fids_resizer_gives(tmp_path, save_stub, smooth_images, noisy):
    images = noisy(smooth_images(5, side=20), 30)
    resize = build_resizer("clean")
    pixels = torch.from_numpy(np.stack([resize(image) for image in images]).transpose(0, 3, 1, 2))
    seen = []
    extractor = load_feature_net("inception", save_stub(tmp_path / "stub.pt"), batch_size=5)
    extractor.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    extractor(images)
    torch.testing.assert_close(seen[0], (pixels - 128) / 128, rtol=0, atol=1e-3 / 128)


def test_a_stub_without_an_output_layer_has_no_logits(tmp_path, save_stub, smooth_images):
    extractor = load_feature_net("inception", save_stub(tmp_path / "stub.pt"))
    with pytest.raises(UserError, match="Inception has no classifier here"):
        extractor.logits(extractor(smooth_images(2)))


def test_only_the_known_file_is_opened(tmp_path, save_stub, save_script, monkeypatch):
    path = save_stub(tmp_path / "stub.pt")
    monkeypatch.setattr(torch.jit, "load", None)
    foreign = save_script(nn.ReLU(), tmp_path / "foreign.pt")
    whole = path.read_bytes()
    for bad in (foreign.read_bytes(), whole[:-1000], b"", whole.replace(b"pool", b"lopo")):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=r"can run any code; set INCEPTION_PATH") as caught:
            load_feature_net("inception", path)
        message = str(caught.value)
        assert hashlib.sha256(bad).hexdigest() in message and inception.SHA256 in message
        assert len(message.splitlines()) == 1


def test_the_known_file_is_that_of_other_tools():
    # As k-diffusion's evaluation.py pins it.
    assert inception.SHA256.startswith("f58cb9b6ec323ed63459aa4f") and len(inception.SHA256) == 64


def test_a_random_inception_is_opened_by_whoever_wrote_it_alone(written_inception, smooth_images):
    sha256 = sha256_of_file(written_inception)
    with pytest.raises(UserError, match=rf"has the SHA-256 {sha256}, not f58cb9b6"):
        load_feature_net("inception", written_inception)
    extractor = random_inception_extractor(written_inception, sha256)
    assert extractor(smooth_images(1)).shape == (1, 2048)


def test_find_inception_prefers_the_given_file_and_never_guesses(tmp_path):
    with pytest.raises(UserError, match="set INCEPTION_PATH"):
        find_inception(None, tmp_path)
    cached = tmp_path / NAME
    cached.write_bytes(b"x")
    assert find_inception(None, tmp_path) == cached
    given = tmp_path / "mine.pt"
    with pytest.raises(UserError, match=r"mine\.pt is not a file"):
        find_inception(str(given), tmp_path)
    given.write_bytes(b"y")
    assert find_inception(str(given), tmp_path) == given


@pytest.fixture
def downloads(tmp_path, save_stub, monkeypatch):
    """The file at the address that clean-fid names, and a list of the downloads made of it."""
    source, made = save_stub(tmp_path / "source.pt"), []
    monkeypatch.setattr("cleanfid.downloads_helper.inception_url", source.as_uri())
    download = inception._download
    monkeypatch.setattr(inception, "_download", lambda url: made.append(url) or download(url))
    return source, made


def test_fetch_inception_stores_a_checked_file_once(tmp_path, downloads):
    source, made = downloads
    path = fetch_inception(tmp_path / "cache")
    assert path.read_bytes() == source.read_bytes()
    assert find_inception(None, tmp_path / "cache") == path
    assert fetch_inception(tmp_path / "cache") == path and len(made) == 1


def test_fetch_inception_replaces_a_cut_file(tmp_path, downloads):
    source, made = downloads
    (tmp_path / NAME).write_bytes(source.read_bytes()[:500])
    assert fetch_inception(tmp_path).read_bytes() == source.read_bytes()
    assert len(made) == 1


def test_of_several_processes_one_fetches(tmp_path, downloads):
    _, made = downloads
    threads = [threading.Thread(target=fetch_inception, args=(tmp_path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and (tmp_path / NAME).is_file()


def test_fetch_inception_leaves_nothing_behind_when_it_fails(tmp_path, downloads, monkeypatch):
    cache, (source, _) = tmp_path / "cache", downloads
    monkeypatch.setattr("cleanfid.downloads_helper.inception_url", (tmp_path / "no").as_uri())
    with pytest.raises(UserError, match=r"failed.*INCEPTION_PATH"):
        fetch_inception(cache)
    monkeypatch.setattr("cleanfid.downloads_helper.inception_url", source.as_uri())
    source.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"gave 22 bytes with the SHA-256 .*, not .*INCEPTION_PATH"):
        fetch_inception(cache)
    assert [path.name for path in cache.iterdir()] == [f".{NAME}.lock"]


def test_fetch_inception_without_a_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("cleanfid.downloads_helper.inception_url", "http://localhost:9/inception")
    with pytest.raises(
        UserError, match="Download of http://localhost:9/inception failed"
    ) as caught:
        fetch_inception(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
