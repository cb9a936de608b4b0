import re

import pytest

from benchmark.study.declaration import PREREG, declaration, fingerprint
from benchmark.study.index import EXPLORATORY
from benchmark.study.study import load_study, study_names


@pytest.fixture
def document(tmp_path):
    """A function: study → a document that declares it."""

    def write(study, rules="Rules.", other=""):
        path = tmp_path / "PREREG.md"
        line = f"- `{study.name}`: `{fingerprint(study)}`"
        path.write_text(f"# Declared\n\n{rules}\n\n## Declared studies\n\n{other}{line}\n")
        return path

    return write


def test_declared_study_carries_the_hash_of_the_rules_and_its_own_line(document):
    study = load_study("demo")
    first = declaration(study, document(study))
    assert re.fullmatch(r"prereg-[0-9a-f]{12}", first)
    assert declaration(study, document(study, rules="Afterthought.")) not in (first, EXPLORATORY)
    # Another study that is declared while this one runs.
    assert declaration(study, document(study, other="- `later`: `0123456789ab`\n")) == first


def test_a_line_among_the_rules_declares_nothing(document):
    study = load_study("demo")
    path = document(study)
    path.write_text(path.read_text().replace("## Declared studies", "## Rules"))
    assert declaration(study, path) == EXPLORATORY


@pytest.mark.parametrize(
    "options",
    [
        {"overrides": ["training.lr=1e-3"]},
        {"overrides": ["evaluation.num_generated=512"]},
        {"overrides": ["seeds=[0, 1]"]},
        {"smoke": True},
    ],
)
def test_another_config_is_exploratory(options, document):
    path = document(load_study("demo"))
    assert declaration(load_study("demo", **options), path) == EXPLORATORY


def test_where_results_go_is_no_other_study(document, tmp_path):
    path = document(load_study("demo"))
    assert declaration(load_study("demo", output=str(tmp_path)), path) != EXPLORATORY


def test_without_the_document_all_is_exploratory(tmp_path):
    assert declaration(load_study("demo"), tmp_path / "none.md") == EXPLORATORY


def test_document_declares_no_study_that_has_changed_since():
    """A stale fingerprint would declare a study that nobody can run any more."""
    text = PREREG.read_text()
    declared = re.findall(r"^- `([^`]+)`: `([0-9a-f]{12})`", text, re.MULTILINE)
    assert {name for name, _ in declared} <= set(study_names())
    assert all(fingerprint(load_study(name)) == digits for name, digits in declared)


def test_the_example_of_hypotheses_in_the_documents_can_be_read(repository, tmp_path):
    text = (repository / "docs" / "statistics.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(hypotheses:.*?)```", text, re.DOTALL)[1]
    names = {"b": "B", "c": "C", "low": "low-first"}
    arms = "".join(f"  {key}: {{extends: [arms/c], arm: {name}}}\n" for key, name in names.items())
    run = "run: {data: {dataset: avatars, num_train: 256}, training: {steps: 64}}\n"
    path = tmp_path / "mine.yaml"
    path.write_text(f"seeds: [0]\narms:\n{arms}controls_of: [c, low]\n{run}{example}")
    terms = load_study(str(path)).terms
    assert [one.expected for one in terms.hypotheses] == ["better", "equal"]
    assert len(terms.hypotheses[1].weights) == 4 and terms.smallest_effect == 0.05
