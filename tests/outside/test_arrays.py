"""Arrays of a stranger: data or one line, whatever the bytes; what is declared is bounded."""

import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindiffusion.errors import UserError
from mindiffusion.outside import arrays
from mindiffusion.outside.arrays import Wanted, describe_npz, map_npy, open_npz_array, read_npz

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
LABELS = np.arange(5, dtype=np.int16)
WANTED = {"images": Wanted("|u1", (None, 4, 4, 3)), "labels": Wanted("<i2", (5,))}
PLENTY = 1 << 20


def header(text, version=1):
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text


def entries(descr="'|u1'", order="False", shape="(2, 2)"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()


def npz(path, pack=np.savez, **content):
    pack(path, **content)
    return path


@pytest.fixture
def small(tmp_path):
    return npz(tmp_path / "a.npz", images=IMAGES, labels=LABELS)


def refused(action, *parts):
    with pytest.raises(UserError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message and len(message) <= 600
    for part in parts:
        assert part in message, message


# -- .npy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">f4", "f8", "?", "c16"])
@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (2, 3, 4)])
def test_what_numpy_writes_is_mapped_read_only(tmp_path, dtype, shape):
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    found = map_npy(tmp_path / "a.npy")
    assert found.dtype == array.dtype and np.array_equal(found, array)
    if shape == (3,):
        assert isinstance(found, np.memmap) and not found.flags.writeable


def test_columns_first_and_newer_headers_are_read(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "f.npy", np.asfortranarray(array))
    assert np.array_equal(map_npy(tmp_path / "f.npy"), array)
    for version in (1, 2, 3):
        text = b"{'shape':(2,2),'descr':'|u1','fortran_order':False}"
        (tmp_path / "a.npy").write_bytes(header(text, version) + bytes(range(4)))
        assert map_npy(tmp_path / "a.npy").tolist() == [[0, 1], [2, 3]]


