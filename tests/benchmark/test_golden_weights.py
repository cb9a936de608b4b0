"""Weights keep their bits through changes of the code that are not meant to change them."""

import json

import golden_weights
import pytest
import torch

from benchmark.rows.file import read_rows
from benchmark.study.study import load_study
from mindiffusion.config.run import config_hash


@pytest.fixture
def golden():
    """What was kept for this machine; skips where nothing was."""
    bits = golden_weights.kept_bits()
    if bits is None:
        here = golden_weights.here()
        pytest.skip(f"no golden weights are kept for {here}: {golden_weights.HOW_TO_RECORD}")
    return bits


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """The command beside a file of its own, with bits that need no training; a setter of them."""
    file = tmp_path / "golden.json"
    file.write_text(json.dumps([{"holds_for": {"torch": "other"}, "bits": {}}]))
    monkeypatch.setattr(golden_weights, "FILE", file)

    def give(bits):
        made = {name: bits for name in ("network", "samples")}
        monkeypatch.setattr(golden_weights, "bits_of", lambda config: made)

    give("1")
    return give


@pytest.mark.parametrize("arm", golden_weights.ARMS)
def test_twenty_steps_come_to_the_golden_bits(arm, golden, tmp_path, monkeypatch):
    expected = golden[arm]
    monkeypatch.chdir(tmp_path)
    assert golden_weights.bits_of(golden_weights.study_runs(tmp_path)[arm]) == expected


def test_command_writes_only_when_it_is_told_to(quick, capsys):
    before = golden_weights.FILE.read_text()
    assert golden_weights.main([]) == 1
    assert "no golden weights are kept for" in capsys.readouterr().out
    assert golden_weights.FILE.read_text() == before
    assert golden_weights.main(["--record"]) == 0
    assert "14 of 14 parts recorded" in capsys.readouterr().out
    recorded = golden_weights.FILE.read_text()
    assert [one["holds_for"] for one in json.loads(recorded)] == [
        {"torch": "other"}, golden_weights.here(),
    ]  # fmt: skip
    assert golden_weights.main([]) == 0
    quick("2")
    assert golden_weights.main([]) == 1
    said = capsys.readouterr().out
    assert "CS: network different\n" in said and "14 of 14 parts different" in said
    assert golden_weights.FILE.read_text() == recorded


def test_command_refuses_words_that_it_does_not_know(quick):
    before = golden_weights.FILE.read_text()
    with pytest.raises(SystemExit) as end:
        golden_weights.main(["--recrod"])
    assert end.value.code == 2 and golden_weights.FILE.read_text() == before


def test_a_skip_says_how_to_record(quick, request):
    with pytest.raises(pytest.skip.Exception, match=r"git stash.* --record"):
        request.getfixturevalue("golden")


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
