import io
import os
import random
import struct
import warnings
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindiffusion.errors import UserError
from mindiffusion.outside import zips
from mindiffusion.outside.pictures import BadImage
from mindiffusion.outside.zips import is_zip, kind_of, members, open_zip, read_member


def packed(path, contents, packing=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", packing) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that stand there twice
        for name, content in contents:
            archive.writestr(name, content)
    return path


def refused(path, message):
    with pytest.raises(UserError, match=message):
        open_zip(path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_read_by_name(tmp_path, packing):
    path = packed(tmp_path / "a.zip", [("b/", b""), ("b/x", b"content"), ("c", b"")], packing)
    with open_zip(path) as archive:
        assert [info.filename for info in members(archive)] == ["b/x", "c"]
        assert (read_member(archive, "b/x"), read_member(archive, "c")) == (b"content", b"")
        with pytest.raises(BadImage, match="not in the zip"):
            read_member(archive, "d")


def test_a_zip_with_a_comment_or_something_before_it_is_read(tmp_path):
    path = packed(tmp_path / "a.zip", [("x", b"content")])
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"made by hand"
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    with open_zip(path) as archive:
        assert read_member(archive, "x") == b"content"


@pytest.mark.parametrize("name", ["/etc/x.png", "../x.png", "a/../../x.png"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    refused(packed(tmp_path / "a.zip", [(name, b"")]), "a name that leads out of it; pack it again")


@pytest.mark.parametrize("ending", [".png", "/"])
def test_names_longer_than_any_path_are_refused(tmp_path, ending):
    longest = "a" * (4096 - len(ending)) + ending
    open_zip(packed(tmp_path / "a.zip", [(longest, b"")])).close()
    refused(
        packed(tmp_path / "b.zip", [("x.png", b""), ("b" + longest, b"")]),
        "b.zip holds a name of 4,097 characters; allowed are 4,096: pack it again with shorter",
    )


def test_a_name_that_stands_there_twice_is_refused(tmp_path):
    path = packed(tmp_path / "a.zip", [("x.png", b"1"), ("x.png", b"2")])
    refused(path, "holds 'x.png' twice; pack it again with each name once")


def test_too_many_members_are_refused_before_they_are_read(tmp_path, monkeypatch):
    path = packed(tmp_path / "a.zip", [(str(k), b"") for k in range(12)])
    monkeypatch.setattr(zips, "MOST_MEMBERS", 12)
    open_zip(path).close()
    monkeypatch.setattr(zips, "MOST_MEMBERS", 11)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    refused(path, "of at most 11 members are read; split it")
    monkeypatch.setattr(zips, "MOST_DIRECTORY_BYTES", 100)
    refused(path, "split it")


def entry(path, offset, value):
    """Overwrite bytes of the directory's first entry."""
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\1\2") + offset
    content[start : start + len(value)] = value
    path.write_bytes(content)


def test_a_member_that_declares_too_much_is_refused_before_it_is_unpacked(tmp_path):
    path = packed(tmp_path / "a.zip", [("x", bytes(20 << 20))])
    with open_zip(path) as archive, pytest.raises(BadImage, match=r"to 20,971,520 bytes, which no"):
        read_member(archive, "x")


def test_a_member_is_never_unpacked_beyond_what_it_declares(tmp_path, monkeypatch):
    """10 MB are packed, 100 bytes declared."""
    path = packed(tmp_path / "a.zip", [("x", bytes(10 << 20))])
    entry(path, 24, struct.pack("<L", 100))
    longest = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self, *words):
            self._inner = real(*words)

        def decompress(self, data, most):
            found = self._inner.decompress(data, most)
            longest.append(len(found))
            return found

        def __getattr__(self, name):
            return getattr(self._inner, name)

    monkeypatch.setattr(zipfile.zlib, "decompressobj", Watched)
    with open_zip(path) as archive, pytest.raises(BadImage, match="can't be unpacked"):
        read_member(archive, "x")
    assert longest and max(longest) <= 4096


def test_members_that_share_their_bytes_are_refused(tmp_path):
    """As in the zips that unpack to far more than they are."""
    path = packed(tmp_path / "a.zip", [("x", os.urandom(1000)), ("y", b"")])
    content = bytearray(path.read_bytes())
    second = content.index(b"PK\1\2", content.index(b"PK\1\2") + 4)
    content[second + 20 : second + 24] = struct.pack("<L", 1000)
    path.write_bytes(content)
    refused(path, "damaged .zip .its members are larger than it")


def test_encrypted_and_strangely_packed_members_say_what_to_do(tmp_path):
    path = packed(tmp_path / "a.zip", [("x", b"content")])
    entry(path, 8, b"\1")
    with open_zip(path) as archive, pytest.raises(BadImage, match=r"is encrypted.; pack it again"):
        read_member(archive, "x")
    path = packed(tmp_path / "b.zip", [("x", b"content")], zipfile.ZIP_LZMA)
    with open_zip(path) as archive, pytest.raises(BadImage, match=r"by method 14.; pack it"):
        read_member(archive, "x")


def test_damage_is_found(tmp_path):
    whole = packed(tmp_path / "a.zip", [("x", b"content" * 30)]).read_bytes()
    altered = bytearray(whole)
    altered[40] ^= 1
    (tmp_path / "altered.zip").write_bytes(altered)
    with open_zip(tmp_path / "altered.zip") as archive, pytest.raises(BadImage, match="unpacked"):
        read_member(archive, "x")
    (tmp_path / "cut.zip").write_bytes(whole[:-10])
    assert not is_zip(tmp_path / "cut.zip")
    refused(tmp_path / "cut.zip", "is a .zip that is cut or damaged at its end")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\n<!DOCTYPE html><html>", "a web page: the download asked for a login"),
        (b"\x1f\x8b\x08", "packed by gzip"),
        (b"Rar!\x1a\x07", "a .rar"),
        (b"", "an empty file"),
        (b"text", "no whole .zip"),
    ],
)
def test_what_is_no_zip_is_named(tmp_path, content, kind):
    path = tmp_path / "faces.zip"
    path.write_bytes(content)
    assert kind in kind_of(path) and not is_zip(path)
    refused(path, f"faces.zip is {kind}")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.zip")
    assert not is_zip(tmp_path / "a.zip")
    refused(tmp_path / "a.zip", "is a pipe")


@settings(max_examples=150, deadline=None, database=None)
@given(seed=st.integers(0, 2**32))
def test_mutated_zips_give_members_or_a_reason(tmp_path_factory, seed):
    rng, buffer = random.Random(seed), io.BytesIO()
    packed(buffer, [("a/x.png", b"content" * 9), ("y.png", b"")], rng.choice((0, 8)))
    content = bytearray(buffer.getvalue())
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(content))
        content[place] = rng.choice((0, 255, rng.randrange(256)))
        if rng.random() < 0.2:
            del content[place : place + rng.randrange(30)]
    path = tmp_path_factory.getbasetemp() / "mutated.zip"
    path.write_bytes(content)
    try:
        with open_zip(path) as archive:
            for info in members(archive):
                read_member(archive, info.filename)
    except (UserError, BadImage) as error:
        assert str(error)
