"""A prepared folder of another maker: manifest and arrays agree, or one line says why."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindiffusion.data import prepared
from mindiffusion.data.mean_and_spread import ImageSummary
from mindiffusion.data.prepared import load_prepared, write_array, write_manifest
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_file, sha256_of_json

NAMES = ("train.npy", "held_out.npy", "labels.npz")
COUNTS = {"train": 3, "held_out": 2}


def write(folder, arrays=None, labels=None, **changes):
    """A folder whose manifest is sealed and whose checksums hold, whatever else is wrong."""
    folder.mkdir(exist_ok=True)
    arrays = arrays or {s: np.full((n, 8, 8, 3), n, np.uint8) for s, n in COUNTS.items()}
    for split, array in arrays.items():
        np.save(folder / f"{split}.npy", array)
    if labels is None:
        labels = {f"{s}/hair": np.zeros(n, np.int16) for s, n in COUNTS.items()}
    np.savez(folder / "labels.npz", **labels)
    manifest = {
        "format": 1,
        "source": {"any": ["thing", 1.5]},
        "size": 8,
        "counts": COUNTS,
        "label_names": {"hair": ["none", "red"]},
        "sha256": {name: sha256_of_file(folder / name) for name in NAMES},
        "file_bytes": {name: (folder / name).stat().st_size for name in NAMES},
    }
    write_manifest(folder, manifest | changes)
    return folder


def refused(folder, *parts):
    with pytest.raises(UserError) as caught:
        load_prepared(folder)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    for part in (str(folder), *parts):
        assert part in message, message


def test_a_folder_of_another_maker_opens(tmp_path):
    data = load_prepared(write(tmp_path / "d"))
    assert data.train.shape == (3, 8, 8, 3) and not data.train.flags.writeable
    assert data.held_out_labels["hair"].tolist() == [0, 0]
    assert data.label_names == {"hair": ["none", "red"]}
    assert data.manifest["source"] == {"any": ["thing", 1.5]} and "id" not in data.manifest
    assert data.manifest_id == sha256_of_json(data.manifest)[:12]


SUMMARY = ImageSummary(std=0.25, mean_colour=[0.5, -0.5, 0.0])


def test_what_is_stated_of_the_images_does_not_change_the_name_of_the_data(tmp_path):
    older = load_prepared(write(tmp_path / "d"))
    write_manifest(tmp_path / "d", older.manifest, SUMMARY)
    newer = load_prepared(tmp_path / "d")
    assert (newer.manifest, newer.manifest_id) == (older.manifest, older.manifest_id)
    assert newer.stated == SUMMARY and older.stated is None


STATED = {
    "another spread": ({"std": 0.5}, "its statistics are damaged"),
    "another colour": ({"mean_colour": [0.5, -0.5, 0.1]}, "its statistics are damaged"),
    "no seal": ({"sha256": None}, "its statistics are damaged"),
    "no number": ({"std": float("nan")}, "std"),
    "too much": ({"std": 1.5}, "std is 1.5"),
    "two colours": ({"mean_colour": [0.5, 0.5]}, "mean_colour"),
    "more": ({"variance": 3}, "variance"),
}


@pytest.mark.parametrize("name", STATED)
def test_a_wrong_statement_of_the_images_is_refused(tmp_path, name):
    changes, message = STATED[name]
    folder = write(tmp_path / "d")
    write_manifest(folder, load_prepared(folder).manifest, SUMMARY)
    content = json.loads((folder / "manifest.json").read_text())
    content["statistics"] |= changes
    (folder / "manifest.json").write_text(json.dumps(content))
    refused(folder, message)


@pytest.mark.parametrize("stated", [3, [], "x", {}])
def test_statistics_that_are_no_statistics_are_refused(tmp_path, stated):
    folder = write(tmp_path / "d")
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(content | {"statistics": stated}))
    refused(folder, "statistics")


def test_the_manifest_is_what_json_says(tmp_path):
    number = {"x": 0.1 + 0.2, "big": 2**70, "text": "ü\n\u202e", "none": None}
    folder = write(tmp_path / "d", more=number)
    content = json.loads((folder / "manifest.json").read_text())
    content.pop("id")
    assert load_prepared(folder).manifest == content


MANIFESTS = {
    "another format": ({"format": 99}, "has format 99, this is 1"),
    "no size": ({"size": None}, "size is None"),
    "a huge size": ({"size": 10**6}, "size is 1000000"),
    "a negative count": ({"counts": {"train": -1, "held_out": 2}}, "counts.train is -1"),
    "a third split": ({"counts": COUNTS | {"test": 1}}, "must count train, held_out"),
    "other files": ({"sha256": {"../secret": "0" * 64}}, "name the files train.npy, held_out.npy"),
    "no files": ({"file_bytes": {}}, "name the files"),
    "labels that are no lists": ({"label_names": {"hair": 3}}, "label_names.hair is 3"),
    "a name that moves the cursor": ({"label_names": {"\x1b[2J": []}}, "can be shown"),
    "other counts": ({"counts": {"train": 4, "held_out": 2}}, "train.npy holds uint8 (3, 8, 8, 3)"),
    "another size": ({"size": 4}, "its manifest says uint8 (3, 4, 4, 3)"),
    "more labels": ({"label_names": {"hair": ["a"], "eyes": ["b"]}}, "no array train/eyes"),
    "fewer codes": ({"label_names": {"hair": []}}, "codes 0 to 0, its manifest names 0"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_sealed_manifest_that_says_something_else_is_refused(tmp_path, name):
    changes, message = MANIFESTS[name]
    refused(write(tmp_path / "d", **changes), message)


def test_arrays_are_images_of_the_declared_kind(tmp_path):
    images = {s: np.zeros((n, 8, 8, 3), np.uint8) for s, n in COUNTS.items()}
    for index, wrong in enumerate((np.zeros((3, 8, 8, 3)), np.zeros((3, 8, 8), np.uint8))):
        folder = write(tmp_path / str(index), images | {"train": wrong})
        refused(folder, "train.npy holds", "says uint8 (3, 8, 8, 3)")
    folder = write(tmp_path / "objects", images | {"train": np.array([{}])})
    refused(folder, "only plain numbers")


def test_labels_are_codes_of_every_image(tmp_path):
    def labels(codes):
        return {"train/hair": codes, "held_out/hair": np.zeros(2, np.int16)}

    for index, (codes, message) in enumerate(
        (
            (np.array([0, 1], np.int16), "train/hair is int16 (2,), not int16 (3,)"),
            (np.array([0, 1, 0]), "train/hair is int64 (3,)"),
            (np.array([0, 1, 2], np.int16), "codes 0 to 2, its manifest names 2"),
            (np.array([0, -1, 1], np.int16), "codes -1 to 1"),
        )
    ):
        refused(write(tmp_path / str(index), labels=labels(codes)), message)


@pytest.mark.parametrize("name", (*NAMES, "manifest.json"))
def test_no_link_in_the_folder_is_followed(tmp_path, name):
    folder = write(tmp_path / "d")
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    refused(folder)
    (folder / name).unlink()
    (tmp_path / name).rename(folder / name)
    (tmp_path / "link").symlink_to(folder)
    assert load_prepared(tmp_path / "link").manifest_id == load_prepared(folder).manifest_id


def test_a_document_that_is_deep_or_no_mapping_is_one_line(tmp_path):
    folder = write(tmp_path / "d")
    for text in ("[" * 100_000, "[]", "{}", '{"format": 1, "id": 3}', "\xff", "1" * 10_000):
        (folder / "manifest.json").write_text(text, encoding="latin-1")
        refused(folder)


def test_write_array_is_read_as_it_was_written(tmp_path):
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    write_array(tmp_path / "a.npy", iter([images[:1], images[1:]]), images.shape)
    assert np.array_equal(np.load(tmp_path / "a.npy"), images)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
fields = st.sampled_from(
    ["size", "counts", "label_names", "sha256", "file_bytes", "format", "more"]
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.dictionaries(fields, json_values, min_size=1, max_size=2))
def test_any_sealed_manifest_opens_or_is_one_line(tmp_path, changes):
    folder = write(tmp_path / "d")
    manifest = prepared._read_manifest(folder)[0]
    write_manifest(folder, manifest | changes)
    try:
        load_prepared(folder)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
