"""Anybody's images scored: the same numbers as the metrics give, from any kind of place."""

import json
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmark.__main__ import main
from benchmark.evaluation.evaluate_images import _shuffled, evaluate_images, score_images
from benchmark.evaluation.features.net import Backbone, FeatureNet, Head
from benchmark.evaluation.features.nets import FEATURE_NETS, load_feature_net
from benchmark.evaluation.images.image_source import open_images
from benchmark.evaluation.metrics.frechet import frechet_distance, moments
from benchmark.evaluation.metrics.inception_score import inception_score
from benchmark.evaluation.metrics.kid import kid_full
from benchmark.evaluation.metrics.neighbours import neighbour_scores
from mindiffusion.errors import UserError

SIDE = 8


def tiny_net(path, device):
    """Twelve random projections of 8-pixel images, and a classifier of three classes."""
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(3 * SIDE**2, 12)
    linear.weight.data = torch.randn(12, 3 * SIDE**2, generator=generator) / 10
    linear.bias.data.zero_()
    head = Head(np.random.default_rng(0).normal(size=(3, 12)))
    return Backbone(nn.Sequential(nn.Flatten(), linear).eval().requires_grad_(False), head)


@pytest.fixture(autouse=True)
def tiny(tmp_path, monkeypatch):
    """A feature net that costs nothing, and an empty cache."""
    weights = tmp_path / "tiny.pt"
    weights.write_bytes(b"tiny")
    entry = FeatureNet(
        label="Tiny",
        dim=12,
        input_size=SIDE,
        resize="none",
        needs_weights_file=False,
        build=tiny_net,
        find=lambda cache_dir: weights,
        shift=128.0,
        scale=128.0,
        num_classes=3,
    )
    monkeypatch.setitem(FEATURE_NETS, "tiny", entry)
    monkeypatch.setenv("MINDIFFUSION_CACHE", str(tmp_path / "cache"))
    return load_feature_net("tiny", weights)


def pixels(n, seed, side=SIDE):
    """Images about as bright as their place in the order: sorted, as files by class are."""
    rng = np.random.default_rng(seed)
    level = np.linspace(0, 150, n)[:, None, None, None]
    return (level + rng.integers(0, 100, (n, side, side, 3))).astype(np.uint8)


def save_all(folder, images):
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture
def generated(tmp_path):
    return save_all(tmp_path / "generated", pixels(30, seed=1))


@pytest.fixture
def real(tmp_path):
    path = tmp_path / "real.npy"
    np.save(path, pixels(50, seed=2))
    return path


def by_name(compared):
    return {score.metric: score for score in compared.scores}


def test_scores_are_those_of_the_metrics(generated, real, tiny):
    metrics = ("fd", "kd", "prdc", "is")
    compared = score_images(open_images(generated), open_images(real), ["tiny"], metrics)
    found = by_name(compared)
    x, y = tiny(pixels(30, seed=1)), tiny(np.load(real))
    assert list(found) == [
        "FD-Tiny@30", "FD∞-Tiny@30", "KD-Tiny@30", "precision-Tiny@30", "recall-Tiny@30",
        "density-Tiny@30", "coverage-Tiny@30", "IS-Tiny@30",
    ]  # fmt: skip
    expected = frechet_distance(moments(x), moments(y))
    assert found["FD-Tiny@30"].value == pytest.approx(expected, rel=1e-6)
    kernel = kid_full(x, y)
    assert found["KD-Tiny@30"].value == pytest.approx(kernel.value, rel=1e-5)
    assert found["KD-Tiny@30"].error == pytest.approx(kernel.standard_error, rel=1e-5)
    order = np.random.default_rng(0).permutation(50)
    some = np.empty_like(y)
    some[order] = y  # as many reference images as generated ones, of all kinds
    near = neighbour_scores(x, some[:30])
    assert found["recall-Tiny@30"].value == near.recall.value
    assert found["coverage-Tiny@30"].n_reference == 30
    shuffled = np.empty_like(x)
    shuffled[np.random.default_rng(0).permutation(30)] = x
    score = inception_score(tiny.logits(shuffled))
    assert found["IS-Tiny@30"].value == pytest.approx(score.mean, rel=1e-6)
    assert {s.n_reference for s in compared.scores} == {50, 30, 0}
    assert all(score.is_smoke for score in compared.scores)


