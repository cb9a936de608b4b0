"""Prepared data with their source, without it, with one that changed, and in a study's children."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindiffusion.data import celeba as celeba_module
from mindiffusion.data import folder as folder_module
from mindiffusion.data import store
from mindiffusion.data.record import record_path
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError

CELEBA = DataConfig(dataset="celeba", size=32, num_held_out=2)
FACES = DataConfig(dataset="faces", size=32, num_held_out=2)


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty working folder; this process has counted nothing and was handed nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("CELEBA_PATH", "MINDIFFUSION_DATA"):
        monkeypatch.delenv(name, raising=False)
    for name in ("_plans", "_counts", "_handed"):
        monkeypatch.setattr(store, name, {})
    return tmp_path


@pytest.fixture
def celeba(fresh, write_images, monkeypatch):
    """12 images of CelebA's shape with a partition: 8 train, 3 validation, 1 test."""
    names = write_images(fresh / "celeba" / "img_align_celeba", 12)
    parts = [0] * 8 + [1] * 3 + [2]
    lines = [f"{name} {part}\n" for name, part in zip(names, parts, strict=True)]
    (fresh / "celeba" / "list_eval_partition.txt").write_text("".join(lines))
    monkeypatch.setenv("CELEBA_PATH", str(fresh / "celeba"))
    return fresh / "celeba"


@pytest.fixture
def listings(monkeypatch):
    """How often a place was listed in this process."""
    counts = Counter()
    for module in (celeba_module, folder_module):
        listed = module.list_images

        def counting(place, *words, listed=listed, **options):
            counts[str(place)] += 1
            return listed(place, *words, **options)

        monkeypatch.setattr(module, "list_images", counting)
    return counts


def another_process(monkeypatch):
    """Forget what this process knows, as one that is started now."""
    for name in ("_plans", "_counts", "_handed"):
        monkeypatch.setattr(store, name, {})


def prepared(config=CELEBA, show=False):
    return store.prepared_data(config, show_progress=show)


def test_prepared_data_is_opened_without_its_source(celeba, monkeypatch, capsys):
    made = prepared()
    shutil.rmtree(celeba)
    monkeypatch.delenv("CELEBA_PATH")
    another_process(monkeypatch)
    assert store.num_images(CELEBA) == (8, 1)
    again = prepared(show=True)
    assert again.manifest_id == made.manifest_id and np.array_equal(again.train, made.train)
    assert capsys.readouterr().err == (
        f"CELEBA_PATH is not set; taking {made.folder}, which was prepared before: 8 training and "
        f"1 held-out images, data {made.manifest_id}.\n"
    )


@pytest.mark.parametrize("left", ["nothing", "an empty folder", "a folder without images"])
def test_a_source_of_no_images_is_no_source(left, celeba, capsys):
    made = prepared()
    shutil.rmtree(celeba)
    if left != "nothing":
        celeba.mkdir()
    if left == "a folder without images":
        (celeba / "readme.txt").write_text("moved")
    assert prepared(show=True).manifest_id == made.manifest_id
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"CELEBA_PATH is {celeba}, ")


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_folders_and_zips_are_opened_without_themselves(kind, fresh, write_images, monkeypatch):
    write_images(fresh / "faces", 12)
    config = FACES
    if kind == "zip":
        with zipfile.ZipFile("faces.zip", "w") as archive:
            for path in sorted((fresh / "faces").iterdir()):
                archive.write(path, path.name)
        config = replace(FACES, dataset="faces.zip")
    made = prepared(config)
    shutil.rmtree("faces")
    Path("faces.zip").unlink(missing_ok=True)
    another_process(monkeypatch)
    assert store.num_train_images(config) == len(made.train)
    assert prepared(config).manifest_id == made.manifest_id


def test_the_flip_shares_a_record_and_all_else_does_not(celeba, monkeypatch):
    made = prepared()
    monkeypatch.delenv("CELEBA_PATH")
    assert prepared(replace(CELEBA, horizontal_flip=False)).folder == made.folder
    for other in (
        {"size": 16}, {"crop": "center178"}, {"num_train": 4}, {"num_held_out": 1},
    ):  # fmt: skip
        with pytest.raises(UserError, match="CELEBA_PATH is not set: set CELEBA_PATH"):
            prepared(replace(CELEBA, **other))
        with pytest.raises(UserError, match="CELEBA_PATH is not set: set CELEBA_PATH"):
            store.num_images(replace(CELEBA, **other))


def changed(celeba):
    """One more training image."""
    names = celeba / "list_eval_partition.txt"
    shutil.copy(celeba / "img_align_celeba/000001.png", celeba / "img_align_celeba/000013.png")
    names.write_text(names.read_text() + "000013.png 0\n")


def test_a_source_that_changed_is_prepared_anew(celeba, monkeypatch):
    old = prepared()
    changed(celeba)
    another_process(monkeypatch)
    new = prepared()
    assert new.manifest_id != old.manifest_id and len(new.train) == 9
    assert store.num_images(CELEBA) == (9, 1)
    monkeypatch.delenv("CELEBA_PATH")
    assert prepared().manifest_id == new.manifest_id, "the newest stands"


def test_a_source_that_changed_back_stands_again(celeba, monkeypatch):
    old, listed = prepared(), (celeba / "list_eval_partition.txt").read_text()
    changed(celeba)
    prepared()
    (celeba / "img_align_celeba/000013.png").unlink()
    (celeba / "list_eval_partition.txt").write_text(listed)
    prepared()
    monkeypatch.delenv("CELEBA_PATH")
    assert prepared().manifest_id == old.manifest_id


def test_a_source_that_is_wrong_is_no_reason_to_take_what_was_prepared(celeba):
    prepared()
    (celeba / "img_align_celeba/000003.png").unlink()
    with pytest.raises(UserError, match="names 1 images that are not in"):
        prepared()


