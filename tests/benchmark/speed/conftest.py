import pytest

from benchmark.speed import timing


@pytest.fixture
def short_turns(monkeypatch):
    """Turns of a few steps: what is tested is never how long they take."""
    monkeypatch.setattr(timing, "TURN_SECONDS", 0.01)


@pytest.fixture
def tiny_speed_words():
    """``--set`` words under which every part ends in seconds."""
    values = {
        "model.n_feat": 8,
        "data.num_train": 100,
        "training.global_batch": 16,
        "training.device": "cpu",
        "training.compile": "off",
        "training.threads": 1,
        "training.log_every": 3,
        "process.n_T": 100,
        "sampler.chunk": 1,
    }
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
