import numpy as np
import pytest
import torch

from mindiffusion.data.codec import PIXELS
from mindiffusion.data.training_data import TrainingData
from mindiffusion.errors import UserError
from mindiffusion.noise import Stream
from mindiffusion.training.batches import BatchSource, image_indices, stratum


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)


def source(images, labels=None, codec=PIXELS, **changes):
    settings = {
        "seed": 3, "global_batch": 8, "flip": True,
        "device": torch.device("cpu"), "dtype": torch.float32,
    } | changes  # fmt: skip
    return BatchSource(TrainingData(images, "m", labels), codec, **settings)


def test_order_visits_every_image_once_an_epoch_also_across_batches():
    visited = torch.cat([image_indices(5, step, 8, 20) for step in range(15)]).view(6, 20)
    for epoch in visited:
        assert sorted(epoch.tolist()) == list(range(20))
    assert len({tuple(epoch.tolist()) for epoch in visited}) == 6


def test_order_is_keyed_by_the_seed_and_free_of_the_batch_size():
    stream = {
        batch: torch.cat([image_indices(5, step, batch, 20) for step in range(40 // batch)])
        for batch in (4, 8, 40)
    }
    assert torch.equal(stream[4], stream[8]) and torch.equal(stream[8], stream[40])
    assert not torch.equal(stream[8][:8], image_indices(6, 0, 8, 20))


def test_order_does_not_depend_on_what_was_asked_before():
    first = image_indices(5, 9, 8, 20)
    for step in range(20):
        image_indices(5, step, 8, 20)
    assert torch.equal(first, image_indices(5, 9, 8, 20))


def test_batch_does_not_depend_on_the_split(images):
    whole = source(images).batch(7, 0, 8)
    other = source(images)
    parts = [other.batch(7, a, b) for a, b in ((5, 8), (0, 1), (1, 5))]
    for name in ("images", "u", "noise"):
        joined = torch.cat([getattr(parts[i], name) for i in (1, 2, 0)])
        assert torch.equal(getattr(whole, name), joined), name


def test_batch_images_are_the_arrays_some_mirrored(images):
    mirrored = 0
    for step in range(20):
        index = image_indices(3, step, 8, 20)
        batch = source(images).batch(step, 0, 8)
        for j, k in enumerate(index.tolist()):
            plain = torch.from_numpy(images[k]).permute(2, 0, 1).float() / 127.5 - 1
            is_plain = torch.equal(batch.images[j], plain)
            assert is_plain or torch.equal(batch.images[j], plain.flip(2))
            mirrored += not is_plain
    # 160 fair draws: 5 standard deviations either side.
    assert 80 - 32 < mirrored < 80 + 32


def test_batch_without_flip_is_the_array_in_range(images):
    batch = source(images, flip=False).batch(0, 0, 8)
    expected = images[image_indices(3, 0, 8, 20).numpy()].transpose(0, 3, 1, 2) / 127.5 - 1
    np.testing.assert_allclose(batch.images.numpy(), expected, atol=1e-6)
    assert batch.images.min() >= -1 and batch.images.max() <= 1


def test_batch_noise_is_normal_u_uniform_and_steps_differ(images):
    batches = [source(images).batch(step, 0, 8) for step in range(50)]
    noise = torch.cat([b.noise.flatten() for b in batches])
    u = torch.cat([b.u for b in batches])
    assert abs(noise.mean()) < 5 / len(noise) ** 0.5
    assert abs(noise.var() - 1) < 5 * (2 / len(noise)) ** 0.5
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / len(u)) ** 0.5
    assert len(set(u.tolist())) == len(u)


def test_batch_of_other_streams_has_the_same_images_and_other_noise(images):
    training = source(images).batch(2, 0, 8)
    probe = source(images).batch(2, 0, 8, (Stream.PROBE_TIME, Stream.PROBE_NOISE))
    assert torch.equal(training.images, probe.images)
    assert not torch.equal(training.u, probe.u) and not torch.equal(training.noise, probe.noise)


def test_batch_in_float64_holds_the_same_draws(images):
    single, double = (
        source(images, dtype=d).batch(1, 0, 8) for d in (torch.float32, torch.float64)
    )
    assert double.images.dtype == double.noise.dtype == torch.float64
    assert torch.equal(single.noise.double(), double.noise) and torch.equal(single.u, double.u)


@pytest.mark.parametrize("arms", [("b", "c"), ("c", "cs"), ("cs", "cr")])
def test_arms_of_one_seed_share_images_u_and_noise(arms, avatars, tiny_config):
    def batch(arm):
        config = tiny_config(arm)
        built = source(avatars.train, seed=config.seed, global_batch=config.training.global_batch)
        return built.batch(5, 0, 8)

    one, other = map(batch, arms)
    assert torch.equal(one.u, other.u) and torch.equal(one.noise, other.noise)
    assert torch.equal(one.images, other.images)


def test_batch_of_noise_stream_zero_is_what_it_was_before_there_were_others(images):
    batch = source(images).batch(7, 0, 8)
    # From the version before noise_stream.
    assert (batch.u * 2**24).int().tolist() == [
        835042, 2715169, 3447342, 12025347, 11805590, 4234378, 10977987, 3700388,
    ]  # fmt: skip
    assert batch.noise[:, 0, 0, 0].tolist() == pytest.approx(
        [0.7252, -0.6823, 1.2401, -2.0969, 0.1471, -0.5564, -0.6598, -0.1191], abs=5e-5
    )
    assert batch.images[:, 0, 0, 0].tolist() == pytest.approx(
        [-0.514, 0.475, -0.686, 0.686, 0.639, 0.161, -0.796, 0.475], abs=5e-4
    )


def test_batch_of_another_noise_stream_differs_in_order_flips_time_and_noise(images):
    one, other = (source(images, noise_stream=n) for n in (0, 1))
    again = source(images, noise_stream=1)
    a, b, c = (s.batch(2, 0, 8) for s in (one, other, again))
    for name in ("images", "u", "noise"):
        assert not torch.equal(getattr(a, name), getattr(b, name)), name
        assert torch.equal(getattr(b, name), getattr(c, name)), name
    assert not torch.equal(image_indices(3, 2, 8, 20), image_indices(3, 2, 8, 20, 1))
    still = [source(np.stack([images[0]] * 20), noise_stream=n) for n in (0, 1)]
    flips = [torch.cat([s.batch(k, 0, 8).images for k in range(4)]) for s in still]
    assert not torch.equal(*flips)


def test_noise_streams_share_initial_weights(tiny_config):
    from mindiffusion.build import build_network

    one, other = (build_network(tiny_config("cs", f"noise_stream={n}")) for n in (0, 1))
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_batch_has_the_labels_of_its_images_and_none_without(images):
    labels = np.arange(40).reshape(20, 2)
    for start, stop in ((0, 8), (3, 5)):
        batch = source(images, labels).batch(7, start, stop)
        index = image_indices(3, 7, 8, 20)[start:stop]
        assert batch.condition.tolist() == labels[index.numpy()].tolist()
    assert source(images).batch(7, 0, 8).condition is None


def test_labels_are_one_for_each_image(images):
    with pytest.raises(UserError, match="19 labels came with 20 training images; give one"):
        TrainingData(images, "m", np.zeros(19, np.int64))


def test_batch_is_what_the_codec_makes_of_the_images(images):
    class Halves:
        channels = 6

        def inputs(self, images, dtype):
            whole = PIXELS.inputs(images, dtype)
            return torch.cat([whole[:, :, :2], whole[:, :, 2:]], 1)

    batch, plain = (source(images, codec=c, flip=False).batch(1, 0, 8) for c in (Halves(), PIXELS))
    assert batch.images.shape == batch.noise.shape == (8, 6, 2, 4)
    assert torch.equal(batch.images[:, 3:], plain.images[:, :, 2:])


# -- stratified draws ---------------------------------------------------------------------------


def test_stratified_batch_has_a_noise_time_of_each_share_however_it_is_split(images):
    plain, stratified = source(images), source(images, stratified=True)
    whole = stratified.batch(4, 0, 8)
    assert torch.floor(whole.u * 8).tolist() == list(range(8))
    parts = [stratified.batch(4, *ends) for ends in ((0, 3), (3, 4), (4, 8))]
    assert torch.cat([part.u for part in parts]).equal(whole.u)
    other = plain.batch(4, 0, 8)
    assert whole.images.equal(other.images) and whole.noise.equal(other.noise)
    torch.testing.assert_close(whole.u * 8 % 1, other.u, atol=1e-6, rtol=0)
    streams = (Stream.PROBE_TIME, Stream.PROBE_NOISE)
    assert stratified.batch(4, 0, 8, streams).u.equal(plain.batch(4, 0, 8, streams).u)


def test_stratified_draws_are_uniform_and_vary_less(images):
    plain, stratified = (
        torch.stack([made.batch(step, 0, 8).u for step in range(400)]).double()
        for made in (source(images), source(images, stratified=True))
    )
    counts = torch.histc(stratified.flatten(), 16, 0, 1)
    assert counts.min() > 150 and counts.max() < 250
    # The mean of a batch has a variance of 1/(12 B) plain, and 1/(12 B^3) stratified.
    assert stratified.mean(1).var() == pytest.approx(1 / (12 * 8**3), rel=0.25)
    assert plain.mean(1).var() == pytest.approx(1 / (12 * 8), rel=0.25)


@pytest.mark.parametrize("batch", [1, 3, 8, 1000])
def test_stratified_uniforms_have_24_bits_below_one(batch):
    u = torch.tensor([0.0, 0.5, 1 - 2**-24]).repeat(2)
    position = torch.tensor([0, 0, 0, batch - 1, batch - 1, batch - 1])
    made = stratum(u, position, batch)
    assert made.dtype == torch.float32 and made.min() >= 0 and made.max() < 1
    assert (made.double() * 2**24 % 1 == 0).all()
    below = (position + u.double()) / batch - made.double()
    assert below.min() >= 0 and below.max() < 2**-24
