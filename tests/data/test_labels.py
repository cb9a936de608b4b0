"""Labels of images: by folder, by dataset.json, of avatars, CelebA and CIFAR-10."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from python2_pickle import python2_pickle, write_cifar

from mindiffusion.data import listing
from mindiffusion.data.classes import Classes
from mindiffusion.data.listing import find_images
from mindiffusion.data.prepare import plan_data, prepare
from mindiffusion.data.prepared import load_prepared
from mindiffusion.data.record import config_key, read_record
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError


def zip_of(folder, path, outer=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{outer}{file.relative_to(folder)}")
    return path


@pytest.fixture
def animals(tmp_path, write_images):
    """15 cats and 25 dogs, some of them in a folder of their own below their class's."""
    folder = tmp_path / "animals"
    write_images(folder / "cat", 15, (12, 12))
    write_images(folder / "dog", 20, (12, 12))
    write_images(folder / "dog" / "more", 5, (13, 12))
    return folder


@pytest.fixture
def listed(tmp_path, write_images):
    """24 images in numbered folders beside a dataset.json, as StyleGAN's tools lay them out."""
    folder = tmp_path / "listed"
    names = [
        f"{part:05d}/{name}" for part in (0, 1) for name in _twelve(folder, part, write_images)
    ]
    write_list(folder, [[name, number % 3] for number, name in enumerate(names)])
    return folder


def _twelve(folder, part, write_images):
    return write_images(folder / f"{part:05d}", 12, (12, 12))


def write_list(folder, labels):
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "more": 1}))


def config_of(place, labels, **more):
    return DataConfig(dataset=str(place), size=8, labels=labels, **more)


def prepared(config, tmp_path):
    return prepare(config, tmp_path / "data", workers=1, show_progress=False)


@pytest.mark.parametrize("outer", [None, "", "animals/set/"])
def test_a_class_is_the_folder_that_an_image_lies_in(animals, tmp_path, outer):
    place = animals if outer is None else zip_of(animals, tmp_path / "animals.zip", outer)
    data = prepared(config_of(place, "folder"), tmp_path)
    training = data.training_for("folder")
    assert training.classes.names == ("cat", "dog") and len(training.classes.counts) == 2
    assert len(training) == 36 and len(data.held_out) == 4
    assert np.bincount(data.held_out_labels["folder"], minlength=2).sum() == 4
    assert sum(training.classes.counts) == 36 and training.labels.dtype == np.int64
    assert (
        training.labels.tolist()
        == [0] * training.classes.counts[0] + [1] * (training.classes.counts[1])
    )
    assert load_prepared(data.folder).classes("folder") == training.classes
    manifest = json.loads((data.folder / "manifest.json").read_text())
    assert manifest["label_names"] == {"folder": ["cat", "dog"]}
    assert manifest["label_counts"]["folder"]["train"] == list(training.classes.counts)
    assert data.training_for(None).labels is None


def test_labels_make_another_array_of_files_and_none_leave_the_old_one(animals, tmp_path):
    plain, told = config_of(animals, None), config_of(animals, "folder")
    assert prepared(plain, tmp_path).folder != prepared(told, tmp_path).folder
    assert config_key(plain) != config_key(told)
    assert read_record(told, tmp_path / "data").num_classes == 2
    assert read_record(plain, tmp_path / "data").num_classes is None
    (animals / "cat" / "000001.png").rename(animals / "dog" / "moved.png")
    assert prepared(told, tmp_path).classes("folder").counts != (15, 21)


def test_config_key_of_data_without_labels_is_as_before_there_were_any():
    assert config_key(DataConfig()) == "30285b64acc4af52"


@pytest.mark.parametrize("is_zip", [False, True])
def test_a_class_is_the_number_of_a_list(listed, tmp_path, is_zip):
    place = zip_of(listed, tmp_path / "listed.zip") if is_zip else listed
    data = prepared(config_of(place, "dataset.json"), tmp_path)
    classes = data.classes("dataset.json")
    assert classes.names == ("0", "1", "2") and sum(classes.counts) == 22
    plan = plan_data(config_of(place, "dataset.json"), None)
    for item in plan.train:
        number = int(item.path[:5]) * 12 + int(item.name[:6]) - 1
        assert item.codes == (number % 3,)


def test_a_zip_of_faces_has_a_list_without_labels_and_is_read_without(
    listed, tmp_path, write_images
):
    """As EDM's tool writes FFHQ: 00000/img00000000.png, and labels are null."""
    write_list(listed, None)
    data = prepared(config_of(zip_of(listed, tmp_path / "faces.zip"), None), tmp_path)
    assert len(data.train) == 22 and len(data.held_out) == 2
    assert data.training_for(None).labels is None


