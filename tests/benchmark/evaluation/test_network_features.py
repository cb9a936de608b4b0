"""Rows of a trained network's features: what each metric writes, and that it is what it says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.evaluation.attributes.amplitude import counterfactual_amplitudes
from benchmark.evaluation.attributes.fit import ClassifierConfig
from benchmark.evaluation.evaluate_run import run_evaluation
from benchmark.evaluation.features_of.layers import layer_features, layers_of
from benchmark.evaluation.metrics.denoising import denoising_profiles
from benchmark.evaluation.milestone.cka_rows import Compared
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.profile_rows import noise_source, to_denoise
from benchmark.evaluation.milestone.proof import proof
from benchmark.evaluation.milestone.score import score_milestone
from benchmark.evaluation.milestone.yardstick import make_yardstick
from benchmark.rows.row import key
from benchmark.study.feature_settings import FeatureSettings
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion.config.plan import resolve_plan
from mindiffusion.data.avatars import AvatarSource
from mindiffusion.errors import UserError
from mindiffusion.sampling import model_of
from mindiffusion.training import checkpoint

OF_NETWORKS = (
    "silhouette", "probe", "norms", "jacobian", "spectrum", "ablation", "ablation_attributes"
)  # fmt: skip
FEATURES = FeatureSettings(
    layers=("down1", "to_vec"), levels=(0.2, 0.6), images=32, attributes=("nose",),
    jacobian_images=2, ablation_draws=2,
)  # fmt: skip
EVALUATION = EvaluationConfig(
    num_generated=8, num_reference=32, feature_nets=("effnet-lite0-64",), profile_images=4,
    profile_levels=3, strip=3, metrics=OF_NETWORKS, features=FEATURES,
)  # fmt: skip
CLOCK = {"time": "", "train_seconds": 0.0}


@pytest.fixture
def scored(workdir, train_run, tiny_config, avatars, monkeypatch):
    """A function: arm → rows of its last milestone by these metrics, its model, its yardstick."""
    quick = ClassifierConfig(num_images=256, steps=20, batch=16, width=8)
    monkeypatch.setattr("benchmark.evaluation.milestone.yardstick.ClassifierConfig", lambda: quick)
    monkeypatch.setattr(
        "benchmark.evaluation.milestone.attribute_rows.amplitudes",
        lambda styles, size: counterfactual_amplitudes(AvatarSource(styles, size), range(4)),
    )
    for name, few in {"LEADING": 4, "_EXTRA": 2, "_PROBES": 3}.items():
        monkeypatch.setattr(f"benchmark.evaluation.features_of.jacobian.{name}", few)

    def score(arm, evaluation=EVALUATION):
        config = tiny_config(arm, output=workdir / "results" / "tiny" / arm)
        train_run(config)
        study = Study("tiny", workdir / "results" / "tiny", (config,), evaluation)
        content = checkpoint.load(checkpoint.weights_path(config.run_dir, 24))
        plan = resolve_plan(config, len(avatars.train))
        milestone = Milestone(study, config, plan, avatars.manifest_id, content, config.run_dir)
        yardstick = make_yardstick(evaluation, avatars, "cpu")
        rows = score_milestone(milestone, yardstick)
        assert len({key(row) for row in rows}) == len(rows)
        return rows, milestone, yardstick

    return score


def of(rows, metric):
    return {row.level: row for row in rows if row.metric == metric}


def values(rows):
    return [replace(row, **CLOCK) for row in rows]


def test_every_metric_of_networks_writes_its_rows(scored):
    rows, milestone, yardstick = scored("cs")
    found = {row.metric for row in rows}
    each = np.unique(yardstick.data.held_out_labels["nose"], return_counts=True)[1]
    each = each[each >= 10]
    count = len(each) * each.min()
    for layer in FEATURES.layers:
        for name in (f"silhouette/{layer}/nose", f"probe/{layer}/nose"):
            one = of(rows, name)
            assert list(one) == [0.2, 0.6] and {row.n_reference for row in one.values()} == {count}
            assert all(row.error >= 0 and abs(row.value) <= 1 for row in one.values())
        assert {f"channel-norm/{layer}/p{k}" for k in (5, 25, 50, 75, 95)} <= found
        assert f"dead/{layer}" in found
    assert of(rows, "probe-chance/nose")[None].value == 1 / len(each)
    assert {f"{m}/{k}" for m in ("jacobian", "jacobian-linear") for k in (1, 2, 4)} <= found
    first, second = (of(rows, f"jacobian/{k}")[0.2].value for k in (1, 2))
    assert first >= second > 0 and of(rows, "jacobian/effective-rank")[0.2].value > 0
    assert {f"spectrum/{k}@8" for k in (1, 2, 4, "effective-rank")} <= found
    # Of 8 images the effective rank is at most 7.
    assert 1 <= of(rows, "spectrum-data/effective-rank@8")[None].value <= 7
    _check_ablations(rows, milestone, yardstick)
    assert any(name.startswith("ablation-accuracy/5/") for name in found)
    assert any(name.startswith("ablation-accuracy-random/1/") for name in found)
    few = replace(EVALUATION, metrics=("probe", "ablation"))
    fewer = replace(milestone, study=replace(milestone.study, evaluation=few))
    again = values(score_milestone(fewer, replace(yardstick, evaluation=few)))[:-1]
    assert {row.metric.split("/")[0] for row in again} >= {"probe", "ablation-random"}
    assert not [row for row in again if row not in values(rows)]


def _check_ablations(rows, milestone, yardstick):
    """Recomputed with the mask filled by hand; the stages' units are all that there are."""
    model = model_of(milestone.content, "ema0.99", torch.device("cpu"))
    network = model.network
    births = network.channel_birth_stage.clone()
    counts = [of(rows, f"ablation-units/{k}")[None].value for k in range(1, 6)]
    assert counts == [float((births == k).sum()) for k in range(5)] and sum(counts) == 16
    noisy = to_denoise(model.process, milestone.config, milestone.codec, yardstick, "held_out")
    whole = denoising_profiles({"": model}, *noisy)[""]
    network.channel_mask.copy_(births != 2)
    without = denoising_profiles({"": model}, *noisy)[""]
    changes = of(rows, "ablation/3")
    found = [changes[level].value for level in whole.levels]
    np.testing.assert_allclose(found, without.mse - whole.mse, rtol=1e-4, atol=1e-9)
    assert any(found) and list(of(rows, "ablation-random/3")) == list(whole.levels)


