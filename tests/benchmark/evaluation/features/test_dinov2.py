import pickle

import numpy as np
import pytest
import timm
import torch
from cleanfid.resize import make_resizer
from safetensors.torch import save_file

from benchmark.evaluation.features.dinov2 import find_dinov2
from benchmark.evaluation.features.nets import load_feature_net
from mindiffusion.errors import UserError

MODEL = "vit_small_patch14_dinov2.lvd142m"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A net as it is published, of 518 pixels, with random weights; and its file."""
    network = timm.create_model(MODEL, num_classes=0, dynamic_img_size=True).eval()
    with torch.no_grad():
        network.pos_embed.mul_(10)  # its resampling to 224 pixels must matter
        for block in network.blocks:  # as they start, blocks hardly do anything
            block.ls1.gamma.fill_(1.0)
            block.ls2.gamma.fill_(1.0)
    path = tmp_path_factory.mktemp("dinov2") / "model.safetensors"
    save_file(network.state_dict(), path)
    return network, path


def test_dinov2_features_are_the_class_token_of_normalised_images(published, smooth_images):
    network, path = published
    images = smooth_images(2, side=40)
    extractor = load_feature_net("dinov2-vits14", path)
    features = extractor(images)
    by_pil = make_resizer("PIL", False, "bicubic", (224, 224))
    resized = torch.from_numpy(np.stack([by_pil(image) for image in images])).permute(0, 3, 1, 2)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.inference_mode():
        tokens = network.forward_features((resized / 255 - mean) / std)
    assert features.shape == (2, 384)
    np.testing.assert_allclose(features, tokens[:, 0].numpy(), rtol=1e-3, atol=1e-3)
    assert np.abs(features[0] - features[1]).max() > 0.02
    with pytest.raises(UserError, match="DINOv2-S has no classifier"):
        extractor.logits(features)


def test_dinov2_rejects_a_cut_file_and_another_net(published, tmp_path):
    _, path = published
    cut = tmp_path / "model.safetensors"
    cut.write_bytes(path.read_bytes()[:-1000])
    foreign = tmp_path / "foreign.pth"
    torch.save({"weight": torch.zeros(3)}, foreign)
    for bad in (cut, foreign):
        with pytest.raises(
            UserError, match=f"does not hold the weights of timm's {MODEL}"
        ) as caught:
            load_feature_net("dinov2-vits14", bad)
        assert "DINOV2_PATH" in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_dinov2_reads_what_torch_saved_and_runs_no_pickle(published, tmp_path, smooth_images):
    network, path = published
    torch.save(network.state_dict(), tmp_path / "net.pth")
    images = smooth_images(1)
    ours = load_feature_net("dinov2-vits14", tmp_path / "net.pth")(images)
    assert np.array_equal(ours, load_feature_net("dinov2-vits14", path)(images))

    class Odd:
        def __reduce__(self):
            return open, (str(tmp_path / "written"), "w")

    torch.save({"cls_token": Odd()}, tmp_path / "net.pth")
    with pytest.raises(UserError, match="asks for"):
        load_feature_net("dinov2-vits14", tmp_path / "net.pth")
    (tmp_path / "net.pth").write_bytes(pickle.dumps(Odd(), protocol=2))
    with pytest.raises(UserError, match="DINOV2_PATH"):
        load_feature_net("dinov2-vits14", tmp_path / "net.pth")
    assert not (tmp_path / "written").exists()


def test_find_dinov2_takes_the_given_file_or_the_cache_and_never_downloads(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="is not a file; set DINOV2_PATH"):
        find_dinov2(MODEL, str(tmp_path / "none.pth"))
    given = tmp_path / "given.pth"
    given.write_bytes(b"x")
    assert find_dinov2(MODEL, str(given)) == given
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UserError, match="neither given nor in Hugging Face's cache; set DINOV2"):
        find_dinov2(MODEL, None)
    repository = tmp_path / "hub" / f"models--timm--{MODEL}"
    cached = repository / "snapshots" / "abc" / "model.safetensors"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"x")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    assert find_dinov2(MODEL, None) == cached
