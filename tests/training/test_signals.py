import os
import signal

import pytest

from mindiffusion.training import signals
from mindiffusion.training.signals import Interrupted, stop_signals

BOTH = (signal.SIGINT, signal.SIGTERM)


def test_signals_are_collected_and_handlers_restored():
    before = [signal.getsignal(number) for number in BOTH]
    for number in BOTH:
        with stop_signals() as received:
            os.kill(os.getpid(), number)
            assert received == [number]
    assert [signal.getsignal(number) for number in BOTH] == before


@pytest.mark.parametrize("relayed", BOTH)
def test_signal_passed_on_by_a_launcher_is_no_second_one(relayed):
    with stop_signals() as received:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), relayed)
        assert received == [signal.SIGINT]


def test_later_signal_ends_at_once(monkeypatch):
    monkeypatch.setattr(signals, "RELAY_SECONDS", -1.0)
    with stop_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_interrupted_names_its_signal():
    assert Interrupted(signal.SIGTERM).signal_number == 15
