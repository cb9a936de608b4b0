"""Ways to measure with planted effects: which are listed, and what is said of them."""

import dataclasses

import numpy as np
import pytest
from made_up_row import ROW

from benchmark.analysis.specifications import agreeing
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame

EFFECT = {"B": 0.0, "C": -0.1, "density*": 0.1, "A/A": 0.0}
OTHER_NET = {"metric": "FD-Other@2048"}
RAW = {"metric": "variant/raw/FD-Net@2048", "weights": "raw"}


def rows_of(turn=1.0, seeds=range(4), arms=EFFECT, **fields):
    noise = np.random.default_rng(1).normal(scale=0.01, size=(8, len(EFFECT)))
    return [
        dataclasses.replace(
            ROW, arm=arm, seed=seed,
            value=float(np.exp(3 + turn * EFFECT[arm] + noise[seed, list(EFFECT).index(arm)])),
            **fields,
        )
        for arm in arms
        for seed in seeds
    ]  # fmt: skip


def ways_of(rows, key="H2"):
    return [one for one in StudyAnalysis(to_frame(rows)).specifications if one.key == key]


def test_each_way_gives_its_own_effect_and_the_primary_one_is_first():
    rows = [*rows_of(), *rows_of(0.5, **OTHER_NET), *rows_of(-1.0, **RAW)]
    ways = ways_of(rows)
    assert [one.way for one in ways] == ["FD-Net@2048", "FD-Other@2048", "FD-Net@2048, raw"]
    assert [one.estimate for one in ways] == pytest.approx([-0.1, -0.05, 0.1], abs=0.02)
    assert all(one.low < one.estimate < one.high and one.seeds == 4 for one in ways)
    assert ways[0].contrast == "C − B"
    assert agreeing(ways) == (2, 1, 1)
    assert agreeing(ways[:2]) == (1, 1, 0)


def test_the_primary_way_is_the_endpoint_itself():
    study = StudyAnalysis(to_frame([*rows_of(), *rows_of(0.5, **OTHER_NET)]))
    (finding,) = [one for one in study.findings if one.key == "H2"]
    first = next(one for one in study.specifications if one.key == "H2")
    numbers = finding.estimate, finding.low, finding.high
    assert (first.estimate, first.low, first.high) == numbers


def test_a_way_of_few_cells_or_without_logarithms_is_not_listed():
    below = [dataclasses.replace(row, value=row.value - 21) for row in rows_of(**OTHER_NET)]
    assert min(row.value for row in below) < 0 < max(row.value for row in below)
    few = rows_of(seeds=range(2), **RAW)
    assert [one.way for one in ways_of([*rows_of(), *below, *few])] == ["FD-Net@2048"]


def test_earlier_steps_count_where_all_arms_do():
    early = rows_of(0.5, step=200)
    hollow = [dataclasses.replace(row, full_range=row.arm != "C") for row in rows_of(0.2, step=100)]
    ways = ways_of([*rows_of(), *early, *hollow])
    assert [one.way for one in ways] == ["FD-Net@2048", "50 % of the steps, FD-Net@2048"]
    assert ways[1].estimate == pytest.approx(-0.05, abs=0.02)


def test_arms_of_no_hypothesis_have_no_part():
    """A/A has no earlier step; that takes nothing from the hypotheses."""
    early = [row for row in rows_of(0.5, step=200) if row.arm != "A/A"]
    assert len(ways_of([*rows_of(), *early])) == 2


def test_one_seed_has_no_intervals_and_no_specifications():
    assert ways_of([*rows_of(seeds=[0]), *rows_of(seeds=[0], **OTHER_NET)]) == []


def test_ways_of_one_metric_are_told_apart_and_the_first_stays_the_endpoint():
    """The same metric by another chunk, or held against another number of references."""
    chunks = rows_of(-1.0, sampler="ddim-eta1/chunk512")
    fewer = rows_of(0.5, n_reference=500)
    study = StudyAnalysis(to_frame([*rows_of(), *chunks, *fewer]))
    ways = [one for one in study.specifications if one.key == "H2"]
    assert len({one.way for one in ways}) == len(ways) == 3
    (finding,) = [one for one in study.findings if one.key == "H2"]
    assert (ways[0].way, ways[0].estimate) == ("FD-Net@2048", finding.estimate)
    assert any("n reference 500" in one.way for one in ways[1:])
    assert any("chunk512" in one.way for one in ways[1:])


def test_a_way_counts_by_the_endpoints_own_cells():
    """Four other seeds are no way to measure the four of the endpoint."""
    other = rows_of(seeds=range(4, 8), **RAW)
    assert len(ways_of([*rows_of(), *other])) == 1
    most = rows_of(0.5, seeds=range(1, 6), **RAW)
    ways = ways_of([*rows_of(), *most])
    assert [one.seeds for one in ways] == [4, 3]


def test_what_has_no_estimate_neither_agrees_nor_disagrees():
    lacking = rows_of(arms=("C", "density*"), **OTHER_NET)
    ways = ways_of([*rows_of(), *lacking, *rows_of(0.5, **RAW)])
    nothing = dataclasses.replace(ways[1], estimate=float("nan"), low=float("nan"))
    assert agreeing([*ways, nothing]) == agreeing(ways) == (1, 1, 0)


def test_of_milestones_whose_shares_read_alike_the_later_one_counts():
    early = [*rows_of(-1.0, step=200_000), *rows_of(0.5, step=200_001)]
    last = [dataclasses.replace(row, step=400_000) for row in rows_of()]
    rows = [dataclasses.replace(row, total_steps=400_000) for row in (*early, *last)]
    ways = ways_of(rows)
    assert [one.way for one in ways] == ["FD-Net@2048", "50 % of the steps, FD-Net@2048"]
    assert ways[1].estimate == pytest.approx(-0.05, abs=0.02)