@pytest.mark.parametrize("is_cifar", [False, True])
def test_adm_crop_is_in_the_name_and_the_manifest_of_prepared_data(animals, tmp_path, is_cifar):
    place = write_cifar(tmp_path / "cifar-10-batches-py") if is_cifar else animals
    manifests = {}
    for crop in ("squash", "adm"):
        data = prepared(DataConfig(dataset=str(place), size=8, crop=crop), tmp_path)
        assert f"-8-{crop}-" in data.folder.name
        manifests[crop] = json.loads((data.folder / "manifest.json").read_text())
    assert manifests["adm"]["filter"] == "PIL box by halves, then bicubic"
    assert manifests["squash"]["filter"] == "PIL bilinear, reducing_gap none"


def test_labels_of_the_same_codes_are_prepared_apart(animals, tmp_path):
    """A list that says what the folders say gives the same codes under another name."""
    paths = sorted(file.relative_to(animals).as_posix() for file in animals.rglob("*.png"))
    write_list(animals, [[path, int(path.startswith("dog"))] for path in paths])
    by_folder, by_list = (
        prepared(config_of(animals, label), tmp_path) for label in ("folder", "dataset.json")
    )
    assert by_folder.classes("folder").names == ("cat", "dog")
    assert by_list.classes("dataset.json").names == ("0", "1")
    assert by_folder.manifest_id != by_list.manifest_id


def test_cifar_is_read_from_its_own_files(tmp_path):
    folder = write_cifar(tmp_path / "cifar-10-batches-py")
    config = DataConfig(dataset=str(tmp_path), size=32, labels="class", num_held_out=7)
    data = prepared(config, tmp_path)
    assert (len(data.train), len(data.held_out)) == (60, 7)
    assert data.classes("class").names == ("plane", "car", "bird")
    assert data.classes("class").counts == (20, 20, 20)
    row = np.random.default_rng(1).integers(0, 256, (12, 3072), dtype=np.uint8)[3]
    np.testing.assert_array_equal(data.train[15], row.reshape(3, 32, 32).transpose(1, 2, 0))
    assert data.train_labels["class"][15] == 0
    few = prepared(DataConfig(dataset=str(folder), size=16, num_train=9), tmp_path)
    assert few.train.shape == (9, 16, 16, 3) and few.training.labels is None


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "data_batch_3").unlink(), "lacks data_batch_3"),
        (lambda f: shutil.copy(f / "batches.meta", f / "test_batch"), "lacks data or labels"),
        (
            lambda f: (f / "batches.meta").write_bytes(
                python2_pickle({b"label_names": [b"a", b"b"]})
            ),
            "has classes from 0 to 2, but batches.meta names 0 to 1",
        ),
        (
            lambda f: (f / "batches.meta").write_bytes(
                python2_pickle({b"label_names": [b"a"] * 3})
            ),
            "must have label_names",
        ),
        (
            lambda f: (f / "test_batch").write_bytes(
                python2_pickle({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]})
            ),
            r"has data of shape \(2, 3072\) and 1 labels",
        ),
    ],
)
def test_cifar_with_a_wrong_file_is_refused(tmp_path, spoil, said):
    spoil(write_cifar(tmp_path / "c"))
    with pytest.raises(UserError, match=said) as caught:
        plan_data(config_of(tmp_path / "c", "class"), None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [[0, 1], [0, 2, 1, 0]], ids=["cut", "other classes"])
def test_a_file_of_cifar_that_changes_on_the_way_is_one_line(tmp_path, labels):
    folder = write_cifar(tmp_path / "c", rows=4)
    plan = plan_data(config_of(folder, "class"), None)
    third = next(item for item in plan.train if (item.file, item.row) == ("data_batch_2", 2))
    assert plan.source.draw(third).codes == (2,)
    plan.source.draw(plan.train[0])
    pixels = np.zeros((len(labels), 3072), np.uint8)
    changed = python2_pickle({b"data": pixels, b"labels": labels})
    (folder / "data_batch_2").write_bytes(changed)
    with pytest.raises(
        UserError, match=r"data_batch_2 has changed since .* .row 2.; run"
    ) as caught:
        plan.source.draw(third)
    assert "\n" not in str(caught.value)


def test_cifar_with_settings_that_do_not_fit_is_refused(tmp_path):
    folder = write_cifar(tmp_path / "c")
    for settings, said in (
        (
            {"extra_formats": ("gif",)},
            "data.extra_formats are for folders and zips of images; .*/c",
        ),
        (
            {"labels": "class", "num_train": 2},
            "class 'car' and 1 more has no training image; .* data.num_train",
        ),
    ):
        with pytest.raises(UserError, match=said) as caught:
            plan_data(DataConfig(dataset=str(folder), size=32, **settings), None)
        assert "\n" not in str(caught.value)


def test_avatars_have_their_attributes_as_labels_and_keep_their_array(avatars, shared_folder):
    config = DataConfig(num_train=256, num_held_out=32, labels="eyes")
    data = prepare(config, shared_folder / "data", workers=1, show_progress=False)
    assert data.folder == avatars.folder and data.manifest_id == avatars.manifest_id
    training = data.training_for("eyes")
    assert training.classes.names[1] == "glasses" and sum(training.classes.counts) == 256
    assert np.bincount(training.labels, minlength=7).tolist() == list(training.classes.counts)
    # No portrait of this style is without eyes: that class can't be drawn.
    assert training.classes.counts[0] == 0 and 0 not in training.classes.shown


