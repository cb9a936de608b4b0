"""``evaluate`` on a run's folder and on one weights file."""

import pytest

from benchmark.evaluation.run import (
    evaluate_run,
    is_run_or_checkpoint,
    results_text,
    run_evaluation,
)
from benchmark.results import read_rows
from mindiffusion.errors import UserError
from mindiffusion.training.checkpoint import weights_path

WORDS = ["evaluation.num_generated=8", "evaluation.num_reference=32", "evaluation.strip=2"]


@pytest.fixture
def trained(workdir, train_run, tiny_config):
    config = tiny_config("b", output=workdir / "run")
    train_run(config)
    return config.run_dir


def test_run_is_scored_at_its_milestones_once(trained, capsys):
    how = run_evaluation(["fd", "prdc"], ["effnet-lite0-64"], WORDS)
    assert evaluate_run(trained, how, None) == 0
    text = capsys.readouterr().out
    assert "FD-EffNet-Lite0-64px@8" in text and "precision-EffNet-Lite0-64px@8" in text
    assert "smoke" in text and "KD-" not in text
    rows = read_rows(trained / "rows.jsonl")
    assert {row.step for row in rows} >= {12, 24}
    assert evaluate_run(trained, how, None) == 0
    assert read_rows(trained / "rows.jsonl") == rows
    one = run_evaluation(["kd"], ["effnet-lite0-64"], WORDS)
    assert evaluate_run(weights_path(trained, 24), one, None) == 0
    added = read_rows(trained / "rows.jsonl")[len(rows) :]
    assert {row.metric for row in added} >= {"KD-EffNet-Lite0-64px@8"}
    assert {row.step for row in added if row.metric.startswith("KD")} == {24}


def test_table_leaves_profiles_to_the_rows(trained, capsys):
    how = run_evaluation(["profile"], ["effnet-lite0-64"], [*WORDS, "evaluation.profile_levels=5"])
    evaluate_run(weights_path(trained, 24), how, None)
    lines = capsys.readouterr().out.splitlines()
    assert not any(" eps-MSE " in line for line in lines)
    assert sum("eps-MSE/L_simple" in line for line in lines) == 2  # raw and average
    assert not any("scored-" in line for line in lines)
    assert results_text([]).split() == ["step", "metric", "weights", "value", "±", "se", "note"]


@pytest.mark.parametrize(
    ("metrics", "words", "match"),
    [
        (["fid"], [], "'fid'.*Did you mean 'fd'"),
        (None, ["training.lr=1"], r"evaluation\.<name>=<value>"),
        (None, ["evaluation.num_generated=3"], "num_generated"),
        (None, ["evaluation.num_generate=8"], "num_generate"),
    ],
)
def test_a_mistaken_option_is_one_line(metrics, words, match):
    with pytest.raises(UserError, match=match) as error:
        run_evaluation(metrics, [], words)
    assert "\n" not in str(error.value)


def test_stitched_samples_need_a_finisher(trained):
    with pytest.raises(UserError, match="--finisher"):
        evaluate_run(trained, run_evaluation(["stitched"], [], []), None)


def test_what_is_a_run_is_told_from_images(trained, tmp_path):
    assert is_run_or_checkpoint(trained) and is_run_or_checkpoint(weights_path(trained, 24))
    assert not is_run_or_checkpoint(tmp_path) and not is_run_or_checkpoint(tmp_path / "x.npy")


def test_run_without_a_milestone_and_a_state_are_named(trained, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    how = run_evaluation(["fd"], ["effnet-lite0-64"], WORDS)
    with pytest.raises(UserError, match="train until the first milestone"):
        evaluate_run(tmp_path, how, None)
    state = next(trained.glob("ckpt-*.pt"))
    with pytest.raises(UserError, match=r"weights-<step>\.pt"):
        evaluate_run(state, how, None)


def test_two_ranks_share_the_work_and_give_the_rows_of_one(trained, torchrun, run_cli):
    """At one thread the numbers have the same bits: ranks only exchange images and moments."""
    how = ["--metrics", "fd,kd,prdc", "--net", "effnet-lite0-64"]
    words = [part for word in WORDS for part in ("--set", word)]
    path = weights_path(trained, 24)
    command = ["evaluate", str(path), *how, *words]
    assert run_cli(["-m", "benchmark", *command], trained).returncode == 0
    alone = read_rows(trained / "rows.jsonl")
    (trained / "rows.jsonl").unlink()
    done = run_cli([*torchrun, "-m", "benchmark", *command], trained)
    assert done.returncode == 0, done.stderr
    shared = read_rows(trained / "rows.jsonl")
    assert [(row.metric, row.value) for row in shared] == [(r.metric, r.value) for r in alone]
    assert done.stdout.count("FD-EffNet-Lite0-64px@8") == 1