def test_features_are_those_of_the_layer_whatever_the_batch(scored):
    evaluation = replace(EVALUATION, metrics=("norms",))
    rows, milestone, yardstick = scored("b", evaluation)
    assert not any(row.metric.startswith(("ablation", "silhouette", "jacobian")) for row in rows)
    model = model_of(milestone.content, "ema0.99", torch.device("cpu"))
    noise = noise_source(milestone.config, torch.device("cpu"))
    images = to_denoise(model.process, milestone.config, yardstick, yardstick.data.held_out)[0]
    level, outputs = model.process.level(torch.tensor([0.6])), []
    hook = model.network.down1.register_forward_hook(lambda *call: outputs.append(call[2]))
    model(level.alpha.float() * images + level.sigma.float() * noise(1, torch.arange(4)), level)
    hook.remove()
    for batch in (1, 4):
        found = layer_features(model, ("down1",), images, level, 1, batch, noise)["down1"]
        expected = outputs[0].double().mean((2, 3)).numpy()
        np.testing.assert_allclose(found.pooled, expected, rtol=1e-4, atol=1e-6)
    assert not model.network.down1._forward_hooks


def test_milestones_are_compared_by_layer(scored):
    """A milestone is like itself, and less like an earlier one; rows of other weights say so."""
    evaluation = replace(EVALUATION, metrics=("norms", "cka"))
    rows, milestone, yardstick = scored("b", evaluation)
    assert not any(row.metric.startswith("cka") for row in rows)  # a part of its own
    files = {step: milestone.config.run_dir / f"weights-{step:09d}.pt" for step in (12, 24)}
    others = [
        Compared("own", 12, lambda: checkpoint.load(files[12])),
        Compared("other", 24, lambda: checkpoint.load(files[24])),
    ]
    compared = score_milestone(milestone, yardstick, "cka", others=others)
    assert compared[-1].metric == proof(evaluation, "cka") != proof(evaluation, "own")
    for layer in FEATURES.layers:
        for level in (0.2, 0.6):
            earlier = of(compared, f"cka/{layer}/own/12")[level]
            itself = of(compared, f"cka/{layer}/other/24")[level]
            assert itself.value == pytest.approx(1.0) and earlier.value < 1 - 1e-6
            assert (itself.n_reference, itself.weights) == (32, "ema0.99 with ema0.99 of B/0")
    assert {row.metric.split("/")[0] for row in compared[:-1]} == {"cka"}


def test_layer_that_the_network_has_not_is_refused_with_a_near_one(tiny_config):
    config = tiny_config("cs")
    assert layers_of(config, ()) == config.model.layers(32)
    assert layers_of(config, ("up1.model.0",)) == ("up1.model.0",)
    with pytest.raises(UserError, match=r"no such layer\. Did you mean 'down3'\?") as error:
        layers_of(config, ("down1", "down33"))
    assert "arm 'CS' (sparse_unet)" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="Give some of down1, down2, down3, to_vec"):
        layers_of(config, ("%",))


def test_silhouettes_ask_for_attributes_that_are_fixed_beforehand():
    with pytest.raises(UserError, match=r"name some in evaluation\.features\.attributes"):
        run_evaluation(["probe"], [], [])
    assert EvaluationConfig(metrics=("norms",)).features == FeatureSettings()


def test_settings_of_features_are_part_of_a_studys_hash_only_where_they_are_used():
    assert "features" not in EvaluationConfig().settings
    assert EVALUATION.settings["features"]["levels"] == (0.2, 0.6)
