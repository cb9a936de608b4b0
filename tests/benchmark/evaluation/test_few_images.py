"""Data that no scoring, or not all of it, can be made of: told in a line, the rest is scored."""

import dataclasses
import json

import numpy as np
import pytest

from benchmark.evaluation.evaluate_images import evaluate_images, score_images
from benchmark.evaluation.evaluate_run import _within
from benchmark.evaluation.images.image_source import open_images
from benchmark.evaluation.milestone.yardstick import NO_UNSEEN, Yardstick, make_yardstick
from benchmark.study.study import EvaluationConfig
from mindiffusion.errors import UserError

NET = "effnet-lite0-64"
SCORING = EvaluationConfig(
    num_generated=8, num_reference=32, feature_nets=(NET,), metrics=("fd", "memorisation")
)


@pytest.fixture
def copies(avatars):
    """Data whose held-out images are training images, one of them mirrored."""
    held_out = np.concatenate([avatars.train[:3], avatars.train[3:4, :, ::-1]])
    return dataclasses.replace(avatars, held_out=held_out)


def test_memorisation_is_left_out_where_all_held_out_images_are_copies(copies, workdir, capsys):
    yardstick = make_yardstick(SCORING, copies, "cpu")
    assert not yardstick.has_unseen
    assert yardstick.unseen_features(yardstick.nets[0]) is None
    yardstick.fill_cache([])
    assert capsys.readouterr().err == f"{NO_UNSEEN}\n"


def test_held_out_images_of_their_own_are_a_yardstick(avatars, workdir, capsys):
    yardstick = make_yardstick(SCORING, avatars, "cpu")
    yardstick.fill_cache([])
    assert yardstick.has_unseen and capsys.readouterr().err == ""


def test_images_are_scored_without_memorisation_and_told_so(copies, workdir):
    np.save("made.npy", np.array(copies.train[100:116]))
    compared = score_images(open_images(workdir / "made.npy"), copies, [NET])
    assert NO_UNSEEN in compared.notes
    names = {score.metric.partition("-")[0] for score in compared.scores}
    assert {"FD", "KD", "precision"} <= names and not any("memor" in name for name in names)


def test_metrics_of_other_things_wait_for_no_reference_features(avatars, workdir, monkeypatch):
    def refused(*given):
        raise AssertionError("a feature net was loaded")

    monkeypatch.setattr("benchmark.evaluation.milestone.yardstick.load_feature_net", refused)
    few = dataclasses.replace(SCORING, profile_images=4)
    others = dataclasses.replace(few, metrics=("profile", "attributes"))
    assert make_yardstick(others, avatars, "cpu").nets == ()
    for metric in ("fd", "kd", "prdc", "is", "memorisation", "stitched"):
        some = dataclasses.replace(few, metrics=("profile", metric))
        with pytest.raises(AssertionError, match="was loaded"):
            make_yardstick(some, avatars, "cpu")


@pytest.mark.parametrize(
    ("num_train", "num_held_out", "words"),
    [(7, 32, "7 training images"), (256, 1, "1 held-out image; scoring takes 2 or more")],
)
def test_fewer_images_than_scoring_takes_are_one_line(num_train, num_held_out, words, avatars):
    few = dataclasses.replace(
        avatars, train=avatars.train[:num_train], held_out=avatars.held_out[:num_held_out]
    )
    with pytest.raises(UserError, match=words):
        _within(EvaluationConfig(), few)


def test_scoring_asks_for_no_more_images_than_there_are(avatars):
    evaluation = _within(EvaluationConfig(), avatars)
    assert (evaluation.num_reference, evaluation.profile_images) == (256, 32)


def test_results_are_kept_before_they_are_shown(avatars, workdir, monkeypatch):
    np.save("made.npy", np.array(avatars.train[:8]))

    def closed(*words):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", closed)
    path = workdir / "made.npy"
    with pytest.raises(BrokenPipeError):
        evaluate_images(path, path, [NET], ["fd"], workdir / "out.json")
    assert json.loads((workdir / "out.json").read_text())["scores"]


def test_place_for_results_is_tried_before_anything_is_scored(workdir):
    with pytest.raises(OSError) as error:
        evaluate_images(workdir / "none", workdir / "none", [], None, workdir / ("x" * 300))
    assert error.value.filename.endswith("xxx")


def test_names_in_notes_are_made_printable(avatars, workdir):
    np.save("made.npy", np.array(avatars.train[:8]))
    compared = score_images(open_images(workdir / "made.npy"), avatars, [NET], ["fd"])
    text = dataclasses.replace(compared, notes=("a\x1b[2J",)).text()
    assert "\x1b" not in text and "a\\x1b[2J" in text


def test_yardstick_is_made_of_few_images_where_nothing_reads_more(avatars):
    few = dataclasses.replace(avatars, held_out=avatars.held_out[:1])
    made = make_yardstick(dataclasses.replace(SCORING, metrics=("fd",)), few, "cpu")
    assert isinstance(made, Yardstick)
