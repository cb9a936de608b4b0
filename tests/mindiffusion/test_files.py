import errno
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.files import (
    atomic_write,
    exclusive_lock,
    remove_temporaries,
    sha256_of_file,
    sha256_of_json,
    write_json,
    write_text,
)

HOLD_LOCK = """
import sys, time
from pathlib import Path
from mindiffusion.files import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other_process(tmp_path):
    """Another process that holds the lock of tmp_path/lock."""
    command = [sys.executable, "-c", HOLD_LOCK, str(tmp_path / "lock")]
    repository = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repository) as process:
        assert process.stdout.readline().strip() == "held"
        yield process
        process.kill()


def test_atomic_write_replaces_the_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "new" / "file.bin"
    for content in (b"one", b"two"):
        with atomic_write(path) as handle:
            handle.write(content)
        assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()], ids=repr)
def test_atomic_write_keeps_the_old_file_when_the_writer_fails(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_write(path) as handle:
        handle.write(b"half of the ne")
        assert path.read_bytes() == b"old"
        raise error
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_atomic_write_keeps_the_old_file_when_the_disk_is_full(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # The kernel may report a full disk as late as at fsync.
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as handle:
        handle.write(b"new")
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_atomic_write_on_a_truly_full_device_raises_and_cleans_up(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    real = os.fdopen

    def fdopen(descriptor, mode):
        os.close(descriptor)
        return real(os.open("/dev/full", os.O_WRONLY), mode)

    monkeypatch.setattr(os, "fdopen", fdopen)
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as handle:
        handle.write(b"new")
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_write_text_and_json_round_trip(tmp_path):
    write_text(tmp_path / "t", "σ = .0148\n")
    assert (tmp_path / "t").read_text(encoding="utf-8") == "σ = .0148\n"
    value = {"b": [1, 2.5, None], "a": {"λ": True}}
    write_json(tmp_path / "j", value)
    text = (tmp_path / "j").read_text(encoding="utf-8")
    assert json.loads(text) == value and text.endswith("}\n")


def test_sha256_of_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    # The example of FIPS 180-2.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of_file(tmp_path / "f") == expected


def test_sha256_of_json_is_canonical():
    assert sha256_of_json({"a": 1, "b": {"c": [1], "d": 2}}) == sha256_of_json(
        {"b": {"d": 2, "c": [1]}, "a": 1}
    )
    different = [{"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": [1]}, {"b": 1}, [1, 2], [2, 1]]
    assert len({sha256_of_json(value) for value in different}) == len(different)


def test_exclusive_lock_refuses_a_second_process_in_one_line(tmp_path, other_process):
    with pytest.raises(UserError, match="in use by another process; wait") as error:
        exclusive_lock(tmp_path / "lock").__enter__()
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_exclusive_lock_is_free_after_a_kill(tmp_path, other_process):
    other_process.kill()
    other_process.wait()
    with exclusive_lock(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()


def test_exclusive_lock_waits_as_long_as_asked(tmp_path, other_process):
    start = time.monotonic()
    with pytest.raises(UserError):
        exclusive_lock(tmp_path / "lock", wait_seconds=0.3).__enter__()
    assert 0.3 <= time.monotonic() - start < 5


def test_exclusive_lock_is_freed_when_its_block_ends_or_fails(tmp_path):
    with pytest.raises(RuntimeError), exclusive_lock(tmp_path / "lock"):
        raise RuntimeError
    with exclusive_lock(tmp_path / "lock"), pytest.raises(UserError):
        exclusive_lock(tmp_path / "lock").__enter__()


def test_did_you_mean_names_the_near_one_or_all():
    assert did_you_mean("trainig", ["training", "data"]) == " Did you mean 'training'?"
    assert did_you_mean("zzz", ["training", "data"]) == " Allowed: data, training."


def test_atomic_write_names_its_file_when_the_disk_is_full(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        write_text(tmp_path / "big", "x")
    assert error.value.filename == str(tmp_path / "big")


def test_atomic_write_syncs_the_file_before_and_its_folder_after_the_rename(tmp_path, monkeypatch):
    path = tmp_path / "file"
    synced = []

    def note(descriptor):
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))

    monkeypatch.setattr(os, "fsync", note)
    write_text(path, "x")
    assert synced == [(False, False), (True, True)]


def test_atomic_write_sweeps_what_a_killed_writer_left_and_no_living_ones_file(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from mindiffusion.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as handle:\n"
        "    print('open', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "f")]
    writers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        for _ in range(2)
    ]
    assert [writer.stdout.readline() for writer in writers] == ["open\n"] * 2
    writers[0].kill()
    writers[0].wait()
    assert len(list(tmp_path.iterdir())) == 2
    write_text(tmp_path / "f", "new")
    assert len(list(tmp_path.glob(".f.*"))) == 1
    writers[1].kill()
    writers[1].wait()
    write_text(tmp_path / "other", "no sweep of f")
    assert len(list(tmp_path.glob(".f.*"))) == 1
    write_text(tmp_path / "f", "newer")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "other"]
    for writer in writers:
        writer.stdout.close()


def test_remove_temporaries_takes_only_what_killed_writers_left(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from mindiffusion.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as handle:\n"
        "    handle.write(b'half'); handle.flush(); os._exit(9)"
    )
    repository = Path(__file__).parents[2]
    for name in ("ckpt-7.pt", "rows.jsonl"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], cwd=repository)
    left = [path.name for path in tmp_path.iterdir()]
    assert sorted(name.rsplit(".", 1)[0] for name in left) == [".ckpt-7.pt", ".rows.jsonl"]
    others = [".lock", ".ckpt-7.pt", ".ckpt-7.pt.orig", ".ckpt-7.pt.UPPER_12", "ckpt-7.pt.abcdefgh"]
    for name in others:
        (tmp_path / name).touch()
    remove_temporaries(tmp_path, r"ckpt-\d+\.pt|config\.json")
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {*others, *(name for name in left if "rows" in name)}
    remove_temporaries(tmp_path / "nothing", "x")
