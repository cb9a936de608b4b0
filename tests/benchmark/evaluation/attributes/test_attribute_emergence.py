import dataclasses

import numpy as np
import pytest
import torch

from benchmark.evaluation.attributes.classifier import to_float, true_classes
from benchmark.evaluation.attributes.emergence import emergence, read_denoised
from benchmark.evaluation.attributes.scores import balanced_mean
from mindiffusion.chain import Chain
from mindiffusion.data.codec import PIXELS
from mindiffusion.ddpm import DDPMProcess
from mindiffusion.errors import UserError
from mindiffusion.noise import Stream, normals
from mindiffusion.process import Prediction, from_x0

PROCESS = DDPMProcess(Chain((1e-3, 0.1), 100))
TIMES = (0.1, 0.5, 0.9)


def keyed_noise(level_index, indices):
    return normals(0, Stream.EVALUATION_NOISE, indices, level_index, (3, 16, 16))


def as_denoiser(x0):
    return lambda noisy, level: from_x0(noisy, level, x0(noisy))


def readings(denoise, images, times, batch_size, classifier):
    levels = [PROCESS.level(torch.tensor([t])) for t in times]
    return read_denoised(
        denoise, images, levels, batch_size, keyed_noise, PIXELS.pixels, classifier
    )


@pytest.fixture(scope="module")
def held_out(squares):
    return to_float(squares.held_out)


@pytest.fixture(scope="module")
def read(classifier, held_out):
    """A function: x̂₀ of noisy images → its readings at all levels, all images in one batch."""

    def run(x0, times=TIMES, batch_size=200):
        return readings(as_denoiser(x0), held_out, times, batch_size, classifier)

    return run


@pytest.fixture(scope="module")
def mean_readings(read, held_out):
    return read(lambda noisy: held_out.mean(dim=0).expand_as(noisy))


def scored(net, oracle, squares, classifier):
    results = emergence(net, oracle, squares.held_out_labels, classifier.attributes)
    return {result.name: result for result in results}


def test_perfect_denoiser_gives_the_classifiers_own_accuracy(
    held_out, mean_readings, squares, classifier
):
    def exact(noisy, level):
        eps = (noisy - float(level.alpha) * held_out) / float(level.sigma)
        return Prediction(noisy, level, eps)

    net = readings(exact, held_out, TIMES, 200, classifier)
    found = scored(net, mean_readings, squares, classifier)
    own = classifier.read_uint8(squares.held_out).probabilities
    truth = true_classes(classifier.attributes, squares.held_out_labels)
    assert set(found) == {"tone", "place"}
    for attribute in classifier.attributes:
        name = attribute.name
        expected = balanced_mean(attribute.choose(own[name]) == truth[name], truth[name])
        np.testing.assert_allclose(found[name].net, expected[0], atol=1e-12)
        np.testing.assert_allclose(found[name].net_error, expected[1], atol=1e-12)
        assert found[name].n == 200 and found[name].levels == TIMES


def test_mean_predictor_is_at_chance(mean_readings, squares, classifier):
    for result in scored(mean_readings, mean_readings, squares, classifier).values():
        assert result.chance == 0.5
        np.testing.assert_allclose(result.oracle, 0.5, atol=1e-12)
        np.testing.assert_array_equal(result.gain, 0)
        np.testing.assert_array_equal(result.gain_error, 0)


def test_gain_is_the_paired_difference(read, held_out, squares, classifier):
    """Two denoisers that err on the same images differ with less error than either has alone."""
    rough = read(lambda noisy: noisy)
    smooth = read(lambda noisy: 0.9 * noisy)
    for result in scored(smooth, rough, squares, classifier).values():
        np.testing.assert_allclose(result.gain, result.net - result.oracle, atol=1e-12)
        noisiest = result.net_error[-1], result.oracle_error[-1], result.gain_error[-1]
        assert noisiest[2] < np.hypot(*noisiest[:2])


def test_accuracy_falls_with_noise_and_calibration_error_is_reported(read, squares, classifier):
    rough = read(lambda noisy: noisy, times=(0.01, 0.95))
    tone = scored(rough, rough, squares, classifier)["tone"]
    assert tone.net[0] > 0.95 and tone.net[1] < 0.8
    assert 0 <= tone.net_calibration_error[0] < 0.05 < tone.net_calibration_error[1] <= 1


def test_denoised_images_are_clipped_and_do_not_depend_on_the_batch(read):
    far = read(lambda noisy: 50 * noisy, times=(0.9,))
    clipped = read(lambda noisy: (50 * noisy).clamp(-1, 1), times=(0.9,), batch_size=64)
    for name, probabilities in far.by_level[0].probabilities.items():
        np.testing.assert_allclose(
            probabilities, clipped.by_level[0].probabilities[name], atol=1e-5
        )


def test_emergence_names_what_does_not_fit(mean_readings, squares, classifier, held_out):
    with pytest.raises(UserError, match="No image to denoise"):
        readings(as_denoiser(lambda noisy: noisy), held_out[:0], TIMES, 8, classifier)
    other = dataclasses.replace(mean_readings, levels=(0.1, 0.5, 0.91))
    with pytest.raises(UserError, match="at the same levels"):
        scored(mean_readings, other, squares, classifier)
    labels = {name: codes[:5] for name, codes in squares.held_out_labels.items()}
    with pytest.raises(UserError, match="200 images were read, 5 have labels of 'tone'"):
        emergence(mean_readings, mean_readings, labels, classifier.attributes)
