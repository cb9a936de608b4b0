"""Tables of what arms are: from rows alone, and with the study's index."""

import dataclasses
import json

import pytest
from remade import tables_of

from benchmark.analysis.study_analysis import analyse
from benchmark.reporting.tables.arms import arms, configuration
from benchmark.reporting.tables.build import study_tables
from benchmark.reporting.tables.capacity import capacity
from benchmark.reporting.tables.training_cost import training_cost
from benchmark.rows.file import append_rows
from benchmark.rows.frames import to_frame
from benchmark.rows.row import Row
from mindiffusion.errors import UserError

ROW = Row(
    study="two", arm="B", seed=0, step=0, total_steps=100, metric="t_min", value=0.0, level=None,
    error=None, direction="none", metric_version=1, n_generated=0, n_reference=0, weights="",
    sampler="", sampler_steps=0, sampling_seed=0, full_range=True, stage="s1", samples=None,
    dataset="avatars", manifest="abc", config_hash="c0", git="g", versions={}, device="cpu",
    host="h", threads=1, train_seconds=1.5, time="t",
)  # fmt: skip


def row(**changes):
    return dataclasses.replace(ROW, **changes)


def stages(arm, windows, seed=0, channels=None, penalties=None, exposure=None):
    """Rows of the stages of a cell, 50 steps each; the first one's ``exposure`` by level."""
    rows = []
    for k, (low, high) in enumerate(windows):
        same = {"arm": arm, "seed": seed, "step": 50 * k, "stage": f"s{k + 1}"}
        rows += [row(**same, metric="t_min", value=low), row(**same, metric="t_max", value=high)]
        rows.append(row(**same, metric="active_channels", value=(channels or [16.0] * 9)[k]))
        rows.append(row(**same, metric="penalty_lambda", value=(penalties or [0.0] * 9)[k]))
    rows += [
        row(arm=arm, seed=seed, step=0, stage="s1", metric="exposure", level=level, value=value)
        for level, value in (exposure or {}).items()
    ]
    return rows


LADDER = [(0.5, 1.0), (0.0, 1.0)]
CURRICULA = [
    *stages("B", [(0.0, 1.0)], exposure={k / 20: 1.0 for k in range(1, 21)}),
    *stages("CS", LADDER, channels=[3.0, 16.0], exposure={k / 20: 2.0 for k in range(11, 21)}),
    *stages("CR", LADDER, penalties=[5e-5, 0.0]),
    *stages("density*", [(0.2, 1.0), (0.0, 1.0)], exposure={k / 20: k / 5 for k in range(5, 21)}),
    *stages("shuffled*", LADDER),
    *stages("shuffled*", [(0.0, 1.0), (0.5, 1.0)], seed=1),
]


def entry(**changes):
    """An arm as the index describes it."""
    model = {"network": "naive_unet", "n_feat": 32, "placement": "bottleneck"}
    content = {
        "data": {"dataset": "avatars", "num_train": None},
        "model": model | changes.get("model", {}),
        "process": {"n_T": 1000} | changes.get("process", {}),
        "training": {"lr": 2e-5, "ema_decays": [0.9999, 0.999], "threads": 1, "global_batch": 64}
        | changes.get("training", {}),
        "sampler": {"name": "ddim"},
    }
    return {"config": content, "num_train": 256, "parameters": 714_659}


INDEX = {
    "study": "two",
    "evaluation": {"num_generated": 10_000, "metrics": ["fd", "kd"]},
    "arms": {
        "B": entry(),
        "CS": entry(model={"network": "sparse_unet", "placement": "silent"}),
        "CR": entry(model={"network": "reg_unet"}),
        "density*": entry(training={"length": 0.8}),
        "not run": entry(training={"lr": 1.0}),
    },
    "networks": {
        "B": {"words": "Plainnet, 32 wide", "capacity_limit": None},
        "CS": {
            "words": "Masked, silent",
            "capacity_limit": {
                "mechanism": "hard mask",
                "location": "channels, skip",
                "control": "by saliency",
                "values": "0 or 1",
                "places": ["bottleneck"],
            },
        },
        "CR": {
            "words": "Penalised",
            "capacity_limit": {
                "mechanism": "penalty",
                "location": "everywhere",
                "control": "λ",
                "values": "any",
                "places": ["init_conv", "down1", "out"],
            },
        },
    },
    "cells": [],
}


