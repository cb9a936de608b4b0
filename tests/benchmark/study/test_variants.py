import dataclasses

import pytest

from benchmark.evaluation.milestone.proof import proof
from benchmark.study.declaration import fingerprint
from benchmark.study.study import EvaluationConfig, Study
from benchmark.study.variants import Variant, check_variants_of
from mindiffusion.config.run import check
from mindiffusion.errors import UserError


def test_a_variant_changes_what_it_names_and_nothing_else(tiny_config):
    config = tiny_config("b")
    variant = Variant(weights="raw", steps=7, eta=0.5)
    assert variant.name == "raw, 7 steps, eta 0.5"
    assert variant.of(config).sampler == dataclasses.replace(config.sampler, steps=7, eta=0.5)
    assert Variant(weights="raw").of(config) == config
    guided = Variant(guidance=2.0)
    assert guided.name == "guidance 2" and guided.of(config).sampler.guidance == 2
    # Studies whose variants guide nothing are bound as before variants could.
    assert set(variant.settings) == {"weights", "steps", "eta"}
    assert guided.settings["guidance"] == 2
    other = Variant(steps=7).of(config)
    assert dataclasses.replace(other, sampler=config.sampler) == config


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([{}], "an entry without weights, steps, eta or guidance"),
        ([{"steps": 7}, {"steps": 7}], "'7 steps' twice"),
        ([{"eta": 2}], "less than or equal to 1|at most 1"),
        ([{"guidance": -1}], "greater than or equal to 0"),
        ([{"guide": 2}], "guide"),
    ],
)
def test_variants_that_say_nothing_are_refused(variants, message):
    with pytest.raises(UserError, match=message):
        check(EvaluationConfig, {"variants": variants}, "s.yaml")


def test_variants_without_a_distance_are_refused():
    with pytest.raises(UserError, match="neither fd nor kd"):
        check(EvaluationConfig, {"metrics": ["profile"], "variants": [{"eta": 0.0}]}, "s.yaml")


@pytest.mark.parametrize(
    ("variant", "words", "message"),
    [
        (Variant(weights="ema0.98"), (), "keeps no such weights. Did you mean 'ema0.9'"),
        (Variant(steps=7), ("sampler.name=ddpm",), "which has no steps or eta"),
        (Variant(eta=0.5), ("sampler.name=heun",), "sampled by heun, which has no eta"),
        (Variant(steps=2), (), "is drawn so anyway"),
        (Variant(steps=5), ("sampler.name=heun", "sampler.steps=6"), "is drawn so anyway"),
        (Variant(weights="ema0.99", eta=1.0), (), "is drawn so anyway"),
    ],
)
def test_variants_that_a_run_cannot_be_drawn_by_are_refused(variant, words, message, tiny_config):
    with pytest.raises(UserError, match=message):
        check_variants_of(tiny_config("b", *words), [variant], "evaluation.variants")
    check_variants_of(tiny_config("b"), [Variant(weights="raw"), Variant(steps=3)], "x")


def test_a_study_without_variants_is_bound_as_before_there_were_any(tiny_config):
    plain, more = EvaluationConfig(), EvaluationConfig(variants=(Variant(eta=0.0),))
    assert "variants" not in plain.settings
    assert proof(plain, "own") != proof(more, "own")
    assert proof(plain, "stitched") == proof(more, "stitched")
    run = tiny_config("b")
    one, other = (Study("t", run.run_dir, (run,), scoring) for scoring in (plain, more))
    assert fingerprint(one) != fingerprint(other)


def test_variants_that_draw_alike_are_refused(tiny_config):
    twice = [Variant(steps=7), Variant(steps=7, eta=1.0)]
    with pytest.raises(UserError, match="'7 steps, eta 1', but arm 'B' is drawn so anyway"):
        check_variants_of(tiny_config("b"), twice, "evaluation.variants")
