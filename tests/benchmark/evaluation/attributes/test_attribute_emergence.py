import dataclasses

import numpy as np
import pytest
import torch

from benchmark.evaluation.attributes.classifier import to_float, true_classes
from benchmark.evaluation.attributes.emergence import (
    emergence,
    linear_denoiser,
    network_denoiser,
    read_denoised,
)
from benchmark.evaluation.attributes.scores import balanced_mean
from mindiffusion.errors import UserError
from mindiffusion.noise import Stream, normals

N_T = 100
ALPHA_BAR = torch.cos(torch.linspace(0, 1.5, N_T + 1, dtype=torch.float64)) ** 2
LEVELS = (10, 50, 90)


def keyed_noise(level_index, indices):
    return normals(0, Stream.EVALUATION_NOISE, indices, level_index, (3, 16, 16))


@pytest.fixture(scope="module")
def held_out(squares):
    return to_float(squares.held_out)


@pytest.fixture(scope="module")
def read(classifier, held_out):
    """A function: denoiser → its readings at all levels, all images in one batch."""

    def run(denoise, levels=LEVELS, batch_size=200):
        return read_denoised(
            denoise, ALPHA_BAR, held_out, levels, batch_size, keyed_noise, classifier
        )

    return run


@pytest.fixture(scope="module")
def mean_readings(read, held_out):
    return read(lambda noisy, t: held_out.mean(dim=0).expand_as(noisy))


def scored(net, oracle, squares, classifier):
    results = emergence(net, oracle, squares.held_out_labels, classifier.attributes)
    return {result.name: result for result in results}


def test_perfect_denoiser_gives_the_classifiers_own_accuracy(
    read, held_out, mean_readings, squares, classifier
):
    def exact(noisy, times):
        t = round(float(times[0]) * N_T)
        signal, sigma = ALPHA_BAR[t].sqrt().item(), (1 - ALPHA_BAR[t]).sqrt().item()
        return (noisy - signal * held_out) / sigma

    found = scored(read(network_denoiser(exact, ALPHA_BAR)), mean_readings, squares, classifier)
    own = classifier.read_uint8(squares.held_out).probabilities
    truth = true_classes(classifier.attributes, squares.held_out_labels)
    assert set(found) == {"tone", "place"}
    for attribute in classifier.attributes:
        name = attribute.name
        expected = balanced_mean(attribute.choose(own[name]) == truth[name], truth[name])
        np.testing.assert_allclose(found[name].net, expected[0], atol=1e-12)
        np.testing.assert_allclose(found[name].net_error, expected[1], atol=1e-12)
        assert found[name].n == 200 and found[name].levels == LEVELS


def test_mean_predictor_is_at_chance(mean_readings, squares, classifier):
    for result in scored(mean_readings, mean_readings, squares, classifier).values():
        assert result.chance == 0.5
        np.testing.assert_allclose(result.oracle, 0.5, atol=1e-12)
        np.testing.assert_array_equal(result.gain, 0)
        np.testing.assert_array_equal(result.gain_error, 0)


def test_gain_is_the_paired_difference(read, held_out, squares, classifier):
    """Two denoisers that err on the same images differ with less error than either has alone."""
    rough = read(lambda noisy, t: noisy)
    smooth = read(lambda noisy, t: 0.9 * noisy)
    for result in scored(smooth, rough, squares, classifier).values():
        np.testing.assert_allclose(result.gain, result.net - result.oracle, atol=1e-12)
        noisiest = result.net_error[-1], result.oracle_error[-1], result.gain_error[-1]
        assert noisiest[2] < np.hypot(*noisiest[:2])


def test_accuracy_falls_with_noise_and_calibration_error_is_reported(read, squares, classifier):
    rough = read(lambda noisy, t: noisy, levels=(1, 95))
    tone = scored(rough, rough, squares, classifier)["tone"]
    assert tone.net[0] > 0.95 and tone.net[1] < 0.8
    assert 0 <= tone.net_calibration_error[0] < 0.05 < tone.net_calibration_error[1] <= 1


def test_network_denoiser_calls_with_relative_float32_time_and_inverts_the_mixture():
    seen = []

    def network(noisy, times):
        seen.append(times)
        return torch.ones_like(noisy)

    t = 50
    signal, sigma = ALPHA_BAR[t].sqrt().item(), (1 - ALPHA_BAR[t]).sqrt().item()
    noisy = torch.full((2, 3, 4, 4), signal * 0.25 + sigma)
    found = network_denoiser(network, ALPHA_BAR)(noisy, t)
    torch.testing.assert_close(found, torch.full_like(found, 0.25))
    assert seen[0].dtype == torch.float32 and seen[0].tolist() == [0.5, 0.5]


def test_linear_denoiser_hands_alpha_bar_over():
    noisy = torch.zeros(1, 3, 4, 4)
    found = linear_denoiser(lambda x, alpha_bar: x + alpha_bar, ALPHA_BAR)(noisy, 7)
    assert found[0, 0, 0, 0].item() == pytest.approx(ALPHA_BAR[7].item())


def test_denoised_images_are_clipped_and_do_not_depend_on_the_batch(read):
    far = read(lambda noisy, t: 50 * noisy, levels=(90,))
    clipped = read(lambda noisy, t: (50 * noisy).clamp(-1, 1), levels=(90,), batch_size=64)
    for name, probabilities in far.by_level[0].probabilities.items():
        np.testing.assert_allclose(
            probabilities, clipped.by_level[0].probabilities[name], atol=1e-5
        )


def test_emergence_names_what_does_not_fit(read, mean_readings, squares, classifier, held_out):
    with pytest.raises(UserError, match="allowed is 1 to n_T = 100"):
        read(lambda noisy, t: noisy, levels=(0,))
    with pytest.raises(UserError, match="No image to denoise"):
        read_denoised(
            lambda noisy, t: noisy, ALPHA_BAR, held_out[:0], LEVELS, 8, keyed_noise, classifier
        )
    other = dataclasses.replace(mean_readings, levels=(10, 50, 91))
    with pytest.raises(UserError, match="at the same levels"):
        scored(mean_readings, other, squares, classifier)
    labels = {name: codes[:5] for name, codes in squares.held_out_labels.items()}
    with pytest.raises(UserError, match="200 images were read, 5 have labels of 'tone'"):
        emergence(mean_readings, mean_readings, labels, classifier.attributes)
