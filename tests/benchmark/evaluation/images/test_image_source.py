"""Images from anywhere: what is read, what is noted, and what is refused in one line."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from benchmark.evaluation.images import image_source
from benchmark.evaluation.images.image_source import open_images
from mindiffusion.errors import UserError


def pixels(n, side=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def save_all(folder, images, pattern="{:03d}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / pattern.format(index))
    return folder


def zip_of(folder, path, prefix="", newest_first=False):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*"), reverse=newest_first):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def all_of(source, size=3):
    """Pixels by index, with the sizes of the batches."""
    found, lengths = {}, []
    for indices, batch in source.batches(size):
        assert batch.dtype == np.uint8 and len(indices) == len(batch) <= size
        found |= dict(zip(indices.tolist(), batch, strict=True))
        lengths.append(len(batch))
    assert sorted(found) == list(range(source.count))
    return [found[index] for index in range(source.count)], lengths


@pytest.fixture
def images():
    return pixels(7)


@pytest.fixture
def folder(tmp_path, images):
    return save_all(tmp_path / "generated", images)


def test_folder_zip_npy_and_npz_give_the_same_images_in_the_same_order(folder, tmp_path, images):
    np.save(tmp_path / "a.npy", images)
    np.savez_compressed(tmp_path / "a.npz", images=images, labels=np.arange(7))
    places = [
        folder,
        zip_of(folder, tmp_path / "flat.zip"),
        zip_of(folder, tmp_path / "backwards.zip", "inside/", newest_first=True),
        tmp_path / "a.npy",
        tmp_path / "a.npz",
    ]
    sources = [open_images(place) for place in places]
    for source in sources:
        assert (source.count, source.sizes, source.notes) == (7, {(8, 8)}, ())
        read, lengths = all_of(source)
        assert np.array_equal(read, images) and lengths == [3, 3, 1]
    assert len({source.digest for source in sources[:3]}) == 1
    assert len({source.digest for source in sources[3:]}) == 1


def test_an_npy_is_memory_mapped_and_its_batches_are_copies(tmp_path, images):
    np.save(tmp_path / "a.npy", images)
    source = open_images(tmp_path / "a.npy")
    assert isinstance(source.array, np.memmap)
    _, batch = next(source.batches(4))
    batch[:] = 0  # what torch asks of an array it is given: to own it
    assert np.array_equal(all_of(source)[0], images)


def test_digest_follows_names_bytes_and_pixels(folder, tmp_path, images):
    before = open_images(folder).digest
    (folder / "000.png").rename(folder / "007.png")
    renamed = open_images(folder).digest
    Image.fromarray(images[1]).save(folder / "007.png")
    assert len({before, renamed, open_images(folder).digest}) == 3
    np.save(tmp_path / "a.npy", images)
    np.save(tmp_path / "b.npy", 255 - images)
    np.save(tmp_path / "c.npy", images.reshape(7, 4, 16, 3))
    assert len({open_images(tmp_path / f"{name}.npy").digest for name in "abc"}) == 3


def test_digest_of_an_array_does_not_depend_on_the_block(tmp_path, images, monkeypatch):
    np.save(tmp_path / "a.npy", images)
    whole = open_images(tmp_path / "a.npy").digest
    monkeypatch.setattr(image_source, "_BLOCK_BYTES", 500)
    assert open_images(tmp_path / "a.npy").digest == whole


def test_many_batches_keep_their_order_also_when_threads_decode(tmp_path):
    images = pixels(150, side=64)
    source = open_images(save_all(tmp_path / "large", images))
    read, lengths = all_of(source, size=40)  # a batch is more than one task
    assert np.array_equal(read, images) and lengths == [40, 40, 40, 30]


def test_batches_can_be_left_early_and_read_again(folder, images):
    source = open_images(folder)
    batches = source.batches(2)
    next(batches)
    batches.close()
    assert np.array_equal(all_of(source)[0], images)


def test_mixed_sizes_come_in_batches_of_one_size(tmp_path):
    small, large = pixels(4, side=8), pixels(4, side=10)
    mixed = [image for pair in zip(small, large, strict=True) for image in pair]
    source = open_images(save_all(tmp_path / "mixed", mixed))
    assert source.sizes == {(8, 8), (10, 10)}
    assert source.notes == (
        "images of 2 sizes, from 8x8 to 10x10 (height x width); each is resized from its own",
    )
    read, lengths = all_of(source, size=4)
    assert all(np.array_equal(a, b) for a, b in zip(read, mixed, strict=True))
    assert lengths == [2, 2, 2, 2]


def test_stray_files_are_left_out_and_named(folder, images):
    for name in ("notes.txt", ".DS_Store", "._000.png", "grid.pdf"):
        (folder / name).write_bytes(b"x")
    (folder / "logs").mkdir()
    (folder / "logs" / "train.log").write_text("x")
    source = open_images(folder)
    assert np.array_equal(all_of(source)[0], images)
    assert source.notes == (
        "5 files that are no images left out: .DS_Store, ._000.png, grid.pdf, …",
    )


def test_a_zip_made_on_a_mac_has_its_shadows_left_out(folder, tmp_path, images):
    path = zip_of(folder, tmp_path / "mac.zip", "generated/")
    with zipfile.ZipFile(path, "a") as archive:
        archive.mkdir("__MACOSX")
        archive.writestr("__MACOSX/generated/._000.png", b"x")
    source = open_images(path)
    assert np.array_equal(all_of(source)[0], images)
    assert source.notes == ("1 files that are no images left out: __MACOSX/generated/._000.png",)


@pytest.mark.parametrize("name", ["run[1]", "faces.zip", "a b", "*"])
def test_folders_may_have_names_that_break_other_tools(tmp_path, images, name):
    assert np.array_equal(all_of(open_images(save_all(tmp_path / name, images)))[0], images)


def converted(image, mode):
    return np.asarray(Image.fromarray(image).convert(mode).convert("RGB"))


@pytest.mark.parametrize(
    ("mode", "note"),
    [
        ("L", "1 of 8 images are grey; converted to RGB"),
        ("1", "1 of 8 images are grey; converted to RGB"),
        ("P", "1 of 8 images have a palette, at most 256 colours"),
        ("RGBA", "1 of 8 images have an alpha channel, opaque everywhere; dropped"),
    ],
)
def test_other_colour_modes_are_converted_and_counted(folder, images, mode, note):
    Image.fromarray(images[0]).convert(mode).save(folder / "odd.png")
    source = open_images(folder)
    (found,) = source.notes
    assert found.startswith(note)
    assert np.array_equal(all_of(source)[0][7], converted(images[0], mode))


def test_grey_with_an_opaque_alpha_is_counted_as_both(folder, images):
    Image.fromarray(images[0]).convert("LA").save(folder / "odd.png")
    assert [note.split(" images ")[1][:8] for note in open_images(folder).notes] == [
        "are grey",
        "have an ",
    ]


def test_pictures_that_lie_on_their_side_are_turned_and_counted(folder, images):
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(images[0][:4]).save(folder / "odd.png", exif=tags)
    source = open_images(folder)
    assert source.sizes == {(8, 8), (8, 4)}
    assert source.notes[0].startswith("1 of 8 images say by EXIF that they lie on their side")
    assert np.array_equal(all_of(source)[0][7], np.rot90(images[0][:4], -1))


def test_a_pipe_is_left_out_and_not_waited_for(folder, images):
    os.mkfifo(folder / "x.png")
    source = open_images(folder)
    assert source.notes == ("1 files that are no images left out: x.png",)
    assert np.array_equal(all_of(source)[0], images)


def test_names_that_are_not_utf8_are_shown(folder, images):
    (folder / os.fsdecode(b"notes\xe9.txt")).write_text("x")
    assert open_images(folder).notes == (r"1 files that are no images left out: notes\udce9.txt",)
    (folder / os.fsdecode(b"\xe9.png")).write_text("x")
    one_line(folder, r"\udce9.png in ")


def test_large_images_come_in_smaller_batches_and_few_at_a_time(folder, images, monkeypatch):
    """A batch may have 2 images' pixels, and 4 images may be decoded ahead."""
    monkeypatch.setattr(image_source, "_BATCH_PIXELS", 2 * 64)
    monkeypatch.setattr(image_source, "MOST_PIXELS", 4 * 64)
    source = open_images(folder)
    decoded = []
    real = image_source.decode
    monkeypatch.setattr(
        image_source,
        "decode",
        lambda *words: decoded.append(words[1]) or real(*words),
    )
    lengths = []
    for number, (indices, batch) in enumerate(source.batches(5)):
        assert len(decoded) <= 2 * number + 6
        assert np.array_equal(batch, images[indices])
        lengths.append(len(batch))
    assert lengths == [2, 2, 2, 1] and len(decoded) == 7


