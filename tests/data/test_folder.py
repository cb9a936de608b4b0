import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from mindiffusion.data.folder import FileSource, ImageFile, plan_folder
from mindiffusion.data.listing import list_images, told_left_out
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError
from mindiffusion.outside.pictures import BadImage


def zip_of(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in reversed(sorted(folder.rglob("*"))):
            archive.write(file, file.relative_to(folder))
    return path


def test_list_images_is_recursive_sorted_and_leaves_other_files(image_folder, write_images):
    write_images(image_folder / "a", 2)
    (image_folder / "notes.txt").write_text("x")
    (image_folder / "._000001.png").write_bytes(b"x")
    paths = list_images(image_folder).paths
    assert paths == sorted(paths) and len(paths) == 22 and paths[-1] == "a/000002.png"
    assert len(list_images(image_folder, recursive=False).paths) == 20


def test_list_images_keeps_a_link_to_nowhere_to_be_named_as_bad(image_folder):
    link = image_folder / "link.png"
    link.symlink_to(image_folder / "gone")
    dangling = list_images(image_folder)
    assert "link.png" in dangling.paths and len(dangling.paths) == 21
    with pytest.raises(BadImage, match=r"can't be read .No such file"):
        FileSource(str(image_folder), "squash", 8).draw(ImageFile("link.png"))
    (image_folder / "gone").write_bytes((image_folder / "000001.png").read_bytes())
    assert list_images(image_folder).fingerprint != dangling.fingerprint


def test_draw_refuses_an_encrypted_member(image_folder, tmp_path):
    archive = zip_of(image_folder, tmp_path / "faces.zip")
    content = bytearray(archive.read_bytes())
    # The first member of the central directory; bit 0 of its flags says "encrypted".
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    source = FileSource(str(archive), "squash", 8)
    with pytest.raises(BadImage, match=r"can't be unpacked .*encrypted"):
        source.draw(ImageFile("000020.png"))
    assert source.draw(ImageFile("000001.png")).pixels.shape == (8, 8, 3)


def test_list_images_fingerprint_follows_changes(image_folder):
    before = list_images(image_folder).fingerprint
    assert list_images(image_folder).fingerprint == before
    (image_folder / "000003.png").unlink()
    assert list_images(image_folder).fingerprint != before


def test_folder_and_zip_give_the_same_images_and_split(image_folder, tmp_path):
    archive = zip_of(image_folder, tmp_path / "faces.zip")
    plans = [plan_folder(DataConfig(dataset=str(path))) for path in (image_folder, archive)]
    assert plans[0].train == plans[1].train and plans[0].held_out == plans[1].held_out
    assert plans[0].description == plans[1].description
    for item in plans[0].train[:3]:
        one, other = (plan.source.draw(item) for plan in plans)
        assert np.array_equal(one.pixels, other.pixels) and one.digest == other.digest


def test_plan_folder_split_is_disjoint_whole_and_at_most_a_tenth(image_folder):
    plan = plan_folder(DataConfig(dataset=str(image_folder)))
    assert len(plan.held_out) == plan.num_held_out == 2
    names = {file.path for file in plan.train} | {file.path for file in plan.held_out}
    assert len(plan.train) == 18 and len(names) == 20


def test_plan_folder_num_train_takes_nested_subsets_and_keeps_the_held_out(image_folder):
    plans = [plan_folder(DataConfig(dataset=str(image_folder), num_train=n)) for n in (5, 9)]
    assert [len(plan.train) for plan in plans] == [5, 9]
    assert set(plans[0].train) < set(plans[1].train)
    assert plans[0].held_out == plans[1].held_out


@pytest.mark.parametrize("num_train", [18, 19, 256])
def test_plan_folder_num_train_above_the_count_takes_all(image_folder, num_train):
    everything, asked = (
        plan_folder(DataConfig(dataset=str(image_folder), num_train=count, num_held_out=32))
        for count in (None, num_train)
    )
    assert len(asked.train) == 18 and asked == everything


@pytest.mark.parametrize(
    ("dataset", "hint"),
    [
        ("celeba_hq", "Did you mean 'celeba'?"),
        ("small", "Allowed: avatars, celeba, photos."),
        ("x" * 300, "Allowed: avatars, celeba, photos."),
        ("~nobody-of-this-name/faces", "Allowed: avatars, celeba, photos."),
    ],
)
def test_plan_folder_refuses_what_is_not_there_with_a_hint(dataset, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        plan_folder(DataConfig(dataset=dataset))
    message = str(caught.value)
    assert f"unknown dataset {dataset!r}, and no folder or zip" in message and hint in message


def test_plan_folder_takes_a_bare_name_in_the_working_directory(image_folder, monkeypatch):
    monkeypatch.chdir(image_folder.parent)
    assert len(plan_folder(DataConfig(dataset="faces")).train) == 18


def test_plan_folder_needs_two_images(tmp_path, write_images):
    write_images(tmp_path / "one", 1)
    with pytest.raises(UserError, match="at least two"):
        plan_folder(DataConfig(dataset=str(tmp_path / "one")))


def test_list_images_refuses_what_holds_none(tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        list_images(tmp_path)
    (tmp_path / "a.zip").write_bytes(b"PK no zip")
    with pytest.raises(UserError, match=r"neither a folder nor a whole \.zip"):
        list_images(tmp_path / "a.zip")


def test_list_images_refuses_a_cut_zip(image_folder, tmp_path):
    archive = zip_of(image_folder, tmp_path / "faces.zip")
    archive.write_bytes(archive.read_bytes()[:-400])
    with pytest.raises(UserError, match=r"faces\.zip"):
        list_images(archive)


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "I;16"])
def test_draw_refuses_what_would_lose_something(tmp_path, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new(mode, (40, 40)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(BadImage, match=r"is transparent|has mode (CMYK|I)"):
        FileSource(str(tmp_path), "squash", 32).draw(ImageFile(f"a.{suffix}"))


def test_draw_converts_and_turns_and_says_so(tmp_path):
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.linear_gradient("L").save(tmp_path / "a.png", exif=tags)
    sample = FileSource(str(tmp_path), "squash", 8).draw(ImageFile("a.png"))
    assert sample.oddities == ("turned", "grey")
    expected = Image.linear_gradient("L").rotate(-90).convert("RGB").resize((8, 8), 2)
    assert np.array_equal(sample.pixels, np.asarray(expected))


def test_draw_never_asks_a_decoder_that_is_not_listed(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(BadImage, match=r"can't be decoded .no whole JPEG"):
        FileSource(str(tmp_path), "squash", 8).draw(ImageFile("a.png"))


def test_linked_folders_are_entered_once(tmp_path, write_images):
    place = tmp_path / "faces"
    write_images(place / "a", 2)
    write_images(tmp_path / "other" / "deep", 3)
    (place / "b").symlink_to("../other")
    (place / "c").symlink_to("../other/deep")  # reached through b already
    (place / "again").symlink_to("a")
    (place / "a" / "up").symlink_to("..")
    (tmp_path / "other" / "out").symlink_to(tmp_path)  # what is around the linked folder
    (place / "self").symlink_to("self")
    (place / "link.png").symlink_to("a/000001.png")
    listing = list_images(place)
    assert listing.paths == [
        "a/000001.png", "a/000002.png", *(f"b/deep/00000{k}.png" for k in (1, 2, 3)), "link.png",
    ]  # fmt: skip
    assert listing.left_out == {
        "links to folders that are looked through already": ["a/up", "again", "b/out", "c"],
        "without a suffix": ["self"],
    }


def test_what_is_left_out_is_told_by_reason(tmp_path, write_images, image_folder):
    for name in ("a.gif", "b.GIF", "c.gif", "d.gif", "Thumbs.db", ".DS_Store", "README"):
        (image_folder / name).write_text("x")
    os.mkfifo(image_folder / "x.png")
    listing = list_images(image_folder)
    assert len(listing.paths) == 20
    assert told_left_out(listing.left_out) == (
        "4 with suffix .gif (a.gif, b.GIF, c.gif, …); 1 hidden (.DS_Store); 1 no files but pipes, "
        "sockets or devices (x.png); 1 with suffix .db (Thumbs.db); 1 without a suffix (README)"
    )
    plan = plan_folder(DataConfig(dataset=str(image_folder)))
    (note,) = plan.notes
    assert note.startswith("left out: 4 with suffix .gif")
    assert note.endswith("; data.extra_formats=[gif] takes such images too")


def test_other_formats_are_taken_where_asked_for(image_folder):
    Image.new("RGB", (40, 40)).save(image_folder / "a.tif")
    plan = plan_folder(DataConfig(dataset=str(image_folder)))
    assert len(plan.train) == 18 and "1 with suffix .tif" in plan.notes[0]
    asked = plan_folder(DataConfig(dataset=str(image_folder), extra_formats=("tiff",)))
    assert len(asked.train) == 19 and asked.notes == ()
    assert asked.source.draw(ImageFile("a.tif")).pixels.shape == (32, 32, 3)


def test_a_name_that_is_not_utf8_can_be_planned_and_shown(tmp_path, write_images):
    place = tmp_path / os.fsdecode(b"faces\xe9")
    write_images(place, 3)
    (place / os.fsdecode(b"\xe9.png")).write_bytes((place / "000001.png").read_bytes())
    plan = plan_folder(DataConfig(dataset=str(place)))
    assert plan.name == r"faces\udce9" and len(plan.train) == 3


def test_a_zip_of_zips_and_a_web_page_are_named(image_folder, tmp_path):
    inner = zip_of(image_folder, tmp_path / "faces.zip")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(inner, "faces.zip")
    with pytest.raises(UserError, match=r"holds another zip .faces\.zip. and no images; unpack it"):
        list_images(tmp_path / "outer.zip")
    (tmp_path / "page.zip").write_text("<html>")
    with pytest.raises(UserError, match=r"page\.zip is neither .* but a web page: the download"):
        list_images(tmp_path / "page.zip")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
def test_draw_refuses_a_cut_file(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    source = FileSource(str(tmp_path), "squash", 32)
    assert source.draw(ImageFile(path.name)).pixels.shape == (32, 32, 3)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadImage, match="can't be decoded"):
        source.draw(ImageFile(path.name))
