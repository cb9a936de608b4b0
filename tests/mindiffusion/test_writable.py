import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from mindiffusion import writable
from mindiffusion.errors import UserError
from mindiffusion.places import CACHE, DATA, cache_root, data_root
from mindiffusion.writable import check_room, gigabytes, try_file, try_folder

Usage = namedtuple("Usage", "total used free")


def test_trying_leaves_nothing_and_spares_what_is_there(tmp_path):
    (tmp_path / "kept.json").write_text("mine")
    try_file(tmp_path / "kept.json")
    try_file(tmp_path / "new" / "deep" / "x.json")
    try_folder(tmp_path / "new" / "deep")
    try_folder(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["kept.json"]
    assert (tmp_path / "kept.json").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "number"),
    [("taken/x.json", errno.ENOTDIR), ("e" * 300, errno.ENAMETOOLONG), ("/proc/x", errno.ENOENT),
     ("e" * 300 + "/x", errno.ENAMETOOLONG)],
)  # fmt: skip
@pytest.mark.parametrize("attempt", [try_file, try_folder])
def test_place_that_cannot_be_written_to_is_named(attempt, name, number, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError) as error:
        attempt(tmp_path / name)
    assert (error.value.errno, error.value.filename) == (number, str(tmp_path / name))


def test_a_pipe_and_a_device_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(UserError, match=f"{path.name} is a pipe or a device"):
            try_file(path)


def test_folder_is_no_file_and_a_file_no_folder(tmp_path):
    with pytest.raises(UserError, match="is a folder; name a file"):
        try_file(tmp_path)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(NotADirectoryError):
        try_folder(tmp_path / "taken")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        try_file(tmp_path / "x.json")


def test_disk_without_room_is_said_before_the_work(tmp_path, monkeypatch):
    asked: list[Path] = []
    monkeypatch.setattr(
        writable.shutil,
        "disk_usage",
        lambda path: asked.append(path) or Usage(10**12, 0, 2 * 10**9),
    )
    check_room(tmp_path / "out" / "seed0", 2 * 10**9, "checkpoints", "free some.")
    with pytest.raises(UserError, match=r"^checkpoints need about 3 GB in .*has 2 GB left; free"):
        check_room(tmp_path / "out" / "seed0", 3 * 10**9, "checkpoints", "free some.")
    assert asked == [tmp_path, tmp_path]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 0))
    check_room(tmp_path, 3 * 10**9, "checkpoints", "free some.")


def test_gigabytes():
    assert (gigabytes(123_456_789), gigabytes(99_000_000)) == ("0.123 GB", "99 MB")


def test_data_and_cache_go_where_variables_say(monkeypatch, tmp_path):
    for variable, where, usual in ((DATA, data_root, "data"), (CACHE, cache_root, ".cache")):
        monkeypatch.delenv(variable, raising=False)
        assert where() == Path(usual)
        monkeypatch.setenv(variable, str(tmp_path))
        assert where() == tmp_path
        monkeypatch.setenv(variable, "~nobody-here/x")
        assert where() == Path("~nobody-here/x")