def test_an_image_larger_than_a_batch_may_be_comes_alone(folder, images, monkeypatch):
    monkeypatch.setattr(image_source, "_BATCH_PIXELS", 10)
    read, lengths = all_of(open_images(folder))
    assert np.array_equal(read, images) and lengths == [1] * 7


def test_batches_of_a_large_array_are_smaller(tmp_path, images, monkeypatch):
    np.save(tmp_path / "a.npy", images)
    monkeypatch.setattr(image_source, "_BATCH_PIXELS", 2 * 64)
    assert all_of(open_images(tmp_path / "a.npy"), 5)[1] == [2, 2, 2, 1]


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_files_are_read_with_a_note(folder, images, suffix):
    Image.fromarray(images[0]).save(folder / f"lossy.{suffix}")
    source = open_images(folder)
    assert source.notes == (
        "1 of 8 images are JPEG or WebP; lossy files shift distances: keep images as PNG or .npy",
    )
    with Image.open(folder / f"lossy.{suffix}") as image:
        assert np.array_equal(all_of(source)[0][7], np.asarray(image))


def test_a_jpeg_called_png_is_still_lossy(folder, images):
    Image.fromarray(images[0]).save(folder / "000.png", format="JPEG")
    assert "1 of 7 images are JPEG" in open_images(folder).notes[0]


