"""Latents on disk: whole or refused, measured exactly, and drawn anew at every step by key."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.evaluation.metrics.linear_oracle import fit_latent_oracle, latent_oracle
from mindiffusion.data.codec import PIXELS
from mindiffusion.data.latents import (
    DOCUMENT,
    MOMENTS,
    LatentKey,
    TrainingLatents,
    drawn,
    open_latents,
    usual_scale,
    write_latents,
)
from mindiffusion.data.training_data import TrainingData
from mindiffusion.errors import UserError
from mindiffusion.noise import Stream, normals, uniforms
from mindiffusion.training.batches import BatchSource, image_indices

N, SHAPE = 24, (2, 3, 3)
KEY = LatentKey(manifest="m", vae="a" * 64, num_images=N, shape=list(SHAPE), is_mirrored=True)


@pytest.fixture(scope="module")
def moments():
    """(2N, 2, C, h, w): means around 1 with spreads between .1 and .6; of few digits."""
    rng = np.random.default_rng(0)
    mean = np.round(1 + 2 * rng.standard_normal((2 * N, *SHAPE)), 2)
    spread = np.round(0.1 + rng.random((2 * N, *SHAPE)) / 2, 2)
    return np.stack((mean, spread), 1).astype(np.float16)


def source(moments, scale=0.5, **changes):
    latents = TrainingLatents(moments, N, "a" * 64, scale)
    images = np.zeros((N, 12, 12, 3), np.uint8)
    settings = {
        "seed": 3, "global_batch": 8, "flip": True, "device": torch.device("cpu"),
        "dtype": torch.float32,
    } | changes  # fmt: skip
    data = TrainingData(images, "m", np.arange(N), latents=latents)
    return BatchSource(data, PIXELS, **settings)


def test_latents_are_kept_whole_and_found_by_all_that_they_depend_on(moments, tmp_path):
    assert open_latents(KEY, tmp_path) is None
    blocks = np.array_split(moments.astype(np.float32), 5)
    write_latents(KEY, tmp_path, lambda: iter(blocks))
    found = open_latents(KEY, tmp_path)
    np.testing.assert_array_equal(found, moments)
    assert not found.flags.writeable
    for change in ({"manifest": "n"}, {"vae": "b" * 64}, {"is_mirrored": False}):
        assert open_latents(KEY.model_copy(update=change), tmp_path) is None


def test_encoding_that_did_not_end_leaves_nothing(moments, tmp_path):
    def blocks():
        yield moments[:5].astype(np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_latents(KEY, tmp_path, blocks)
    assert open_latents(KEY, tmp_path) is None
    assert list(KEY.folder(tmp_path).iterdir()) == []


@pytest.mark.parametrize("fault", ["bytes", "cut", "other"])
def test_damaged_latents_are_refused(fault, moments, tmp_path):
    write_latents(KEY, tmp_path, lambda: iter([moments.astype(np.float32)]))
    path = KEY.folder(tmp_path) / MOMENTS
    content = bytearray(path.read_bytes())
    if fault == "bytes":
        content[-1] ^= 1
        path.write_bytes(content)
    elif fault == "cut":
        path.write_bytes(content[:-2])
    else:
        document = KEY.folder(tmp_path) / DOCUMENT
        document.write_text(document.read_text().replace('"m"', '"n"'))
    with pytest.raises(UserError, match=r"damaged|as an array|something else"):
        open_latents(KEY, tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_latents_that_float16_cannot_hold_are_refused(value, moments, tmp_path):
    block = moments.astype(np.float32)
    block[0, 0, 0, 0, 0] = value
    with pytest.raises(UserError, match="not finite, or above 65504"):
        write_latents(KEY, tmp_path, lambda: iter([block]))


def test_scale_is_one_over_the_spread_of_all_drawn_values(moments):
    many = [
        drawn(
            torch.from_numpy(moments), normals(0, Stream.LATENT, torch.arange(2 * N), k, SHAPE), 1
        )
        for k in range(400)
    ]
    # 345,600 values: the error of their standard deviation is a thousandth.
    assert usual_scale(moments) * torch.stack(many).std().item() == pytest.approx(1, abs=0.01)
    exact = (moments[:, 0].astype(float) ** 2 + moments[:, 1].astype(float) ** 2).mean()
    exact -= moments[:, 0].astype(float).mean() ** 2
    assert usual_scale(moments) == pytest.approx(exact**-0.5, rel=1e-12)
    with pytest.raises(UserError, match="no scale can be measured"):
        usual_scale(np.zeros((3, 2, *SHAPE), np.float16))


def test_statistics_are_of_the_images_themselves_as_they_are_drawn(moments):
    found = TrainingLatents(moments, N, "a" * 64, 0.5).statistics
    own = moments[:N].astype(float)
    np.testing.assert_allclose(found.mean, 0.5 * own[:, 0].mean(0).transpose(1, 2, 0))
    variance = (own[:, 0].var(0) + (own[:, 1] ** 2).mean(0)).mean()
    assert found.std == pytest.approx(0.5 * variance**0.5, rel=1e-12)


def test_batch_of_latents_is_drawn_by_key_of_the_row_that_flips_say(moments):
    batch = source(moments).batch(5, 0, 8)
    index, position = image_indices(3, 5, 8, N), torch.arange(8)
    flips = uniforms(3, Stream.FLIP, position, 5)[:, 0] < 0.5
    assert 0 < flips.sum() < 8
    rows = torch.from_numpy(moments)[index + N * flips].float()
    noise = normals(3, Stream.LATENT, position, 5, SHAPE)
    expected = 0.5 * (rows[:, 0] + rows[:, 1] * noise)
    torch.testing.assert_close(batch.images, expected, rtol=0, atol=0)
    # Labels are of the image, mirrored or not; the process's noise is another draw.
    assert torch.equal(batch.condition, index)
    assert (batch.noise - noise).abs().max() > 0.1


def test_latents_of_an_image_are_drawn_anew_at_every_step_and_not_by_the_split(moments):
    whole = source(moments, flip=False)
    first, again = (whole.batch(step, 0, 8) for step in (0, 0))
    assert torch.equal(first.images, again.images)
    parts = torch.cat([whole.batch(0, k, k + 4).images for k in (0, 4)])
    assert torch.equal(parts, first.images)
    epoch = [whole.batch(step, 0, 8) for step in (3, 4, 5)]  # three steps visit every image
    later = next(one for one in epoch if first.condition[0] in one.condition)
    place = int((later.condition == first.condition[0]).nonzero()[0])
    assert (later.images[place] - first.images[0]).abs().max() > 1e-3
    other = source(moments, flip=False, noise_stream=1).batch(0, 0, 8)
    assert not torch.equal(other.images, first.images)


def test_oracle_of_latents_has_their_mean_and_covariance(moments, tmp_path):
    latents = TrainingLatents(moments, N, "a" * 64, 0.5)
    found = fit_latent_oracle(latents)
    own = moments[:N].astype(float).reshape(N, 2, -1)
    covariance = np.cov(own[:, 0].T, ddof=0) + np.diag((own[:, 1] ** 2).mean(0))
    vectors = found.eigenvectors.numpy()
    np.testing.assert_allclose(found.mean, 0.5 * own[:, 0].mean(0), atol=1e-12)
    rebuilt = (vectors * found.eigenvalues.numpy()) @ vectors.T
    np.testing.assert_allclose(rebuilt, 0.25 * covariance, atol=1e-12)
    kept = [latent_oracle(latents, tmp_path, "m") for _ in range(2)]
    assert torch.equal(kept[1].eigenvalues, found.eigenvalues)
    latent_oracle(replace(latents, scale=0.6), tmp_path, "m")
    assert len(list(tmp_path.iterdir())) == 2
