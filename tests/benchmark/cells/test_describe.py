"""What a study's index says of its arms, without building their networks."""

import json
from pathlib import Path

import pytest

from benchmark.cells import describe
from benchmark.study.index import FLOPS, INDEX_FILE, NETWORKS, read_index
from benchmark.study.study import load_study
from mindiffusion.build import build_network
from mindiffusion.step_cost import step_cost

REPOSITORY = Path(__file__).parents[3]
STUDY = """
seeds: [0, 1]
arms:
  b: {extends: [arms/b]}
  c: {extends: [arms/c]}
  cs: {extends: [arms/cs]}
  half: {extends: [arms/b_half]}
run:
  data: {dataset: avatars, num_train: 256, num_held_out: 32}
  model: {n_feat: 16}
  training: {steps: 80, milestones: ["100%"]}
evaluation: {feature_nets: [effnet-lite0-64], metrics: [profile]}
"""


@pytest.fixture
def study(workdir):
    (workdir / "mine.yaml").write_text(STUDY)
    return load_study("mine.yaml")


def test_index_counts_the_network_of_every_arm(study, monkeypatch):
    counted = []
    bare = describe.network_without_memory
    monkeypatch.setattr(
        describe, "network_without_memory", lambda config: counted.append(config) or bare(config)
    )
    describe.write_index(study)
    index = json.loads((study.folder / INDEX_FILE).read_text())
    assert list(index["arms"]) == list(index[FLOPS]) == ["B", "C", "CS", "B-half"]
    assert len(counted) == 3  # B and C have one network
    for config in study.runs[:4]:
        network = build_network(config)
        parameters = sum(weights.numel() for weights in network.parameters())
        assert index["arms"][config.arm]["parameters"] == parameters
        flops = step_cost(network, *config.input_shape[:2]).flops
        assert index[FLOPS][config.arm] == flops


def test_an_index_without_variants_says_of_scoring_what_earlier_versions_said(study):
    """Folders of both must merge, and what differs between them is refused."""
    describe.write_index(study)
    committed = json.loads((REPOSITORY / "results" / "avatars32-cpu" / INDEX_FILE).read_text())
    assert read_index(study.folder)["evaluation"].keys() == committed["evaluation"].keys()


def test_index_keeps_what_the_networks_say_of_themselves(study):
    describe.write_index(study)
    networks = read_index(study.folder)[NETWORKS]
    words = {arm: network["words"] for arm, network in networks.items()}
    assert words == {
        "B": "NaiveUnet, n_feat 16",
        "C": "NaiveUnet, n_feat 16",
        "CS": "NaiveUnet with a channel mask, n_feat 16",
        "B-half": "NaiveUnet, n_feat 8",
    }
    assert networks["B"]["capacity_limit"] is None
    assert networks["CS"]["capacity_limit"]["places"] == ["bottleneck"]


def test_index_says_whether_the_very_study_is_declared(study, monkeypatch):
    monkeypatch.setattr(describe, "declaration", lambda whole: f"prereg-{whole.name}")
    describe.write_index(study)
    assert json.loads((study.folder / INDEX_FILE).read_text())["declared"] == "prereg-mine"


def test_index_keeps_the_settings_that_left_a_network(study):
    """An index of before must agree with one of now: folders of one study are merged."""
    describe.write_index(study)
    arms = json.loads((study.folder / INDEX_FILE).read_text())["arms"]
    assert arms["B"]["config"]["model"].keys() == arms["CS"]["config"]["model"].keys()
