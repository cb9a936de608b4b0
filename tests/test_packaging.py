"""What pyproject.toml promises of versions is what is tested."""

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version


@pytest.fixture(scope="module")
def required(repository):
    """Every requirement of the project, with its extras'."""
    with (repository / "pyproject.toml").open("rb") as handle:
        project = tomllib.load(handle)["project"]
    listed = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(text) for some in listed for text in some]


def pins(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return {name.lower(): Version(version) for name, version in (x.split("==") for x in lines)}


def test_the_lowest_tested_versions_are_the_lowest_allowed(required, repository):
    lowest = pins(repository / ".ci" / "lowest.txt")
    floors = {
        one.name.lower(): Version(specifier.version)
        for one in required
        for specifier in one.specifier
        if specifier.operator in (">=", "==")
    }
    # "==0.1.35" of a requirement and of the list are one; stubs have no floor.
    assert lowest == floors


def test_the_tested_set_is_allowed(required, repository):
    tested = pins(repository / ".ci" / "constraints.txt")
    for one in required:
        name = one.name.lower().replace("_", "-")
        found = {key.replace("_", "-"): value for key, value in tested.items()}[name]
        assert found in one.specifier, name
