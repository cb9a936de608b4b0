"""Errors that a user can act on, and the last net under every command: one line, no traceback.

Exit codes: 2 bad input or trouble with files, 70 a fault of the program, 129, 130 and 143 stopped
by SIGHUP, SIGINT and SIGTERM. All ranks together tell an error once.
"""

import contextlib
import difflib
import io
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar, NoReturn

from mindiffusion.disk_trouble import disk_trouble
from mindiffusion.machine import rank_and_world
from mindiffusion.printable import MOST_CHARACTERS, printable

FAULT_CODE = 70
"""Exit code of a fault of the program: EX_SOFTWARE of sysexits.h."""
STOP_CODES = (129, 130, 143, -1, -2, -15)
"""What a process that was asked to stop ends with, by itself or by the signal."""
TRACEBACK = "MINDIFFUSION_TRACEBACK"
"""Variable: 1 shows the traceback of a fault."""

_TRAIN_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "cleanfid",
    "dicebear",
    "resvg_py",
    "safetensors",
)
"""What ``pip install '.[train]'`` adds; tables and figures do without."""
_OURS = ("mindiffusion", "benchmark", "plots")
_TELLS_OF_CUDA = "torch.utils.cpp_extension"

_MAIN_FIRST_SECONDS = 2.0
"""A mistake that all ranks meet is told by the main one; its end ends the others meanwhile."""
_CAUSE_FIRST_SECONDS = 3.0
"""A rank that lost another lets that one tell why it left."""
_PREFIX_CHARACTERS = 40
"""Room in a line for what stands before its message."""
_MOST_READ = 1 << 20
_MOST_COMPARED = 100
"""Characters of a wrong name of which a similar one is looked for."""


class UserError(ValueError):
    """Bad input. The message says what came, what is allowed and what to do."""

    exit_code: ClassVar[int] = 2


class LostContact(UserError):
    """Other ranks did not come to a common point; the message names the place and who."""


class ToldFault(UserError):
    """A fault of the program in a process of ours, which has told it; the message passes it on."""

    exit_code = FAULT_CODE


class Terminated(KeyboardInterrupt):
    """A signal where nothing has to be saved: ends a command as Ctrl-C does.

    Attributes:
        signal_number: SIGTERM, or SIGHUP of a terminal that is gone.
    """

    def __init__(self, signal_number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.signal_number = signal_number


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """``' Did you mean ...?'`` with the nearest allowed name, or the list of all names.

    Args:
        name: what came.
        choices: what is allowed.
    """
    allowed = sorted(choices)
    # The time that a comparison takes grows with the square of the length.
    near = difflib.get_close_matches(name[:_MOST_COMPARED], allowed, n=1)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Allowed: {', '.join(allowed)}."


def is_main_process() -> bool:
    """Whether this process speaks for all ranks."""
    return _rank() == 0


def exit_code_of(stop: KeyboardInterrupt) -> int:
    """129, 130 or 143, by the signal that ended a command."""
    return 128 + (stop.signal_number if isinstance(stop, Terminated) else signal.SIGINT)


def guarded(action: Callable[[], int]) -> int:
    """Run a whole command; whatever goes wrong becomes one line on stderr and an exit code.

    SIGTERM and SIGHUP end it as Ctrl-C does, wherever it is not told otherwise. An ignored SIGHUP
    (nohup) stays ignored.
    """
    _set_up_streams()
    try:
        with _signals_raise():
            return action()
    except UserError as error:
        is_cause = not isinstance(error, LostContact)
        return _tell(str(error), code=error.exit_code, is_cause=is_cause)
    except BrokenPipeError:
        # Whoever read our output (head, less) has seen enough.
        sys.stdout = None
        return 141
    except KeyboardInterrupt as stop:
        if is_main_process():
            _say("stopped; run the same command again to go on.")
        return exit_code_of(stop)
    except Exception as error:
        trouble = _trouble(error)
        return _tell(_fault(error), code=FAULT_CODE) if trouble is None else _tell(trouble)


def leave(code: int) -> NoReturn:
    """End this process with an exit code.

    One of several ranks leaves without Python's own clearing up: a thread of gloo that still holds
    a tensor then can abort a rank whose work is done (seen once in torch 2.15, signal 6).
    """
    if rank_and_world()[1] == 1:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):
            stream.flush()
    os._exit(code)


