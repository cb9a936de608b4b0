"""A Python that has imported all that our processes need; processes of the tests are its forks.

It has one thread and has computed nothing, so a fork is as good as a new process: it takes the
words, environment, folder and open files of the client that asks (``client.py``), then runs the
module or script as Python would, and ends as Python does. Two things differ. All forks hash strings
alike, so a test about the order of a set starts real processes (PYTHONHASHSEED in the
environment). And a fork is in a session of its own: it dies a moment after a client that is killed.

Use: ``python server.py CLIENT REPOSITORY``. CLIENT is a copy of ``client.py`` that can be started;
the socket is made beside it. The server ends, with all its forks, when its stdin is closed.
"""

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from client import FORWARDED, settings, split

LIBRARIES = (
    "cleanfid.resize", "dicebear", "matplotlib.pyplot", "pandas", "resvg_py", "scipy.optimize",
    "scipy.stats", "seaborn", "submitit.core._submit", "timm", "torch._dynamo",
    "torch.distributed.run", "torch.utils.flop_counter", "torchvision",
)  # fmt: skip
OURS = ("mindiffusion", "benchmark", "plots")
NOT_HERE = (".__main__", ".rivals.", "benchmark.speed.point")
"""Of our modules, those that run, or import what the tests do not need."""


@dataclass(frozen=True)
class Request:
    """What a client asks for: its command line, and what it was started with."""

    words: list[str]
    environment: dict[str, str]
    settings: list[Any]
    folder: str
    umask: int
    ignored: list[int]
    files: list[int]


def warm_up(repository: str) -> None:
    """Import everything; leaves no thread behind."""
    sys.path.insert(0, repository)
    for name in LIBRARIES:
        importlib.import_module(name)
    for package in map(importlib.import_module, OURS):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not any(part in module.name for part in NOT_HERE):
                importlib.import_module(module.name)
    sys.path.remove(repository)
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads: a fork of this process would hang"
    gc.collect()
    gc.freeze()


def receive(connection: socket.socket) -> Request:
    """Read a client's request."""
    size, files, _, _ = socket.recv_fds(connection, 4, 3)
    (length,) = struct.unpack("!I", size)
    content = b""
    while len(content) < length:
        piece = connection.recv(1 << 20)
        if not piece:
            raise ConnectionError("the client was killed while it asked")
        content += piece
    return Request(**json.loads(content.decode("utf-8", "surrogateescape")), files=files)


def serve(listener: socket.socket, own: Sequence[list[Any]]) -> Request:
    """Fork for every client of the same settings; returns only in the forks, with what to do.

    Args:
        listener: where clients ask.
        own: the settings that this process was started with, and those after its imports.
    """
    forks: dict[int, socket.socket] = {}
    wakes, wake = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    with selectors.DefaultSelector() as selector:
        for one in (listener, wakes, 0):
            selector.register(one, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    try:
                        request = receive(connection)
                    except (OSError, struct.error):  # a client that was killed at once
                        connection.close()
                        continue
                    pid = os.fork() if request.settings in own else None
                    if pid == 0:
                        signal.set_wakeup_fd(-1)
                        for one in (listener, connection, *forks.values()):
                            one.close()
                        os.close(wakes), os.close(wake)
                        return request
                    for number in request.files:
                        os.close(number)
                    with contextlib.suppress(OSError):  # who was killed is noticed below
                        connection.sendall(struct.pack("!i", pid or 0))
                    if pid:
                        forks[pid] = connection
                        selector.register(connection, selectors.EVENT_READ, pid)
                    else:
                        connection.close()
                elif key.fileobj == wakes:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wakes, 1 << 10)
                    _bury(forks, selector)
                elif key.fileobj == 0:
                    for pid in forks:
                        _kill(pid)
                    os._exit(0)
                elif key.data in forks:  # its client was killed
                    _kill(key.data)
                    selector.unregister(key.fileobj)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _bury(forks: dict[int, socket.socket], selector: selectors.BaseSelector) -> None:
    """Tell the clients of forks that have ended how they ended."""
    while forks:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        connection = forks.pop(pid)
        with contextlib.suppress(KeyError):
            selector.unregister(connection)
        with contextlib.suppress(OSError), connection:
            connection.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))


def become(request: Request, executable: str) -> NoReturn:
    """Take over what the client has, as if Python had started there."""
    os.setsid()
    for number in (*FORWARDED, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN if number in request.ignored else signal.SIG_DFL)
    if signal.SIGINT not in request.ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    os.umask(request.umask)
    for number, file in enumerate(request.files):
        os.dup2(file, number)
        os.close(file)
    options, rest = split(request.words)
    sys.stdin = os.fdopen(0, encoding=sys.stdin.encoding)
    for name, number in (("stdout", 1), ("stderr", 2)):
        old = getattr(sys, name)
        new = io.TextIOWrapper(
            os.fdopen(number, "wb"),
            old.encoding,
            old.errors,
            line_buffering=os.isatty(number) or name == "stderr",
            write_through=old.write_through or "-u" in options,
        )
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    sys.executable = executable
    sys.orig_argv = [executable, *request.words]
    sys.modules.pop("client")
    torch = sys.modules["torch"]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if rest[0] == "-m":
        sys.argv = rest[1:]
        if "-P" not in options:
            sys.path.insert(0, str(Path.cwd()))
        code = _exit_code(lambda: runpy.run_module(rest[1], run_name="__main__", alter_sys=True))
    else:
        sys.argv = rest
        sys.path.insert(0, str(Path(rest[0]).resolve().parent))
        code = _exit_code(lambda: runpy.run_path(rest[0], run_name="__main__"))
    _end(code)


def _exit_code(run: Callable[[], object]) -> int:
    """Run a program; how Python would end after it."""
    try:
        run()
    except SystemExit as stop:
        if isinstance(stop.code, int) or stop.code is None:
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return -signal.SIGINT
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> NoReturn:
    """End as Python does, but leave its 3,000 modules to the kernel: unloading them takes long."""
    threading._shutdown()  # waits for threads that are no daemons
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def main() -> None:
    """Serve; in a fork, do what was asked."""
    client, repository = sys.argv[1:]
    sys.path.remove(str(Path(__file__).resolve().parent))
    started = settings()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(Path(client).with_name("socket")))
    listener.listen(64)
    print("ready", flush=True)  # clients may ask from here on, and wait
    warm_up(repository)
    # torch sets variables when it is imported, in a test's own process too: from its first step of
    # an optimizer on, whatever that starts has them.
    become(serve(listener, (started, settings())), client)


if __name__ == "__main__":
    main()
