"""Densities that follow the losses: their closed forms, and what their pacers remember."""

import numpy as np
import pytest
import torch
from scipy import stats

from mindiffusion.config.process import DDPMConfig, EDMConfig, VPSDEConfig
from mindiffusion.curriculum.adaptive import (
    InfoNoisePacing,
    SecondMomentPacing,
    widths_in_log_sigma,
)
from mindiffusion.curriculum.density import Histogram, Window
from mindiffusion.curriculum.noise_time import relative_density
from mindiffusion.curriculum.pacer import RunFacts
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.errors import UserError
from mindiffusion.training import checkpoint
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.watch import Watch

FULL = (StageConfig("full", 1.0),)
PROCESSES = {"ddpm": DDPMConfig(), "vpsde": VPSDEConfig(), "edm": EDMConfig()}
SPECTRUM = np.array([4.0, 1.0, 0.1, 0.01])


def pacer_of(kind, process="ddpm", **settings):
    return kind(**settings).pacer(FULL, 1000, RunFacts(0, PROCESSES[process]))


def times_of(process, count=200_000):
    u = (np.arange(count) + 0.5) / count
    n = PROCESSES[process].num_levels
    return u if n is None else np.ceil(u * n) / n


def masses_at(pacer, step):
    assert pacer.look(step, None)
    return np.array(pacer.stages[-1].density.masses)


@pytest.mark.parametrize("process", PROCESSES)
def test_info_noise_is_the_loss_of_entropy_of_gaussian_data(process):
    bins = 20
    pacer = pacer_of(InfoNoisePacing, process, every=7, bins=bins, uniform=1e-9)
    t = times_of(process)
    variance = np.exp(2 * PROCESSES[process].log_sigma(t))[:, None]
    # The best denoiser's error of the noise is lambda/(lambda + sigma²) along each direction.
    pacer.take_images(t[None], (SPECTRUM / (SPECTRUM + variance)).mean(1)[None])
    found = masses_at(pacer, 7)
    edges = np.arange(bins + 1) / bins
    z = (np.log([0.002, 80.0]) + 1.2) / 1.2
    edges[0] = 1e-3 if process != "edm" else stats.norm.cdf(z[0]) / stats.norm.cdf(z[1])
    at_edges = np.exp(2 * PROCESSES[process].log_sigma(edges))[:, None]
    information = 0.5 * np.log1p(SPECTRUM / at_edges).sum(1)
    expected = -np.diff(information) / (information[0] - information[-1])
    # Within a bin the error is averaged over noise time, not over ln sigma: in the last bin of EDM,
    # which goes from 2 to 80, these are far apart.
    narrow = slice(-1 if process == "edm" else None)
    found, expected = (each[narrow] / each[narrow].sum() for each in (found, expected))
    np.testing.assert_allclose(found, expected, rtol=0.06, atol=2e-3)


def test_second_moment_is_the_root_of_the_mean_square_of_the_last_losses():
    pacer = pacer_of(SecondMomentPacing, every=5, bins=2, history=2, uniform=0.1)
    low, high = 0.2, 0.9
    pacer.take_images(np.array([[low, high]]), np.array([[9.0, 9.0]]))
    assert not pacer.look(5, None)  # not two losses of each bin yet
    pacer.take_images(np.array([[low, high], [low, low]]), np.array([[3.0, 7.0], [1.0, 3.0]]))
    expected = np.array([np.sqrt(5), np.sqrt(65)])
    expected = 0.9 * expected / expected.sum() + 0.05
    np.testing.assert_allclose(masses_at(pacer, 10), expected, rtol=1e-12)
    assert [stage.start for stage in pacer.stages] == [0, 10] and pacer.is_unbiased
    assert pacer.stages[0].density == Window()


def test_bins_below_the_lowest_level_of_samplers_have_no_width():
    widths = widths_in_log_sigma(10, RunFacts(0, EDMConfig(sigma_min=0.2)))
    assert (widths[:3] == 0).all() and (widths[3:] > 0).all()
    assert widths.sum() == pytest.approx(np.log(80 / 0.2), rel=1e-9)


@pytest.mark.parametrize("process", PROCESSES)
def test_weights_by_the_inverse_of_the_density_leave_the_expected_loss(process):
    n = PROCESSES[process].num_levels
    pacer = pacer_of(SecondMomentPacing, process, every=1, bins=10, history=1, uniform=0.05)
    t = times_of(process, 4000)
    pacer.take_images(t[None], 1 + 9 * t[None])
    assert pacer.look(1, None)
    density = pacer.stages[-1].density
    drawn = density.quantile(torch.linspace(0, 1, 200_001)[:-1].double(), n)
    often = relative_density(density, drawn, n)
    for loss in (lambda t: t, lambda t: (t < 0.25).double()):
        plain = float(loss(torch.from_numpy(t)).mean())
        assert float((loss(drawn) / often).mean()) == pytest.approx(plain, rel=2e-3)


