import numpy as np
import pytest
import torch

from benchmark.evaluation.metrics import linear_oracle as module
from benchmark.evaluation.metrics.denoising import denoising_profiles
from benchmark.evaluation.metrics.linear_oracle import fit_linear_oracle, linear_oracle
from benchmark.evaluation.metrics.profile import paired_difference
from mindiffusion.chain import Chain
from mindiffusion.ddpm import DDPMProcess
from mindiffusion.errors import UserError
from mindiffusion.noise import Stream, normals
from mindiffusion.process import Level

PROCESS = DDPMProcess(Chain((1e-3, 0.1), 100))
LEVELS = tuple(PROCESS.level(torch.tensor([k / 100])) for k in (1, 10, 30, 60, 95))
SIDE = 4
DIM = 3 * SIDE * SIDE


def correlated_images(n, seed=0):
    """uint8 images of a few directions of falling strength, with a mean that is not grey."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(DIM, DIM)) * np.exp(-np.arange(DIM) / 5)
    values = 90 + 30 * np.arange(DIM) / DIM + 18 * rng.normal(size=(n, DIM)) @ mixing.T
    return np.clip(values, 0, 255).round().astype(np.uint8).reshape(n, SIDE, SIDE, 3)


def as_tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).double() / 127.5 - 1


def noise(level_index, index):
    return normals(5, Stream.EVALUATION_NOISE, index, level_index, (3, SIDE, SIDE))


def profiles(images, **denoisers):
    return denoising_profiles(denoisers, as_tensor(images), LEVELS, 500, noise)


@pytest.fixture(scope="module")
def images():
    return correlated_images(2000)


@pytest.fixture(scope="module")
def oracle(images):
    return fit_linear_oracle(images)


@pytest.mark.parametrize("n", [2000, DIM + 1, DIM, 20, 2])
def test_spectrum_is_that_of_the_covariance_also_with_few_images(n):
    images = correlated_images(n)
    oracle = fit_linear_oracle(images)
    values = as_tensor(images).flatten(1).numpy()
    np.testing.assert_allclose(oracle.mean, values.mean(0), atol=1e-12)
    vectors, spectrum = oracle.eigenvectors.numpy(), oracle.eigenvalues.numpy()
    rank = np.linalg.matrix_rank(np.cov(values.T))
    assert vectors.shape == (DIM, rank) and rank <= min(DIM, n - 1) and oracle.n == n
    assert (np.diff(spectrum) <= 0).all() and spectrum[-1] > 0
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(rank), atol=1e-10)
    np.testing.assert_allclose(
        (vectors * spectrum) @ vectors.T, np.cov(values.T, ddof=0), atol=1e-12
    )


def test_fit_does_not_depend_on_its_batches(images, oracle, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 7)
    again = fit_linear_oracle(images)
    assert torch.equal(again.eigenvectors, oracle.eigenvectors)
    assert torch.equal(again.mean, oracle.mean)


def test_measured_error_is_the_closed_form_of_the_spectrum(images, oracle):
    """Expected ε-MSE: (1/d) Σ ᾱλ/(ᾱλ + 1 − ᾱ) for the oracle, ᾱ Tr Σ / ((1 − ᾱ) d) for the mean.

    Both need second moments alone, so they hold for these images, Gaussian or not.
    """
    found = profiles(
        images,
        linear=oracle,
        mean=oracle.mean_only(),
    )
    ratio = np.array([[float(level.alpha) ** 2] for level in LEVELS])
    spectrum = oracle.eigenvalues.numpy()
    linear = (ratio * spectrum / (ratio * spectrum + 1 - ratio)).sum(1) / DIM
    mean = (ratio * spectrum / (1 - ratio)).sum(1) / DIM
    for name, expected in (("linear", linear), ("mean", mean)):
        profile = found[name]
        assert (np.abs(profile.mse - expected) < 4 * profile.standard_error).all(), name
        np.testing.assert_allclose(profile.mse, expected, rtol=0.1)
    gain = paired_difference(found["mean"], found["linear"])
    assert (np.abs(gain.mse - (mean - linear)) < 4 * gain.standard_error).all()
    assert (gain.mse > 0).all()


def test_pairs_share_what_the_noise_does_to_both(images, oracle):
    found = profiles(
        images,
        linear=oracle,
        mean=oracle.mean_only(),
    )
    gain = paired_difference(found["mean"], found["linear"])
    assert gain.mse[-1] < found["mean"].mse[-1] / 10
    assert gain.standard_error[-1] < found["mean"].standard_error[-1] / 5


def test_no_other_gain_does_better(images, oracle):
    """Filters for data of twice or half the variance are worse at every level."""
    others = {
        f"{factor}": module.LinearOracle(
            oracle.mean, factor * oracle.eigenvalues, oracle.eigenvectors, oracle.n
        )
        for factor in (0.5, 2.0)
    }
    found = profiles(images, best=oracle, **others)
    for name in others:
        assert (found[name].mse > found["best"].mse).all(), name


def level_of(alpha_bar):
    """A noise level with that share of signal variance."""
    ratio = torch.tensor([alpha_bar], dtype=torch.float64)
    half, one = torch.full((1,), 0.5), torch.ones(1)
    return Level(half, ratio.sqrt(), (1 - ratio).sqrt(), half, one)


def test_x0_goes_from_the_image_to_the_mean_with_the_noise(images, oracle):
    x = as_tensor(images[:3])
    torch.testing.assert_close(oracle(x, level_of(1 - 1e-9)).x0, x, atol=1e-3, rtol=0)
    mean = oracle(x, level_of(1e-12)).x0.flatten(1)
    torch.testing.assert_close(mean, oracle.mean.expand(3, -1), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        oracle.mean_only()(x, level_of(0.5)).x0.flatten(1), oracle.mean.expand(3, -1)
    )


def test_both_readings_of_noisy_images_agree(images, oracle):
    x = as_tensor(images[:2])
    said = oracle(x.float(), level_of(0.3))
    torch.testing.assert_close(0.3**0.5 * said.x0 + 0.7**0.5 * said.eps, x.float().double())
    assert said.eps.dtype == said.x0.dtype == torch.float64


def test_equal_images_leave_the_mean_alone():
    images = np.full((5, SIDE, SIDE, 3), 200, dtype=np.uint8)
    oracle = fit_linear_oracle(images)
    assert oracle.eigenvectors.shape == (DIM, 0)
    x0 = oracle(torch.zeros(1, 3, SIDE, SIDE, dtype=torch.float64), level_of(0.5)).x0
    torch.testing.assert_close(x0, torch.full_like(x0, 200 / 127.5 - 1))


def test_fit_is_kept_on_disk_and_made_again_when_damaged(tmp_path, monkeypatch):
    images = correlated_images(30)
    first = linear_oracle(images, tmp_path, "abc")
    fits = []
    monkeypatch.setattr(
        module, "fit_linear_oracle", lambda x: fits.append(len(x)) or fit_linear_oracle(x)
    )
    again = linear_oracle(images, tmp_path, "abc")
    assert not fits and again.n == 30
    for name in ("mean", "eigenvalues", "eigenvectors"):
        assert torch.equal(getattr(again, name), getattr(first, name))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-200])
    assert torch.equal(linear_oracle(images, tmp_path, "abc").eigenvectors, first.eigenvectors)
    linear_oracle(images[:20], tmp_path, "abc")
    linear_oracle(images, tmp_path, "other")
    assert fits == [30, 20, 30] and len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 4, 4, 3), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4, 3))],
    ids=["one", "grey", "float"],
)
def test_fit_refuses_what_is_no_set_of_images(images):
    with pytest.raises(UserError, match=r"2 or more images as uint8"):
        fit_linear_oracle(images)


def test_images_of_another_size_are_refused(oracle):
    with pytest.raises(UserError, match="images of 48 values, these have 192"):
        oracle(torch.zeros(1, 3, 8, 8), level_of(0.5))
