import os
import signal
import time
from pathlib import Path

import pytest

from mindiffusion.training import signals
from mindiffusion.training.signals import (
    Interrupted,
    leaving_at_once,
    raise_if_stopped,
    stop_signals,
    was_stopped,
)

BOTH = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    """Whoever runs the tests under nohup has SIGHUP ignored."""
    old = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, old)


def test_ignored_hangup_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_signals() as received:
        os.kill(os.getpid(), signal.SIGHUP)
        assert received == []
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


GONE = """
import os, pty, signal, sys
from mindiffusion.training.signals import stop_signals
master, slave = pty.openpty()
os.dup2(slave, 1), os.dup2(slave, 2)
with stop_signals() as received:
    os.close(master)
    try:
        os.write(1, b"x")
        os._exit(7)
    except OSError:
        pass
    os.kill(os.getpid(), signal.SIGHUP)
    print("into the void", flush=True), print("too", file=sys.stderr, flush=True)
os._exit(received[0])
"""


def test_terminal_that_is_gone_does_not_end_the_saving(tmp_path, run_cli):
    done = run_cli(["-c", GONE], tmp_path, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (signal.SIGHUP, "", "")


def test_signals_are_collected_and_handlers_restored():
    before = [signal.getsignal(number) for number in BOTH]
    for number in BOTH:
        with stop_signals() as received:
            os.kill(os.getpid(), number)
            assert received == [number]
    assert [signal.getsignal(number) for number in BOTH] == before


@pytest.mark.parametrize("relayed", BOTH)
def test_signal_passed_on_by_a_launcher_is_no_second_one(relayed):
    with stop_signals() as received:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), relayed)
        assert received == [signal.SIGINT]


def test_later_signal_ends_at_once(monkeypatch):
    monkeypatch.setattr(signals, "RELAY_SECONDS", -1.0)
    with stop_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_interrupted_names_its_signal():
    assert Interrupted(signal.SIGTERM).signal_number == 15


def test_long_work_may_ask_whether_to_stop():
    raise_if_stopped()
    with stop_signals():
        raise_if_stopped()
        assert not was_stopped()
        os.kill(os.getpid(), signal.SIGTERM)
        assert was_stopped()
        with pytest.raises(Interrupted) as stop:
            raise_if_stopped()
    assert stop.value.signal_number == signal.SIGTERM
    # What one run was asked is nothing to the next.
    assert not was_stopped()
    with stop_signals() as received:
        assert received == []


LEAVE = """
import os, signal, subprocess, sys, time
from mindiffusion.training.signals import leaving_at_once, stop_signals
number = int(sys.argv[1])
with stop_signals():
    if sys.argv[2] == "before":
        os.kill(os.getpid(), number)
    with leaving_at_once():
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        except BaseException:
            pass
"""


@pytest.mark.parametrize("when", ["before", "inside"])
@pytest.mark.parametrize("number", BOTH)
def test_compiling_process_leaves_at_once_with_one_line(number, when, tmp_path, run_cli):
    done = run_cli(["-c", LEAVE, str(int(number)), when], tmp_path, timeout=60)
    assert done.returncode == 128 + number
    line = "stopped while compiling; the last checkpoint stands, the same command goes on."
    assert done.stderr.strip() == line


def test_rank_that_leaves_at_once_says_nothing(tmp_path, run_cli):
    done = run_cli(["-c", LEAVE, "15", "inside"], tmp_path, timeout=60, RANK="1", WORLD_SIZE="2")
    assert (done.returncode, done.stderr) == (143, "")


@pytest.mark.skipif(not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="Linux")
def test_compilers_do_not_outlive_a_process_that_leaves_at_once(tmp_path, run_cli):
    shell = "sleep 60 & echo $! > pid; wait"
    code = LEAVE.replace(
        "            os.kill",
        f"            subprocess.Popen(['sh', '-c', {shell!r}], start_new_session=True)\n"
        "            while not os.path.exists('pid') or not open('pid').read(): time.sleep(0.01)\n"
        "            os.kill",
    )
    assert run_cli(["-c", code, "15", "inside"], tmp_path, timeout=60).returncode == 143
    stat = Path("/proc") / (tmp_path / "pid").read_text().strip() / "stat"
    # A killed process takes a moment to go, and whoever inherits it another to bury it.
    deadline = time.monotonic() + 30
    while is_running(stat) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(stat)


def is_running(stat):
    try:
        return stat.read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_signals_are_collected_again_after_a_phase_of_leaving_at_once():
    with stop_signals() as received:
        with leaving_at_once():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
