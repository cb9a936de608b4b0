"""What xz has compressed: whole, cut, damaged, and of a size that nobody packs."""

import lzma
import random

import pytest

from mindiffusion.errors import UserError
from mindiffusion.outside import compressed
from mindiffusion.outside.compressed import open_xz

NOISE = random.Random(0).randbytes(200_000)


def unpacked(path):
    with open_xz(path) as handle:
        return handle.read()


@pytest.mark.parametrize("content", [b"", b"a\nb\n", NOISE, b"line\n" * 100_000])
def test_what_is_whole_is_read_in_pieces(tmp_path, content):
    path = tmp_path / "x.xz"
    path.write_bytes(lzma.compress(content))
    assert unpacked(path) == content
    with open_xz(path) as handle:
        assert handle.readline(1000) + handle.read() == content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda whole: b"", "is cut"),
        (lambda whole: whole[:-1], "is cut"),
        (lambda whole: whole[:100_000], "is cut"),
        (lambda whole: b"rows" + whole, "is damaged"),
        (lambda whole: whole[:100_000] + b"\0" * 10 + whole[100_010:], "is damaged"),
        (lambda whole: whole + b"x", "more than one stream"),
        (lambda whole: whole + whole, "more than one stream"),
    ],
)
def test_what_is_not_whole_is_one_line(tmp_path, change, message):
    path = tmp_path / "x.xz"
    path.write_bytes(change(lzma.compress(NOISE)))
    with pytest.raises(UserError, match=message) as caught:
        unpacked(path)
    assert str(path) in str(caught.value) and str(caught.value).isprintable()


def test_a_bomb_is_given_up_early(tmp_path, monkeypatch):
    path = tmp_path / "x.xz"
    monkeypatch.setattr(compressed, "BOMB_BYTES", 1 << 20)
    path.write_bytes(lzma.compress(bytes(1 << 24), preset=0))
    read = 0
    with pytest.raises(UserError, match="unpacks to more than 1,048,576 bytes"), open_xz(path) as f:
        while piece := f.read(1 << 16):
            read += len(piece)
    assert read <= 1 << 20


def test_a_file_whose_decoder_needs_much_memory_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.xz"
    path.write_bytes(lzma.compress(b"x"))
    monkeypatch.setattr(compressed, "_MOST_MEMORY", 1 << 20)
    with pytest.raises(UserError, match="is damaged"):
        unpacked(path)


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "x.xz").write_bytes(lzma.compress(b"x"))
    (tmp_path / "link.xz").symlink_to(tmp_path / "x.xz")
    with pytest.raises(UserError, match="is a link"):
        open_xz(tmp_path / "link.xz")
