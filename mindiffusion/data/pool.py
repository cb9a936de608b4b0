"""Draws shards on all cores with worker processes."""

import os
import pickle
import queue
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import mindiffusion
from mindiffusion.data.shard import ShardJob
from mindiffusion.data.source import Source
from mindiffusion.errors import UserError
from mindiffusion.machine import module_command

Worker = subprocess.Popen[bytes]


def draw_shards(
    source: Source,
    jobs: Sequence[ShardJob],
    workers: int,
    on_done: Callable[[int], object],
) -> list[tuple[str, str]]:
    """Draw all jobs; on an error or Ctrl-C all workers stop at once and whole shards stay.

    Args:
        source: what draws; sent to each worker.
        jobs: shards to write, in any order of completion.
        workers: number of processes, at most.
        on_done: called with the number of images of each shard that is written.

    Returns:
        (name, reason) of each bad image, sorted.

    Raises:
        OSError: a shard could not be written, or the source can't be read.
        UserError: a worker was killed, or the source is not what it was.
    """
    processes = [_start_worker() for _ in range(min(workers, len(jobs)))]
    try:
        return _draw_on(processes, source, jobs, on_done)
    finally:
        for process in processes:
            process.kill()
            process.communicate()  # reaps it and closes its pipes


def _draw_on(
    processes: Sequence[Worker],
    source: Source,
    jobs: Sequence[ShardJob],
    on_done: Callable[[int], object],
) -> list[tuple[str, str]]:
    """One thread a worker: each hands out a job, waits for the outcome, takes the next."""
    if not jobs:
        return []
    idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for process in processes:
        _send(process, source)
        idle.put(process)
    bad: list[tuple[str, str]] = []
    with ThreadPoolExecutor(len(processes)) as threads:
        futures = {threads.submit(_run, idle, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                bad += future.result()
                on_done(len(futures[future].items))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            for process in processes:  # threads that wait for an outcome wake up
                process.kill()
            raise
    return sorted(bad)


def _run(idle: "queue.SimpleQueue[Worker]", job: ShardJob) -> list[tuple[str, str]]:
    process = idle.get()
    assert process.stdout is not None
    try:
        _send(process, job)
        outcome: list[tuple[str, str]] | OSError | UserError = pickle.load(process.stdout)
    except EOFError:
        raise _death_of(process) from None
    finally:
        idle.put(process)  # a dead one too: no thread may wait for ever
    if isinstance(outcome, OSError | UserError):
        raise outcome
    return outcome


def _send(process: Worker, message: object) -> None:
    assert process.stdin is not None
    try:
        pickle.dump(message, process.stdin)
        process.stdin.flush()
    except BrokenPipeError:
        raise _death_of(process) from None


def _death_of(process: Worker) -> Exception:
    code = process.wait()
    if code < 0:
        return UserError(
            f"a preparation worker was killed by signal {-code} (out of memory?); "
            "run the same command again: it goes on where it was."
        )
    return RuntimeError(f"a preparation worker failed (exit code {code}); its error is above")


def _start_worker() -> Worker:
    """A worker that finds this very package, and that a Ctrl-C in the terminal does not reach."""
    root = str(Path(mindiffusion.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        module_command("mindiffusion.data.worker"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        process_group=0,
    )