def _set_up_streams() -> None:
    """Let no character end a command, and no text of a stranger reach the terminal by the log."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(message)s"))
    level = logging.WARNING if is_main_process() else logging.ERROR
    logging.basicConfig(level=level, handlers=[handler])
    # With a CUDA toolkit but no GPU, torch warns of that when it compiles for the CPU.
    logging.getLogger(_TELLS_OF_CUDA).setLevel(logging.ERROR)


class _OneLine(logging.Formatter):
    """Our own messages as one line each; those of libraries as they are."""

    def format(self, record: logging.LogRecord) -> str:
        whole = super().format(record)
        return _one_line(whole) if record.name.split(".")[0] in _OURS else whole


def _one_line(text: str) -> str:
    """``text`` fit to be shown, and bounded; of a longer one the middle goes: advice ends it."""
    most = MOST_CHARACTERS - _PREFIX_CHARACTERS
    shown = printable(text, _MOST_READ)
    return shown if len(shown) <= most else f"{shown[: most // 2]} … {shown[3 - most // 2 :]}"


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP raise ``Terminated``, once: a second must not break the clearing up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = ending_signals()

    def stop(number: int, frame: object) -> None:
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)
        if number == signal.SIGHUP:
            let_go_of_terminal()
        raise Terminated(number)

    old = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def ending_signals() -> tuple[int, ...]:
    """SIGTERM, and SIGHUP where it is not ignored, as nohup has it."""
    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return (signal.SIGTERM,) if is_ignored else (signal.SIGTERM, signal.SIGHUP)


def let_go_of_terminal() -> None:
    """Once a terminal is gone, let what is written to it vanish, or the writing would end us."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, descriptor)
                os.close(null)


def _rank() -> int:
    return rank_and_world()[0]


def _trouble(error: Exception) -> str | None:
    """What a user can do about the machine's own trouble; None for a fault of the program."""
    if isinstance(error, ModuleNotFoundError) and _package(error) in _TRAIN_PACKAGES:
        return (
            f"this command needs the package {error.name}, which is not installed; "
            "run: pip install '.[train]'"
        )
    if isinstance(error, OSError):
        return disk_trouble(error)
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which need not be installed
        reason = printable(str(error).partition(". ")[0], 160)
        return (
            f"the GPU's memory is full ({reason}); give a smaller training.micro_batch, "
            "sampler.chunk or model, or free the GPU. The same command goes on."
        )
    return None


def _package(error: ModuleNotFoundError) -> str:
    return (error.name or "").split(".")[0]


def _fault(error: Exception) -> str:
    """The line about a fault of the program, after its traceback was written to a file."""
    try:
        story = "".join(traceback.format_exception(error))
    except Exception as second:  # an exception may refuse to be shown
        story = f"{type(error).__name__}, which can't be shown ({type(second).__name__})\n"
    if os.environ.get(TRACEBACK) == "1":
        for line in story.splitlines():
            _say(printable(line))
    try:
        reason = printable(error, 160)
    except Exception:
        reason = "it has no text"
    return (
        f"a fault of this program, not of yours: {type(error).__name__}: {reason} "
        f"({_kept(story)}). Please report it. What was saved is not lost: the same command goes on "
        f"from there. {TRACEBACK}=1 shows the traceback."
    )


def _kept(story: str) -> str:
    """Where the traceback lies."""
    try:
        descriptor, name = tempfile.mkstemp(prefix="mindiffusion-fault-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{' '.join(sys.argv)}\nPython {sys.version}\n{story}")
    except OSError as error:
        return f"its traceback could not be saved: {error.strerror or 'no folder for it'}"
    return f"traceback: {name}"


def _tell(line: str, *, code: int = 2, is_cause: bool = True) -> int:
    """Print an error as one line; of several ranks on a machine one does. Returns the exit code.

    Args:
        line: what to say.
        code: the exit code.
        is_cause: False for what follows from another rank's end.
    """
    rank = _rank()
    with contextlib.suppress(OSError, AttributeError):
        sys.stdout.flush()
    folder = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if folder:
        patience = _MAIN_FIRST_SECONDS * bool(rank) + _CAUSE_FIRST_SECONDS * (not is_cause)
        # torchrun's SIGTERM, as soon as one rank has ended, cuts the wait short.
        with contextlib.suppress(KeyboardInterrupt), _signals_raise():
            time.sleep(patience)
        try:
            # torchrun gives every start of its ranks a folder of its own.
            (Path(folder).parent.parent / "told").touch(exist_ok=False)
        except FileExistsError:
            return code
        except OSError:
            pass  # No such folder here: rather twice than not at all.
    who = f" (rank {rank})" if rank and is_cause else ""
    # The main rank's progress bar may have left the line open.
    lead = "\n" if rank else ""
    _say(f"{lead}error{who}: {_one_line(line)}")
    return code


def _say(line: str) -> None:
    """One line on stderr, where there still is one."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        print(line, file=sys.stderr, flush=True)
