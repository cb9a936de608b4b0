"""Weights of scored milestones: deleted where a run wants that, and never too early."""

from dataclasses import replace

import pytest

from benchmark.cells.cell import run_cell
from benchmark.cells.kept_weights import delete_scored
from benchmark.cells.progress import scored_steps, study_proofs
from benchmark.cells.tasks import graph_of
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.rows.file import ROWS_FILE, append_rows
from benchmark.rows.known_rows import known_rows
from benchmark.rows.merge import compress
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion.config.plan import resolve_plan
from mindiffusion.errors import UserError
from mindiffusion.training import checkpoint

SCORING = EvaluationConfig(
    num_generated=8, num_reference=32, feature_nets=("effnet-lite0-64",), metrics=()
)
WORDS = ("training.steps=6", "training.milestones=[2,4,6]")


@pytest.fixture
def make(workdir, tiny_config, avatars):
    """A function: a study of one run, and that run's plan."""

    def study(*words, **scoring):
        config = tiny_config("b", *WORDS, *words, output=workdir / "t" / "b")
        finisher = config if "stitched" in scoring.get("metrics", ()) else None
        evaluation = replace(SCORING, **scoring)
        made = Study("t", workdir / "t", (config,), evaluation, finisher=finisher)
        return made, config, resolve_plan(config, 256)

    known_rows.cache_clear()
    return study


def kept(config):
    return sorted(path.name for path in config.run_dir.glob("weights-*"))


def names(*steps):
    return [f"weights-{step:09d}.{end}" for step in steps for end in ("json", "pt")]


def scored(study, config, plan, metric, steps):
    """Rows that prove a part of some milestones."""
    runtime = {"device": "cpu", "precision": "fp32", "compile": False, "threads": 1}
    for step in steps:
        content = {"step": step, "runtime": runtime, "train_seconds": 1.0}
        one = Milestone(study, config, plan, "abc", content, config.run_dir)
        append_rows(study.folder / ROWS_FILE, [one.row(metric, 1.0)])


@pytest.mark.parametrize(
    ("keep", "own", "stitched", "left"),
    [
        ("all", (2, 4, 6), (2, 4, 6), (2, 4, 6)),
        ("last", (2, 4, 6), (2, 4, 6), (6,)),
        ("last", (2, 4), (2,), (4, 6)),
        ("last", (2, 4, 6), (), (2, 4, 6)),
    ],
)
def test_weights_go_once_all_parts_are_scored(make, keep, own, stitched, left):
    study, config, plan = make(f"training.keep_scored={keep}", metrics=("fd", "stitched"))
    config.run_dir.mkdir(parents=True)
    for step in plan.milestones:
        for end in (".pt", ".json"):
            checkpoint.weights_path(config.run_dir, step).with_suffix(end).touch()
    proofs = study_proofs(study)
    scored(study, config, plan, proofs["own"], own)
    scored(study, config, plan, proofs["stitched"], stitched)
    for _ in range(2):
        delete_scored(study, config, plan)
        assert kept(config) == names(*left)


def test_a_cell_keeps_its_last_weights_and_goes_on_without_the_others(make, capsys):
    study, config, _ = make("training.keep_scored=last", "training.checkpoint_every=2")
    assert run_cell(study, list(graph_of(study)), 1) == 0
    assert scored_steps(study, config) == {2, 4, 6} and kept(config) == names(6)
    # From a milestone's state: its weights are written again, and go again.
    for path in config.run_dir.glob("ckpt-000000006.*"):
        path.unlink()
    compress(study.folder)
    assert run_cell(study, list(graph_of(study)), 1) == 0
    # Compressed rows prove as well what is scored.
    assert not (study.folder / ROWS_FILE).exists() and kept(config) == names(6)
    # Scored in another way: what is not there any more is named.
    known_rows.cache_clear()
    other = replace(study, evaluation=replace(SCORING, num_generated=9))
    with pytest.raises(UserError, match=r"weights-000000002\.pt is to be scored and is not there"):
        run_cell(other, list(graph_of(other)), 1)
    assert kept(config) == names(6)
