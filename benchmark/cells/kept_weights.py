"""Which weights a run keeps once they are scored: ``training.keep_scored``."""

from pathlib import Path

from benchmark.cells.progress import scored_steps
from benchmark.study.study import Study
from mindiffusion.config.plan import Plan
from mindiffusion.config.run import RunConfig
from mindiffusion.errors import UserError
from mindiffusion.training import checkpoint


def delete_scored(study: Study, config: RunConfig, plan: Plan) -> None:
    """Delete the weights of milestones of which all parts are scored, where the run wants that.

    Those of the last milestone stay: they are the result of the training, and what finishes other
    runs' samples. Those of a milestone that waits for a finisher stay until it is scored.

    Args:
        study: the study.
        config: one of its runs; the caller keeps other writers out of its folder.
        plan: the run's.
    """
    if config.training.keep_scored == "all":
        return
    for step in scored_steps(study, config) & set(plan.milestones[:-1]):
        checkpoint.delete(checkpoint.weights_path(config.run_dir, step))


def weights_to_score(config: RunConfig, step: int) -> Path:
    """The file of a milestone that is to be scored.

    Raises:
        UserError: it is gone, say because it was scored before in another way.
    """
    path = checkpoint.weights_path(config.run_dir, step)
    if not path.exists():
        raise UserError(
            f"{path} is to be scored and is not there (training.keep_scored: last deletes what is "
            "scored). Score as before, put the file back, or train anew with another --output."
        )
    return path
