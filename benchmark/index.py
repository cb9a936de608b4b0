"""A study's index: which cells it has, and how its arms are trained and scored.

Written when a study starts (``benchmark.runner``), kept beside the rows; never imports torch.
"""

import json
from pathlib import Path
from typing import Any

from mindiffusion.errors import UserError

INDEX_FILE = "study.json"
# Counted, not chosen: folders of two versions may differ in it.
FLOPS = "flops_per_image"


def read_index(study_dir: Path) -> dict[str, Any]:
    """A study's index; empty where there is none.

    Its keys: ``study``, ``proofs`` (metrics of the rows that prove a milestone's others),
    ``evaluation`` (how milestones are scored), ``arms`` (by name: ``config`` without what differs
    between seeds, ``num_train``, ``parameters``), ``flops_per_image`` (by arm: operations of a
    training step) and ``cells`` (arm, seed, run's folder, steps).

    Raises:
        UserError: it is damaged.
    """
    path = study_dir / INDEX_FILE
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}); give the study's command again, which writes it anew."
        ) from None
    return dict(content)
