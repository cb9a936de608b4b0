"""Clusters: where noise levels are cut, and the stages that are made of them."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.presets import build_config, load_preset, merge
from mindiffusion.config.process import DDPMConfig, VPSDEConfig
from mindiffusion.config.run import config_hash, from_kept, to_kept
from mindiffusion.curriculum.clusters import (
    CLUSTERINGS,
    EvenClusters,
    MeasuredClusters,
    SNRClusters,
)
from mindiffusion.curriculum.controls import control
from mindiffusion.curriculum.density import on_noise_time
from mindiffusion.curriculum.intervals import interval_costs, least_cost_starts
from mindiffusion.errors import UserError

CHAIN, SDE = DDPMConfig(), VPSDEConfig()
RAW_20 = [*range(1, 10), 11, 14, 18, 23, 30, 40, 57, 84, 137, 260]
LOG_20 = [
    14,
    39,
    74,
    119,
    171,
    230,
    291,
    355,
    418,
    480,
    541,
    600,
    656,
    709,
    761,
    812,
    861,
    908,
    954,
]


def snr_of(betas):
    alpha_bar = np.cumprod(1 - betas)
    return alpha_bar / (1 - alpha_bar)


SNR = snr_of(np.linspace(1e-4, 0.02, 1000))
COARSE = snr_of(20 * np.linspace(1e-4, 0.02, 12))


def starts(values, count, centre):
    return list(least_cost_starts(tuple(values.tolist()), count, centre))


# -- cuts of least cost -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"), [(SNR, RAW_20), (np.log(SNR), LOG_20)], ids=["snr", "log_snr"]
)
def test_starts_are_those_that_were_derived_for_the_usual_chain(values, expected):
    assert starts(values, 20, "half_even") == [0, *expected]


def test_centre_moves_the_starts():
    assert starts(SNR, 5, "half_even") == [0, 1, 2, 7, 22]
    assert starts(np.log(SNR), 20, "floor")[5:12] == [173, 232, 295, 358, 421, 484, 545]


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("centre", ["floor", "half_even"])
@pytest.mark.parametrize("values", [COARSE, np.log(COARSE)], ids=["snr", "log_snr"])
def test_no_other_cut_costs_less(values, centre, count):
    def cost(left, right):
        middle = (left + right) // 2
        if centre == "half_even":
            middle = min(round((left + right + 1) / 2), right)
        return np.abs(values[left : right + 1] - values[middle]).sum()

    cuts = [(0, *cut) for cut in itertools.combinations(range(1, 12), count - 1)]
    costs = [
        sum(cost(a, b - 1) for a, b in itertools.pairwise((*cut, len(values)))) for cut in cuts
    ]
    found = tuple(starts(values, count, centre))
    assert cuts[int(np.argmin(costs))] == found
    table = interval_costs(values, centre)
    total = sum(table[a, b - 1] for a, b in itertools.pairwise((*found, len(values))))
    assert total == pytest.approx(min(costs), rel=1e-9)


def test_starts_of_twelve_levels_are_known():
    assert [starts(COARSE, k, "half_even") for k in (2, 3, 4)] == [[0, 1], [0, 1, 2], [0, 1, 2, 3]]
    assert starts(np.log(COARSE), 4, "half_even") == [0, 1, 4, 9]


# -- stages -------------------------------------------------------------------------------------


@pytest.fixture
def measured(tmp_path):
    """A function: difficulties, and what else the document says → its path."""

    def write(difficulty=(3.0, 1.0, 2.0), **fields):
        edges = (np.arange(len(difficulty) + 1) / len(difficulty)).tolist()
        content = {
            "process": "ddpm",
            "noise": "betas (0.0001, 0.02), n_T 1000",
            "edges": edges,
            "difficulty": list(difficulty),
        } | fields
        path = tmp_path / "difficulty.json"
        path.write_text(json.dumps(content))
        return str(path)

    return write


def all_ways(measured):
    file = measured(process="ddpm")
    return [MeasuredClusters(file=file) if kind is MeasuredClusters else kind(by=by, count=6)
            for by, kind in CLUSTERINGS.items()]  # fmt: skip


@pytest.mark.parametrize("cumulative", [True, False])
@pytest.mark.parametrize("order", ["high_noise_first", "low_noise_first"])
def test_every_way_to_cut_trains_each_level_alike_within_a_stage(order, cumulative, measured):
    for way in all_ways(measured):
        clusters = replace(way, order=order, cumulative=cumulative)
        stages = clusters.stages(CHAIN)
        edges = np.floor(np.array(clusters.edges(CHAIN)) * 1000 + 1e-9).astype(int)
        count = len(edges) - 1
        assert len(stages) == count + (not cumulative)
        order_of = list(range(count))[:: -1 if order == "high_noise_first" else 1]
        for i, stage in enumerate(stages):
            chosen = order_of[: i + 1] if cumulative or i == count else order_of[i : i + 1]
            expected = np.zeros(1000)
            for one in chosen:
                expected[edges[one] : edges[one + 1]] = 1
            found = on_noise_time(stage.density).probabilities(1000)
            np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-12, atol=1e-15)
        assert all(stage.name.startswith(clusters.label) for stage in stages)


def test_levels_of_a_continuous_process_are_cut_at_the_edges():
    stages = SNRClusters(count=4, cumulative=False).stages(SDE)
    edges = SNRClusters(count=4).edges(SDE)
    for stage, (low, high) in zip(stages, reversed(list(itertools.pairwise(edges))), strict=False):
        density = on_noise_time(stage.density)
        assert density.ends(None) == (low, high)
        assert density.cdf(np.array([low, (low + high) / 2, high])) == pytest.approx([0, 0.5, 1])
    # The chain comes near to the process, and so do its clusters.
    assert edges == pytest.approx(SNRClusters(count=4).edges(CHAIN), abs=3e-3)


def test_many_levels_are_compared_on_a_grid():
    many = DDPMConfig(beta1=1e-6, beta2=2e-4, n_T=100_000)
    assert SNRClusters(count=8).edges(many) == pytest.approx(
        SNRClusters(count=8).edges(SDE), abs=2e-3
    )


def test_equal_shares_of_noise_time_are_quantiles_of_plain_training():
    assert EvenClusters(by="quantile", count=4).edges(SDE) == (0, 0.25, 0.5, 0.75, 1)
    assert EvenClusters(by="quantile").edges(CHAIN) == EvenClusters(by="uniform").edges(CHAIN)


def test_measured_clusters_come_from_easy_to_hard(measured):
    clusters = MeasuredClusters(file=measured((3.0, 1.0, 2.0, 1.0)))
    shares = [
        on_noise_time(stage.density).probabilities(1000).reshape(4, 250).sum(1).tolist()
        for stage in clusters.stages(CHAIN)
    ]
    expected = [[0, 0, 0, 1], [0, 0.5, 0, 0.5], [0, 1 / 3, 1 / 3, 1 / 3], [0.25] * 4]
    np.testing.assert_allclose(shares, expected, atol=1e-9)


# -- in a config --------------------------------------------------------------------------------


def content(**fields):
    arm = load_preset("arms/d") | {"pacing": {"kind": "fixed"}}
    return merge(merge(load_preset("runs/avatars_32"), arm), fields)


def test_config_of_clusters_has_their_stages_and_is_read_back():
    config = build_config(content(), "mine")
    assert len(config.curriculum) == 20 and config.curriculum[0].density.t_min == 0.956
    kept = to_kept(config)
    assert kept["clusters"]["centre"] == "floor" and len(kept["curriculum"]) == 20
    assert from_kept(kept, "file") == config
    other = build_config(content(clusters={"centre": "half_even"}), "mine")
    assert config_hash(other) != config_hash(config)
    stages = resolve_plan(config, 50_000).pacer().stages
    assert (len(stages) - 1, stages[-1].start / 15625) == (19, pytest.approx(0.625, abs=1e-3))


@pytest.mark.parametrize("kind", ["density", "static", "anti", "shuffled", "mirror"])
def test_clusters_have_the_controls_of_any_curriculum(kind):
    config = build_config(content(), "mine")
    found = control(config.curriculum, kind, seed=3)
    assert found[-1] == config.curriculum[-1] or kind == "static"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"clusters": {"count": 1}}, "key 'clusters.count' is 1: give 2 to 50 clusters."),
        ({"clusters": {"count": 51}}, "key 'clusters.count' is 51: give 2 to 50 clusters."),
        ({"clusters": {"by": "loss"}}, "key 'clusters.by' is 'loss'; allowed are log_snr, snr, "),
        ({"process": {"n_T": 12}}, "clusters.count is 20, but the process has 12 noise levels"),
        ({"process": {"n_T": 20}}, "20 clusters of 20 noise levels: each needs a level, and that"),
        ({"clusters": {"order": "easy_first"}}, "clusters by log_snr do not say which are easy"),
        ({"clusters": {"last_share": 1.0}}, "key 'clusters.last_share' is 1.0"),
        ({"curriculum": [{"name": "all"}]}, "both clusters and curriculum are given"),
    ],
)
def test_mistake_in_clusters_is_one_line(fields, message):
    with pytest.raises(UserError) as error:
        build_config(content(**fields), "mine")
    assert str(error.value).startswith("mine: ") and message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"process": "vpsde"}, "is of process 'vpsde', but process.kind is ddpm"),
        (
            {"noise": "betas (0.001, 0.02), n_T 1000"},
            "is of betas (0.001, 0.02), n_T 1000, but the process has betas (0.0001, 0.02), n_T "
            "1000; measure it anew",
        ),
        ({"noise": 3}, "noise"),
        ({"difficulty": [1.0]}, "has 2 edges and 1 difficulties; give rising edges, one more"),
        ({"edges": [0.0, 0.5, 0.5, 1.0]}, "has 4 edges and 3 difficulties; give rising edges"),
        ({"edges": [0.1, 0.4, 0.7, 1.0]}, "has edges from 0.1 to 1; give those from 0 to 1."),
        ({"edges": [0.0, 0.4, 0.4001, 1.0]}, "3 clusters of 1000 noise levels: each needs a level"),
        ({"difficulty": "hard"}, "difficulty"),
        ({"levels": 3}, "levels"),
    ],
)
def test_document_of_difficulty_that_does_not_fit_is_one_line(fields, message, measured):
    with pytest.raises(UserError) as error:
        MeasuredClusters(file=measured(**fields)).stages(CHAIN)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_document_of_difficulty_that_is_not_there_is_one_line():
    with pytest.raises(UserError, match=r"clusters\.file is '/nowhere': No such file"):
        MeasuredClusters(file="/nowhere").stages(CHAIN)
