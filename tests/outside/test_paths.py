"""Where a stranger's file may lie, and that it is one."""

import os
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindiffusion.errors import UserError
from mindiffusion.outside import paths
from mindiffusion.outside.paths import (
    inside,
    is_file,
    open_file,
    open_to_change,
    read_file,
    refuse_links,
)


@pytest.mark.parametrize(
    "name", ["a", "a/b.png", "a/b/c/d", "density*/x.png", "..a/b..", "é/ü.png"]
)
def test_a_name_inside_is_taken(tmp_path, name):
    assert inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        "x\0y",
        "a\nb",
        "a\x1b[2J",
        "a" * 1025,
    ],
    ids=ascii,
)
def test_a_name_that_leads_out_is_refused_in_one_line(tmp_path, name):
    with pytest.raises(UserError, match="names the file") as caught:
        inside(tmp_path, name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


@given(
    st.text(max_size=40) | st.lists(st.sampled_from(["..", ".", "a", "", "/", "~"])).map("/".join)
)
def test_whatever_is_taken_lies_inside(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp() / "folder"
    try:
        path = inside(folder, name)
    except UserError:
        return
    assert os.path.normpath(path) != str(folder) or name in (".", "./")
    assert os.path.normpath(path).startswith(str(folder))


@pytest.mark.parametrize("name", ["link", "link/x.png", "real/link", "real/link/x"])
def test_a_link_on_the_way_is_refused(tmp_path, name):
    (tmp_path / "out").mkdir()
    study = tmp_path / "study"
    (study / "real").mkdir(parents=True)
    for link in (study / "link", study / "real" / "link"):
        link.symlink_to(tmp_path / "out")
    with pytest.raises(UserError, match="is a link"):
        inside(study, name)
    # The folder itself may be reached by a link: a person named it.
    (tmp_path / "named").symlink_to(study)
    assert inside(tmp_path / "named", "real/x") == tmp_path / "named" / "real" / "x"


@pytest.mark.parametrize("place", [".", "b", "b/seed0/deep/er"])
@pytest.mark.parametrize("target", ["a file", "a folder", "nothing"])
def test_links_are_found_wherever_they_are(tmp_path, place, target):
    aim = tmp_path / "aim"
    if target == "a file":
        aim.touch()
    elif target == "a folder":
        aim.mkdir()
    folder = tmp_path / "study" / place
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").touch()
    refuse_links(tmp_path / "study")
    (folder / "link").symlink_to(aim)
    with pytest.raises(UserError, match="link is a link; results and runs hold none"):
        refuse_links(tmp_path / "study")


def test_links_are_looked_for_within_bounds_and_in_what_is_no_folder(tmp_path, monkeypatch):
    refuse_links(tmp_path / "nothing")
    (tmp_path / "file").touch()
    refuse_links(tmp_path / "file")
    (tmp_path / ".cache").symlink_to(tmp_path)
    refuse_links(tmp_path)
    monkeypatch.setattr(paths, "MOST_ENTRIES", 3)
    for number in range(4):
        (tmp_path / str(number)).touch()
    with pytest.raises(UserError, match="more than 3 files"):
        refuse_links(tmp_path)


@pytest.fixture
def no_files(tmp_path):
    """What is no file, by what it is called in a message."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "target").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    own = socket.socket(socket.AF_UNIX)
    own.bind(str(tmp_path / "socket"))
    yield {name: tmp_path / name for name in ("pipe", "folder", "link", "socket")}
    own.close()


def test_what_is_no_file_is_neither_read_nor_written_nor_waited_for(no_files, tmp_path):
    for kind, path in no_files.items():
        for action in (
            open_file,
            lambda p: read_file(p, 10),
            lambda p: open_to_change(p, os.O_RDWR),
        ):
            failed = []

            def attempt(action=action, path=path, kind=kind, failed=failed):
                with pytest.raises(UserError, match=f"is a {kind}, not a file"):
                    action(path)
                failed.append(True)

            thread = threading.Thread(target=attempt, daemon=True)
            thread.start()
            thread.join(10)
            assert failed, (kind, action)
        assert not is_file(path)
    with pytest.raises(UserError, match="a device"):
        read_file(tmp_path.__class__("/dev/zero"), 10)
    assert (tmp_path / "target").read_text() == "precious"
    assert read_file(no_files["link"], 10, follow=True) == b"precious"


def test_a_file_is_read_up_to_its_bound(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345" and is_file(path)
    with pytest.raises(UserError, match="more than 4 bytes"):
        read_file(path, 4)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none", 5)


def test_a_file_to_change_is_made_with_the_users_umask_and_never_emptied(tmp_path):
    old = os.umask(0o077)
    try:
        descriptor = open_to_change(tmp_path / "lock", os.O_RDWR)
    finally:
        os.umask(old)
    os.write(descriptor, b"kept")
    os.close(descriptor)
    os.close(open_to_change(tmp_path / "lock", os.O_RDWR))
    assert (tmp_path / "lock").read_bytes() == b"kept"
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
