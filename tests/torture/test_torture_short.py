"""A few faults of the cheap kinds; ``make torture`` does hundreds of all kinds."""

import sys
from dataclasses import replace

import pytest
import torch
from session import Journal, summary
from verdict import compare, difference, stray_files

from benchmark.rows.file import append_rows
from benchmark.rows.row import Row

ROW = Row(
    study="s", arm="B", seed=0, step=1, total_steps=2, metric="FD@8", value=1.0, level=None,
    error=None, direction="lower", metric_version=1, n_generated=8, n_reference=8, weights="ema",
    sampler="ddim", sampler_steps=2, sampling_seed=0, full_range=True, stage="", samples=None,
    dataset="avatars", manifest="m", config_hash="c", git="g", versions={}, device="cpu", host="h",
    threads=1, train_seconds=1.0, time="",
)  # fmt: skip

SHORT = ("--kind", "kill", "--kind", "save", "--kind", "flip", "--count", "6", "--workers", "1")


@pytest.mark.skipif(sys.platform != "linux", reason="the torture reads /proc")
def test_torture_of_a_few_faults_loses_nothing(tmp_path, run_cli, repository):
    words = [repository / "tests" / "torture", *SHORT, "--root", tmp_path / "torture"]
    done = run_cli(words, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    closing = done.stdout.splitlines()[-1].split(" faults, ")
    assert int(closing[0]) >= 5 and closing[1] == "0 lost, 0 wrong"


def test_journal_gives_back_the_rounds_of_the_same_product_and_size(tmp_path):
    path = tmp_path / "journal.jsonl"
    mine, other = ({"seed": 0, "product": name} for name in ("a", "b"))
    Journal(path, mine).append({"round": "kill-0"})
    Journal(path, other).append({"round": "kill-1"})
    assert Journal(path, mine).entries() == [mine | {"round": "kill-0"}]


def test_summary_counts_faults_and_rounds_that_lost():
    fault = {"phase": "training", "named": None}
    entries = [
        {"kind": "kill", "faults": [fault, fault], "lost": [], "wrong": []},
        {"kind": "cut", "faults": [fault | {"named": True}], "lost": ["x", "y"], "wrong": []},
    ]
    text, is_well = summary(entries)
    assert text.splitlines()[-1] == "3 faults, 1 lost, 0 wrong" and not is_well
    assert summary(entries[:1])[1] and "named 1 of 1" in text


@pytest.fixture
def folders(tmp_path):
    """Two equal run folders."""
    for name in ("found", "expected"):
        folder = tmp_path / name
        folder.mkdir()
        torch.save({"step": 3, "w": torch.arange(3.0)}, folder / "weights-3.pt")
        (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2}\n')
        append_rows(folder / "rows.jsonl", [replace(ROW, time=name), replace(ROW, step=2)])
    return tmp_path / "found", tmp_path / "expected"


def test_verdict_of_equal_folders_is_empty_whatever_their_clocks(folders):
    verdict = compare(*folders)
    assert (verdict.lost, verdict.wrong) == ([], [])


def add_noise(folder):
    torch.save({"step": 3, "w": torch.tensor([0.0, 1.0, 2.0000002])}, folder / "weights-3.pt")


def double_a_row(folder):
    append_rows(folder / "rows.jsonl", [replace(ROW, step=2)])


def swap_log_lines(folder):
    (folder / "metrics.jsonl").write_text('{"step": 2}\n{"step": 1, "loss": 1.0}\n')


def leave_a_file(folder):
    (folder / ".weights-3.pt.abcd1234").touch()


def lose_a_row(folder):
    path = folder / "rows.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def lose_a_file(folder):
    (folder / "weights-3.pt").unlink()


@pytest.mark.parametrize("harm", [add_noise, double_a_row, swap_log_lines, leave_a_file])
def test_verdict_names_what_is_wrong(harm, folders):
    harm(folders[0])
    verdict = compare(*folders)
    assert len(verdict.wrong) == 1 and not verdict.lost


@pytest.mark.parametrize("harm", [lose_a_row, lose_a_file])
def test_verdict_names_what_is_lost(harm, folders):
    harm(folders[0])
    verdict = compare(*folders)
    assert len(verdict.lost) == 1 and not verdict.wrong


def test_difference_is_one_of_bits():
    nan, zero = torch.tensor(float("nan")), torch.tensor(0.0)
    assert difference({"a": [nan, zero]}, {"a": [nan.clone(), zero]}) is None
    assert difference({"a": [zero]}, {"a": [-zero]}) == ".a[0]"
    assert difference({"a": 1}, {"a": 1.0}) == ".a is int, not float"


def test_stray_files_are_temporaries_and_no_locks(tmp_path):
    for name in (".lock", ".data.lock", ".a.pt.abcd1234", "a.pt"):
        (tmp_path / name).touch()
    assert stray_files(tmp_path) == [".a.pt.abcd1234"]
