"""Was a study declared before it was run? Its fingerprint stands in docs/PREREG.md, or it was not.

Rows of a declared study carry the hash of what binds it, the document's rules and its own line; all
others are exploratory (rule 7 of the design). The document is the project's; a package installed
without its docs declares nothing.
"""

import re
from pathlib import Path

from benchmark.study.index import EXPLORATORY
from benchmark.study.kinds import hash_of_run
from benchmark.study.study import AnyStudy
from benchmark.study.terms import USUAL, written_terms
from mindiffusion.files import sha256_of_json

PREREG = Path(__file__).parents[2] / "docs" / "PREREG.md"
# The lines that declare follow this one, such as: - `avatars32`: `0123456789ab`
_LIST = "## Declared studies"
_DECLARED = re.compile(r"^- `(?P<study>[^`]+)`: `(?P<fingerprint>[0-9a-f]{12})`", re.MULTILINE)


def fingerprint(study: AnyStudy) -> str:
    """Twelve hex digits over all that a study's verdicts depend on: arms, seeds, scoring, terms.

    Of the terms the gate always counts, the others where a study declares its own: what holds
    otherwise stands among the document's rules.
    """
    runs = sorted((run.arm, run.seed, hash_of_run(run)) for run in study.runs)
    own, usual = written_terms(study.terms), written_terms(USUAL)
    judged = {name: own[name] for name in own if name == "gate" or own[name] != usual[name]}
    return sha256_of_json({"runs": runs, "evaluation": study.scoring, **judged})[:12]


def declaration(study: AnyStudy, document: Path = PREREG) -> str:
    """``prereg-<hash>`` if the document declares the very study, else ``exploratory``.

    The hash is of all that stands before the list of declared studies and of the study's own line:
    declaring another study later changes nothing, changing the rules does.

    Args:
        study: the study, as its file and options say; choosing cells of it changes nothing.
        document: where studies are declared.
    """
    if not document.is_file():
        return EXPLORATORY
    rules, _, declared = document.read_text(encoding="utf-8").partition(_LIST)
    own = study.name, fingerprint(study)
    if own not in {(m["study"], m["fingerprint"]) for m in _DECLARED.finditer(declared)}:
        return EXPLORATORY
    return f"prereg-{sha256_of_json([rules, *own])[:12]}"
