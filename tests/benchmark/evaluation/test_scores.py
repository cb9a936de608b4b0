"""One trained run scored in this process; rows of whole studies are in test_reproduce.py."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmark.evaluation.attributes.fit import ClassifierConfig
from benchmark.evaluation.features.nets import choose_feature_net
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.proof import proof
from benchmark.evaluation.milestone.score import score_milestone
from benchmark.evaluation.milestone.yardstick import make_yardstick
from benchmark.rows.lines import lines_of
from benchmark.rows.metric_names import SUMMARIES, VARIANT
from benchmark.rows.row import key
from benchmark.study.metric_catalogue import METRICS, metrics_needing
from benchmark.study.study import EvaluationConfig, Study
from benchmark.study.variants import Variant
from mindiffusion.config.plan import resolve_plan
from mindiffusion.errors import UserError
from mindiffusion.training import checkpoint

EVALUATION = EvaluationConfig(
    num_generated=8, num_reference=32, feature_nets=("effnet-lite0-64",),
    profile_images=4, profile_levels=5, strip=3,
)  # fmt: skip
CLOCK = {"time": "", "train_seconds": 0.0}


@pytest.fixture
def scored(workdir, train_run, tiny_config, avatars):
    """A function: arm → (study, config, rows of its two milestones, yardstick, its milestones)."""

    def score(arm, *words, evaluation=EVALUATION):
        config = tiny_config(arm, *words, output=workdir / "results" / "tiny" / arm)
        study = Study("tiny", workdir / "results" / "tiny", (config,), evaluation)
        train_run(config)
        yardstick = make_yardstick(evaluation, avatars, "cpu")
        plan = resolve_plan(config, len(avatars.train))
        progress = []

        def milestone(step):
            content = checkpoint.load(checkpoint.weights_path(config.run_dir, step))
            return Milestone(study, config, plan, avatars.manifest_id, content, config.run_dir)

        def tell(*told):
            progress.append(told)

        rows = [score_milestone(milestone(k), yardstick, on_progress=tell) for k in (12, 24)]
        assert progress and all(0 <= fraction <= 1 for _, fraction in progress)
        return study, config, rows, yardstick, milestone

    return score


@pytest.fixture
def quick_classifier(monkeypatch):
    """A classifier of attributes that is made in a second; how well it reads matters to no one."""
    quick = ClassifierConfig(num_images=256, steps=20, batch=16, width=8)
    monkeypatch.setattr("benchmark.evaluation.milestone.yardstick.ClassifierConfig", lambda: quick)


def values(rows):
    return [replace(row, **CLOCK) for row in rows]


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_scoring_again_gives_the_same_rows(sampler, scored):
    study, _, rows, yardstick, milestone = scored(
        "cs", f"sampler.name={sampler}", "process.n_T=20", "sampler.chunk=4"
    )
    again = score_milestone(milestone(12), yardstick)
    assert values(again) == values(rows[0])
    keys = [key(row) for part in rows for row in part]
    assert len(keys) == len(set(keys))
    (distance,) = [row for row in rows[0] if row.metric.startswith("FD-")]
    assert distance.sampler_steps == (20 if sampler == "ddpm" else 2)
    # It proves the milestone's other rows, so it must be written after them.
    assert rows[0][-1].metric == proof(study.evaluation, "own")
    assert rows[0][-1].value == len(rows[0]) - 1


def test_last_milestone_alone_is_drawn_whole_and_from_every_sampling_seed(scored):
    evaluation = replace(EVALUATION, num_generated=16, num_curve=8, num_sampling_seeds=2)
    *_, (early, last), _, _ = scored("b", "sampler.chunk=8", evaluation=evaluation)
    *_, (_, plain), _, _ = scored("b", "sampler.chunk=8")
    net = "EffNet-Lite0-64px"

    def found(rows, metric):
        return [(row.sampling_seed, row.value) for row in rows if row.metric == metric]

    assert len(found(early, f"FD-{net}@8")) == 1 and not found(early, f"FD-{net}@16")
    # The curve's images are the first of all.
    for name in (f"FD-{net}@8", f"KD-{net}@8", "memorised-pixels@8"):
        assert found(last, name) == found(plain, name) != []
    for name in (f"FD-{net}@16", f"KD-{net}@16"):
        (first, one), (second, other) = found(last, name)
        assert (first, second) == (0, 1) and one != other
    assert [seed for seed, _ in found(last, "memorised-pixels@16")] == [0]


def test_variants_are_drawn_at_the_last_milestone_as_they_say(scored):
    """One that is the run's own way gives the run's own distance; the others give others."""
    ways = (Variant(steps=2), Variant(weights="raw"), Variant(steps=3), Variant(eta=0.0))
    evaluation = replace(EVALUATION, variants=ways)
    *_, (early, last), _, _ = scored("b", "sampler.chunk=8", evaluation=evaluation)
    assert not any(row.metric.startswith(VARIANT) for row in early)
    name = "FD-EffNet-Lite0-64px@8"
    (own,) = [row for row in last if row.metric == name]
    found = {way.name: row for row in last for way in ways
             if row.metric == f"{VARIANT}{way.name}/{name}"}  # fmt: skip
    told = {key: (row.weights, row.sampler.split("/")[0], row.sampler_steps)
            for key, row in found.items()}  # fmt: skip
    assert told == {
        "2 steps": ("ema0.99", "ddim-eta1", 2), "raw": ("raw", "ddim-eta1", 2),
        "3 steps": ("ema0.99", "ddim-eta1", 3), "eta 0": ("ema0.99", "ddim-eta0", 2),
    }  # fmt: skip
    assert found["2 steps"].value == own.value
    assert len({row.value for row in found.values()}) == 4
    assert any(row.metric == f"{VARIANT}raw/KD-EffNet-Lite0-64px@8" for row in last)


def test_strip_holds_the_first_images(scored):
    study, _, rows, *_ = scored("c")
    (row,) = [row for row in rows[1] if row.metric.startswith("FD-")]
    assert np.array(Image.open(study.folder / row.samples)).shape == (32, 3 * 32, 3)


@pytest.mark.parametrize("metrics", [("fd",), ("attributes",)])
@pytest.mark.usefixtures("quick_classifier")
def test_colours_are_those_of_the_images_beside_all_training_images(metrics, scored):
    """Recomputed from the strip, here of all images; whatever else is measured of them."""
    evaluation = replace(EVALUATION, metrics=metrics, strip=8)
    study, _, rows, yardstick, _ = scored("b", "sampler.chunk=8", evaluation=evaluation)
    for milestone in rows:
        found = {row.metric: row for row in milestone}
        offset, spread = found["colour-offset@8"], found["colour-spread@8"]
        strip = np.array(Image.open(study.folder / offset.samples)).reshape(32, 8, 32, 3)
        ours, theirs = strip.mean(axis=(0, 2)), yardstick.data.train.mean(axis=(1, 2))
        assert offset.value == pytest.approx(abs(ours.mean(axis=0) - theirs.mean(axis=0)).max())
        ratio = (ours.var(axis=0, ddof=1).mean() / theirs.var(axis=0, ddof=1).mean()) ** 0.5
        assert spread.value == pytest.approx(ratio)
        assert (offset.direction, spread.direction) == ("lower", "none")
        for row in (offset, spread):
            assert (row.n_generated, row.n_reference, row.weights) == (8, 256, "ema0.99")
            assert row.error > 0


def test_data_of_one_colour_have_an_offset_and_no_spread(scored, avatars, workdir):
    *_, yardstick, milestone = scored("b")
    plain = replace(avatars, train=np.full((64, 32, 32, 3), 90, dtype=np.uint8))
    names = {row.metric for row in score_milestone(milestone(12), replace(yardstick, data=plain))}
    assert "colour-offset@8" in names and "colour-spread@8" not in names


def test_profile_levels_are_asked_for_and_errors_positive(scored):
    _, _, rows, *_ = scored("b")
    for weights in ("ema0.99", "raw"):
        profile = [r for r in rows[1] if (r.metric, r.weights) == ("eps-MSE", weights)]
        assert [row.level for row in profile] == [0.1, 0.3, 0.5, 0.7, 0.9]
        assert all(row.value > 0 and row.error > 0 and row.n_reference == 4 for row in profile)
    assert not any(row.metric.startswith(("mask-", "weight-movement")) for row in rows[1])


def test_mask_effect_is_lifted_minus_masked(scored):
    """Recomputed from the milestone's file with the mask filled by hand."""
    import torch

    from benchmark.evaluation.metrics.denoising import denoising_profiles
    from mindiffusion.noise import Stream, normals
    from mindiffusion.sampling import model_of

    _, config, rows, yardstick, _ = scored("cs")
    content = checkpoint.load(checkpoint.weights_path(config.run_dir, 12))
    pixels = torch.from_numpy(np.array(yardstick.data.held_out[:4]))
    images = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1

    def noise(level, index):
        return normals(0, Stream.EVALUATION_NOISE, index, level, (3, 32, 32))

    mse = []
    for lift in (False, True):
        model = model_of(content, "ema0.99", torch.device("cpu"))
        assert 0 < model.network.channel_mask.sum() < 16
        if lift:
            model.network.channel_mask.fill_(1.0)
        levels = model.process.grid(5)
        mse.append(denoising_profiles({"": model}, images, levels, 64, noise)[""].mse)
    effect = [row.value for row in rows[0] if row.metric == "mask-effect"]
    np.testing.assert_allclose(effect, mse[1] - mse[0], rtol=1e-6, atol=1e-12)
    under = [r.value for r in rows[0] if (r.metric, r.weights) == ("eps-MSE", "ema0.99")]
    np.testing.assert_allclose(under, mse[0], rtol=1e-6)


