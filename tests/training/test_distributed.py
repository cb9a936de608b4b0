"""What ranks say to each other besides numbers, with threads for ranks and a store in memory."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from mindiffusion.errors import LostContact, UserError
from mindiffusion.training import ranks as ranks_module
from mindiffusion.training.ranks import Ranks, ranks_from_environment
from mindiffusion.training.signals import stop_signals

GLOO = "[gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer."


@pytest.fixture
def group(monkeypatch):
    """An open group of ranks that wait 1 s for each other."""
    monkeypatch.setattr(ranks_module, "_NOTE_SECONDS", 0.05)
    opened = ranks_module._Group(dist.HashStore(), timeout_seconds=1.0)
    monkeypatch.setattr(ranks_module, "_open_group", opened)
    return opened


# -- phases -------------------------------------------------------------------------------------


def test_phase_names_itself_its_rank_and_who_does_not_come(group):
    group.store.set("waiting/2", "")
    with pytest.raises(LostContact) as lost, Ranks(1, 4).phase("step 7: stop agreement"):
        raise RuntimeError(GLOO)
    message = str(lost.value)
    assert message.startswith("rank 1 waited 0.0 s in step 7: stop agreement for rank 0, 3, hung")
    assert "training.timeout_seconds" not in message and "\n" not in message


def test_phase_that_timed_out_says_how_to_wait_longer(group):
    named = pytest.raises(LostContact, match=r"longer training\.timeout_seconds")
    with named, Ranks(1, 2).phase("start"):
        raise RuntimeError("[gloo/transport/tcp/buffer.cc] Timed out waiting 3000ms")


@pytest.mark.parametrize("world", [1, 2])
def test_phase_leaves_errors_that_are_about_no_rank(world, group):
    for error in (RuntimeError("shapes do not fit"), ValueError("gloo")):
        with pytest.raises(type(error), match=str(error)), Ranks(0, world).phase("start"):
            raise error


def test_phase_of_a_rank_alone_changes_nothing():
    with pytest.raises(RuntimeError, match="Connection reset"), Ranks().phase("start"):
        raise RuntimeError(GLOO)


# -- the main rank alone ------------------------------------------------------------------------


def test_others_wait_for_the_main_rank_longer_than_the_time_out_while_it_is_alive(group):
    main, other = Ranks(0, 2), Ranks(1, 2)
    order = []

    def work():
        for _ in range(50):
            time.sleep(0.03)
            main.alive()
        order.append("main")
        group.store.set("alone/0", "done")

    thread = threading.Thread(target=work)
    thread.start()
    with other.main_alone("step 3: checkpoint"):
        pass
    order.append("other")
    thread.join()
    assert order == ["main", "other"]


def test_others_give_up_a_main_rank_that_is_silent(group):
    named = pytest.raises(LostContact, match=r"rank 1 waited .* in step 3: checkpoint for rank 0")
    with named, Ranks(1, 2).main_alone("step 3: checkpoint"):
        pass


def test_others_do_not_wait_once_they_are_asked_to_stop(group):
    with stop_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        with Ranks(1, 2).main_alone("step 3: checkpoint"):
            pass
    assert not group.store.check(["alone/0"])


@pytest.mark.parametrize("error", [None, OSError("full")])
def test_main_rank_lets_the_others_go_on_whatever_happens(error, group):
    for turn in range(2):
        try:
            with Ranks(0, 2).main_alone("step 3: checkpoint"):
                assert not group.store.check([f"alone/{turn}"])
                if error:
                    raise error
        except OSError as raised:
            assert raised is error
        assert group.store.check([f"alone/{turn}"])


# -- meeting ------------------------------------------------------------------------------------


def meet(store, world, seconds=20.0):
    """What each of ``world`` ranks gets to share with the others."""
    with ThreadPoolExecutor(world) as threads:
        ranks = [Ranks(rank, world) for rank in range(world)]
        return list(threads.map(lambda rank: ranks_module._meet(store, rank, seconds), ranks))


def test_ranks_that_are_started_again_share_nothing_with_those_before():
    store = dist.HashStore()
    first = meet(store, 3)
    first[0].set("address", "of a dead process")
    assert all(part.check(["address"]) for part in first)
    # One of the next ranks died before it met the others, and left its name.
    store.set("here/2", "dead")
    second = meet(store, 3)
    assert not any(part.check(["address"]) for part in second)
    second[2].set("address", "new")
    assert [part.get("address") for part in second] == [b"new"] * 3


def test_rank_that_does_not_start_is_named():
    store = dist.HashStore()
    store.set("here/2", "dead")
    for rank, absent in ((0, "1, 2"), (2, "0")):
        named = pytest.raises(LostContact, match=f"rank {rank} waited .* for rank {absent}, hung")
        with named, Ranks(rank, 3).phase("start"):
            ranks_module._meet(store, Ranks(rank, 3), seconds=0.2)


# -- the environment ----------------------------------------------------------------------------

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
WHOLE = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "here", "MASTER_PORT": "29500"}


@pytest.fixture
def environment(monkeypatch):
    """A function: sets these variables of a launcher, and no other."""

    def have(**variables):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return have


def test_ranks_are_what_the_launcher_says(environment):
    environment(**WHOLE)
    assert ranks_from_environment() == Ranks(1, 4, 0, 4)
    environment(**WHOLE, LOCAL_RANK="1", LOCAL_WORLD_SIZE="2")
    assert ranks_from_environment() == Ranks(1, 4, 1, 2)


@pytest.mark.parametrize(
    "left", [{}, {"WORLD_SIZE": "2"}, {"WORLD_SIZE": "abc"}, {"WORLD_SIZE": "1", "RANK": ""}]
)
def test_variables_without_their_partner_make_one_rank(left, environment):
    environment(**left)
    assert ranks_from_environment() == Ranks()


@pytest.mark.parametrize(
    "wrong",
    [{"RANK": "x"}, {"RANK": "4"}, {"RANK": "-1"}, {"WORLD_SIZE": "1e3"}, {"MASTER_ADDR": ""},
     {"MASTER_PORT": "x"}],
)  # fmt: skip
def test_variables_that_contradict_each_other_are_one_line(wrong, environment):
    environment(**WHOLE | wrong)
    with pytest.raises(UserError, match="unset these variables for a single process"):
        ranks_from_environment()
