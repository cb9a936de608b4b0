"""Which cells ``--arms`` and ``--seeds`` choose, and what is said of those that there are not."""

from pathlib import Path

import pytest

from benchmark.study.choice import choose_runs
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion.errors import UserError

ARMS = {"B": "b", "density*": "density-star", "A/A": "a-a"}


@pytest.fixture(scope="module")
def study(tiny_config):
    runs = tuple(
        tiny_config("b", f"arm={arm!r}", f"seed={seed}", output=f"results/tiny/{folder}")
        for seed in range(4)
        for arm, folder in ARMS.items()
    )
    return Study("tiny", Path("results/tiny"), runs, EvaluationConfig())


def chosen(study, arms=None, seeds=None):
    return [(run.arm, run.seed) for run in choose_runs(study, arms, seeds)]


def test_nothing_said_chooses_every_cell(study):
    assert choose_runs(study, None, None) == study.runs


@pytest.mark.parametrize("arms", ["B,density*", "density-star,b", " density* , B "])
def test_arms_are_chosen_by_name_or_folder_in_the_studys_order(study, arms):
    assert chosen(study, arms, "2") == [("B", 2), ("density*", 2)]


@pytest.mark.parametrize(
    ("seeds", "found"), [("0,3", [0, 3]), ("1-3", [1, 2, 3]), ("0,2-3,2", [0, 2, 3])]
)
def test_seeds_are_numbers_and_ranges(study, seeds, found):
    assert chosen(study, "A/A", seeds) == [("A/A", seed) for seed in found]


@pytest.mark.parametrize(
    ("arms", "seeds", "message"),
    [
        ("densty*", None, "no arm 'densty*'. Did you mean 'density*'?"),
        ("CS", None, "no arm 'CS'. Allowed: A/A, B, density*."),
        ("B,", None, "--arms 'B,': write names between commas"),
        (None, "4", "--seeds '4': tiny has the seeds 0, 1, 2, 3; give other ones to the study"),
        (None, "2-5", "has the seeds 0, 1, 2, 3"),
        (None, "3-2", "has the seeds 0, 1, 2, 3"),
        (None, "x", "--seeds 'x': write numbers and ranges"),
        (None, "-1", "write numbers and ranges"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(study, arms, seeds, message):
    with pytest.raises(UserError) as error:
        choose_runs(study, arms, seeds)
    assert message in str(error.value) and "\n" not in str(error.value)