def test_folder_zip_and_array_score_the_same(generated, real, tmp_path):
    np.save(tmp_path / "generated.npy", pixels(30, seed=1))
    archive = tmp_path / "generated.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for file in sorted(generated.iterdir(), reverse=True):
            target.write(file, file.name)
    reference = open_images(real)
    scores = [
        score_images(open_images(path), reference, ["tiny"]).scores
        for path in (generated, archive, tmp_path / "generated.npy")
    ]
    assert scores[0] == scores[1] == scores[2]


def test_images_sorted_by_kind_make_no_groups_of_one_kind(tmp_path, real):
    """Groups of one kind each would make the jackknife see far too large an error."""
    sorted_images = pixels(40, seed=1)
    mixed = sorted_images[np.random.default_rng(5).permutation(40)]
    errors = []
    for name, images in (("sorted", sorted_images), ("mixed", mixed)):
        np.save(tmp_path / f"{name}.npy", images)
        source = open_images(tmp_path / f"{name}.npy")
        errors.append(score_images(source, open_images(real), ["tiny"], ["fd"]).scores[0].error)
    assert 0.5 < errors[0] / errors[1] < 2
    numbered = [index for indices, _ in _shuffled(source, 7) for index in indices]
    assert sorted(numbered) == list(range(40)) != numbered


def test_mixed_sizes_are_scored_each_from_its_own_size(tmp_path, real, tiny):
    small, large = pixels(12, seed=1), pixels(12, seed=3, side=16)
    folder = save_all(tmp_path / "mixed", [*small, *large])
    compared = score_images(open_images(folder), open_images(real), ["tiny"], ["fd"])
    x = np.concatenate([tiny(small), tiny(large)])
    expected = frechet_distance(moments(x), moments(tiny(np.load(real))))
    assert compared.scores[0].value == pytest.approx(expected, rel=1e-6)
    assert [note.split(": ")[-1][:20] for note in compared.notes] == [
        "images of 2 sizes, f", "generated and refere",
    ]  # fmt: skip


def test_the_reference_is_computed_once(generated, real, tmp_path, monkeypatch):
    first = score_images(open_images(generated), open_images(real), ["tiny"])
    calls = []
    monkeypatch.setattr(
        "benchmark.evaluation.features.reference_set._compute",
        lambda *arguments: calls.append(arguments),
    )
    again = score_images(open_images(generated), open_images(real), ["tiny"])
    assert again.scores == first.scores and calls == []
    np.save(real, pixels(50, seed=4))
    with pytest.raises(AttributeError):  # other images: what was kept is not theirs
        score_images(open_images(generated), open_images(real), ["tiny"])
    assert len(calls) == 1


@pytest.fixture
def prepared(avatars):
    """A prepared data set of 64 training images."""
    labels = {label: codes[:64] for label, codes in avatars.train_labels.items()}
    return replace(avatars, train=np.array(avatars.train[:64]), train_labels=labels)


def test_copies_of_training_images_are_found(prepared, tmp_path):
    np.save(tmp_path / "copies.npy", prepared.train[:30])
    mirrored = np.concatenate([prepared.train[30:45, :, ::-1], prepared.held_out[:15]])
    np.save(tmp_path / "half.npy", mirrored)
    shares = []
    for name in ("copies", "half"):
        compared = score_images(open_images(tmp_path / f"{name}.npy"), prepared, ["tiny"])
        found = by_name(compared)
        assert found["FD-Tiny@30"].n_reference == 64
        shares.append(found["memorised-pixels@30"].value)
        assert 0 <= found["memorised-Tiny@30"].value <= 1
    assert shares[0] == 1 and 0.4 < shares[1] < 0.6


