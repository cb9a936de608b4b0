"""How faults are planted. Whether their list fits the code is asked by ``make mutants``."""

import dataclasses
import re

import pytest
from mutant import Mutant, plant, why_stale
from mutants import MUTANTS


def test_mutants_have_names_of_their_own_and_are_enough():
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names) >= 25
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)


def test_plant_changes_the_copy_and_refuses_a_stale_entry(tmp_path):
    mutant = Mutant("m", "a.py", "x = 1\n", "x = 2\n", ("t",))
    (tmp_path / "a.py").write_text("x = 1\ny = 1\n")
    plant(mutant, tmp_path)
    assert (tmp_path / "a.py").read_text() == "x = 2\ny = 1\n"
    with pytest.raises(ValueError, match="'m' is stale: its text stands 0 times"):
        plant(mutant, tmp_path)
    assert "stands 0 times" in why_stale(mutant, tmp_path)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"old": "z = 1"}, "stands 0 times"),
        ({"old": " = 1"}, "stands 2 times"),
        ({"new": "x = (\n"}, "never closed"),
        ({"file": "b.py"}, "No such file"),
        ({"tests": ("test_a.py::test_two",)}, "no test_a.py::test_two"),
        ({"tests": ()}, "names no tests"),
    ],
)
def test_stale_entries_are_told(tmp_path, changes, why):
    (tmp_path / "a.py").write_text("x = 1\ny = 1\n")
    (tmp_path / "test_a.py").write_text("def test_one(): pass\n")
    mutant = Mutant("m", "a.py", "x = 1\n", "x = 2\n", ("test_a.py::test_one",))
    found = why_stale(dataclasses.replace(mutant, **changes), tmp_path)
    assert why in found and bool(found) == bool(why)
