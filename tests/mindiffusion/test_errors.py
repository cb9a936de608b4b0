import errno
import os
import signal
import sys
import time

import pytest

from mindiffusion import errors
from mindiffusion.errors import LostContact, Terminated, UserError, guarded


def fail(error):
    def action():
        raise error

    return action


@pytest.fixture
def rank(monkeypatch, tmp_path):
    """A function: makes this process a rank of a start of torchrun, with no time to lose."""
    monkeypatch.setattr(errors, "_MAIN_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(errors, "_CAUSE_FIRST_SECONDS", 0.05)

    def become(number, attempt=0):
        folder = tmp_path / f"attempt_{attempt}" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("RANK", str(number))
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(folder / "error.json"))

    return become


def test_guarded_returns_what_the_command_does():
    assert guarded(lambda: 7) == 7


def test_guarded_leaves_faults_of_the_program_their_traceback():
    for error in (
        RuntimeError("ours"),
        OSError(errno.EIO, "broken"),
        ModuleNotFoundError(name="x"),
    ):
        with pytest.raises(type(error)):
            guarded(fail(error))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("no such arm"), "error: no such arm"),
        (OSError(errno.ENOSPC, "full", "out/a"), "error: no space left on the disk of out/a; "),
        (OSError(errno.EACCES, "denied", "out"), "error: cannot use out: denied; "),
        (ModuleNotFoundError(name="torch"), "error: this command needs the package torch"),
    ],
)
def test_guarded_makes_one_line_of_bad_input(error, words, capsys):
    assert guarded(fail(error)) == 2
    told = capsys.readouterr().err
    assert told.startswith(words) and len(told.splitlines()) == 1


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_guarded_ends_by_the_code_of_the_signal(stop, code, capsys):
    assert guarded(fail(stop())) == code
    assert capsys.readouterr().err == "stopped; run the same command again to go on.\n"


def test_sigterm_ends_a_guarded_command_and_a_second_one_spares_the_clearing_up(capsys):
    before = signal.getsignal(signal.SIGTERM)
    cleared = []

    def action():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleared.append(True)
        return 0

    assert guarded(action) == 143
    assert cleared and signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().err.startswith("stopped; ")


def test_mistake_of_all_ranks_is_told_once(rank, capsys):
    for number in (0, 1, 2):
        rank(number)
        assert guarded(fail(UserError("bad batch"))) == 2
    assert capsys.readouterr().err == "error: bad batch\n"
    rank(0, attempt=1)
    guarded(fail(UserError("bad batch")))
    assert capsys.readouterr().err == "error: bad batch\n"


def test_mistake_of_one_rank_names_it(rank, capsys):
    rank(3)
    guarded(fail(UserError("no data here")))
    assert capsys.readouterr().err == "\nerror (rank 3): no data here\n"


def test_cause_is_told_before_its_consequence(rank, capsys):
    rank(1)
    guarded(fail(UserError("disk broken")))
    rank(0)
    guarded(fail(LostContact("rank 0 waited for rank 1")))
    assert capsys.readouterr().err == "\nerror (rank 1): disk broken\n"


def test_lost_contact_without_a_cause_is_told_and_sigterm_cuts_the_wait_short(
    rank, capsys, monkeypatch
):
    rank(0)
    monkeypatch.setattr(errors, "_CAUSE_FIRST_SECONDS", 60.0)
    monkeypatch.setattr(errors.time, "sleep", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert guarded(fail(LostContact("rank 0 waited for rank 1"))) == 2
    assert capsys.readouterr().err == "error: rank 0 waited for rank 1\n"


def test_ranks_but_the_main_one_say_nothing_when_stopped(rank, capsys):
    rank(1)
    assert guarded(fail(Terminated())) == 143
    assert capsys.readouterr().err == ""


def test_broken_pipe_ends_quietly(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    assert guarded(fail(BrokenPipeError())) == 141
    assert capsys.readouterr().err == ""


CLEARING_UP = """
import atexit, os
from mindiffusion.errors import leave
atexit.register(print, "cleared up")
print("done")
leave(3)
"""


@pytest.mark.parametrize(("world", "said"), [("1", "done\ncleared up\n"), ("2", "done\n")])
def test_one_of_several_ranks_leaves_without_clearing_up(world, said, tmp_path, run_cli):
    done = run_cli(["-c", CLEARING_UP], tmp_path, timeout=60, WORLD_SIZE=world)
    assert (done.returncode, done.stdout, done.stderr) == (3, said, "")