def test_arms_of_one_seed_are_sampled_from_the_same_noise(scored):
    _, b, *_ = scored("b", "training.lr=1e-30")
    _, c, *_ = scored("c", "training.lr=1e-30")
    # Untrained nets of one seed are one net, so equal noise means equal images and equal scores.
    strips = [np.array(Image.open(x.run_dir / "samples-000000024.png")) for x in (b, c)]
    assert np.array_equal(*strips)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("inception", "INCEPTION_PATH"),
        ("effnet-lite0-65", "Did you mean 'effnet-lite0-64'"),
        ("resnet", "Feature net 'resnet' is unknown"),
    ],
)
def test_feature_net_that_is_not_to_be_had_is_an_error(name, match, workdir, monkeypatch):
    monkeypatch.setenv("MINDIFFUSION_CACHE", str(workdir / "empty"))
    with pytest.raises(UserError, match=match):
        choose_feature_net(name)


def test_auto_net_falls_back_only_where_no_inception_was_named(workdir, monkeypatch):
    monkeypatch.setenv("MINDIFFUSION_CACHE", str(workdir / "empty"))
    assert choose_feature_net("auto")[0] == "effnet-lite0-224"
    monkeypatch.setenv("INCEPTION_PATH", str(workdir / "missing.pt"))
    with pytest.raises(UserError, match=r"missing\.pt"):
        choose_feature_net("auto")
    (workdir / "missing.pt").write_bytes(b"weights")
    assert choose_feature_net("auto") == ("inception", workdir / "missing.pt")


