"""A study's index: which cells it has, and how its arms are trained and scored.

Written when a study starts (``benchmark.cells.local``), kept beside the rows; never imports torch.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.study.hypotheses import Hypotheses
from benchmark.study.measure import PrimaryMetric, SmallestEffect, smallest_effect_of
from benchmark.study.terms import Gate, terms_of
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import MOST_JSON_BYTES, Name, first_fault, parse_json
from mindiffusion.outside.paths import inside, read_file

INDEX_FILE = "study.json"
# Counted, and said in words: folders of two versions may differ in them.
FLOPS, NETWORKS = "flops_per_image", "networks"
# Settings that were swept, with the arms that are their points: ``benchmark.study.sweeps``.
SWEEPS = "sweeps"
# Of the study whose terms stand in the index; rows may be of an earlier one.
DECLARED = "declared"
EXPLORATORY = "exploratory"
"""What rows and index say of a study that is not declared."""
_MOST_CELLS, _MOST_MILESTONES, _MOST_PLACES = 10_000, 10_000, 1_000
_Step = Annotated[int, Field(ge=0, le=2**53)]


class _Open(BaseModel):
    """What a newer version adds is kept, so that joining folders loses nothing."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, frozen=True)


class _Cell(_Open):
    arm: Name
    seed: _Step
    run: Annotated[str, Field(max_length=1024)]
    milestones: Annotated[list[_Step], Field(max_length=_MOST_MILESTONES)]
    total_steps: _Step = 0


class _Arm(_Open):
    config: dict[str, Any] = {}
    num_train: _Step = 0
    parameters: _Step = 0


class _Limit(_Open):
    mechanism: Name = ""
    location: Name = ""
    control: Name = ""
    values: Name = ""
    places: Annotated[list[Name], Field(max_length=_MOST_PLACES)] = []


class _Network(_Open):
    words: Name
    capacity_limit: _Limit | None = None


class _Scoring(_Open):
    metrics: list[Name] = []
    num_generated: Annotated[int, Field(ge=1, le=2**53)] | None = None
    finisher: Name = ""


class _Point(_Open):
    value: Annotated[float, Field(gt=0)]
    arms: dict[Name, Name]
    made: list[Name]


class _Sweep(_Open):
    setting: Name
    points: Annotated[list[_Point], Field(max_length=50)]


class _Index(_Open):
    study: Name
    about: Annotated[list[Name], Field(max_length=20)] = []
    cells: Annotated[list[_Cell], Field(max_length=_MOST_CELLS)]
    proofs: list[Name] = []
    evaluation: _Scoring = _Scoring()
    gate: Gate | None = None
    endpoint: PrimaryMetric | None = None
    hypotheses: Hypotheses | None = None
    smallest_effect: SmallestEffect | None = None
    declared: Name | None = None
    arms: dict[Name, _Arm] = {}
    flops_per_image: dict[Name, _Step] = {}
    networks: dict[Name, _Network] = {}
    sweeps: Annotated[list[_Sweep], Field(max_length=100)] = []


def read_index(study_dir: Path) -> dict[str, Any]:
    """A study's index; empty where there is none.

    Its keys: ``study``, ``about`` (sentences about it, if it has any), ``proofs`` (metrics of the
    rows that prove a milestone's others), ``evaluation`` (how milestones are scored), ``gate``,
    ``endpoint``, ``hypotheses`` and ``smallest_effect`` (how it is judged:
    ``benchmark.study.terms``), ``declared`` (of the very study that the index describes:
    ``benchmark.study.declaration``), ``sweeps`` (as of ``benchmark.study.sweeps``, if there are
    any), ``arms`` (by name: ``config`` without what differs between seeds, ``num_train``,
    ``parameters``), ``flops_per_image`` (by arm: operations of a training step), ``networks`` (by
    arm: what its network says of itself, as ``words`` and ``capacity_limit`` of
    ``mindiffusion.config.model``) and ``cells`` (arm, seed, run's folder inside the study's,
    steps).

    Raises:
        UserError: it is damaged, or a cell's folder leads out of the study's.
    """
    advice = "give the study's command again, which writes it anew."
    path = study_dir / INDEX_FILE
    try:
        content = read_file(path, MOST_JSON_BYTES)
    except FileNotFoundError:
        return {}
    index = parse_json(content, _Index, str(path), advice)
    runs = [cell.run for cell in index.cells]
    for run in runs:
        inside(study_dir, run)
    if len(set(runs)) < len(runs):
        raise UserError(f"{path} has two cells in one folder; {advice}")
    names = [hypothesis.name for hypothesis in index.hypotheses or ()]
    if len(set(names)) < len(names):
        raise UserError(f"{path} has two hypotheses of one name; {advice}")
    # As it was written: tables list settings in its order.
    whole: dict[str, Any] = json.loads(content)
    try:
        smallest_effect_of(index.endpoint or PrimaryMetric(), index.smallest_effect)
        terms_of(whole)
    except (UserError, ValidationError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{path}: {fault.removesuffix('.')}; {advice}") from None
    return whole


def unproved_milestones(
    index: Mapping[str, Any], found: Collection[tuple[str, int, int, str]]
) -> list[tuple[str, int, int]]:
    """Arm, seed and step of milestones that lack the row of a proof, in the order of the index.

    Args:
        index: a study's; it may be empty.
        found: arm, seed, step and metric of rows, of those that prove at least.
    """
    proofs = index.get("proofs", ())
    return [
        (cell["arm"], cell["seed"], step)
        for cell in index.get("cells", ())
        for step in cell["milestones"]
        if any((cell["arm"], cell["seed"], step, proof) not in found for proof in proofs)
    ]