HEADERS = {
    "objects": (entries("'|O'"), "only plain numbers"),
    "a structure": (entries("[('a', '<i4')]"), "no header of an array"),
    "code": (entries("__import__('os')"), "no header of an array"),
    "deep": (b"{'descr': " + b"[" * 4000, "no header of an array"),
    "huge": (entries(shape="(4000000000, 4000000000)"), "more than any array has"),
    "a huge empty one": (entries(shape="(0, " + "9" * 30 + ")"), "more than any array has"),
    "digits": (entries(shape="(" + "9" * 6000 + ",)"), "can't be read"),
    "many dimensions": (entries(shape="(" + "1," * 40 + ")"), "more than any array has"),
    "negative": (entries(shape="(-2, -2)"), "no header of an array"),
    "long": (entries() + b" " * 20_000, "at most 10,000"),
    "more than there is": (entries(shape="(2, 3)"), "bytes, but uint8 (2, 3) takes"),
    "less than there is": (entries(shape="(2, 1)"), "bytes, but uint8 (2, 1) takes"),
    "twice": (entries()[:-3] + b" 'descr': '|u1', }", "no header of an array"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_declare_anything_else_are_refused(tmp_path, name):
    text, message = HEADERS[name]
    (tmp_path / "a.npy").write_bytes(header(text) + bytes(4))
    refused(lambda: map_npy(tmp_path / "a.npy"), "a.npy", message)


def test_what_is_declared_is_compared_before_it_is_allocated(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "memmap", None)
    monkeypatch.setattr(np, "empty", None)
    (tmp_path / "a.npy").write_bytes(header(entries(shape="(99999999999,)")) + bytes(4))
    refused(lambda: map_npy(tmp_path / "a.npy"), "takes 100000000")


# -- .npz ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [np.savez, np.savez_compressed])
def test_an_npz_is_described_opened_and_read(tmp_path, pack):
    images = np.asfortranarray(IMAGES)
    path = npz(tmp_path / "a.npz", pack, images=images, labels=LABELS, names=np.array(["a"]))
    described = describe_npz(path)
    assert described["names"] is None
    assert (described["images"].dtype, described["images"].shape) == (np.uint8, IMAGES.shape)
    opened = open_npz_array(path, "images")
    assert np.array_equal(opened, IMAGES) and opened.dtype == np.uint8
    found = read_npz(path, WANTED, PLENTY)
    assert np.array_equal(found["images"], IMAGES) and np.array_equal(found["labels"], LABELS)
    assert found["labels"].flags.writeable


@pytest.mark.parametrize("pack", [np.savez, np.savez_compressed])
def test_an_opened_array_is_not_in_memory(tmp_path, pack):
    array = open_npz_array(npz(tmp_path / "a.npz", pack, images=IMAGES), "images")
    while array.base is not None and not isinstance(array, np.memmap):
        array = array.base
    assert isinstance(array, np.memmap)


def test_an_array_in_memory_is_the_one_that_is_wanted_and_no_larger(small):
    for wanted, message in (
        (Wanted("<f8", (5,)), "labels is int16 (5,), not float64 (5,)"),
        (Wanted("<i2", (6,)), "labels is int16 (5,), not int16 (6,)"),
        (Wanted("<i2", (5, None)), "labels is int16 (5,), not int16 (5, None)"),
    ):
        refused(lambda wanted=wanted: read_npz(small, {"labels": wanted}, PLENTY), message)
    refused(lambda: read_npz(small, {"more": Wanted("<i2", (5,))}, PLENTY), "no array more")
    refused(lambda: read_npz(small, WANTED, IMAGES.nbytes + 9), "too large")
    assert read_npz(small, WANTED, IMAGES.nbytes + 10)


def test_alike_images_are_unpacked_and_a_bomb_is_not(tmp_path, monkeypatch):
    alike = np.zeros((1 << 14, 32, 32, 3), np.uint8)
    path = npz(tmp_path / "alike.npz", np.savez_compressed, images=alike)
    assert path.stat().st_size < alike.nbytes / 900
    assert open_npz_array(path, "images").shape == alike.shape
    monkeypatch.setattr(arrays, "BOMB_BYTES", 32 << 20)
    monkeypatch.setattr(arrays, "_fill", None)
    refused(lambda: open_npz_array(path, "images"), "unpacks from", "to 50,331,776 bytes")


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_is_as_large_as_its_header_declares(tmp_path, packing):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("images.npy", header(entries(shape="(99999999999,)")) + bytes(4))
    refused(lambda: open_npz_array(path, "images"), "images.npy has ", "takes 100000000")
    refused(lambda: read_npz(path, {"images": Wanted("|u1", (None,))}, 1 << 60), "takes 1000000")


def test_no_room_to_unpack_is_said_before(tmp_path, monkeypatch):
    path = npz(tmp_path / "a.npz", np.savez_compressed, images=IMAGES)
    usage = arrays.shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(arrays.shutil, "disk_usage", lambda folder: usage)
    refused(lambda: open_npz_array(path, "images"), "has 10 left", "TMPDIR")


def test_many_members_and_twin_names_are_refused(tmp_path):
    path = npz(tmp_path / "many.npz", **{f"a{k}": np.zeros(1) for k in range(1001)})
    refused(lambda: describe_npz(path), "archive of 1,001 members; at most 1,000")
    with zipfile.ZipFile(tmp_path / "twins.npz", "w") as archive, pytest.warns(UserWarning):
        for _ in range(2):
            archive.writestr("images.npy", b"x")
    refused(lambda: describe_npz(tmp_path / "twins.npz"), "twice")


def test_a_flipped_pixel_is_found_by_the_zips_checksum(small):
    content = bytearray(small.read_bytes())
    content[content.index(IMAGES.tobytes()) + 7] ^= 1
    small.write_bytes(content)
    refused(lambda: open_npz_array(small, "images"), "can't be read as an array")
    refused(lambda: read_npz(small, WANTED, PLENTY), "can't be read as an array")


# -- whatever the bytes --------------------------------------------------------------------------


def _bytes_of(save):
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


WHOLE = {
    "npy": _bytes_of(lambda stream: np.save(stream, IMAGES)),
    "npz": _bytes_of(lambda stream: np.savez(stream, images=IMAGES, labels=LABELS)),
    "packed": _bytes_of(lambda s: np.savez_compressed(s, images=IMAGES, labels=LABELS)),
}
put = st.sampled_from([b"", b"\0", b"\xff\xff\xff\xff", b"9", b"(", b"PK"])
edits = st.lists(st.tuples(st.floats(0, 1), put, st.integers(0, 3)), max_size=3)


def mutated(whole, edits, cut):
    content = whole
    for place, put, drop in edits:
        at = int(place * len(content))
        content = content[:at] + put + content[at + drop :]
    return content[: int(cut * len(content))]


@pytest.mark.parametrize("kind", WHOLE)
@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=edits, cut=st.sampled_from([1.0, 1.0, 1.0, 0.9, 0.3]))
def test_mutated_bytes_give_an_array_or_one_line(kind, tmp_path, edits, cut):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(mutated(WHOLE[kind], edits, cut))
    readers = [map_npy] if kind == "npy" else [
        describe_npz, lambda p: open_npz_array(p, "images"), lambda p: read_npz(p, WANTED, PLENTY)
    ]  # fmt: skip
    for read in readers:
        try:
            found = read(path)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert found is not None
