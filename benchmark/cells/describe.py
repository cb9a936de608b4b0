"""What a study's folder says of itself: the index of its cells and arms, ``study.json``."""

import os
from dataclasses import asdict
from typing import Any

from benchmark.cells.progress import study_proofs
from benchmark.study.declaration import declaration
from benchmark.study.index import DECLARED, FLOPS, INDEX_FILE, NETWORKS
from benchmark.study.study import Study
from benchmark.study.terms import written_terms
from mindiffusion.build import network_without_memory
from mindiffusion.config.model import ModelConfig
from mindiffusion.config.plan import resolve_plan
from mindiffusion.config.run import RunConfig, to_kept
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
    arms = {arm: first[arm] for arm in reversed(first)}
    # Many arms have one network, and to count it takes a third of a second.
    alike = {_network_key(config): config for config in arms.values()}
    counts = {key: _counts(config) for key, config in alike.items()}
    of_arm = {arm: counts[_network_key(config)] for arm, config in arms.items()}
    index = {
        "study": study.name,
        "proofs": proofs,
        "evaluation": study.evaluation.settings,
        **written_terms(study.terms),
        DECLARED: declaration(study),
        "arms": {arm: _arm_entry(config, of_arm[arm][0]) for arm, config in arms.items()},
        # Apart from the arms, which must agree between folders: another version may count and
        # describe otherwise.
        FLOPS: {arm: flops for arm, (_, flops) in of_arm.items()},
        NETWORKS: {arm: _network_entry(config) for arm, config in arms.items()},
        "cells": cells,
    }
    write_json(study.folder / INDEX_FILE, index)


def _network_key(config: RunConfig) -> tuple[ModelConfig, tuple[int, int, int]]:
    return config.model, config.input_shape


def _counts(config: RunConfig) -> tuple[int, int]:
    """Weights of a run's network, and floating-point operations of a training step on one image."""
    network = network_without_memory(config)
    parameters = sum(weights.numel() for weights in network.parameters())
    channels, side, _ = config.input_shape
    return parameters, step_cost(network, channels, side).flops


def _network_entry(config: RunConfig) -> dict[str, Any]:
    """What an arm's network says of itself, and what it sees."""
    words, limit = config.model.words + config.codec.words, config.model.capacity_limit
    return {"words": words, "capacity_limit": None if limit is None else asdict(limit)}


def _arm_entry(config: RunConfig, parameters: int) -> dict[str, Any]:
    """What is the same for all seeds of an arm; its curriculum may not be, and is in the rows."""
    content = to_kept(config)
    for name in ("arm", "seed", "output", "samples", "curriculum"):
        del content[name]
    sizes = {"num_train": num_train_images(config.data), "parameters": parameters}
    return {"config": content, **sizes}
