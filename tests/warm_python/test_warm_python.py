"""A fork of the warm Python is, to whoever starts it, a process like any other."""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

SEEN = """
import json, os, sys
print(json.dumps({"words": sys.argv[1:], "variable": os.environ.get("SEEN"),
    "folder": os.getcwd(), "input": sys.stdin.read(), "umask": os.umask(0), "pid": os.getpid(),
    "name": __name__, "first": sys.path[0], "warm": "torch" in sys.modules}))
print("héllo", file=sys.stderr)
sys.exit(int(os.environ.get("CODE", 0)))
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "seen.py"
    path.write_text(SEEN)
    return path


def seen(words, cwd, given="", **environment):
    """(exit code, what the process saw, its stderr)."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=dict(os.environ) | environment,
        input=given, capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout), done.stderr


def test_a_script_and_a_module_get_all_that_they_are_started_with(script, warm_python):
    here = script.parent / "here"
    here.mkdir()
    code, whole, errors = seen([script, "a", "b c"], here, "given", SEEN="ü", CODE="3")
    assert (code, errors) == (3, "héllo\n")
    pid, umask = whole.pop("pid"), whole.pop("umask")
    assert pid != os.getpid() and umask == os.umask(umask)
    assert whole == {
        "words": ["a", "b c"], "variable": "ü", "folder": str(here), "input": "given",
        "name": "__main__", "first": str(script.parent), "warm": True,
    }  # fmt: skip
    code, whole, _ = seen(["-m", "seen", "x"], script.parent)
    assert (code, whole["words"], whole["first"]) == (0, ["x"], str(script.parent))
    assert whole["warm"]


@pytest.mark.parametrize(
    ("words", "environment"),
    [(["-c", SEEN], {}), (["-X", "utf8", "seen.py"], {}), (["seen.py"], {"MPLBACKEND": "agg"}),
     (["seen.py"], {"TORCHINDUCTOR_CACHE_DIR": "elsewhere"}), (["seen.py"], {"PYTHONPATH": "."})],
    ids=["code", "option", "variable", "another value", "sitecustomize"],
)  # fmt: skip
def test_what_counts_when_python_starts_gets_a_real_one(words, environment, script, warm_python):
    (script.parent / "sitecustomize.py").touch()
    code, whole, _ = seen(words, script.parent, **environment)
    assert code == 0 and not whole["warm"]


def test_a_test_that_has_trained_in_its_own_process_still_gets_forks(script, warm_python):
    importlib.import_module("torch._dynamo")  # as optimizers do; it may set variables
    assert seen([script], script.parent)[1]["warm"]


@pytest.mark.parametrize("sent", [b"", b"\0\0\1\0", b"\0\0\1\0{"])
def test_a_client_that_dies_while_it_asks_leaves_the_server_alive(sent, script, warm_python):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(Path(sys.executable).with_name("socket")))
        client.sendall(sent)
    assert seen([script], script.parent)[1]["warm"]


def test_an_error_is_told_as_by_python(script, warm_python):
    script.write_text("raise ValueError('wrong')")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.endswith("ValueError: wrong\n")


@pytest.fixture
def waiting(script, warm_python):
    """A process that waits, and what it has printed: its own number."""
    script.write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)")
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        yield process, int(process.stdout.readline())
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_goes_on_to_the_fork_and_comes_back_as_its_end(number, waiting):
    process, _ = waiting
    process.send_signal(number)
    assert process.wait(20) == -number


def test_a_fork_dies_with_its_client_and_the_client_with_its_fork(waiting, script):
    process, pid = waiting
    fork = Path(f"/proc/{pid}")
    process.kill()
    give_up = time.monotonic() + 20
    while fork.exists() and time.monotonic() < give_up:
        time.sleep(0.01)
    assert not fork.exists()
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as other:
        os.kill(int(other.stdout.readline()), signal.SIGKILL)
        assert other.wait(20) == -signal.SIGKILL