def test_missing_or_damaged_weights_are_named(scored):
    *_, config, _, _, milestone = scored("c")
    path = checkpoint.weights_path(config.run_dir, 24)
    path.write_bytes(path.read_bytes()[:-9])
    for step, words in ((24, "damaged"), (13, "does not exist")):
        with pytest.raises(UserError, match=words):
            milestone(step)


OF_NETWORKS = {
    "silhouette", "probe", "norms", "cka", "jacobian", "spectrum", "ablation", "ablation_attributes"
}  # fmt: skip
"""Those of test_network_features.py; others are of networks with text alone."""
ALL = replace(
    EVALUATION,
    metrics=tuple(name for name in METRICS if name not in OF_NETWORKS | metrics_needing("text")),
    profile_images=32,
    stitch_levels=(0.4,),
)


@pytest.mark.usefixtures("quick_classifier")
def test_all_metrics_give_rows_with_errors_and_stitching_is_apart(scored, monkeypatch):
    """The finisher is the arm itself here, so that a stitched image is the arm's own."""
    monkeypatch.setattr("benchmark.evaluation.milestone.attribute_rows._PORTRAITS", 4)
    _, config, (_, rows), yardstick, milestone = scored("c", evaluation=ALL)
    by_name = {row.metric: row for row in rows}
    net = "EffNet-Lite0-64px"
    for name in (
        f"FD-{net}@8", f"KD-{net}@8", f"precision-{net}@8", f"recall-{net}@8",
        f"density-{net}@8", f"coverage-{net}@8", f"IS-{net}@8", "memorised-pixels@8",
        f"memorised-{net}@8", "rejected@8", "eps-MSE", "eps-MSE-linear", "eps-MSE-mean",
        "eps-MSE-excess", "eps-MSE-train-gap", *SUMMARIES,
    ):  # fmt: skip
        assert by_name[name].error is not None, name
        assert np.isfinite([by_name[name].value, by_name[name].error]).all()
    # 8 images of 1,280 features are no ground to extrapolate from.
    assert not any("∞" in name for name in by_name)
    assert any(name.startswith("amplitude/") for name in by_name)
    assert any(name.startswith("emergence/") for name in by_name)
    keys = [key(row) for row in rows]
    assert len(keys) == len(set(keys))
    finisher = checkpoint.load(checkpoint.weights_path(config.run_dir, 24))
    stitched = score_milestone(milestone(24), yardstick, "stitched", finisher)
    assert [row.metric for row in stitched[:-1]] == [
        f"stitched-above/FD-{net}@8", f"stitched-below/FD-{net}@8"
    ]  # fmt: skip
    own = by_name[f"FD-{net}@8"].value
    assert [row.value for row in stitched[:-1]] == pytest.approx([own, own], rel=1e-6)
    assert all(row.level == 0.4 and row.weights.endswith("of C/0@24") for row in stitched[:-1])
    # Two sampler steps, at t = 1 and .5: both lie above .4, so one network draws it all.
    first = checkpoint.load(checkpoint.weights_path(config.run_dir, 12))
    above, below = score_milestone(milestone(24), yardstick, "stitched", first)[:-1]
    assert above.value == pytest.approx(own, rel=1e-6) and below.value != above.value
    early = score_milestone(milestone(12), yardstick, "stitched", finisher)
    # At step 12 of 24 stage 4 of 5 has begun: levels from .2 up are trained.
    assert [row.full_range for row in early[:-1]] == [True, False]


