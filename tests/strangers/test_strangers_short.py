"""A few strange files of each kind; ``make torture`` tries thousands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
CATCH = """
import sys; sys.path[:0] = [{folder!r}, {root!r}]
import os, tempfile, subprocess, time
from pathlib import Path
import watch
base = Path(tempfile.mkdtemp(dir={place!r}))
for name in ("work", "private"):
    (base / name).mkdir()
(base / "private" / "secret").write_text("x")
os.chdir(base / "work")
watch.allow(base / "work")
watch.LONGEST_SECONDS = 1
def write():
    Path("../out").write_text("x"); return 0
def read():
    Path("../private/secret").read_text(); return 0
def start():
    subprocess.run(["true"]); return 0
def hang():
    time.sleep(30); return 0
def fail():
    raise KeyError("x")
def fault():
    return 70
def escape():
    print("\\x1b[2J"); return 0
for action in (write, read, start, hang, fail, fault, escape, lambda: 0):
    print(len(watch.run(action).faults))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="bounds of time and memory are Linux's")
def test_a_few_strange_files_of_each_kind_do_no_harm(tmp_path, run_cli):
    done = run_cli([FOLDER, "--count", "12", "--root", tmp_path / "strangers"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    *table, closing = done.stdout.splitlines()
    assert closing == "0 faults" and len(table) == 14
    # Some are taken and some refused, or nothing was tried.
    assert sum(int(line.split()[2]) for line in table[1:]) > 12
    assert sum(int(line.split()[3]) for line in table[1:]) > 12


def test_every_harm_is_noticed(tmp_path):
    code = CATCH.format(folder=str(FOLDER), root=str(FOLDER.parents[1]), place=str(tmp_path))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    # The fault of code 70 is counted once, a raised error with its code as two.
    assert done.stdout.split() == ["1", "1", "1", "2", "2", "1", "1", "0"], done.stderr
