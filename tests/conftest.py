"""Fixtures for tests of the whole: a small prepared data set, tiny runs, commands as users type."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

# Read once by torch's thread pools, so it must stand before anyone imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from mindiffusion.places import CACHE, DATA

REPOSITORY = Path(__file__).parent.parent
TINY = {
    "samples": None,
    "data": {"dataset": "avatars", "num_train": 256, "num_held_out": 32},
    "model": {"n_feat": 8},
    "training": {
        "epochs": None,
        "steps": 24,
        "global_batch": 8,
        "lr": 1e-3,
        "ema_decays": [0.99, 0.9],
        "milestones": [12, 24],
        "checkpoint_every": 7,
        "log_every": 4,
        "device": "cpu",
        "precision": "fp32",
        "compile": "off",
        "threads": 1,
    },
    "sampler": {"steps": 2, "grid": 4, "chunk": 4},
}
LONG_FILES = (
    "test_lost_ranks", "test_reproduce", "test_slurm_reproduce", "test_torture_short",
    "test_ranks", "test_resume", "test_pacer_contract", "test_train_scripts", "test_speed_command",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Long files first, so that no worker starts one when the other has nothing left to do."""
    items.sort(key=lambda item: item.path.stem not in LONG_FILES)


_exit_codes = []
"""Of the commands that the running test has started, in this process and in others."""


@pytest.fixture(autouse=True)
def no_fault(request, monkeypatch):
    """Exit code 70, a fault of the program, fails every test that is not about one."""
    from mindiffusion import errors

    tell = errors._tell

    def noted(line, *, code=2, **options):
        _exit_codes.append(code)
        return tell(line, code=code, **options)

    monkeypatch.setattr(errors, "_tell", noted)
    yield
    codes = list(_exit_codes)
    _exit_codes.clear()
    if not request.node.get_closest_marker("expects_fault"):
        assert errors.FAULT_CODE not in codes, "the program ended by a fault of its own (70)"


@pytest.fixture(scope="session")
def repository():
    """The repository's root."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A folder that all test processes of this session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def avatars(shared_folder):
    """256 training and 32 held-out avatars at 32 pixels, prepared once."""
    from mindiffusion.data.prepare import prepare
    from mindiffusion.data.spec import DataConfig

    config = DataConfig(**TINY["data"])
    return prepare(config, shared_folder / "data", workers=1, show_progress=False)


@pytest.fixture
def workdir(tmp_path, monkeypatch, avatars, shared_folder):
    """An empty working directory in which the avatars are prepared; no variable of ours is set."""
    (tmp_path / "data").symlink_to(shared_folder / "data")
    (shared_folder / "cache").mkdir(exist_ok=True)
    (tmp_path / ".cache").symlink_to(shared_folder / "cache")
    monkeypatch.chdir(tmp_path)
    for name in ("CELEBA_PATH", "INCEPTION_PATH", "DINOV2_PATH", "CLIP_PATH", DATA, CACHE):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def flatten(content, prefix=""):
    """``--set`` words for a nested mapping."""
    words = []
    for key, value in content.items():
        if isinstance(value, dict):
            words += flatten(value, f"{prefix}{key}.")
        else:
            words += ["--set", f"{prefix}{key}={json.dumps(value)}"]
    return words


@pytest.fixture(scope="session")
def tiny_words():
    """Command-line words that make a preset tiny; output folders stay the preset's."""
    return flatten({key: value for key, value in TINY.items() if key != "samples"})


@pytest.fixture(scope="session")
def class_words():
    """Words that make a tiny run one of a network with classes: the eyes of avatars."""
    model = "model={network: uvit, patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2}"
    return (model, "data.labels=eyes", "model.num_classes=7", "training.label_drop=0.25")


@pytest.fixture(scope="session")
def tiny_content():
    """A function: arm, overrides → nested plain types of a tiny run."""
    from mindiffusion.config.presets import apply_overrides, load_preset, merge

    def make(arm="cs", *overrides, output="run"):
        content = merge(load_preset(f"celeba_{arm}_32"), TINY | {"output": str(output)})
        return apply_overrides(content, overrides)

    return make


@pytest.fixture(scope="session")
def tiny_config(tiny_content):
    """A function: arm, overrides → RunConfig of a tiny run: 24 steps, stages end at 2 5 9 15 24."""
    from mindiffusion.config.presets import build_config

    def make(arm="cs", *overrides, output="run"):
        return build_config(tiny_content(arm, *overrides, output=output), f"tiny {arm}")

    return make


@pytest.fixture
def train_run(avatars):
    """A function that trains (or resumes) a run in this process; returns its Trainer."""
    from mindiffusion.training.loop import Hooks
    from mindiffusion.training.ranks import Ranks
    from mindiffusion.training.run_folder import run

    def train(config, make_hooks=lambda trainer: Hooks(), stop_after=None):
        data = avatars.training_for(config.data.labels)
        if config.data.captions is not None:
            from drive_training import captions_for

            data = replace(data, captions=captions_for(len(data)))
        return run(config, data, Ranks(), make_hooks, stop_after)

    return train


def _heed_signals():
    """A shell in the background has SIGINT ignored, nohup SIGHUP, and children inherit that."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def warm_python():
    """Commands of the tests, and the processes that these start, are forks of a Python with torch.

    See ``warm_python/server.py``. This holds from the first test that asks for it, for
    ``sys.executable`` is what the program starts its own processes with.
    """
    code = Path(__file__).parent / "warm_python"
    real = sys.executable
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        client = Path(folder) / "python"
        client.write_text(f"#!{real} -IS\n{(code / 'client.py').read_text()}")
        client.chmod(0o755)
        server = subprocess.Popen(
            [real, code / "server.py", client, REPOSITORY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert server.stdout.readline() == b"ready\n"
        sys.executable = str(client)
        yield
        sys.executable = real
        server.communicate()  # closes its stdin


def start_process(words, cwd, changes):
    """Start ``python words…`` on this checkout, with one thread, as leader of a process group."""
    paths = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=dict(os.environ) | paths | changes,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_signals,
    )


@pytest.fixture(scope="session")
def run_cli(warm_python):
    """A function: words after ``python`` and a directory → the finished process."""

    def run(words, cwd, timeout=240, **environment):
        process = start_process(words, cwd, environment)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            # Ranks outlive a torchrun that was killed, so the whole group goes.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        _exit_codes.append(process.returncode)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


@pytest.fixture
def start_cli(warm_python):
    """As ``run_cli``, but started only, as leader of a process group; killed after the test."""
    started = []

    def start(words, cwd, **environment):
        started.append(start_process(words, cwd, environment))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        _exit_codes.append(process.returncode)
        process.stdout.close()
        process.stderr.close()


@pytest.fixture(scope="session")
def torchrun():
    """Words after ``python`` that start two ranks on this machine."""
    return ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


@pytest.fixture
def call(capsys):
    """A function: runs an entry in this process → (exit code, stdout, stderr)."""

    def run(entry, *arguments):
        try:
            code = entry(*arguments)
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