@pytest.mark.parametrize(
    ("labels", "change", "said"),
    [
        ("folder", lambda f: (f / "bird").mkdir(), "class 'bird' has no training image"),
        ("folder", lambda f: shutil.rmtree(f / "cat"), r"has 1 class\(es\); allowed are 2 to"),
        (
            "folder",
            lambda f: shutil.copy(f / "cat" / "000001.png", f / "x.png"),
            "holds x.png, which lies in no class folder",
        ),
        ("folder", lambda f: (f / "cat").rename(f / "c\u202eat"), "can't be shown"),
        ("hair", lambda f: None, "data.labels is 'hair', but .* has no labels; leave it out"),
        ("dataset.json", lambda f: None, "holds no such file"),
    ],
)
def test_folders_whose_classes_do_not_fit_are_refused(animals, labels, change, said):
    change(animals)
    with pytest.raises(UserError, match=said) as caught:
        plan_data(config_of(animals, labels), None)
    assert "\n" not in str(caught.value)


def test_an_empty_class_of_a_zip_is_named(animals, tmp_path):
    place = zip_of(animals, tmp_path / "animals.zip")
    with zipfile.ZipFile(place, "a") as archive:
        archive.writestr("bird/", b"")
        archive.writestr("ant/notes.txt", b"")
        archive.writestr("__MACOSX/x/._1.png", b"")
    with pytest.raises(UserError, match="class 'ant' and 1 more has no training image"):
        plan_data(config_of(place, "folder"), None)


def test_names_of_folders_in_folders_of_a_zip_are_bounded_together(tmp_path, monkeypatch):
    """Names of 8 kB in the zip would be 8 MB of folders."""
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as archive:
        archive.writestr("x.png", b"")
        for number in range(2):
            archive.writestr(f"{number}/" + "a/" * 2000, b"")
    assert len(find_images(tmp_path / "deep.zip").folders) == 2 * 2001
    monkeypatch.setattr(listing, "MOST_FOLDER_CHARACTERS", 7_000_000)
    with pytest.raises(UserError, match=r"deep.zip holds too many folders in each other") as caught:
        find_images(tmp_path / "deep.zip")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, r"has no labels \(null\); give data.labels=folder"),
        ([["00000/000001.png", -1]], "labels.*-1: input should be greater than or equal to 0"),
        ([["00000/000001.png", 40_000]], "40000: input should be less than 32768"),
        ([["00000/000001.png", 0.5]], "0.5"),
        ([["00000/000001.png", 0]] * 2, "names an image twice"),
        ([["00000/000001.png", 0]], "lacks 23 of the images"),
        ("more", "names 1 images that are not there .first: gone.png"),
        ("one", r"data.labels is dataset.json, but .* has 1 class.es.; allowed are 2 to 32768"),
        ("gap", "class '3' and 1 more has no training image"),
    ],
)
def test_lists_that_do_not_fit_are_refused(listed, tmp_path, labels, said):
    known = json.loads((listed / "dataset.json").read_text())["labels"]
    wanted = {
        "more": [*known, ["gone.png", 1]],
        "gap": [*known[:-1], [known[-1][0], 5]],
        "one": [[path, 0] for path, _ in known],
    }
    write_list(listed, wanted[labels] if isinstance(labels, str) else labels)
    place = zip_of(listed, tmp_path / "listed.zip")
    with pytest.raises(UserError, match=said) as caught:
        plan_data(config_of(place, "dataset.json"), None)
    assert "\n" not in str(caught.value)


def test_an_attribute_that_there_is_not_is_refused_with_what_is_near():
    with pytest.raises(UserError, match=r"data.labels is 'hairs', which .* does not have.*'hair'"):
        plan_data(DataConfig(labels="hairs"), None)


def test_counts_of_labels_that_were_altered_are_noticed(animals, tmp_path):
    data = prepared(config_of(animals, "folder"), tmp_path)
    path = data.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["label_counts"]["folder"]["train"][0] += 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"its label_counts are not those of labels.npz"):
        load_prepared(data.folder)
    del manifest["label_counts"]
    path.write_text(json.dumps(manifest))
    assert load_prepared(data.folder).manifest_id == data.manifest_id


def test_classes_are_found_by_name_and_by_number():
    classes = Classes("hair", ("none", "2", "long"), (0, 4, 6))
    assert classes.shown == (1, 2)
    assert [classes.number_of(one) for one in ("long", "2", "1")] == [2, 1, 1]
    for wanted, said in (
        ("3", "has the classes 0 to 2"),
        ("lon", "'long'"),
        ("none", "no training"),
    ):
        with pytest.raises(UserError, match=said):
            classes.number_of(wanted)
