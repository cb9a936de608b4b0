"""Errors without a network by enumeration, and the rows of one milestone of a small study."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.evaluation.theory.theory_rows import deciding_metrics, theory_proof, theory_rows
from benchmark.evaluation.theory.without_network import (
    linear_error,
    mean_error,
    spread,
    weak_energy,
)
from benchmark.rows.metric_names import (
    BIRTH_EFFECT,
    EPS_MSE,
    EPS_MSE_LINEAR,
    EPS_MSE_MEAN,
    EXCESS,
    HIGH_ERROR,
    LOW_EXCESS,
    LOW_EXCESS_OF,
    NEURONS,
    ORACLE_ERRORS,
    SIMILARITY,
    TRAIN_GAP,
)
from benchmark.study.theory_study import TheoryStudy
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.theory.networks import Weights
from mindiffusion.theory.setting import (
    TheoryEvaluation,
    TheoryRun,
    TheoryTraining,
    TwoFeatureConfig,
    TwoLayerConfig,
)
from mindiffusion.theory.simulation import Simulation
from mindiffusion.theory.two_features import features_of

DATA = TwoFeatureConfig(num_features=3, ambient_dim=8, alpha1=4.0, alpha2=0.5, share=0.3)


def enumerated_covariance(data):
    """Of the coordinates of one group without its amplitude, over all codes but 0."""
    codes = np.array(list(itertools.product((0, 1), repeat=data.num_features)))[1:]
    ones = codes.sum(1)
    p = data.share**ones * (1 - data.share) ** (data.num_features - ones)
    p /= p.sum()
    centred = codes - p @ codes
    return centred.T @ (p[:, None] * centred)


def test_spread_is_that_of_all_codes():
    own = np.linalg.eigvalsh(enumerated_covariance(DATA))
    assert np.sort(spread(DATA)[0]) == pytest.approx(np.sort(16 * own), rel=1e-12)
    assert mean_error(DATA) == pytest.approx((16 + 0.25) * own.sum(), rel=1e-12)
    assert weak_energy(DATA) == pytest.approx(0.25 * own.sum(), rel=1e-12)


def test_linear_error_is_the_solution_of_the_normal_equations():
    covariance = np.kron(np.diag([16, 0.25]), enumerated_covariance(DATA))
    for sigma, found in zip((0.1, 3.0), linear_error(DATA, np.array([0.1, 3.0])), strict=True):
        noisy = covariance + sigma**2 * np.eye(len(covariance))
        best = np.trace(covariance - covariance @ np.linalg.solve(noisy, covariance))
        assert found == pytest.approx(best, rel=1e-9)


def test_data_that_never_vary_have_no_spread():
    for count, share in ((4, 1.0), (1, 0.5)):
        data = TwoFeatureConfig(num_features=count, ambient_dim=8, share=share)
        assert 0 <= mean_error(data) < 1e-12


@pytest.fixture(scope="module")
def study():
    plain = (StageConfig("all", 1.0),)
    masked = (StageConfig("few", 1.0, sparsity=0.5), StageConfig("most", 1.0, sparsity=0.25))
    runs = tuple(
        TheoryRun(arm, stages, seed=seed, data=DATA, model=TwoLayerConfig(width=8, init_std=0.3),
                  training=TheoryTraining(steps=4, global_batch=8, milestones=("100%",)))
        for seed in (3, 4)
        for arm, stages in (("B", plain), ("S", masked))
    )  # fmt: skip
    return TheoryStudy("mine", Path("results/mine"), runs, TheoryEvaluation(64, 5))


@pytest.fixture(scope="module")
def rows(study):
    simulation = Simulation(study.runs)
    simulation.advance(4)
    return theory_rows(study, simulation.snapshot(), "exploratory", in_full=3)


def of(rows, metric, arm="B", seed=3):
    return [row for row in rows if (row.metric, row.arm, row.seed) == (metric, arm, seed)]


def test_every_run_has_its_profiles_and_numbers_with_its_proof_last(rows, study):
    for metric in (EPS_MSE, EPS_MSE_LINEAR, EPS_MSE_MEAN, EXCESS):
        assert [row.level for row in of(rows, metric)] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    kinds = ("mixed", "pure-M1", "pure-M2", "outside", "dead")
    for group in ("M1", "M2"):
        assert -1 <= of(rows, f"{NEURONS}{group}-alignment")[0].value <= 1
    shares = [of(rows, f"{NEURONS}{kind}-share", seed=4)[0].value for kind in kinds]
    assert sum(shares) == pytest.approx(1.0)
    mixed, within, across, living, of_living = (
        of(rows, f"{NEURONS}{kind}-share", seed=4)[0].value
        for kind in ("mixed", "within-group", "across-groups", "living", "mixed-of-living")
    )
    assert mixed == pytest.approx(within + across) and mixed >= across >= 0
    assert of_living == pytest.approx(mixed / living, rel=1e-5)
    proofs = [place for place, row in enumerate(rows) if row.metric == theory_proof(study)]
    assert len(proofs) == 4
    starts = [0, *(place + 1 for place in proofs)]
    cells = [{(row.arm, row.seed) for row in rows[a:b]} for a, b in itertools.pairwise(starts)]
    assert [len(cell) for cell in cells] == [1, 1, 1, 1] and starts[-1] == len(rows)


def test_no_denoiser_is_below_the_oracle_and_the_linear_one_is_below_the_mean(rows):
    excess, linear, mean = (
        np.array([row.value for row in of(rows, metric)])
        for metric in (EXCESS, EPS_MSE_LINEAR, EPS_MSE_MEAN)
    )
    assert (excess > 0).all() and (linear < mean).all()
    low, high = (of(rows, metric)[0].value for metric in ORACLE_ERRORS)
    # Shares of the mean's error, at the levels of high noise.
    assert 0 < low < high < (linear / mean)[3:].mean() < 1


def test_overfitting_is_told_where_samples_are_limited(rows, study):
    assert of(rows, TRAIN_GAP) == []
    run = study.runs[0]
    data = replace(DATA, num_features=4, share=0.1, num_train=2)
    training = replace(run.training, steps=300, lr=1e-2)
    run = replace(run, data=data, model=replace(run.model, use_bias=True), training=training)
    simulation = Simulation([run])
    simulation.advance(300)
    found = theory_rows(study, simulation.snapshot(), "exploratory", None)
    gap, excess = (of(found, metric)[0].value for metric in (TRAIN_GAP, LOW_EXCESS))
    # It knows two samples by heart; fresh ones have features that it never saw.
    assert 0.5 * excess < gap < 1.5 * excess


def test_units_are_those_of_the_weak_features_and_of_the_data(rows):
    low = [row.value for row in of(rows, EXCESS) if row.level <= 0.3]
    assert of(rows, LOW_EXCESS)[0].value == pytest.approx(np.mean(low), rel=1e-5)
    high = [row for row in of(rows, EPS_MSE) if row.level >= 0.7]
    mean = [row.value for row in of(rows, EPS_MSE_MEAN) if row.level >= 0.7]
    # In each level's own unit of noise the ratio to the mean's error is the same number.
    ratios = [row.value / other for row, other in zip(high, mean, strict=True)]
    assert of(rows, HIGH_ERROR)[0].value == pytest.approx(np.mean(ratios), rel=1e-5)


def test_a_network_of_nothing_but_the_mean_has_all_of_each_group_at_any_amplitude(study):
    """It answers E[x]. The unit of the whole excess is M₂'s, so M₁ makes it far above 1."""
    for alpha2 in (0.05, 0.5):
        data = replace(DATA, alpha2=alpha2)
        runs = tuple(replace(run, data=data, model=replace(run.model, use_bias=True))
                     for run in study.runs[:1])  # fmt: skip
        simulation = Simulation(runs)
        simulation.advance(4)
        snapshot = simulation.snapshot()
        features = features_of(data, [runs[0].seed])
        mean = 0.3 / (1 - 0.7**3) * torch.ones(1, 1, 6).double()
        zero = {name: 0 * weights for name, weights in snapshot.weights.named().items()}
        weights = Weights(**zero | {"out_bias": features.samples(mean)[0].float()})
        rows = theory_rows(study, replace(snapshot, weights=weights), "exploratory", None)
        assert [of(rows, name)[0].value for name in LOW_EXCESS_OF] == pytest.approx(
            [1, 1], rel=1e-4
        )
        assert of(rows, LOW_EXCESS)[0].value > 60


