"""What is refused of a study before its first step."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.cells import local, time_left
from benchmark.cells.preflight import check_study
from benchmark.evaluation.milestone import primary
from benchmark.rows.file import ROWS_FILE
from benchmark.study.feature_settings import FeatureSettings
from benchmark.study.hypotheses import Hypothesis
from benchmark.study.measure import PrimaryMetric
from benchmark.study.study import EvaluationConfig, Study
from benchmark.study.terms import Terms
from benchmark.study.variants import Variant
from mindiffusion.errors import UserError
from mindiffusion.training.preflight import run_bytes

EVALUATION = EvaluationConfig(
    num_generated=16, num_reference=64, feature_nets=("effnet-lite0-64",), profile_images=8
)


@pytest.fixture(autouse=True)
def committed(monkeypatch):
    """Whoever works on the code is told that it has changes."""
    monkeypatch.setattr("benchmark.cells.preflight.git_revision", lambda: "0123456789ab")


@pytest.fixture
def make(workdir, tiny_config):
    """A function: a study of arms B and C, its runs changed by words, its scoring by fields."""

    def study(*words, **scoring):
        runs = tuple(tiny_config(arm, *words, output=f"results/t/{arm}") for arm in ("b", "c"))
        return Study("t", Path("results/t"), runs, replace(EVALUATION, **scoring))

    return study


WRONG = {
    "sampler": (("process.n_T=40", "sampler.steps=41"), {}, "40 noise levels"),
    "size": (("data.size=40",), {}, "multiples of 32"),
    "reference": ((), {"num_reference": 257}, "num_reference is 257, but the data has 256"),
    "profile": ((), {"profile_images": 33}, "profile_images is 33, but the data has 32 held-out"),
    "one held-out": (("data.num_held_out=1",), {"profile_images": 2}, "1 held-out image; scoring"),
    "few": (("data.num_train=7",), {}, "7 training images; scoring compares"),
    "variant": (
        ("process.n_T=40",),
        {"variants": (Variant(steps=41),)},
        "variants, '41 steps': .* 40 noise",
    ),
    "weights": ((), {"variants": (Variant(weights="ema0.5"),)}, "keeps no such weights"),
    "features": ((), {"metrics": ("norms",)}, "features.images is 512, but the data has 32 held"),
    "layer": (
        (),
        {"metrics": ("norms",), "features": FeatureSettings(layers=("down4",), images=32)},
        "no such layer. Did you mean 'down",
    ),
    "milestones": (
        ("training.keep_scored=last",),
        {"metrics": ("cka",), "features": FeatureSettings(images=32)},
        "compares milestones, but training.keep_scored of arm 'B' is last",
    ),
    "seeds": ((f"sampler.seed={2**32 - 1}",), {"num_sampling_seeds": 2}, "seeds end at"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("start", ["start", "dry run"])
def test_study_that_cannot_come_to_its_end_is_refused(name, start, make, workdir, monkeypatch):
    words, scoring, message = WRONG[name]
    study = make(*words, **scoring)
    monkeypatch.setattr(local, "prepared_data", None)
    monkeypatch.setattr(time_left, "_time_steps", None)
    with pytest.raises(UserError, match=message):
        if start == "start":
            local.run_study(study, study.runs)
        else:
            time_left.print_dry_run(study, study.runs, 1)
    assert not (workdir / "results").exists()


@pytest.mark.parametrize("start", ["start", "dry run"])
def test_finisher_of_another_chain_is_refused_before_any_training(
    start, make, tiny_config, workdir, monkeypatch
):
    study = make(metrics=("stitched",))
    other = tiny_config("b", "process.n_T=500", output="results/t/b")
    study = replace(study, finisher=other)
    monkeypatch.setattr(local, "prepared_data", None)
    monkeypatch.setattr(time_left, "_time_steps", None)
    with pytest.raises(UserError, match=r"finisher B/0 is of .*n_T 500, the run B/0 of .*n_T 1000"):
        if start == "start":
            local.run_study(study, study.runs)
        else:
            time_left.print_dry_run(study, study.runs, 1)
    assert not (workdir / "results").exists()
    # Where nothing is stitched it does no harm.
    check_study(replace(study, evaluation=EVALUATION), study.runs)


def test_arms_of_other_loss_weights_and_parameterizations_can_be_stitched(make, tiny_config):
    study = make(metrics=("stitched",))
    others = (
        tiny_config("b", "process.loss_weight={kind: p2}", output="results/t/p2"),
        tiny_config("b", "process.parameterization=preconditioned", output="results/t/p"),
    )
    study = replace(study, runs=study.runs + others, finisher=study.runs[0])
    assert check_study(study, study.runs) == []


def test_held_out_images_are_not_asked_for_where_nothing_reads_them(make):
    study = make("data.num_held_out=1", metrics=("fd",), profile_images=1024)
    assert check_study(study, study.runs) == []


@pytest.mark.parametrize(
    "metric", ["", "FD-EffNet-Lite0-64px", "eps-MSE/L_simple", "eps-MSE/sigma-0.1-3"]
)
def test_a_primary_metric_that_is_measured_may_decide(metric, make):
    study = replace(make(), terms=Terms(endpoint=PrimaryMetric(metric)))
    assert check_study(study, study.runs) == []


EVERY_METRIC = (
    "fd", "kd", "prdc", "is", "memorisation", "profile", "attributes", "stitched", "faithfulness",
    "clip",
)  # fmt: skip
NET = "EffNet-Lite0-64px"
ON_NO_RATIO = (
    f"KD-{NET}", f"precision-{NET}", f"recall-{NET}", f"density-{NET}", f"coverage-{NET}",
    f"IS-{NET}", "rejected", "faithful", "flip", "CLIP-score",
)  # fmt: skip


def check_metric(endpoint, evaluation):
    """Refuse a metric that cannot decide a study scored so."""
    terms = Terms(endpoint=endpoint)
    primary.check_primary_metrics(terms, primary.deciding_metrics(evaluation))


@pytest.mark.parametrize("metric", [*ON_NO_RATIO, f"FD-{NET}", "eps-MSE/ELBO"])
def test_every_metric_that_is_one_number_may_decide_on_the_plain_scale(metric, make):
    endpoint = PrimaryMetric(metric, "plain")
    check_metric(endpoint, make(metrics=EVERY_METRIC).evaluation)


@pytest.mark.parametrize("metric", ON_NO_RATIO)
def test_a_metric_that_may_be_0_or_of_which_more_is_better_has_no_ratio(metric, make):
    with pytest.raises(UserError, match=r"no ratio scale.* endpoint\.scale: plain, and") as error:
        check_metric(PrimaryMetric(metric), make(metrics=EVERY_METRIC).evaluation)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("metric", [f"memorised-{NET}"])
def test_a_metric_without_a_better_direction_cannot_decide(metric, make):
    endpoint = PrimaryMetric(metric, "plain")
    with pytest.raises(UserError, match="neither more nor less is better; name one of FD-"):
        check_metric(endpoint, make(metrics=EVERY_METRIC).evaluation)


@pytest.mark.parametrize("metric", [f"stitched-above/FD-{NET}", "attribute/hair", "eps-MSE"])
def test_what_is_no_single_number_of_a_milestone_cannot_decide(metric, make):
    endpoint = PrimaryMetric(metric, "plain")
    with pytest.raises(UserError, match="as one number for each milestone, one of FD-"):
        check_metric(endpoint, make(metrics=EVERY_METRIC).evaluation)


@pytest.mark.parametrize(
    ("metric", "measured"),
    [
        *((name, ("fd", "kd", "profile")) for name in (
            "FIDx", "FD-Inceptoin", "FD-EffNet-Lite0-224px", "KIDney", "KID", "eps-MSE/", "eps-MSE",
            "FD-EffNet-Lite0-64px@16", "precision-EffNet-Lite0-64px",
        )),
        ("FD-EffNet-Lite0-64px", ("profile",)), ("eps-MSE/ELBO", ("fd",)), ("FID", ()),
    ],
)  # fmt: skip
def test_a_primary_metric_that_nothing_measures_is_refused_in_one_line(metric, measured, make):
    study = replace(make(metrics=measured), terms=Terms(endpoint=PrimaryMetric(metric)))
    with pytest.raises(UserError, match=r"^endpoint\.metric is .*measures") as error:
        check_study(study, study.runs)
    assert "\n" not in str(error.value)


def test_the_distance_of_the_usual_net_is_that_of_the_weights_that_are_there(make, monkeypatch):
    study = make(feature_nets=("auto",))
    for net, name in (("inception", "FID"), ("effnet-lite0-224", "FD-EffNet-Lite0-224px")):
        chosen = (net, Path())
        monkeypatch.setattr(primary, "choose_feature_net", lambda auto, chosen=chosen: chosen)
        check_metric(PrimaryMetric(name), study.evaluation)
        with pytest.raises(UserError, match=name):
            check_metric(PrimaryMetric("FD-DINOv2-S"), study.evaluation)


def test_study_that_fits_leaves_nothing(make, workdir):
    study = make()
    assert check_study(study, study.runs) == []
    assert not (workdir / "results").exists()


def test_small_data_is_told_once(make):
    study = make("training.global_batch=512")
    (note,) = check_study(study, study.runs)
    assert "256 training images" in note and "(512)" in note


def test_writable_is_asked_for_all_runs_that_are_to_be_done(make, monkeypatch):
    study = make()
    needed = run_bytes(study.runs[0], 2)
    free = type("Usage", (), {"total": 10**12, "free": needed + 1})
    monkeypatch.setattr("mindiffusion.writable.shutil.disk_usage", lambda path: free)
    check_study(study, study.runs[:1])
    with pytest.raises(UserError, match="checkpoints and weights need about"):
        check_study(study, study.runs)


def test_room_is_asked_for_the_weights_that_are_there_at_once(make, monkeypatch):
    milestones = "training.milestones=[6,12,18,24]"
    study, other = make(milestones, "training.keep_scored=last"), make(milestones)
    free = type("Usage", (), {"total": 10**12, "free": 2 * run_bytes(study.runs[0], 2)})
    monkeypatch.setattr("mindiffusion.writable.shutil.disk_usage", lambda path: free)
    check_study(study, study.runs)
    # Nothing is deleted that is not scored, and stitched samples may wait for their finisher.
    waiting = replace(study.evaluation, metrics=("fd", "stitched"))
    for one in (other, replace(study, evaluation=waiting, finisher=study.runs[0])):
        with pytest.raises(UserError, match="checkpoints and weights need about"):
            check_study(one, one.runs)


def test_rows_of_another_sampler_are_refused_before_the_data_are_prepared(make):
    study = make()
    study.folder.mkdir(parents=True)
    from benchmark.evaluation.milestone.milestone import (
        Milestone,  # its rows are those of a real study
    )
    from benchmark.rows.file import append_rows
    from mindiffusion.config.plan import resolve_plan

    config = study.runs[0]
    runtime = {"device": "cpu", "precision": "fp32", "compile": False, "threads": 1}
    content = {"step": 12, "runtime": runtime, "train_seconds": 1.0}
    plan = resolve_plan(config, 256)
    one = Milestone(study, config, plan, "abc", content, study.folder)
    append_rows(study.folder / ROWS_FILE, [one.row("FD", 1.0)])
    assert check_study(study, study.runs) == []
    other = make("sampler.steps=9")
    with pytest.raises(UserError, match="another config or other data"):
        check_study(other, other.runs)


@pytest.mark.parametrize(("revision", "lines"), [("0123456789ab-dirty", 1), ("0123456789ab", 0)])
def test_uncommitted_code_is_told_before_the_start(make, monkeypatch, revision, lines):
    monkeypatch.setattr("benchmark.cells.preflight.git_revision", lambda: revision)
    study = make()
    said = [line for line in check_study(study, study.runs) if "provisional" in line]
    assert len(said) == lines
    # Where nothing is left to train, nothing will be measured by it.
    assert not [line for line in check_study(study, []) if "provisional" in line]


def test_a_metric_of_a_hypothesis_must_be_measured_too(make):
    own = Hypothesis("T", "C - B", metric="KID", scale="plain", smallest_effect=0.1)
    study = replace(make(), terms=Terms(hypotheses=(own,)))
    with pytest.raises(UserError, match=r"hypotheses\.T\.metric is 'KID'; name a metric that"):
        check_study(study, study.runs)
