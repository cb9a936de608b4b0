import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.speed import pictures
from benchmark.speed.pictures import jpeg_folder, names, prepared_array
from benchmark.speed.rivals.reference_loop import batches_in_memory, decoded_batches, picture_set


@pytest.fixture(scope="module")
def folder(shared_folder):
    return jpeg_folder(6, shared_folder / "speed")


def test_files_have_the_shape_of_celeba(folder):
    assert names(folder) == [f"faces/{k:06d}.jpg" for k in range(6)]
    with Image.open(folder / "faces" / "000003.jpg") as image:
        assert (image.size, image.mode, image.format) == ((178, 218), "RGB", "JPEG")


def test_a_folder_is_made_once(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*")}
    assert jpeg_folder(6, folder.parent) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/*")} == before


def test_files_beyond_the_distinct_ones_are_copies(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "NUM_DISTINCT", 2)
    made = jpeg_folder(5, tmp_path)
    contents = [(made / name).read_bytes() for name in names(made)]
    assert len(contents) == 5 and len(set(contents)) == 2
    assert contents[4] == contents[2] == contents[0]


def test_reference_and_ours_train_on_the_same_pictures(folder):
    ours = torch.from_numpy(prepared_array(folder, 32)).permute(0, 3, 1, 2) / 127.5 - 1
    theirs = torch.stack([image for image, _ in picture_set(folder, 32)])
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6)
    assert len(np.unique(theirs[:, :, 16, 16])) > 6  # portraits, not one colour


@pytest.mark.parametrize("batches", [decoded_batches, batches_in_memory])
def test_reference_batches_are_of_these_pictures_without_end(folder, batches):
    known = torch.stack([image for image, _ in picture_set(folder, 32)])
    source = batches(folder, 32, 4)
    for _ in range(3):  # twelve of six pictures
        batch = next(source)
        assert batch.shape == (4, 3, 32, 32) and batch.dtype == torch.float32
        assert all((known == image).flatten(1).all(1).any() for image in batch)