def test_a_masked_arm_alone_says_what_its_later_neurons_do(rows, study):
    effects = np.array([row.value for row in of(rows, BIRTH_EFFECT, "S")])
    assert len(effects) == 5 and np.abs(effects).max() > 0
    assert of(rows, BIRTH_EFFECT) == []
    early = [
        replace(run, training=replace(run.training, milestones=("25%",))) for run in study.runs
    ]
    before = Simulation(early)
    before.advance(1)
    alone = theory_rows(study, before.snapshot(), "exploratory", in_full=None)
    assert {row.value for row in of(alone, BIRTH_EFFECT, "S")} == {0}
    active = {row.stage: row.value for row in of(rows, "active_channels", "S")}
    assert active == {"few": 4, "most": 6}
    assert of(rows, "realised-sparsity/hidden", "S")[0].value == pytest.approx(0.25)


def test_networks_of_one_seed_are_shown_neuron_by_neuron(rows):
    shown = [row for row in rows if row.metric.startswith(SIMILARITY)]
    assert {row.seed for row in shown} == {3}
    assert len([row for row in shown if row.arm == "B"]) == 8 * 2 * DATA.num_features
    assert all(0 < row.level < 1 and -1 <= row.value <= 1 for row in shown)


def test_metrics_that_may_decide_have_a_better_direction(rows):
    decisive = deciding_metrics()
    assert decisive[LOW_EXCESS] == ("ratio", "plain")
    assert decisive[f"{NEURONS}mixed-share"] == ("plain",)
    assert f"{NEURONS}dead-share" not in decisive
    assert set(decisive) <= {row.metric for row in rows if row.direction != "none"} | {
        f"{NEURONS}M1-in-M2"  # of networks where a neuron reads M₂
    }
