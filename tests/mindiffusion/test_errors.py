import errno
import logging
import os
import signal
import sys
import tempfile
import time

import pytest

from mindiffusion import errors
from mindiffusion.errors import LostContact, Terminated, ToldFault, UserError, guarded


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
        monkeypatch.setenv("WORLD_SIZE", "4")
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(folder / "error.json"))

    return become


def test_guarded_returns_what_the_command_does():
    assert guarded(lambda: 7) == 7


@pytest.fixture
def folder_of_faults(tmp_path, monkeypatch):
    """Where tracebacks go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def endless():
    return endless()


@pytest.mark.expects_fault
@pytest.mark.parametrize(
    "action",
    [
        fail(RuntimeError("ours\x1b[2J")),
        fail(ConnectionResetError(errno.ECONNRESET, "reset")),
        fail(ModuleNotFoundError(name="x")),
        fail(MemoryError()),
        fail(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")),
        fail(ValueError("long " * 10_000)),
        endless,
    ],
)
def test_fault_of_the_program_is_one_line_and_its_traceback_a_file(
    action, folder_of_faults, capsys, monkeypatch
):
    monkeypatch.delenv("MINDIFFUSION_TRACEBACK", raising=False)
    assert guarded(action) == 70
    (line,) = capsys.readouterr().err.splitlines()
    (file,) = folder_of_faults.iterdir()
    assert line.startswith("error: a fault of this program") and str(file) in line
    assert len(line) <= 600 and "\x1b" not in line and "not lost" in line
    assert "Traceback (most recent call last)" in file.read_text()


@pytest.mark.expects_fault
def test_variable_shows_the_traceback(folder_of_faults, capsys, monkeypatch):
    monkeypatch.setenv("MINDIFFUSION_TRACEBACK", "1")
    assert guarded(fail(RuntimeError("ours\x1b[2J"))) == 70
    told = capsys.readouterr().err
    assert "Traceback (most recent call last)" in told and "\x1b" not in told


@pytest.mark.expects_fault
def test_traceback_that_cannot_be_kept_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert guarded(fail(RuntimeError("ours"))) == 70
    assert "could not be saved: No such file or directory" in capsys.readouterr().err


@pytest.mark.expects_fault
def test_fault_that_another_process_told_is_passed_on(capsys):
    assert guarded(fail(ToldFault("cell B/0 stopped"))) == 70
    assert capsys.readouterr().err == "error: cell B/0 stopped\n"


@pytest.mark.parametrize("text", ["a\n\x1b[2J\u202e", "x" * 1_000_000 + "do this", "\x07" * 599])
def test_message_is_a_line_that_fits_a_terminal_and_keeps_its_advice(text, capsys):
    assert guarded(fail(UserError(text))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable() and len(line) <= 600
    assert line.endswith("do this") == text.endswith("do this")


def test_our_log_is_made_printable_and_that_of_others_left():
    ours, others = (
        logging.LogRecord(name, logging.WARNING, "", 0, "a\nb", None, None)
        for name in ("mindiffusion.training.run_folder", "timm")
    )
    assert errors._OneLine("%(message)s").format(ours) == "a\\nb"
    assert errors._OneLine("%(message)s").format(others) == "a\nb"


@pytest.mark.parametrize(
    "number",
    [errno.EFBIG, errno.ENAMETOOLONG, errno.EIO, errno.EPERM, errno.ENOENT, errno.ELOOP,
     errno.EMFILE, errno.EXDEV, errno.ENODATA],
)  # fmt: skip
def test_every_error_that_names_a_file_is_one_line(number, capsys):
    assert guarded(fail(OSError(number, os.strerror(number), "out/a\n"))) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: cannot use out/a\\n: {os.strerror(number)}; ")
    assert len(told.splitlines()) == 1


SPEAK = """
import sys
from mindiffusion.errors import guarded
guarded(lambda: print("± \\udce9 …") or print("±", file=sys.stderr) or 0)
"""


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_no_letter_ends_a_command(encoding, tmp_path, run_cli):
    done = run_cli(["-c", SPEAK], tmp_path, timeout=60, PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert "\\udce9" in done.stdout


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("no such arm"), "error: no such arm"),
        (OSError(errno.ENOSPC, "full", "out/a"), "error: no space left on the disk of out/a; "),
        (OSError(errno.ENOSPC, "full"), "error: no space left on the disk of the output; "),
        (OSError(errno.EACCES, "denied", "out"), "error: cannot use out: denied; "),
        (ModuleNotFoundError(name="torch"), "error: this command needs the package torch"),
    ],
)
def test_guarded_makes_one_line_of_bad_input(error, words, capsys):
    assert guarded(fail(error)) == 2
    told = capsys.readouterr().err
    assert told.startswith(words) and len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("stop", "code"),
    [
        (KeyboardInterrupt(), 130),
        (Terminated(), 143),
        (Terminated(signal.SIGHUP), 129),
    ],
)
def test_guarded_ends_by_the_code_of_the_signal(stop, code, capsys):
    assert guarded(fail(stop)) == code
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


def test_hangup_ends_a_guarded_command_unless_it_is_ignored():
    def action():
        os.kill(os.getpid(), signal.SIGHUP)
        return 0

    assert guarded(action) == 129
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert guarded(action) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, old)


@pytest.mark.parametrize(("rank", "world"), [("1", ""), ("", "2"), ("3", "abc"), ("2", "2")])
def test_variables_left_over_make_no_rank(rank, world, monkeypatch, capsys):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    assert guarded(fail(UserError("bad"))) == 2
    assert capsys.readouterr().err == "error: bad\n"


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
    done = run_cli(["-c", CLEARING_UP], tmp_path, timeout=60, WORLD_SIZE=world, RANK="0")
    assert (done.returncode, done.stdout, done.stderr) == (3, said, "")


def test_a_toolkit_without_a_gpu_is_no_news_to_whoever_uses_the_cpu(monkeypatch):
    logger = logging.getLogger("torch.utils.cpp_extension")
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    assert guarded(lambda: 0) == 0
    assert not logger.isEnabledFor(logging.WARNING) and logger.isEnabledFor(logging.ERROR)
