"""A network whose mask is lifted outside training: trained once, scored with and without it."""

import pytest

from benchmark.analysis.mask_check import mask_effects
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.score import score_milestone
from benchmark.evaluation.milestone.yardstick import make_yardstick
from benchmark.rows.frames import to_frame
from benchmark.rows.metric_names import EPS_MSE, MASK_EFFECT
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion.config.plan import resolve_plan
from mindiffusion.training import checkpoint

EVALUATION = EvaluationConfig(
    num_generated=8, num_reference=32, feature_nets=("effnet-lite0-64",), profile_images=4,
    profile_levels=5, strip=3, metrics=("profile", "fd", "stitched"), stitch_levels=(0.4,),
)  # fmt: skip
MODEL = "model={network: sparse_uvit, patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2}"


@pytest.fixture
def scored(workdir, train_run, tiny_config, avatars):
    """A function: settings → rows of the milestone at step 12, and of its stitched images."""

    def score(name, *words):
        folder = workdir / "results" / name
        config = tiny_config("cs", MODEL, "model.placement=stream", *words, output=folder / "cs")
        train_run(config)
        first, last = (
            checkpoint.load(checkpoint.weights_path(config.run_dir, step)) for step in (12, 24)
        )
        study = Study(name, folder, (config,), EVALUATION)
        plan = resolve_plan(config, len(avatars.train))
        milestone = Milestone(study, config, plan, avatars.manifest_id, first, config.run_dir)
        yardstick = make_yardstick(EVALUATION, avatars, "cpu")
        return (
            score_milestone(milestone, yardstick),
            score_milestone(milestone, yardstick, "stitched", last),
        )

    return score


def by_level(rows, metric):
    return {
        row.level: row.value for row in rows if row.metric == metric and row.weights == "ema0.99"
    }


def test_effect_of_a_mask_is_the_same_whether_or_not_it_is_lifted_outside_training(scored):
    lifted, stitched = scored("lifted")
    masked, _ = scored("masked", "model.sampling=masked")
    effects, errors = ([by_level(r, m) for r in (lifted, masked)] for m in (MASK_EFFECT, EPS_MSE))
    assert effects[0].keys() == errors[0].keys() and len(effects[0]) == 5
    assert all(effects[0].values())
    for level, effect in effects[0].items():
        assert effect == pytest.approx(effects[1][level], rel=1e-3)
        # Held-out errors are those of what is sampled.
        assert errors[0][level] - errors[1][level] == pytest.approx(effect, rel=1e-3)
    for rows in (lifted, masked):
        found = {row.metric: row.value for row in rows}
        assert found["realised-sparsity/stream"] == pytest.approx(4 / 16)  # ⌊16 · .8⌋ are on
        assert found["active_channels"] == 12.0
        assert found["weight-movement-mlp-masked"] == 0 < found["weight-movement-mlp-on"]
    distances = [
        next(r.value for r in rows if r.metric.startswith("FD-")) for rows in (lifted, masked)
    ]
    assert distances[0] != distances[1]
    assert {row.metric.partition("/")[0] for row in stitched[:-1]} == {
        "stitched-above", "stitched-below"
    }  # fmt: skip
    # The check of the manipulation sees the mask, though samples do not.
    (largest,) = mask_effects(to_frame(lifted)).values()
    assert largest.relative == pytest.approx(effects[0][largest.level] / errors[0][largest.level])
