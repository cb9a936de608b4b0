"""Nets trained and scored, one after the other, by the program's own trainer.

A killed run continues: a net goes on from its last state, milestones without rows are scored from
their weights, and nets with all their rows are passed over.
"""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmark.difficulty.scoring import Scoring
from benchmark.difficulty.setting import Net, Setting
from benchmark.rows.file import ROWS_FILE
from benchmark.rows.keeper import Keeper
from benchmark.rows.known_rows import known_rows
from mindiffusion.data.prepared import PreparedData
from mindiffusion.training import checkpoint
from mindiffusion.training.loop import Hooks
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.run_folder import run


def is_done(scoring: Scoring) -> bool:
    """Whether a net has the rows of all its milestones."""
    return not _missing(scoring, scoring.plan.total_steps)


def _missing(scoring: Scoring, trained: int) -> list[int]:
    """Milestones up to a step that have not all their rows."""
    config = scoring.config
    known = known_rows(Path(scoring.setting.folder) / ROWS_FILE).rows_of(config.arm, config.seed)
    rows = list(known.values())
    reached = (step for step in scoring.plan.milestones if step <= trained)
    return [step for step in reached if not scoring.are_complete(rows, step)]


def _score(scoring: Scoring, trained: int) -> None:
    config = scoring.config
    keeper = Keeper(Path(scoring.setting.folder) / ROWS_FILE, config.arm, config.seed)
    for step in _missing(scoring, trained):
        content = checkpoint.load(checkpoint.weights_path(config.run_dir, step))
        keeper.add(scoring.milestone_rows(content))


def train_net(
    setting: Setting,
    net: Net,
    data: PreparedData,
    side_by_side: int,
    on_steps: Callable[[int], None] = lambda count: None,
) -> None:
    """Train a net to its end, with rows at each milestone; its weights go when all are written.

    Args:
        setting: the difficulty run.
        net: which net.
        data: its prepared data.
        side_by_side: processes that share this machine, this one among them.
        on_steps: called after each step with the steps since the last call; at first, with all.

    Raises:
        Interrupted: asked to stop; the state is saved.
    """
    scoring = Scoring(setting, net, data)
    if is_done(scoring):
        return
    known = 0

    def step_done(step: int, total: int) -> None:
        nonlocal known
        on_steps(step - known)
        known = step

    hooks = Hooks(on_step=step_done, on_milestone=lambda step, path: _score(scoring, step))
    ranks = Ranks(runs_on_machine=side_by_side)
    trainer = run(scoring.config, data.training, ranks, lambda trainer: hooks)
    _score(scoring, trainer.step)
    # It was a measurement: nobody draws from these weights, and hundreds would fill a disk.
    shutil.rmtree(scoring.config.run_dir)


def train_nets(
    setting: Setting,
    nets: Iterable[Net],
    data: PreparedData,
    side_by_side: int,
    on_steps: Callable[[int], None],
) -> None:
    """Train nets one after the other.

    Args:
        setting: the difficulty run.
        nets: which ones.
        data: its prepared data.
        side_by_side: as of ``train_net``.
        on_steps: as of ``train_net``.
    """
    for net in nets:
        train_net(setting, net, data, side_by_side, on_steps)
