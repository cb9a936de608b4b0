"""What a study's folder says of itself: the index of its cells and arms, ``study.json``."""

import os
from dataclasses import asdict
from typing import Any

from torch import nn

from benchmark.cells.progress import study_proofs
from benchmark.study.index import FLOPS, INDEX_FILE
from benchmark.study.study import Study
from benchmark.study.terms import written_terms
from mindiffusion.build import IMAGE_CHANNELS, build_network
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.run import RunConfig, to_dict
from mindiffusion.data.store import num_train_images
from mindiffusion.files import write_json
from mindiffusion.step_cost import step_cost


def write_index(study: Study) -> None:
    """Keep in the study's folder which cells it has and what its arms and its scoring are.

    ``benchmark.cells.status`` reads it to look on, tables to say how rows were made.
    """
    cells = []
    for config in study.runs:
        whole = resolve_plan(config, num_train_images(config.data))
        cells.append(
            {
                "arm": config.arm,
                "seed": config.seed,
                "run": os.path.relpath(config.run_dir, study.folder),
                "total_steps": whole.total_steps,
                "milestones": whole.milestones,
            }
        )
    proofs = list(study_proofs(study).values())
    # In the order of the file; of each arm the first seed's run.
    first = {config.arm: config for config in reversed(study.runs)}
    arms = {arm: (first[arm], build_network(first[arm])) for arm in reversed(first)}
    index = {
        "study": study.name,
        "proofs": proofs,
        "evaluation": asdict(study.evaluation),
        **written_terms(study.terms),
        "arms": {arm: _arm_entry(*of_arm) for arm, of_arm in arms.items()},
        # Apart from the arms, which must agree between folders: another torch may count otherwise.
        FLOPS: {arm: _flops(*of_arm) for arm, of_arm in arms.items()},
        "cells": cells,
    }
    write_json(study.folder / INDEX_FILE, index)


def _arm_entry(config: RunConfig, network: nn.Module) -> dict[str, Any]:
    """What is the same for all seeds of an arm; its curriculum may not be, and is in the rows."""
    content = to_dict(config)
    for name in ("arm", "seed", "output", "samples", "curriculum"):
        del content[name]
    parameters = sum(weights.numel() for weights in network.parameters())
    sizes = {"num_train": num_train_images(config.data), "parameters": parameters}
    return {"config": content, **sizes}


def _flops(config: RunConfig, network: nn.Module) -> int:
    """Floating-point operations of a training step on one image."""
    return step_cost(network, IMAGE_CHANNELS, config.data.size).flops