def lines(table):
    return {line[0]: line[1:] for line in table.body}


def test_arms_are_told_by_network_noise_capacity_and_loss():
    (table,), numbers = arms(to_frame(CURRICULA), INDEX)
    assert table.header[1:] == (
        "network", "parameters", "steps", "noise time by stage", "active channels", "loss"
    )  # fmt: skip
    found = lines(table)
    assert found["B"] == ("Plainnet, 32 wide", "714659", "100", "0–1", "16", "ε-MSE")
    assert found["CS"][0] == "Masked, silent"
    # An index of an earlier version has the bare name alone.
    assert found["density*"][0] == "naive_unet" and found["shuffled*"][0] == "–"
    assert found["CS"][3:5] == ("0.5–1 → 0–1", "3 → 16")
    assert found["CR"][5] == "ε-MSE + λ group norms, λ 5e-05 → 0"
    assert found["density*"][3] == "0.2–1 weighted → 0–1"
    assert found["shuffled*"][3] == "2 stages, other by seed"
    assert numbers["arm"].tolist() == list(found)


def test_a_weighted_loss_is_said():
    weighted = entry(process={"loss_weight": {"kind": "min_snr", "gamma": 5.0}})
    (table,), _ = arms(to_frame(CURRICULA), INDEX | {"arms": {"B": weighted}})
    assert lines(table)["B"][5] == "ε-MSE weighted by min_snr, 5.0"


@pytest.mark.parametrize("odd", [None, 3, ["x"], "x\x1b"])
def test_a_network_that_is_read_in_another_way_is_said(odd):
    changed = entry(process={"parameterization": "preconditioned"})
    (table,), _ = arms(to_frame(CURRICULA), INDEX | {"arms": {"B": changed}})
    assert lines(table)["B"][0] == "Plainnet, 32 wide, preconditioned"
    # An index may come from anywhere.
    strange = entry(process={"parameterization": odd})
    (table,), _ = arms(to_frame(CURRICULA), INDEX | {"arms": {"B": strange}})
    assert "\x1b" not in lines(table)["B"][0]


def test_without_an_index_arms_are_told_by_their_rows():
    (table,), _ = arms(to_frame(CURRICULA), {})
    assert lines(table)["CS"] == ("–", "–", "100", "0.5–1 → 0–1", "3 → 16", "ε-MSE")
    assert configuration(to_frame(CURRICULA), {})[0] == []
    assert arms(to_frame([row(metric="FD-Net@256")]), INDEX)[0] == []


def test_configuration_has_every_setting_and_which_arms_differ():
    (training, scoring), numbers = configuration(to_frame(CURRICULA), INDEX)
    found = lines(training)
    assert found["training.lr"] == ("2e-05", "")
    assert found["training.ema_decays"] == ("0.9999, 0.999", "")
    assert found["model.network"] == ("naive_unet", "CS: sparse_unet; CR: reg_unet")
    assert found["training.length"] == ("–", "density*: 0.8")
    assert found["data.num_train"] == ("256", "")
    # Where it ran, and arms without a row, say nothing of the rows.
    assert "training.threads" not in found and "not run" not in str(training)
    assert lines(scoring)["evaluation.metrics"] == ("fd, kd", "")
    assert "training seeds 0, 1" in scoring.caption
    assert len(numbers) == len(training.body) + len(scoring.body)


def sparsity(arm, place, step, value, seed=0):
    return row(arm=arm, seed=seed, step=step, metric=f"realised-sparsity/{place}", value=value)


REALISED = [
    *(sparsity("CS", "bottleneck", step, share, seed)
      for seed in (0, 1) for step, share in ((50, 0.8 + 0.1 * seed), (100, 0.0))),
    *(sparsity("CR", place, 50, share)
      for place, share in (("out", 0.25), ("down1", 0.5), ("further", 1.0), ("init_conv", 0.0))),
    row(arm="CS", step=50, metric="mask-effect", level=0.5, value=0.0),
    row(arm="CR", step=50, metric="group-norm-mean", value=1.0),
]  # fmt: skip


