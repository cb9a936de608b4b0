"""The list of planted faults fits the tree; whether tests notice them, ``make mutants`` tells."""

import re

import pytest
from mutant import Mutant, plant
from mutants import MUTANTS


def test_mutants_have_names_of_their_own_and_are_enough():
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names) >= 25
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_finds_its_text_once_and_its_tests(mutant, repository):
    text = (repository / mutant.file).read_text()
    assert text.count(mutant.old) == 1 and mutant.new != mutant.old
    compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")
    assert mutant.tests
    for target in mutant.tests:
        path, _, name = target.partition("::")
        assert f"def {name}" in (repository / path).read_text(), target


def test_plant_changes_the_copy_and_refuses_a_stale_entry(tmp_path):
    mutant = Mutant("m", "a.py", "x = 1\n", "x = 2\n", ("t",))
    (tmp_path / "a.py").write_text("x = 1\ny = 1\n")
    plant(mutant, tmp_path)
    assert (tmp_path / "a.py").read_text() == "x = 2\ny = 1\n"
    with pytest.raises(ValueError, match="'m' is stale: its text stands 0 times"):
        plant(mutant, tmp_path)
