"""What a process of a study is told: whole, checked, and its own whatever becomes of the YAML."""

import dataclasses
import json
from pathlib import Path

import pytest

from benchmark.cells import assignment as assignment_module
from benchmark.cells.__main__ import main
from benchmark.cells.assignment import Assignment, read_assignment, write_assignment
from benchmark.cells.tasks import Task, graph_of
from benchmark.study.declaration import fingerprint
from benchmark.study.study import load_study, study_names
from mindiffusion.config.run import config_hash
from mindiffusion.data.record import Record
from mindiffusion.errors import UserError


def told(study, **fields):
    return Assignment(study=study, data=(), tasks=tuple(graph_of(study))[:1], **fields)


# Studies of the theory are done in one process, which is told nothing by a file.
OF_IMAGES = [name for name in study_names() if not name.startswith("theory")]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_a_study_comes_back_as_it_was(name, tmp_path):
    """Also its fingerprint and its runs' hashes, by which rows are declared and told apart."""
    study = load_study(name)
    write_assignment(tmp_path / "cell.json", told(study, side_by_side=2))
    back = read_assignment(tmp_path / "cell.json")
    assert back == told(study, side_by_side=2)
    assert fingerprint(back.study) == fingerprint(study)
    assert list(map(config_hash, back.study.runs)) == list(map(config_hash, study.runs))


def test_the_records_of_the_data_come_with_it(tmp_path):
    study = load_study("demo")
    record = Record(
        config={"dataset": "avatars", "extra_formats": []},
        folder="avatars-0123456789",
        manifest="0123456789ab",
        num_train=8,
        num_held_out=2,
    )
    whole = told(study).model_copy(update={"data": (record,)})
    write_assignment(tmp_path / "cell.json", whole)
    assert read_assignment(tmp_path / "cell.json").data == (record,)


def changed(**fields):
    return lambda content: content | fields


WRONG = {
    "cut": (None, "is no whole JSON document"),
    "another version's": (changed(more=1), "more is not known here"),
    "no study": (changed(study={}), "study.name is missing"),
    "a field of the study": (
        lambda content: content | {"study": content["study"] | {"more": 1}},
        "study.more is not known here",
    ),
    "no tasks": (changed(tasks=[]), "tasks is []: "),
    "no such task": (changed(tasks=[{"what": "x", "arm": "B", "seed": 0}]), "tasks.0.what is 'x'"),
    "another study's cell": (
        changed(tasks=[{"what": "train", "arm": "B", "seed": 99}]),
        "has no task 'the training of B/99'",
    ),
    "a part that is not scored": (
        changed(tasks=[{"what": "stitched", "arm": "B", "seed": 0}]),
        "has no task 'the stitched samples of B/0'",
    ),
    "two cells in one process": (
        changed(tasks=[{"what": "own", "arm": arm, "seed": 0} for arm in ("B", "C")]),
        "tasks of one cell only",
    ),
    "record that leads out": (
        changed(data=[{"config": {}, "folder": "../x", "manifest": "0" * 12, "num_train": 1,
                       "num_held_out": 1}]),
        "data.0.folder is '../x'",
    ),
    "no room": (changed(side_by_side=0), "side_by_side is 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_document_is_one_line(name, tmp_path, call):
    change, message = WRONG[name]
    path = tmp_path / "cell.json"
    write_assignment(path, told(load_study("demo"), side_by_side=1))
    text = path.read_text()
    path.write_text(json.dumps(change(json.loads(text))) if change else text[:500])
    code, _, errors = call(main, [str(path)])
    assert code == 2 and len(errors.splitlines()) == 1
    assert errors.startswith(f"error: {path}: ") and message in errors
    assert errors.endswith("give the study's command again, which writes it anew.\n")


@pytest.mark.parametrize("words", [[], ["a.json", "b.json"], ["nowhere.json"]])
def test_a_process_that_is_told_nothing_ends_in_one_line(words, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, errors = call(main, words)
    assert code == 2 and len(errors.splitlines()) == 1 and errors.startswith("error: ")


def test_a_study_that_would_not_be_read_is_not_written(tmp_path, monkeypatch):
    study = load_study("demo")
    strange = dataclasses.replace(study, name="\udcff")
    with pytest.raises(UserError, match=r"'\\udcff' is not UTF-8; rename it"):
        write_assignment(tmp_path / "cell.json", told(strange))
    monkeypatch.setattr(assignment_module, "MOST_TEXT_BYTES", 1000)
    with pytest.raises(UserError, match=r"study demo is too large: .* 1,000 bytes"):
        write_assignment(tmp_path / "cell.json", told(study))
    assert not list(tmp_path.iterdir())


def test_a_document_stays_what_it_is_when_the_yaml_is_edited(tmp_path, monkeypatch, repository):
    monkeypatch.chdir(tmp_path)
    protocol = repository / "benchmark" / "study" / "protocols" / "demo.yaml"
    Path("mine.yaml").write_text(protocol.read_text())
    study = load_study("mine.yaml")
    write_assignment(Path("cell.json"), told(study))
    Path("mine.yaml").write_text("seeds: []")
    assert read_assignment(Path("cell.json")).study == study
    assert read_assignment(Path("cell.json")).tasks == (Task("train", "B", 0),)