@pytest.mark.parametrize("kind", [InfoNoisePacing, SecondMomentPacing])
def test_pacer_goes_on_from_its_state_to_the_same_bits(kind):
    draw = np.random.default_rng(3)
    steps = [(draw.uniform(1e-3, 1, 8), draw.normal(1, 0.1, 8)) for _ in range(60)]
    whole, first = (pacer_of(kind, every=10, bins=4) for _ in range(2))
    for step, (times, losses) in enumerate(steps):
        whole.look(step, None)
        whole.take_images(times[None], losses[None])
        if step < 34:
            first.look(step, None)
            first.take_images(times[None], losses[None])
    second = pacer_of(kind, every=10, bins=4)
    second.load_state_dict(first.state_dict(34))
    # Read at other steps, the losses come in other parts.
    second.take_images(*(np.stack(part) for part in zip(*steps[34:40], strict=True)))
    second.look(40, None)
    second.take_images(*(np.stack(part) for part in zip(*steps[40:50], strict=True)))
    second.look(50, None)
    second.take_images(*(np.stack(part) for part in zip(*steps[50:], strict=True)))
    assert second.state_dict(60) == whole.state_dict(60)
    assert second.stages == whole.stages and len(whole.stages) > 3
    early = pacer_of(kind, every=10, bins=4)
    early.place(whole.kept(25))
    assert early.stages == whole.stages[: len(early.stages)] and 1 < len(early.stages) < 4


def test_bins_of_counted_levels_are_those_of_the_stages_density():
    pacer = pacer_of(InfoNoisePacing, bins=8)
    levels = np.arange(1, 1001) / 1000
    bins = pacer.bins_of(levels.astype(np.float32).astype(np.float64))
    masses = np.arange(8) / 28
    density = Histogram(pacer._edges, tuple(masses))
    shares = [density.probabilities(1000)[bins == one].sum() for one in range(8)]
    np.testing.assert_allclose(shares, masses, atol=1e-12)
    assert np.bincount(bins).tolist() == [125] * 8


def test_ranks_give_every_image_in_the_order_of_the_global_batch():
    class Two(Ranks):
        def gather(self, values):
            other = values.clone()
            if values.dim() == 3:
                other[1] += 100  # the other rank's losses
            return torch.stack([values, other])

    given = []
    watch = Watch(Two(), 4, 2, torch.device("cpu"), torch.float64,
                  on_images=lambda times, losses: given.append((times, losses)))  # fmt: skip
    for losses in ([1.0, 2.0], [3.0, 4.0]):
        watch.add_losses(0, torch.tensor(losses), torch.tensor([0.25, 0.75]))
        watch.end_step(torch.tensor(1.0))
    watch.read(2)
    ((times, losses),) = given
    assert losses.tolist() == [[1, 2, 101, 102], [3, 4, 103, 104]]
    assert times.tolist() == [[0.25, 0.75] * 2] * 2


@pytest.mark.parametrize("kind", [InfoNoisePacing, SecondMomentPacing])
def test_what_does_not_fit_is_one_line(kind):
    facts = RunFacts(0, DDPMConfig(n_T=20))
    with pytest.raises(UserError, match=r"pacing.bins is 50, but the process has 20 noise levels"):
        kind().pacer(FULL, 10, facts)
    with pytest.raises(UserError, match="makes the stages after the first one itself, but the cur"):
        kind().pacer(FULL * 2, 10, facts)
    pacer = pacer_of(kind, bins=4)
    for kept in ({}, {"masses": [[0.5, 0.5]]}, {"masses": [[0.25] * 4] * 2}):
        with pytest.raises(UserError, match="does not say the 4 masses of each stage"):
            pacer.place({"begun": [0, 5]} | kept)
    for bad in ([0.5, 0.7, -0.1, -0.1], [float("nan")] * 4, ["a"] * 4, [0.1] * 4):
        with pytest.raises(UserError, match="the masses of stage 3 in the file are no") as error:
            pacer.place({"begun": [0, 5, 9], "masses": [[0.25] * 4, bad]})
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"every is 2, but in 4001 steps .* give at least 3"):
        kind(every=2).pacer(FULL, 4001, RunFacts(0, DDPMConfig()))
    lists = ("sums", "counts", "means", "seen", "last_losses")
    of_other_bins = {name: [1.0] * 3 for name in lists}
    with pytest.raises(UserError, match="the state does not hold"):
        pacer.load_state_dict({"begun": [0], "masses": [], "losses": []} | of_other_bins)


def test_run_of_the_most_stages_goes_on_from_its_file(tmp_path):
    """Of 50 bins: what such a run keeps is more than the values that a document may hold."""
    pacer, again = (
        SecondMomentPacing(every=1, history=100).pacer(FULL, 2000, RunFacts(0, DDPMConfig()))
        for _ in range(2)
    )
    times, losses = np.tile(np.arange(1, 1001) / 1000, (5, 1)), np.ones((5, 1000))
    pacer.take_images(times, losses)
    log = []
    for step in range(1, 2000):
        if step % 100 == 0:
            pacer.take_images(times[:1, ::20], losses[:1, ::20] * step)
        assert pacer.look(step, None)
        log.append({"step": step, "stage": pacer.stages[-1].config.name, "active_channels": 1.0,
                    "penalty_lambda": 0.0, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5})  # fmt: skip
    path = checkpoint.checkpoint_path(tmp_path, 2000)
    config = {"pacing": {"kind": "loss_second_moment"}}
    described = {"step": 2000, "config": config, "runtime": {}, "train_seconds": 1.0,
                 "stage_log": log, "manifest": "m", "log": "", "network": {}, "averages": {},
                 "optimizer": {}, "unlogged": torch.zeros(0)}  # fmt: skip
    checkpoint.save(path, described | {"pacing": pacer.state_dict(2000)})
    again.load_state_dict(checkpoint.load(path)["pacing"])
    assert again.stages == pacer.stages and len(again.stages) == 2000
    assert again.state_dict(2000) == pacer.state_dict(2000)
