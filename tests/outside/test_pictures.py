import io
import os
import random
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mindiffusion.outside import pictures
from mindiffusion.outside.pictures import (
    BadImage,
    look_at_picture,
    picture_bytes,
    read_picture,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
RGB = Image.fromarray(PIXELS)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *, depth=8, data=b"", behind=b""):
    """By hand: Pillow writes no such files."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + behind + chunk(b"IEND", b"")


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def refused(content, message, *extra):
    with pytest.raises(BadImage, match=message):
        read_picture(content, extra)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_plain_rgb_is_read_as_it_is(kind):
    found = read_picture(saved(RGB, kind))
    assert np.array_equal(np.asarray(found.image), PIXELS) and found.oddities == ()
    assert look_at_picture(saved(RGB, kind)) == ((6, 9), ())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_are_read_and_said(kind):
    content = saved(RGB, kind)
    found = read_picture(content)
    assert found.oddities == look_at_picture(content).oddities == ("lossy",)
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(np.asarray(found.image), np.asarray(image))


@pytest.mark.parametrize(
    ("mode", "oddities"),
    [
        ("L", ("grey",)),
        ("1", ("grey",)),
        ("LA", ("grey", "alpha")),
        ("P", ("palette",)),
        ("RGBA", ("alpha",)),
    ],
)
def test_grey_palette_and_opaque_alpha_become_rgb(mode, oddities):
    content = saved(RGB.convert(mode), "PNG")
    found = read_picture(content)
    assert found.image.mode == "RGB" and found.oddities == oddities
    assert np.array_equal(np.asarray(found.image), np.asarray(RGB.convert(mode).convert("RGB")))
    assert look_at_picture(content).oddities == oddities


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_turned(kind, orientation):
    content = saved(RGB, kind, exif=exif(orientation))
    with Image.open(io.BytesIO(content)) as image:
        stored = np.asarray(image)
    upright = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1],
        5: stored.swapaxes(0, 1), 6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).swapaxes(0, 1), 8: np.rot90(stored),
    }[orientation]  # fmt: skip
    found, look = read_picture(content), look_at_picture(content)
    assert np.array_equal(np.asarray(found.image), upright)
    assert look.size == upright.shape[:2] and look.oddities == found.oddities
    assert ("turned" in found.oddities) == (orientation > 1)


def test_orientation_behind_the_pixels_is_seen_too():
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in PIXELS))
    tags = exif(6).removeprefix(b"Exif\0\0")
    content = png(9, 6, data=rows, behind=chunk(b"eXIf", tags))
    assert read_picture(content).image.size == (6, 9)
    assert look_at_picture(content) == ((9, 6), ("turned",))


@pytest.mark.parametrize("tags", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x", exif(77)])
def test_damaged_or_senseless_exif_leaves_the_picture_as_it_is(tags):
    found = read_picture(saved(RGB, "JPEG", exif=tags))
    assert found.image.size == (9, 6) and found.oddities == ("lossy",)


def test_the_first_picture_of_a_phones_mpo_is_taken():
    content = saved(RGB, "MPO", save_all=True, append_images=[RGB.rotate(180)])
    found = read_picture(content)
    assert found.oddities == ("lossy",)
    assert np.array_equal(np.asarray(found.image), np.asarray(Image.open(io.BytesIO(content))))


def test_transparent_pixels_are_refused():
    image = RGB.convert("RGBA")
    image.putpixel((3, 3), (1, 2, 3, 254))
    for kind in ("PNG", "WEBP"):
        refused(saved(image, kind, **({"lossless": True} if kind == "WEBP" else {})), "transparent")
    key = tuple(PIXELS[0, 0].tolist())
    refused(saved(RGB, "PNG", transparency=key), "is transparent; lay it over")


def test_a_key_that_no_pixel_has_is_opaque():
    content = saved(Image.new("RGB", (4, 4), "red"), "PNG", transparency=(0, 0, 0))
    assert read_picture(content).oddities == ("alpha",)


def test_more_than_8_bits_and_other_colours_are_refused():
    wide = zlib.compress(b"".join(b"\0" + bytes(8 * 6) for _ in range(8)))
    refused(png(8, 8, depth=16, data=wide), "16 bits a channel; convert it to 8-bit RGB")
    grey = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    refused(saved(grey, "PNG"), "has mode I")
    refused(saved(RGB.convert("CMYK"), "JPEG"), "has mode CMYK; convert it to 8-bit RGB")


@pytest.mark.parametrize(("kind", "extra"), [("PNG", ()), ("WEBP", ()), ("GIF", ("gif",))])
def test_animations_are_refused(kind, extra):
    other = RGB.rotate(180)
    refused(saved(RGB, kind, save_all=True, append_images=[other]), "an animation", *extra)


def test_several_pages_are_refused():
    refused(saved(RGB, "TIFF", save_all=True, append_images=[RGB]), "several pictures", "tiff")


@pytest.mark.parametrize(("kind", "name"), [("TIFF", "tiff"), ("GIF", "gif"), ("AVIF", "avif")])
def test_other_formats_are_read_only_where_asked_for(kind, name):
    if not pictures.available(name):
        pytest.skip("not in this Pillow")
    content = saved(RGB, kind)
    refused(content, "can't be decoded")
    found = read_picture(content, (name,)).image
    assert (found.mode, found.size) == ("RGB", RGB.size)


def test_16_bit_and_turned_tiffs_follow_the_same_rule():
    if not pictures.available("tiff"):
        pytest.skip("not in this Pillow")
    grey = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    refused(saved(grey, "TIFF"), "has mode I", "tiff")
    assert read_picture(saved(RGB, "TIFF", exif=exif(6)), ("tiff",)).image.size == (6, 9)


@pytest.mark.parametrize("kind", ["EPS", "PPM", "TGA", "PCX", "SGI", "ICO"])
def test_no_other_decoder_is_ever_used(kind, monkeypatch):
    content = saved(RGB, kind)
    Image.init()
    used = []
    for name, (factory, accept) in list(Image.OPEN.items()):

        def watched(*words, name=name, factory=factory):  # fmt: skip
            used.append(name)
            return factory(*words)

        monkeypatch.setitem(Image.OPEN, name, (watched, accept))  # fmt: skip
    refused(content, "can't be decoded")
    assert not set(used) - {"PNG", "JPEG", "WEBP", "BMP"}


@pytest.mark.parametrize("size", [(8193, 8192), (13300, 13300), (60000, 60000)])
def test_too_many_pixels_are_refused_by_the_header_alone(size):
    refused(png(*size), r"has .* pixels; at most 67,108,864")
    with pytest.raises(BadImage, match="at most 67,108,864"):
        look_at_picture(png(*size))


def test_a_jpeg_of_very_many_scans_is_refused():
    content = saved(RGB, "JPEG", progressive=True)
    assert read_picture(content).image.size == (9, 6)
    start = content.index(b"\xff\xda")
    scan = content[start : content.index(b"\xff", start + 14)]
    refused(content[:start] + 80 * scan + content[start:], "very many scans")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_cut_files_are_refused(kind):
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise), kind)
    refused(content[: len(content) // 2], r"can't be decoded \(.*\); mend or remove it")


def test_a_wrong_checksum_of_a_png_is_found_on_both_roads():
    content = bytearray(saved(RGB, "PNG"))
    content[content.index(b"IDAT") + 12] ^= 1
    for road in (read_picture, look_at_picture):
        with pytest.raises(BadImage, match="can't be decoded"):
            road(bytes(content))


def test_no_warning_of_pillow_is_shown(tmp_path):
    """In a process of its own: pytest sets filters of its own."""
    (tmp_path / "large.png").write_bytes(png(13300, 13300))
    code = (
        "import sys; from mindiffusion.outside.pictures import *\n"
        "try: read_picture(open(sys.argv[1], 'rb').read())\n"
        "except BadImage as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "large.png")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "at most 67,108,864" in done.stdout and done.stderr == ""


def test_picture_bytes_reads_files_and_waits_for_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"content")
    (tmp_path / "link.png").symlink_to("a.png")
    assert picture_bytes(tmp_path / "link.png") == b"content"
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in (("pipe.png", "is no file"), ("gone.png", "can't be read .No such file")):
        with pytest.raises(BadImage, match=message):
            picture_bytes(tmp_path / name)
    monkeypatch.setattr(pictures, "MOST_BYTES", 6)
    with pytest.raises(BadImage, match="has 7 bytes; at most 6"):
        picture_bytes(path)


WHOLE = [
    saved(RGB, "PNG"),
    saved(RGB.convert("P"), "PNG", transparency=0),
    saved(RGB, "JPEG", exif=exif(6)),
    saved(RGB, "JPEG", progressive=True),
    saved(RGB, "WEBP"),
    saved(RGB, "BMP"),
]


def mutated(content, seed):
    """Some bytes changed, cut, or doubled; of a PNG the checksums mended half of the time."""
    rng, found = random.Random(seed), bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(found))
        match rng.randrange(4):
            case 0:
                found[place] = rng.randrange(256)
            case 1:
                found[place : place + 4] = rng.choice((b"\xff\xff\xff\xff", bytes(4)))
            case 2:
                found[place:place] = found[place : place + rng.randrange(40)]
            case 3:
                del found[place : place + rng.randrange(20)]
    return bytes(found)


@settings(max_examples=300, deadline=None, database=None)
@given(content=st.sampled_from(WHOLE), seed=st.integers(0, 2**32))
def test_mutated_bytes_give_a_picture_or_a_reason(content, seed):
    changed = mutated(content, seed)
    for road in (read_picture, look_at_picture):
        try:
            road(changed)
        except BadImage as error:
            assert str(error)


@settings(max_examples=100, deadline=None, database=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_give_a_picture_or_a_reason(content):
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF    WEBP", b"BM"):
        try:
            read_picture(start + content, tuple(pictures.EXTRA_FORMATS))
        except BadImage as error:
            assert str(error)


def test_a_film_behind_a_jpeg_is_no_scan_of_it():
    """As phones write motion photos."""
    content = saved(RGB, "JPEG")
    film = bytes(range(256)) * 64 + b"\xff\xda" * 5000
    assert read_picture(content + film).image.tobytes() == read_picture(content).image.tobytes()
