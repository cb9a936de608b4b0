"""Processes side by side that count what they have done on stdout, for one progress bar."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmark.cells.children import check_end, end_children

_POLL_SECONDS = 0.1


class Counted:
    """One running process.

    Args:
        child: it; each line that is a number counts further on the bar.
        log: where its stderr goes.
        who: what an error calls it.
        bar: the progress bar of all.
        passing: files of its own that go once it has ended well.

    Attributes:
        child: it.
    """

    def __init__(
        self,
        child: "subprocess.Popen[str]",
        log: Path,
        who: str,
        bar: "tqdm[Any]",
        passing: Sequence[Path] = (),
    ) -> None:
        self.child = child
        self._log, self._who, self._passing = log, who, passing
        self._reader = threading.Thread(target=self._listen, args=(bar,), daemon=True)
        self._reader.start()

    def _listen(self, bar: "tqdm[Any]") -> None:
        assert self.child.stdout is not None
        with self.child.stdout as lines:
            for line in lines:
                # A library's chatter is passed over.
                with contextlib.suppress(ValueError):
                    bar.update(int(line))

    def check_end(self) -> None:
        """Raise if it did not end well, as ``children.check_end`` does."""
        self._reader.join()
        check_end(self.child.returncode, self._log, self._who)
        for path in self._passing:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def side_by_side() -> Iterator[list[Counted]]:
    """A list to add processes to; at its end all are waited for.

    Whatever ends this earlier, the others are asked to save their states first.

    Raises:
        UserError: a process failed.
        Terminated: a process was stopped.
    """
    running: list[Counted] = []
    try:
        yield running
        while running:
            time.sleep(_POLL_SECONDS)
            for process in [one for one in running if one.child.poll() is not None]:
                running.remove(process)
                process.check_end()
    finally:
        end_children([process.child for process in running])
