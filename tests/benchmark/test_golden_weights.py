"""Weights keep their bits through changes of the code that are not meant to change them."""

import json

import golden_weights
import pytest
import torch

from benchmark.rows.file import read_rows
from benchmark.study.study import load_study
from mindiffusion.config.run import config_hash


def golden():
    """What was kept for this machine; skips where nothing was."""
    kept = json.loads(golden_weights.FILE.read_text())
    mine = golden_weights.here()
    found = [one["bits"] for one in kept if one["holds_for"] == mine]
    if not found:
        pytest.skip(f"no golden weights were recorded for {mine}")
    return found[0]


@pytest.mark.parametrize("arm", golden_weights.ARMS)
def test_twenty_steps_come_to_the_golden_bits(arm, tmp_path, monkeypatch):
    expected = golden()[arm]
    monkeypatch.chdir(tmp_path)
    assert golden_weights.bits_of(golden_weights.study_runs(tmp_path)[arm]) == expected


def test_sum_is_of_the_bits():
    one = {"a": torch.tensor([0.0, 1.0]), "b": [1, 2.5]}
    sums = [
        golden_weights.sha256_of(content)
        for content in (
            one,
            one | {"a": torch.tensor([-0.0, 1.0])},
            one | {"b": [1, 2.5000001]},
            one | {"b": [[1], 2.5]},
            {"b": one["b"], "a": one["a"]},
            one | {"a": one["a"].double()},
        )
    ]
    assert len(set(sums)) == len(sums)
    assert golden_weights.sha256_of(dict(one)) == sums[0]


@pytest.mark.parametrize(
    "study, folder", [("avatars32-cpu", "results/avatars32-cpu"), ("demo", "docs/demo")]
)
def test_committed_rows_have_the_hashes_of_their_runs(study, folder, repository):
    """A run whose hash moved would be refused beside its own rows."""
    rows = read_rows(repository / folder / "rows.jsonl")
    hashes = {(row.arm, row.seed, row.config_hash) for row in rows}
    assert hashes == {(c.arm, c.seed, config_hash(c)) for c in load_study(study).runs}
