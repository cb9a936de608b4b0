"""One trained run scored in this process; rows of whole studies are in test_reproduce.py."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmark.evaluate import choose_feature_net, make_yardstick, score_milestone
from benchmark.results import key
from benchmark.study import EvaluationConfig, Study
from mindiffusion.errors import UserError
from mindiffusion.training import checkpoint

EVALUATION = EvaluationConfig(
    num_generated=6, num_reference=32, feature_net="effnet-lite0-64",
    profile_images=4, profile_levels=5, strip=3,
)  # fmt: skip
CLOCK = {"time": "", "train_seconds": 0.0}


@pytest.fixture
def scored(workdir, train_run, tiny_config, avatars):
    """A function: arm → (study, config, rows of its two milestones, yardstick)."""

    def score(arm, *words):
        config = tiny_config(arm, *words, output=workdir / "results" / "tiny" / arm)
        study = Study("tiny", workdir / "results" / "tiny", (config,), EVALUATION)
        train_run(config)
        yardstick = make_yardstick(EVALUATION, avatars, "cpu")
        progress = []
        rows = [
            score_milestone(study, config, step, yardstick, lambda *told: progress.append(told))
            for step in (12, 24)
        ]
        assert progress and all(0 <= fraction <= 1 for _, fraction in progress)
        return study, config, rows, yardstick

    return score


def values(rows):
    return [replace(row, **CLOCK) for row in rows]


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_scoring_again_gives_the_same_rows(sampler, scored):
    study, config, rows, yardstick = scored(
        "cs", f"sampler.name={sampler}", "process.n_T=20", "sampler.chunk=4"
    )
    again = score_milestone(study, config, 12, yardstick, lambda what, fraction: None)
    assert values(again) == values(rows[0])
    keys = [key(row) for part in rows for row in part]
    assert len(keys) == len(set(keys))
    (distance,) = [row for row in rows[0] if row.metric.startswith("FD-")]
    assert distance.sampler_steps == (20 if sampler == "ddpm" else 2)
    # It proves the milestone's other rows, so it must be written after them.
    assert [r.metric for r in rows[0]].index(distance.metric) > max(
        i for i, row in enumerate(rows[0]) if row.metric == "eps-MSE"
    )


def test_strip_holds_the_first_images(scored):
    study, _, rows, _ = scored("c")
    (row,) = [row for row in rows[1] if row.metric.startswith("FD-")]
    assert np.array(Image.open(study.folder / row.samples)).shape == (32, 3 * 32, 3)


def test_profile_levels_are_asked_for_and_errors_positive(scored):
    _, _, rows, _ = scored("b")
    for weights in ("ema0.99", "raw"):
        profile = [r for r in rows[1] if (r.metric, r.weights) == ("eps-MSE", weights)]
        assert [row.level for row in profile] == [0.1, 0.3, 0.5, 0.7, 0.9]
        assert all(row.value > 0 and row.error > 0 and row.n_reference == 4 for row in profile)
    assert not any(row.metric.startswith(("mask-", "weight-movement")) for row in rows[1])


def test_mask_effect_is_lifted_minus_masked(scored):
    """Recomputed from the milestone's file with the mask filled by hand."""
    import torch

    from benchmark.metrics.denoising import denoising_profile, profile_levels
    from mindiffusion.noise import Stream, normals
    from mindiffusion.sampling import process_of

    _, config, rows, yardstick = scored("cs")
    content = checkpoint.load(checkpoint.weights_path(config.run_dir, 12))
    pixels = torch.from_numpy(np.array(yardstick.data.held_out[:4]))
    images = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1

    def noise(level, index):
        return normals(0, Stream.EVALUATION_NOISE, index, level, (3, 32, 32))

    mse = []
    for lift in (False, True):
        process = process_of(content, "ema0.99", torch.device("cpu"))
        assert 0 < process.eps_model.channel_mask.sum() < 16
        if lift:
            process.eps_model.channel_mask.fill_(1.0)
        levels = profile_levels(1000, 5)
        profile = denoising_profile(
            process.eps_model, process.alpha_bar, images, levels, 1000, 64, noise
        )
        mse.append(profile.mse)
    effect = [row.value for row in rows[0] if row.metric == "mask-effect"]
    np.testing.assert_allclose(effect, mse[1] - mse[0], rtol=1e-6, atol=1e-12)
    under = [r.value for r in rows[0] if (r.metric, r.weights) == ("eps-MSE", "ema0.99")]
    np.testing.assert_allclose(under, mse[0], rtol=1e-6)


def test_arms_of_one_seed_are_sampled_from_the_same_noise(scored):
    _, b, _, _yardstick = scored("b", "training.lr=1e-30")
    _, c, _, _ = scored("c", "training.lr=1e-30")
    # Untrained nets of one seed are one net, so equal noise means equal images and equal scores.
    strips = [np.array(Image.open(x.run_dir / "samples-000000024.png")) for x in (b, c)]
    assert np.array_equal(*strips)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("inception", "INCEPTION_PATH"),
        ("effnet-lite0-65", "Did you mean 'effnet-lite0-64'"),
        ("resnet", "unknown feature net 'resnet'"),
    ],
)
def test_feature_net_that_is_not_to_be_had_is_an_error(name, match, workdir, monkeypatch):
    monkeypatch.setattr("benchmark.evaluate.CACHE", workdir / "empty")
    with pytest.raises(UserError, match=match):
        choose_feature_net(name)


def test_auto_net_falls_back_only_where_no_inception_was_named(workdir, monkeypatch):
    monkeypatch.setattr("benchmark.evaluate.CACHE", workdir / "empty")
    assert choose_feature_net("auto") == ("effnet-lite0-224", None)
    monkeypatch.setenv("INCEPTION_PATH", str(workdir / "missing.pt"))
    with pytest.raises(UserError, match=r"missing\.pt"):
        choose_feature_net("auto")
    (workdir / "missing.pt").write_bytes(b"weights")
    assert choose_feature_net("auto") == ("inception", workdir / "missing.pt")


def test_missing_or_damaged_weights_are_named(scored):
    study, config, _, yardstick = scored("c")
    path = checkpoint.weights_path(config.run_dir, 24)
    path.write_bytes(path.read_bytes()[:-9])
    for step, words in ((24, "damaged"), (13, "does not exist")):
        with pytest.raises(UserError, match=words):
            score_milestone(study, config, step, yardstick, lambda what, fraction: None)