def test_images_of_another_data_set_are_refused(prepared, tmp_path):
    path = tmp_path / "samples.npy"
    np.save(path, prepared.held_out[:20])
    beside = tmp_path / "samples.npy.json"
    beside.write_text(json.dumps({"manifest": "0123456789ab"}))
    with pytest.raises(
        UserError, match=f"belongs to data 0123456789ab.* to {prepared.manifest_id}"
    ):
        score_images(open_images(path), prepared, ["tiny"], ["fd"])
    beside.write_text(json.dumps({"manifest": prepared.manifest_id}))
    compared = score_images(open_images(path), prepared, ["tiny"], ["fd"])
    assert list(by_name(compared)) == ["FD-Tiny@20"]
    assert compared.notes == ("FD∞-Tiny@20 is left out: too few images to extrapolate 12 features",)


def test_bad_requests_are_told_in_one_line(generated, real, tmp_path):
    few = tmp_path / "few.npy"
    np.save(few, pixels(7, seed=0))
    cases = {
        (generated, None, "fd"): "images are scored against a reference; give --reference",
        (generated, real, "fid"): "unknown metric 'fid' of images. Did you mean 'fd'?",
        (generated, real, "memorisation"): "memorisation needs held-out images",
        (few, real, "fd"): "few.npy holds 7 images; scoring needs 8 or more",
        (generated, few, "fd"): "few.npy holds 7 images; scoring needs 8 or more",
    }
    for (path, reference, metric), message in cases.items():
        with pytest.raises(UserError) as caught:
            evaluate_images(path, reference, ["tiny"], [metric])
        assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"'tinny' is unknown. Did you mean 'tiny'\?"):
        evaluate_images(generated, real, ["tinny"])


def test_a_net_without_a_classifier_gives_no_inception_score(generated, real, monkeypatch):
    entry = FEATURE_NETS["tiny"]
    headless = replace(
        entry, build=lambda path, device: Backbone(tiny_net(path, device).module, None)
    )
    monkeypatch.setitem(FEATURE_NETS, "tiny", headless)
    with pytest.raises(UserError, match="Tiny has no classifier"):
        evaluate_images(generated, real, ["tiny"], ["is"])


def test_the_command_prints_a_table_and_keeps_the_numbers(generated, real, call, tmp_path):
    Image.fromarray(pixels(1, seed=9)[0]).convert("L").save(generated / "grey.png")
    (generated / "notes.txt").write_text("x")
    path = tmp_path / "scores.json"
    words = ["evaluate", str(generated), "--reference", str(real), "--net", "tiny"]
    code, out, errors = call(main, [*words, "--metrics", "fd,kd", "--json", str(path)])
    assert code == 0, errors
    lines = out.splitlines()
    assert lines[0].split() == ["metric", "value", "±", "se", "better", "generated", "reference"]
    rows = [line for line in lines if "-Tiny@31" in line]
    assert len(rows) == 3 and all(row.endswith("smoke") for row in rows)
    assert "smoke: fewer than 2048 images" in out
    assert "1 files that are no images left out: notes.txt" in out
    assert "1 of 31 images are grey" in out
    content = json.loads(path.read_text())
    assert [score["metric"] for score in content["scores"]] == [row.split()[0] for row in rows]
    assert all(score["smoke"] for score in content["scores"])
    assert content["generated"]["count"] == 31 and content["reference"]["sizes"] == [[8, 8]]
    code, _, errors = call(main, [*words[:1], str(tmp_path / "no"), *words[2:]])
    assert code == 2 and len(errors.splitlines()) == 1 and "does not exist" in errors


def test_the_command_takes_a_prepared_data_set_as_reference(avatars, call, workdir):
    np.save("held_out.npy", avatars.held_out)
    words = ["--reference", str(avatars.folder), "--net", "tiny"]
    code, out, errors = call(main, ["evaluate", "held_out.npy", *words])
    assert code == 0, errors
    assert "memorised-pixels@32" in out and "precision-Tiny@32" in out
    shutil.copy(avatars.folder / "train.npy", "other.npy")
    code, out, _ = call(main, ["evaluate", "other.npy", *words, "--metrics", "fd"])
    assert code == 0 and float(out.splitlines()[1].split()[1]) < 1e-6