def test_capacity_is_compared_by_mechanism_then_by_place_and_step():
    (how, of_cs, of_cr), numbers = capacity(to_frame(CURRICULA + REALISED), INDEX)
    found = lines(how)
    assert found["CS"] == ("hard mask", "channels, skip", "by saliency", "0 or 1", "3 → 16", "0")
    assert found["CR"] == ("penalty", "everywhere", "λ", "any", "16", "5e-05 → 0")
    # Half of t(.975, 1) times the difference between the two seeds.
    assert of_cs.body == (("bottleneck", "85.0 ± 63.5", "0.0 ± 0.0"),)
    assert of_cs.header == ("place", "step 50", "step 100")
    # In the order of the network; what it does not name comes last.
    assert [line[0] for line in of_cr.body] == ["init_conv", "down1", "out", "further"]
    assert of_cr.body[1] == ("down1", "50.0")
    assert "Realised sparsity of CR" in of_cr.title and len(numbers) == 6
    assert capacity(to_frame(CURRICULA), INDEX)[0] == []


def test_without_the_networks_words_capacity_is_told_by_its_rows():
    (alone, _, of_cr), _ = capacity(to_frame(CURRICULA + REALISED), {})
    assert lines(alone)["CS"] == ("–", "–", "–", "–", "3 → 16", "0")
    assert [line[0] for line in of_cr.body] == ["down1", "further", "init_conv", "out"]


def test_realised_sparsity_says_what_it_is_a_share_of():
    """By the arm's own rows: a mask may be anywhere, and a network may have both."""
    moved = [
        dataclasses.replace(one, metric=one.metric.replace("bottleneck", "blocks"))
        for one in REALISED
    ]
    both = row(arm="CS", step=50, metric="group-norm-share-below-1%", value=0.0)
    (_, of_cs, of_cr), _ = capacity(to_frame(CURRICULA + moved), INDEX)
    (mask,), (penalty,) = of_cs.notes, of_cr.notes
    assert "units that are switched off" in mask and "weight groups" in penalty
    (_, of_cs, _), _ = capacity(to_frame([*CURRICULA, *moved, both]), INDEX)
    assert of_cs.notes == (mask, penalty)


def test_tables_of_the_index_are_built_beside_those_of_rows(tmp_path):
    append_rows(tmp_path / "rows.jsonl", CURRICULA + REALISED)
    alone = set(study_tables(analyse(tmp_path)))
    (tmp_path / "study.json").write_text(json.dumps(INDEX))
    assert set(study_tables(analyse(tmp_path))) - alone == {"configuration"}
    assert {"arms", "capacity", "curriculum", "exposure"} <= alone
    first = {path: path.read_bytes() for path in tables_of(tmp_path)}
    assert {path: path.read_bytes() for path in tables_of(tmp_path)} == first
    for path in first:
        assert path.suffix != ".tex" or path.read_text().isascii()
    (tmp_path / "study.json").write_text('{"study": ')
    wrong = r"study\.json: is no whole JSON .* the study's command again"
    with pytest.raises(UserError, match=wrong):
        analyse(tmp_path)


@pytest.mark.parametrize(
    "bare",
    [
        {},
        {"config": {}},
        {"config": {"model": {}, "process": {"loss_weight": "odd"}, "training": {}}},
        {"config": {"model": {"network": ["x"], "n_feat": "many", "width": None}, "newer": 1}},
        {"config": {"model": 7, "data": [], "training": {"global_batch": "8"}}, "num_train": 3},
    ],
)
def test_an_index_of_another_version_leaves_cells_open(bare):
    frame = to_frame(CURRICULA + REALISED)
    for index in (
        {"study": "two", "cells": [], "arms": {"B": bare}},
        INDEX | {"arms": {"B": bare}},
    ):
        (table,), _ = arms(frame, index)
        assert lines(table)["B"][2] == "100"
        configuration(frame, index)
        capacity(frame, index)
        training_cost(frame, index)


def test_a_setting_is_one_line_of_bounded_length():
    odd = {"config": {"model": {"network": "a\nb" + "c" * 9999}}, "num_train": 1, "parameters": 1}
    tables, _ = configuration(to_frame(CURRICULA), {"arms": {"B": odd}})
    cells = [cell for table in tables for line in table.body for cell in line]
    assert max(map(len, cells)) <= 400 and not any("\n" in cell for cell in cells)
