"""What tests start instead of Python: asks the warm one for a fork, and lives and dies as it.

A process of ours takes seconds of CPU to import torch and its libraries, and the tests start two
hundred of them. The warm Python (``server.py``) has imported all that. The fork gets this
process's words, environment, folder and open files. Signals go on to it, its exit status comes
back, and it is killed if this process is. What depends on how Python itself starts (other options,
code on the command line, a variable that Python or a library reads at its start) gets a real one.
"""

import contextlib
import json
import os
import resource
import signal
import socket
import struct
import sys

READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "OMP_", "MKL_", "KMP_", "OPENBLAS_", "MALLOC_",
                 "TORCH", "MPL", "CUDA_", "NCCL_", "GLOO_")  # fmt: skip
"""Beginnings of names of variables that count at the start of Python or of a library."""
SET_LATER = ("PYTHONPATH", "OMP_NUM_THREADS", "TORCHELASTIC_", "TORCH_NCCL_")
"""Of them, what the fork can still heed, or what torchrun tells its ranks."""
OPTIONS = ("-u", "-P")
FORWARDED = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)


def settings():
    """What counts at a start and can't be changed in a fork, as plain types."""
    names = [n for n in os.environ if n.startswith(READ_AT_START) and not n.startswith(SET_LATER)]
    limits = [list(resource.getrlimit(limit)) for limit in LIMITS]
    return [{name: os.environ[name] for name in names}, limits, sorted(os.sched_getaffinity(0))]


def split(words):
    """(options of Python, the rest) of a command line."""
    count = 0
    while count < len(words) and words[count] in OPTIONS:
        count += 1
    return words[:count], words[count:]


def is_plain(words):
    """Whether a command line names a module or a script, and nothing that Python does before it."""
    _, rest = split(words)
    for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        if os.path.exists(os.path.join(folder, "sitecustomize.py")):
            return False
    return len(rest) > 1 if rest[:1] == ["-m"] else bool(rest) and rest[0].endswith(".py")


def ask(words):
    """A connection to the warm Python and the number of the fork; None: it has other settings."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.path.join(os.path.dirname(os.path.abspath(__file__)), "socket"))
    request = {
        "words": words,
        "environment": dict(os.environ),
        "settings": settings(),
        "folder": os.getcwd(),
        "umask": os.umask(0o022),
        "ignored": [n for n in FORWARDED if signal.getsignal(n) == signal.SIG_IGN],
    }
    os.umask(request["umask"])
    content = json.dumps(request).encode("utf-8", "surrogateescape")
    socket.send_fds(connection, [struct.pack("!I", len(content))], [0, 1, 2])
    connection.sendall(content)
    pid = struct.unpack("!i", connection.recv(4, socket.MSG_WAITALL))[0]
    return (connection, pid) if pid else None


def send_on(pid, number):
    """The fork may just have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def main():
    words = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    fork = ask(words) if is_plain(words) else None
    if fork is None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        os.execv(sys.executable, [sys.executable, *words])
    connection, pid = fork
    for number in FORWARDED:
        signal.signal(number, lambda number, frame: send_on(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    code = struct.unpack("!i", connection.recv(4, socket.MSG_WAITALL))[0]
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
