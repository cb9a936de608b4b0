"""How far a study's cells are, from its rows: what is scored, what is left, and how much."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.cells.tasks import Task, key_of
from benchmark.evaluation.milestone.parts import Part, parts_of
from benchmark.evaluation.milestone.proof import finisher_key, proof
from benchmark.rows.file import ROWS_FILE
from benchmark.rows.known_rows import known_rows
from benchmark.study.metric_catalogue import metrics_needing
from benchmark.study.study import Study
from mindiffusion.config.plan import Plan, resolve_plan
from mindiffusion.config.run import RunConfig, config_hash
from mindiffusion.data.store import num_train_images
from mindiffusion.errors import UserError
from mindiffusion.sampling import network_calls
from mindiffusion.training import checkpoint

_PASSES_OF_A_JACOBIAN = 700
"""Some 270 products with vectors, of two to three passes each."""


def title(config: RunConfig) -> str:
    """How a cell is called on screen, such as "CS/0"."""
    return f"{config.arm}/{config.seed}"


def study_proofs(study: Study) -> dict[Part, str]:
    """The parts that a study's milestones are scored in, and the row that proves each."""
    finisher = study.finisher
    keys: dict[Part, str] = {}
    if finisher is not None:
        keys["stitched"] = finisher_key(finisher, _last_step(finisher))
    parts = parts_of(study.evaluation)
    return {part: proof(study.evaluation, part, keys.get(part, "")) for part in parts}


def last_weights(config: RunConfig) -> Path:
    """The weights file of a run's last step, which is there once the run is trained."""
    return checkpoint.weights_path(config.run_dir, _last_step(config))


def _last_step(config: RunConfig) -> int:
    return resolve_plan(config, num_train_images(config.data)).total_steps


def scored_steps(study: Study, config: RunConfig, part: Part | None = None) -> set[int]:
    """Milestones of a run that have all rows of a part, or of all parts."""
    wanted = [name for one, name in study_proofs(study).items() if part in (None, one)]
    run_key = (config.arm, config.seed, config_hash(config))
    proofs = known_rows(study.folder / ROWS_FILE).read_on().scored.get(run_key, {})
    return set.intersection(*(proofs.get(name, set()) for name in wanted))


def is_unfinished(study: Study, config: RunConfig, part: Part | None = None) -> bool:
    """Whether a run has milestones that are not scored, in one part or in any."""
    milestones = resolve_plan(config, num_train_images(config.data)).milestones
    return not scored_steps(study, config, part) >= set(milestones)


def scoring_of(study: Study, runs: Sequence[RunConfig]) -> list[Task]:
    """The tasks that some runs of a study are there for: every part of their scores."""
    return [Task(part, *key_of(run)) for run in runs for part in parts_of(study.evaluation)]


def is_done(study: Study, config: RunConfig, task: Task) -> bool:
    """Whether a task is done, by the study's rows and the weights that are kept.

    A run is trained if the weights of its last step are there, whoever put them there.

    Args:
        study: the study.
        config: the run of the task's cell.
        task: the task.
    """
    if task.what == "train":
        return last_weights(config).exists()
    return not is_unfinished(study, config, task.what)


def refuse_stale_rows(study: Study, config: RunConfig, manifest_id: str | None = None) -> None:
    """Refuse, before anything is trained, to mix this run with rows of other settings or data.

    Args:
        study: the study.
        config: one of its runs.
        manifest_id: of its data; None: they are not prepared yet, so only settings are compared.

    Raises:
        UserError: the study's rows have this arm and seed with another config or manifest.
    """
    refuse_other_rows(study.folder, config.arm, config.seed, config_hash(config), manifest_id)


def refuse_other_rows(
    folder: Path, arm: str, seed: int, own: str, manifest_id: str | None = None
) -> None:
    """Refuse rows of a run that has another hash now, or other data.

    Args:
        folder: of the study.
        arm: of the run.
        seed: of the run.
        own: its hash.
        manifest_id: of its data; None: whatever they are.

    Raises:
        UserError: the study's rows have this arm and seed with another hash or manifest.
    """
    path = folder / ROWS_FILE
    found = known_rows(path).read_on().made_with.get((arm, seed), set())
    for hash_of_rows, manifest in sorted(found):
        if hash_of_rows == own and manifest_id in (None, manifest):
            continue
        raise UserError(
            f"{path} has rows of arm {arm!r}, seed {seed} with another config or "
            f"other data (config {hash_of_rows}, data {manifest}); choose another --output, "
            f"or delete the folder {folder}."
        )


@dataclass(frozen=True)
class Work:
    """Work of one run in forward passes of one image, for progress and time left.

    Attributes:
        step: one training step (backward counts as two forward passes).
        milestone: scoring one milestone.
        end: what the last milestone takes beyond that.
    """

    step: float
    milestone: float
    end: float = 0.0

    def total(self, whole: Plan) -> float:
        """Work of the whole run."""
        scoring = self.milestone * len(whole.milestones) + self.end
        return self.step * whole.total_steps + scoring


def work_of(study: Study, config: RunConfig) -> Work:
    """Work of a run, counted from its config."""
    evaluation = study.evaluation
    # Two sets of weights on held-out and on training images.
    profiles = 4 * evaluation.profile_levels * evaluation.profile_images
    draws = 1 + 2 * len(evaluation.stitch_levels) * ("stitched" in evaluation.metrics)
    samples = evaluation.curve_size * network_calls(config) * draws
    ablated = "ablation" in evaluation.metrics
    sets = len(config.curriculum) * (1 + evaluation.features.ablation_draws) * ablated
    ways = [config] * evaluation.num_sampling_seeds
    ways += [variant.of(config) for variant in evaluation.variants]
    at_end = evaluation.num_generated * sum(map(network_calls, ways))
    return Work(
        step=3.0 * config.training.global_batch,
        milestone=float(samples + profiles + _of_features(study)),
        end=float(at_end - evaluation.curve_size * network_calls(config) + sets * profiles / 4),
    )


def _of_features(study: Study) -> int:
    """Forward passes behind the features of a milestone's layers and its Jacobians."""
    settings, metrics = study.evaluation.features, set(study.evaluation.metrics)
    images = settings.images * bool(metrics_needing("layers") & metrics)
    images += settings.jacobian_images * _PASSES_OF_A_JACOBIAN * ("jacobian" in metrics)
    return images * len(settings.levels)
