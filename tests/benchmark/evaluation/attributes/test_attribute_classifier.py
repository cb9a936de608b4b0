import dataclasses

import numpy as np
import pytest
import torch

from benchmark.evaluation.attributes import store
from benchmark.evaluation.attributes.architecture import build_attribute_net
from benchmark.evaluation.attributes.classifier import true_classes
from benchmark.evaluation.attributes.fit import best_temperature, negative_log_likelihood
from benchmark.evaluation.attributes.scores import UNKNOWN
from benchmark.evaluation.attributes.train import train_classifier
from mindiffusion.errors import UserError


def test_classifier_reads_what_is_there(classifier, squares):
    assert [attribute.name for attribute in classifier.attributes] == ["tone", "place"]
    readings = classifier.read_uint8(squares.held_out)
    truth = true_classes(classifier.attributes, squares.held_out_labels)
    for attribute in classifier.attributes:
        right = readings.probabilities[attribute.name].argmax(axis=1) == truth[attribute.name]
        assert right.mean() > 0.97, attribute.name
        assert attribute.balanced_accuracy > 0.95
        assert attribute.calibration_error < 0.05


def test_classifier_drops_what_it_cannot_read_with_a_line(classifier):
    assert len(classifier.dropped) == 2
    same, luck = sorted(classifier.dropped, reverse=True)
    assert same.startswith("same: fewer than two values")
    assert luck.startswith("luck: read with balanced accuracy 0.")
    assert luck.endswith("chance is 0.50")


def test_classifier_leaves_values_without_images_out(classifier):
    tone = classifier.attributes[0]
    assert tone.classes == ("dark", "bright") and tone.codes == (0, 1)
    assert tone.shares[0] == pytest.approx(0.7, abs=0.06)
    assert tone.classes_of(np.array([1, 2, 0])).tolist() == [1, UNKNOWN, 0]


def test_classifier_rejects_blur_and_noise_and_keeps_whole_images(classifier, squares):
    assert classifier.reject.whole_rejected < 0.05
    assert classifier.reject.blurred_rejected > 0.9
    assert classifier.reject.noisy_rejected > 0.9
    assert classifier.read_uint8(squares.held_out).rejected.mean() < 0.05
    static = np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3)).astype(np.uint8)
    assert classifier.read_uint8(static).rejected.all()


def test_classifier_has_the_same_bits_whoever_trains_it(squares, small_config):
    config = dataclasses.replace(small_config, steps=4)
    images = dataclasses.replace(squares, label_names={"tone": ["dark", "bright", "white"]})
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    first = train_classifier(images, config)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(3)
    assert train_classifier(images, config).fingerprint == first.fingerprint
    other = train_classifier(images, dataclasses.replace(config, seed=1))
    assert other.fingerprint != first.fingerprint


def test_readings_do_not_depend_on_the_batch(classifier, squares):
    whole = classifier.read_uint8(squares.held_out)
    parts = [classifier.read_uint8(squares.held_out[i : i + 7]) for i in range(0, 28, 7)]
    for name, probabilities in whole.probabilities.items():
        joined = np.concatenate([part.probabilities[name] for part in parts])
        np.testing.assert_allclose(probabilities[:28], joined, atol=1e-5)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_choice_makes_up_for_unequal_shares(classifier):
    tone = dataclasses.replace(classifier.attributes[0], shares=(0.9, 0.1))
    probabilities = np.array([[0.95, 0.05], [0.8, 0.2], [0.1, 0.9]])
    assert tone.choose(probabilities).tolist() == [0, 1, 1]


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_temperature_undoes_scaled_logits_and_lowers_the_likelihood_loss(factor):
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((4000, 5))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = np.array([rng.choice(5, p=row) for row in shares])
    found = best_temperature(factor * logits, classes)
    assert found == pytest.approx(factor, rel=0.1)
    calibrated = negative_log_likelihood(factor * logits / found, classes)
    assert calibrated < negative_log_likelihood(factor * logits, classes) - 0.01


def test_temperature_without_labels_is_one():
    assert best_temperature(np.ones((3, 2)), np.full(3, UNKNOWN)) == 1.0


def test_likelihood_loss_of_even_odds_is_the_logarithm_of_their_number():
    assert negative_log_likelihood(np.zeros((6, 4)), np.arange(6) % 4) == pytest.approx(np.log(4))


@pytest.mark.parametrize("side", [16, 33, 64])
def test_network_has_a_logit_for_every_class_at_any_side(side):
    net = build_attribute_net(side, 8, (3, 2), seed=0).eval()
    logits = net(torch.zeros(2, 3, side, side))
    assert logits.shape == (2, 6)
    whole, heads = net.split(logits)
    assert whole.shape == (2,) and [head.shape[1] for head in heads] == [3, 2]


@pytest.fixture
def kept(classifier, squares, small_config, tmp_path, monkeypatch):
    """A cache that holds the classifier, and training that counts its calls."""
    trained = []

    def train(data, config):
        trained.append(config)
        return classifier

    monkeypatch.setattr(store, "train_classifier", train)
    store.attribute_classifier(squares, small_config, tmp_path)
    return tmp_path, trained


def test_cached_classifier_reads_the_same_without_training(kept, classifier, squares, small_config):
    folder, trained = kept
    loaded = store.attribute_classifier(squares, small_config, folder)
    assert len(trained) == 1
    assert loaded.fingerprint == classifier.fingerprint
    assert loaded.description() == classifier.description()
    first, second = (c.read_uint8(squares.held_out) for c in (classifier, loaded))
    for name in first.probabilities:
        np.testing.assert_array_equal(first.probabilities[name], second.probabilities[name])


def test_cached_classifier_of_another_config_or_data_is_not_taken(kept, squares, small_config):
    folder, trained = kept
    store.attribute_classifier(squares, dataclasses.replace(small_config, seed=5), folder)
    other = dataclasses.replace(squares, manifest_id="ba9876543210")
    store.attribute_classifier(other, small_config, folder)
    assert len(trained) == 3


@pytest.mark.parametrize("damage", ["cut", "altered", "empty", "other"])
def test_damaged_cache_is_made_anew(kept, squares, small_config, damage):
    folder, trained = kept
    (path,) = folder.glob("attributes-*.pt")
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-500])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other":
        torch.save({"weights": torch.zeros(3)}, path)
    else:
        saved = torch.load(path, weights_only=True)
        saved["state"]["heads.bias"][0] += 1
        torch.save(saved, path)
    for _ in range(2):
        store.attribute_classifier(squares, small_config, folder)
    assert len(trained) == 2
    assert path.stat().st_size == len(content)


def test_classifier_names_what_it_cannot_use(classifier, squares, small_config):
    unlabelled = dataclasses.replace(squares, label_names={}, train_labels={})
    with pytest.raises(UserError, match="600 training images of squares have no label"):
        train_classifier(unlabelled, small_config)
    luck = dataclasses.replace(squares, label_names={"luck": ["no", "yes"]})
    with pytest.raises(UserError, match="None of the 1 attributes of squares can be read"):
        train_classifier(luck, small_config)
    with pytest.raises(UserError, match="reads uint8"):
        classifier.read_uint8(np.zeros((2, 16, 16, 3)))
    with pytest.raises(UserError, match=r"reads \(N, 3, 16, 16\)"):
        classifier.read(torch.zeros(2, 3, 32, 32))
    with pytest.raises(UserError, match="lack 'place'"):
        true_classes(classifier.attributes, {"tone": np.zeros(2)})
