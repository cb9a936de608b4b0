import contextlib

import pytest

from benchmark.speed.timing import Loop, measure, paired_ratio, spread, steps_that_take, turns


class Recorded(Loop):
    """A loop that takes a known time, by a clock of the test's own."""

    def __init__(self, name, seconds_per_step, log, clock):
        self.name, self.images_per_step = name, 10
        self._seconds, self._log, self._clock = seconds_per_step, log, clock
        self.in_turn = False

    def run(self, steps):
        assert self.in_turn
        self._log.append((self.name, steps))
        self._clock[0] += steps * self._seconds

    @contextlib.contextmanager
    def turn(self):
        self.in_turn = True
        yield
        self.in_turn = False


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("benchmark.speed.timing.time.perf_counter", lambda: now[0])
    return now


def test_turns_give_every_loop_one_turn_a_repeat_with_changing_starts():
    order = list(turns(3, 4))
    repeats = [order[3 * k : 3 * k + 3] for k in range(4)]
    assert repeats == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]


def test_measure_interleaves_turns_and_times_all_but_the_lead_in(clock):
    log = []
    loops = [Recorded("slow", 1.0, log, clock), Recorded("fast", 0.25, log, clock)]
    slow, fast = measure(loops, 2, turn_seconds=4.0)
    warm_up = [("slow", 3), ("slow", 2), ("fast", 3), ("fast", 2)]
    first = [("slow", 1), ("slow", 4), ("fast", 1), ("fast", 16)]
    second = [("fast", 1), ("fast", 16), ("slow", 1), ("slow", 4)]
    assert log == warm_up + first + second
    assert slow.images_per_second == pytest.approx((10.0, 10.0))
    assert fast.images_per_second == pytest.approx((40.0, 40.0))
    assert (slow.first_seconds, fast.first_seconds) == pytest.approx((3.0, 0.75))


def test_measure_does_at_least_a_loops_least_steps(clock):
    log = []
    measure([Recorded("slow", 60.0, log, clock)], 1, turn_seconds=4.0)
    assert log[-1] == ("slow", 2)


def test_measure_takes_the_steps_that_ranks_agree_on(clock):
    log = []
    measure([Recorded("one", 1.0, log, clock)], 1, agree=lambda own: own + 3, turn_seconds=4.0)
    assert log[-1] == ("one", 7)


def test_measure_tells_whose_turn_it_is(clock):
    seen = []
    loops = [Recorded(name, 1.0, [], clock) for name in "ab"]
    measure(loops, 2, seen.append, turn_seconds=1.0)
    assert seen == ["a", "b", "a", "b", "b", "a"]


@pytest.mark.parametrize(
    ("seconds_per_step", "steps"), [(10.0, 1), (4.0, 1), (1.5, 3), (1e-9, 1000), (0.0, 1000)]
)
def test_steps_that_take_rounds_up_within_bounds(seconds_per_step, steps):
    assert steps_that_take(4.0, seconds_per_step) == steps


def test_ratio_is_taken_within_each_repeat():
    """The machine slowed down by half for one repeat; the ratio does not mind."""
    ratio = paired_ratio([30.0, 15.0, 33.0], [10.0, 5.0, 10.0])
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((3.0, 3.0, 3.3))


def test_ratio_of_unequal_repeats_is_refused():
    with pytest.raises(ValueError):
        paired_ratio([1.0], [1.0, 2.0])


def test_spread_is_median_lowest_and_highest():
    found = spread([5.0, 1.0, 9.0, 2.0])
    assert (found.median, found.low, found.high) == (3.5, 1.0, 9.0)