def test_excess_is_the_networks_error_minus_the_oracles(scored):
    _, _, (_, rows), *_ = scored("b")
    primary = {
        name: [r.value for r in rows if r.metric == name and r.weights in ("", "ema0.99")]
        for name in ("eps-MSE", "eps-MSE-linear", "eps-MSE-mean", "eps-MSE-excess")
    }
    np.testing.assert_allclose(
        primary["eps-MSE-excess"],
        np.subtract(primary["eps-MSE"], primary["eps-MSE-linear"]),
        atol=1e-12,
    )
    # Towards pure noise the mean is all that a linear denoiser knows, and from there on less.
    gain = np.subtract(primary["eps-MSE-mean"], primary["eps-MSE-linear"])
    assert gain[0] > gain[-1]


def test_a_row_holds_a_data_sets_name_that_cannot_be_shown(tiny_config, avatars, tmp_path):
    """It would be found after hours of training otherwise."""
    runtime = {"device": "cpu", "precision": "fp32", "compile": False, "threads": 1}
    plain = tiny_config("b")
    plan = resolve_plan(plain, len(avatars.train))
    odd = replace(plain.data, dataset="/data/a\u200db\udce9")
    for config in (plain, replace(plain, data=odd)):
        study = Study("tiny", tmp_path, (config,), EVALUATION)
        content = {"step": 12, "runtime": runtime, "train_seconds": 1.0}
        row = Milestone(study, config, plan, "m", content, tmp_path).row("m", 1.0)
        assert lines_of([row])
    assert row.dataset == r"/data/a\u200db\udce9"