def one_line(path, *parts):
    with pytest.raises(UserError) as caught:
        all_of(open_images(path))
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def add_transparent(folder, images):
    image = Image.fromarray(images[0]).convert("RGBA")
    image.putpixel((3, 3), (1, 2, 3, 254))
    image.save(folder / "odd.png")


def add_keyed(folder, images):
    Image.fromarray(images[0]).save(
        folder / "odd.png", transparency=tuple(images[0][0, 0].tolist())
    )


def add_16_bit_grey(folder, images):
    Image.fromarray(images[0, ..., 0].astype(np.uint16) * 257).save(folder / "odd.png")


def add_16_bit_colour(folder, images):
    """By hand: Pillow writes no such file."""
    import struct
    import zlib

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = images[0].astype(">u2") * 257
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    (folder / "odd.png").write_bytes(content)
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "RGB"  # so nothing but its raw mode tells


def add_cmyk(folder, images):
    Image.fromarray(images[0]).convert("CMYK").save(folder / "odd.jpg")


BAD_KINDS = {
    "transparent": (add_transparent, "odd.png", "is transparent"),
    "a transparent colour": (add_keyed, "odd.png", "is transparent"),
    "16 bits, grey": (add_16_bit_grey, "odd.png", "mode I;16; convert it to 8-bit RGB"),
    "16 bits, colour": (add_16_bit_colour, "odd.png", "16 bits a channel; convert it to 8-bit RGB"),
    "CMYK": (add_cmyk, "odd.jpg", "mode CMYK; convert it to 8-bit RGB"),
}


@pytest.mark.parametrize("kind", BAD_KINDS)
def test_images_that_need_a_choice_are_refused_by_name(folder, images, kind):
    add, *parts = BAD_KINDS[kind]
    add(folder, images)
    one_line(folder, str(folder), *parts)


def cut(content):
    return content[:-20]


def flipped(content):
    middle = content.index(b"IDAT") + 12
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, flipped, lambda content: b"", lambda content: b"<html>"])
def test_a_damaged_file_is_named_before_any_pixel_is_asked_for(folder, damage):
    path = folder / "003.png"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"003\.png in .* can't be decoded .*mend or remove it"):
        open_images(folder)


def test_a_cut_jpeg_is_named_when_it_is_decoded(tmp_path):
    folder = save_all(tmp_path / "lossy", pixels(3, side=64), "{:03d}.jpg")
    path = folder / "001.jpg"
    path.write_bytes(path.read_bytes()[:-900])
    one_line(folder, "001.jpg", "can't be decoded")


def test_a_link_to_nowhere_is_named(folder):
    (folder / "link.png").symlink_to(folder / "gone")
    one_line(folder, "link.png", "can't be read (No such file or directory)")


def test_folders_without_their_own_images_say_which_to_give(tmp_path, images):
    run = tmp_path / "run"
    save_all(run / "samples", images)
    one_line(run, f"only one level down; give {run / 'samples'}")
    save_all(run / "more", images)
    one_line(run, "holds images in 2 subfolders (more, samples); give one folder")
    save_all(run, images)
    one_line(run, "holds images itself and in 2 subfolders (more, samples)")
    one_line(zip_of(run, tmp_path / "run.zip"), "in 3 folders (more, samples); put all into one")


