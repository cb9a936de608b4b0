import json

import numpy as np
import pytest
import torch

from mindiffusion.training.watch import VOLATILE


def _same(a, b, path, tolerance):
    assert type(a) is type(b), path
    if isinstance(a, torch.Tensor):
        if tolerance is None:
            # Bits, not values: -0.0 differs from 0.0 and NaN equals itself.
            assert a.dtype == b.dtype and a.shape == b.shape, path
            assert a.contiguous().numpy().tobytes() == b.contiguous().numpy().tobytes(), path
        else:
            assert (a.double() - b.double()).abs().max() <= tolerance, path
    elif isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            _same(a[key], b[key], f"{path}.{key}", tolerance)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            _same(x, y, f"{path}[{i}]", tolerance)
    else:
        assert a == b or (a != a and b != b), path


@pytest.fixture(scope="session")
def assert_same():
    """A function: two nested states are equal bit for bit (or within a tolerance)."""

    def check(a, b, tolerance=None):
        # The log inside a state has the clock's fields; ``log_lines`` compares the rest of it.
        clock = ("train_seconds", "log")
        clockless = [{k: v for k, v in state.items() if k not in clock} for state in (a, b)]
        for state in clockless:
            if "config" in state:
                state["config"] = state["config"] | {"output": ""}
        _same(*clockless, "state", tolerance)

    return check


@pytest.fixture(scope="session")
def log_lines():
    """A function: run folder → lines of metrics.jsonl without clock fields."""

    def read(run_dir):
        lines = (run_dir / "metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(x).items() if k not in VOLATILE} for x in lines]

    return read


@pytest.fixture
def drive_words(repository, avatars, tmp_path):
    """A function: contents of jobs → the words that run them with ``drive_training.py``."""

    def words(*jobs):
        np.save(tmp_path / "images.npy", avatars.train)
        files = []
        for number, job in enumerate(jobs):
            files.append(tmp_path / f"job{number}.json")
            files[-1].write_text(json.dumps(job | {"manifest": avatars.manifest_id}))
        script = repository / "tests" / "training" / "drive_training.py"
        return [script, tmp_path / "images.npy", *files]

    return words