def test_a_source_that_may_not_be_read_is_absent(celeba, monkeypatch, capsys):
    made = prepared()

    def denied(*words, **options):
        raise PermissionError(13, "Permission denied", str(celeba))

    monkeypatch.setattr(celeba_module, "list_images", denied)
    assert prepared(show=True).manifest_id == made.manifest_id
    assert "Permission denied" in capsys.readouterr().err
    record_path(CELEBA, Path("data")).unlink()
    with pytest.raises(PermissionError):
        prepared()


def test_a_command_lists_its_source_once(celeba, listings, monkeypatch):
    for _ in range(3):
        assert store.num_images(CELEBA) == (8, 1)
    prepared()
    assert store.num_train_images(replace(CELEBA, horizontal_flip=False)) == 8
    assert list(listings.values()) == [1]
    another_process(monkeypatch)
    prepared()
    store.num_images(CELEBA)
    assert list(listings.values()) == [2]


def test_children_list_nothing_and_use_what_their_parent_opened(celeba, listings, monkeypatch):
    old = prepared()
    records = store.hand_over({CELEBA: old, replace(CELEBA, horizontal_flip=False): old})
    assert len(records) == 1
    changed(celeba)
    new = prepared()
    listings.clear()
    another_process(monkeypatch)
    store.take_over(records)
    assert store.num_images(CELEBA) == (8, 1)
    assert prepared().manifest_id == old.manifest_id != new.manifest_id
    assert not listings


def test_a_machine_with_data_of_its_own_prepares_the_very_same(celeba, monkeypatch):
    records = store.hand_over({CELEBA: prepared()})
    monkeypatch.setenv("MINDIFFUSION_DATA", "elsewhere")
    another_process(monkeypatch)
    store.take_over(records)
    assert store.num_images(CELEBA) == (8, 1), "known before it is prepared"
    assert prepared().folder.parent == Path("elsewhere")
    shutil.rmtree("elsewhere")
    changed(celeba)
    with pytest.raises(UserError, match=r"the study was started on data .*, and here they are"):
        prepared()


def content_of(**changes):
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE = {
    "cut": (lambda path: os.truncate(path, 20), "is no whole JSON document"),
    "empty": (lambda path: path.write_text(""), "is no whole JSON document"),
    "led out": (content_of(folder="../celeba-32-squash-0123456789"), "folder is"),
    "gone": (content_of(folder="celeba-32-squash-0123456789"), "holds no whole data set"),
    "other config": (content_of(config={"dataset": "celeba"}), "is of another config"),
    "negative": (content_of(num_train=-1), "num_train is -1"),
    "more": (content_of(more=1), "more is not known here"),
    "pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "is a pipe"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_record_that_is_no_use_is_told_and_mended(name, celeba, monkeypatch):
    damage, message = DAMAGE[name]
    made, path = prepared(), record_path(CELEBA, Path("data"))
    whole = path.read_text()
    damage(path)
    with monkeypatch.context() as away:
        away.delenv("CELEBA_PATH")
        for ask in (prepared, lambda: store.num_images(CELEBA)):
            with pytest.raises(UserError, match=r"CELEBA_PATH is not set: .* stand in: ") as error:
                ask()
            assert message in str(error.value) and "\n" not in str(error.value)
    assert prepared().manifest_id == made.manifest_id
    assert path.read_text() == whole


def test_a_folder_that_is_another_than_was_recorded_is_refused(celeba, monkeypatch):
    old = prepared()
    changed(celeba)
    new = prepared()
    shutil.rmtree(new.folder)
    old.folder.rename(new.folder)
    monkeypatch.delenv("CELEBA_PATH")
    with pytest.raises(UserError, match=f"is data {old.manifest_id}, and was {new.manifest_id}"):
        prepared()


def test_a_record_is_not_written_where_it_is_known_or_may_not_be(celeba, monkeypatch):
    prepared()
    path = record_path(CELEBA, Path("data"))
    before = path.stat()
    prepared()
    assert path.stat() == before
    path.unlink()
    monkeypatch.setattr("mindiffusion.data.record.os.access", lambda *words: False)
    assert len(prepared().train) == 8 and not path.exists()


AT_ONCE = """
from mindiffusion.data.spec import DataConfig
from mindiffusion.data.store import prepared_data
print(prepared_data(DataConfig(dataset="faces", num_held_out=2), show_progress=False).manifest_id)
"""


def test_processes_that_prepare_at_once_agree(fresh, write_images, repository):
    write_images(fresh / "faces", 12)
    environment = os.environ | {"PYTHONPATH": str(repository)}
    words = [sys.executable, "-c", AT_ONCE]
    both = [
        subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    found = {process.communicate(timeout=120)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0] and len(found) == 1
    shutil.rmtree("faces")
    assert prepared(FACES).manifest_id == found.pop()
    assert not list(Path("data").glob(".config-*"))


def test_a_name_of_any_bytes_is_recorded(fresh, write_images, monkeypatch):
    name = os.fsdecode(b"gesichter \xff\xc3\xbc")
    write_images(fresh / name, 12)
    config = replace(FACES, dataset=name)
    made = prepared(config)
    records = store.hand_over({config: made})
    shutil.rmtree(fresh / name)
    another_process(monkeypatch)
    assert prepared(config).manifest_id == made.manifest_id
    store.take_over(records)
    assert store.num_images(config) == (11, 1)


def test_a_record_names_no_place_of_this_machine(celeba):
    prepared()
    content = record_path(CELEBA, Path("data")).read_text()
    assert str(celeba) not in content and json.loads(content)["config"]["dataset"] == "celeba"
