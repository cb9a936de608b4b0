"""Packed files: what is written is read again; anything else is one line, and stays inside."""

import gzip
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindiffusion.errors import UserError
from mindiffusion.outside import tars
from mindiffusion.outside.tars import add_files, members_of, read_files


def packed(folder, names):
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as archive:
        add_files(archive, folder, members_of(folder, names))
    return gzip.decompress(buffer.getvalue())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A tar of three files, one of them empty, one of more than a block."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "b").mkdir()
    for name, content in {"one": b"1", "b/two": b"2" * 2000, "b/empty": b""}.items():
        (folder / name).write_bytes(content)
    return packed(folder, ["one", "b/two", "b/empty"])


def test_files_come_back_as_they_were(whole, tmp_path):
    names = read_files(io.BytesIO(whole), "packed", tmp_path, lambda name: True)
    assert names == ["b/empty", "b/two", "one"]
    assert [(tmp_path / name).read_bytes() for name in names] == [b"", b"2" * 2000, b"1"]


@given(st.data())
def test_any_damage_is_one_line_or_stays_inside(whole, tmp_path_factory, data):
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)) | st.none())
    base = tmp_path_factory.mktemp("damaged")
    (base / "target").mkdir()
    try:
        read_files(io.BytesIO(bytes(content[:cut])), "packed", base / "target", lambda name: True)
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 600
    assert [path.name for path in base.iterdir()] == ["target"]
    assert not any(path.is_symlink() for path in base.rglob("*"))


def test_a_declared_size_is_refused_before_it_is_read(tmp_path):
    header = tarfile.TarInfo("rows.jsonl")
    header.size = 1 << 37
    stream = io.BytesIO(header.tobuf(tarfile.GNU_FORMAT) + bytes(512))
    with pytest.raises(UserError, match="to pack or unpack"):
        read_files(stream, "packed", tmp_path, lambda name: True)
    assert not list(tmp_path.iterdir())


def test_what_is_added_is_a_file_inside_of_bounded_size(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"x" * 100)
    (tmp_path / "link").symlink_to("/etc/passwd")
    long = "/".join(["d" * 99] * 3)
    (tmp_path / long).mkdir(parents=True)
    (tmp_path / long / "x").touch()
    for name, message in {
        "none": "is missing", "../x": "names the file", "link": "is a link",
        f"{long}/x": "can't be packed",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=message):
            packed(tmp_path, [name])
    monkeypatch.setattr(tars, "MOST_BYTES", 99)
    with pytest.raises(UserError, match="to pack or unpack"):
        packed(tmp_path, ["file"])


def test_a_file_that_changes_while_it_is_packed_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 100)
    members = members_of(tmp_path, ["file"])
    (tmp_path / "file").write_bytes(b"x" * 99)
    with (
        gzip.GzipFile(fileobj=io.BytesIO(), mode="wb") as archive,
        pytest.raises(UserError, match="file has just changed"),
    ):
        add_files(archive, tmp_path, members)


def test_folders_in_folders_are_bounded_for_both(tmp_path):
    name = "/".join(["d"] * tars.MOST_PARTS) + "/x"
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).touch()
    with pytest.raises(UserError, match="lies too deep"):
        packed(tmp_path, [name])
    stream = io.BytesIO(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    with pytest.raises(UserError, match="lies too deep"):
        read_files(stream, "packed", tmp_path / "out", lambda name: True)