def test_empty_places_and_single_images_are_refused(tmp_path, images):
    empty = tmp_path / "empty"
    empty.mkdir()
    one_line(empty, "holds no images (looked for .jpg")
    save_all(empty, images[:1])
    one_line(empty, "holds one image; a distance needs 2 or more")
    one_line(empty / "000.png", "is one image; a distance needs 2 or more")
    np.save(tmp_path / "one.npy", images[:1])
    one_line(tmp_path / "one.npy", "holds one image; a distance needs 2 or more")
    np.save(tmp_path / "none.npy", images[:0])
    one_line(tmp_path / "none.npy", "holds no images; a distance needs 2 or more")


def test_a_path_that_is_not_there_names_the_nearest(folder):
    one_line(folder.parent / "genrated", f"does not exist. Did you mean {folder}?", ".npz of uint8")
    one_line(folder / "no" / "such", "does not exist. Give a folder")


def test_cut_encrypted_and_false_zips_are_told_apart(folder, tmp_path):
    path = zip_of(folder, tmp_path / "whole.zip")
    content = path.read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[:-100])
    one_line(tmp_path / "cut.zip", "is a .zip that is cut or damaged at its end. Give a folder")
    (tmp_path / "notes.txt").write_text("x")
    one_line(tmp_path / "notes.txt", "is of an unknown kind. Give a folder")
    locked = bytearray(content)
    locked[locked.index(b"PK\x01\x02") + 8] |= 1  # bit 0 of a member's flags: encrypted
    (tmp_path / "locked.zip").write_bytes(locked)
    one_line(tmp_path / "locked.zip", "000.png", "can't be unpacked", "encrypted")
    altered = bytearray(content)
    altered[content.index(b"IDAT") + 8] ^= 1  # the zip's own checksum finds it
    (tmp_path / "altered.zip").write_bytes(altered)
    one_line(tmp_path / "altered.zip", "000.png", "can't be unpacked (Bad CRC-32")
    (tmp_path / "page.zip").write_text("<!DOCTYPE html>")
    one_line(tmp_path / "page.zip", "is a web page", "get it again. Give a folder")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(path, "whole.zip")
    one_line(tmp_path / "outer.zip", "holds another zip (whole.zip) and no images; unpack it")


BAD_ARRAYS = {
    "floats": (np.zeros((4, 8, 8, 3)), "holds float64 (4, 8, 8, 3); give uint8 (N, H, W, 3)"),
    "channels first": (np.zeros((4, 3, 8, 8), np.uint8), "uint8 (4, 3, 8, 8); give uint8"),
    "grey": (np.zeros((4, 8, 8), np.uint8), "uint8 (4, 8, 8); give uint8"),
    "no pixels": (np.zeros((4, 0, 8, 3), np.uint8), "uint8 (4, 0, 8, 3); give uint8"),
    "objects": (np.array([{}, {}]), "can't be read as an array"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_arrays_of_another_type_or_shape_are_refused(tmp_path, kind):
    array, message = BAD_ARRAYS[kind]
    np.save(tmp_path / "a.npy", array)
    one_line(tmp_path / "a.npy", str(tmp_path / "a.npy"), message)


def test_damaged_arrays_are_refused(tmp_path, images):
    path = tmp_path / "a.npy"
    np.save(path, images)
    path.write_bytes(path.read_bytes()[:-10])
    one_line(path, "can't be read as an array")
    path.write_bytes(b"")
    one_line(path, "can't be read as an array")
    np.savez(tmp_path / "a.npz", images)
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-10])
    one_line(tmp_path / "a.npz", "can't be read as an array")


def test_an_npz_must_hold_one_array_of_images(tmp_path, images):
    np.savez(tmp_path / "two.npz", a=images, b=images)
    one_line(tmp_path / "two.npz", "holds a (7, 8, 8, 3), b (7, 8, 8, 3); give one array")
    np.savez(tmp_path / "none.npz", labels=np.arange(3))
    one_line(tmp_path / "none.npz", "holds labels (3,); give one array of images")


def test_arrays_of_a_prepared_data_set_carry_its_manifest(avatars):
    source = open_images(avatars.folder / "train.npy")
    assert source.manifest == avatars.manifest_id
    assert np.array_equal(all_of(source, 64)[0], avatars.train)
    one_line(avatars.folder, "is a prepared data set; give the train.npy or held_out.npy in it")


def test_samples_carry_the_manifest_that_stands_beside_them(tmp_path, images):
    path = tmp_path / "samples.npy"
    np.save(path, images)
    assert open_images(path).manifest is None
    beside = tmp_path / "samples.npy.json"
    beside.write_text(json.dumps({"manifest": "0123456789ab"}))
    assert open_images(path).manifest == "0123456789ab"
    for content in ("{", "{}", "[]"):
        beside.write_text(content)
        one_line(path, "samples.npy.json: ", "; delete it, or draw")
