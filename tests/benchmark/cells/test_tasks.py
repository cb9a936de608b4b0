"""The graph of a study's tasks, without any run: what waits for what, and what can be started."""

from pathlib import Path

import pytest

from benchmark.cells.progress import study_proofs
from benchmark.cells.tasks import Task, doable, graph_of, in_order, left_of
from benchmark.evaluation.milestone.proof import proof
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion.errors import UserError

TRAIN_B, TRAIN_C, TRAIN_Y = (Task("train", arm, 0) for arm in "BCY")
OWN_B, OWN_C, OWN_Y = (Task("own", arm, 0) for arm in "BCY")
STITCHED_C = Task("stitched", "C", 0)
B, C, Y = ("B", 0), ("C", 0), ("Y", 0)
YOKED = in_order(
    {
        # A control whose training follows the finished training of arm C, which is listed behind.
        OWN_Y: (TRAIN_Y,),
        TRAIN_Y: (TRAIN_C,),
        TRAIN_C: (),
        OWN_C: (TRAIN_C,),
        STITCHED_C: (TRAIN_C, TRAIN_B),
        TRAIN_B: (),
        OWN_B: (TRAIN_B,),
    }
)


def make(tiny_config, *, metrics=("fd",), finisher=None):
    runs = tuple(tiny_config(arm, f"seed={seed}") for seed in (0, 1) for arm in ("c", "b"))
    named = next((run for run in runs if run.arm == finisher), None)
    return Study("t", Path("t"), runs, EvaluationConfig(metrics=metrics), finisher=named)


def left(graph, done=()):
    return left_of(graph, graph, lambda task: task in done)


def test_scores_need_their_own_training(tiny_config):
    graph = graph_of(make(tiny_config))
    cells = [("C", 0), ("B", 0), ("C", 1), ("B", 1)]
    assert graph == {
        **{Task("train", *cell): () for cell in cells},
        **{Task("own", *cell): (Task("train", *cell),) for cell in cells},
    }


def test_stitched_samples_need_the_finishers_training_too(tiny_config):
    graph = graph_of(make(tiny_config, metrics=("fd", "stitched"), finisher="B"))
    assert len(graph) == 12
    assert graph[Task("stitched", "C", 1)] == (Task("train", "C", 1), TRAIN_B)
    assert set(graph[Task("stitched", "B", 0)]) == {TRAIN_B}


def test_layers_are_compared_with_the_baseline_of_the_same_seed(tiny_config):
    study = make(tiny_config, metrics=("fd", "cka"))
    graph = graph_of(study)
    assert graph[Task("cka", "C", 1)] == (Task("train", "C", 1), Task("train", "B", 1))
    assert set(graph[Task("cka", "B", 0)]) == {TRAIN_B}
    with_finisher = make(tiny_config, metrics=("fd", "cka"), finisher="B")
    # The study looks for the row that a cell writes, whether or not an arm could finish samples.
    assert study_proofs(with_finisher)["cka"] == proof(study.evaluation, "cka")
    # Without plain training a run is compared with itself alone.
    alone = Study("t", Path("t"), study.runs[:1], study.evaluation)
    assert graph_of(alone)[Task("cka", "C", 0)] == (TRAIN_C,)


def test_every_task_stands_behind_what_it_needs():
    order = list(YOKED)
    assert len(order) == 7
    for task, needs in YOKED.items():
        assert all(order.index(one) < order.index(task) for one in needs)


def test_a_need_that_is_not_in_the_study_is_one_line(tiny_config):
    study = make(tiny_config, metrics=("stitched",), finisher="B")
    alone = Study("t", Path("t"), study.runs[:1], study.evaluation, finisher=study.finisher)
    with pytest.raises(UserError) as error:
        graph_of(alone)
    assert str(error.value) == (
        "the training of B/0 is not in the study, but must come before the stitched samples of "
        "C/0; add that arm and that seed, or take out what needs it."
    )


def test_a_circle_is_one_line():
    with pytest.raises(UserError) as error:
        in_order({TRAIN_C: (TRAIN_Y,), TRAIN_Y: (TRAIN_C,), OWN_C: (TRAIN_C,)})
    said = str(error.value)
    assert said.count("which waits for") == 2 and said.endswith("take out one need.")
    assert "the training of C/0, which waits for the training of Y/0" in said


def test_what_is_done_is_not_left_and_what_nobody_wants_is_not_asked_for():
    asked = []

    def is_done(task):
        asked.append(task)
        return task in (OWN_B, TRAIN_C)

    found = left_of(YOKED, [OWN_B, OWN_C, STITCHED_C], is_done)
    # B is scored, yet its weights are wanted once more, to finish C's samples.
    assert found == {OWN_C: (), STITCHED_C: (TRAIN_B,), TRAIN_B: ()}
    assert sorted(map(str, asked)) == sorted(map(str, (OWN_B, OWN_C, STITCHED_C, TRAIN_B, TRAIN_C)))
    assert left_of(YOKED, [OWN_B], is_done) == {}


def test_a_cell_does_all_that_waits_for_nobody_else():
    first = doable(left(YOKED), [[B], [C], [Y]])
    assert first == [(TRAIN_B, OWN_B), (TRAIN_C, OWN_C), ()]
    second = doable(left(YOKED, done=(TRAIN_B, OWN_B)), [[C], [Y]])
    assert list(map(set, second)) == [{TRAIN_C, OWN_C, STITCHED_C}, set()]
    third = doable(left(YOKED, done=(TRAIN_C, OWN_C)), [[C], [Y]])
    assert third == [(), (TRAIN_Y, OWN_Y)]


def test_cells_of_one_job_do_for_each_other_what_they_need():
    (together,) = doable(left(YOKED), [[Y, C]])
    assert set(together) == {TRAIN_C, OWN_C, TRAIN_Y, OWN_Y}
    assert together.index(TRAIN_C) < together.index(TRAIN_Y)


def test_what_was_tried_is_not_started_again_and_nothing_behind_it_is():
    assert doable(left(YOKED), [[C], [Y]], tried=(TRAIN_C, OWN_C)) == [(), ()]
    assert doable(left(YOKED, done=(TRAIN_C,)), [[C]], tried=(OWN_C,)) == [()]
