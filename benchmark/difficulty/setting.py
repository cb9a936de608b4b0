"""What a difficulty run is: its nets, and the intervals of the noise time that they are of."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, with_config

from benchmark.rows.file import ROWS_FILE, rows_files
from mindiffusion.config.presets import apply_overrides, build_config, load_preset, merge
from mindiffusion.config.run import RunConfig, differences, to_kept
from mindiffusion.curriculum.clusters import FEWEST, MOST
from mindiffusion.curriculum.density import Window
from mindiffusion.curriculum.stages import StageConfig
from mindiffusion.errors import UserError
from mindiffusion.files import write_json
from mindiffusion.outside.documents import Name, read_json

PRESET = "runs/difficulty_32"
JOINT = "all levels"
"""Arm of the nets that are trained on all noise levels."""
SETTING_FILE = "setting.json"
LEVELS = 2
"""Noise levels of an interval at which errors are measured."""
HELD_OUT = 64
"""Held-out images behind an error of one seed."""
_VERSION = 2
"""Raise it when the same settings give other rows."""
MOST_SEEDS = 100
_SEEDS = 2**32
_OWN_KEYS = ("arm", "seed", "noise_stream", "output", "samples", "curriculum", "pacing", "clusters")
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@with_config(_STRICT)
@dataclass(frozen=True)
class Net:
    """One network that is trained.

    Attributes:
        seed: training seed; nets of one seed share initial weights, data order and draws.
        interval: number of its interval, from 0 at low noise; None: all noise levels.
    """

    seed: int
    interval: int | None


@with_config(_STRICT)
@dataclass(frozen=True)
class Setting:
    """What a difficulty run is.

    Attributes:
        folder: where its rows, tables and nets go.
        run: what all nets share; seed, arm, output and curriculum are those of ``config_of``.
        num_intervals: N ≥ 2 intervals of equal noise time.
        num_seeds: training seeds 0, 1 …

    Raises:
        UserError: too few or too many of them, intervals with fewer than two noise levels, labels,
            latents, or a variance that is learned.
    """

    folder: str
    run: RunConfig
    num_intervals: int
    num_seeds: int

    def __post_init__(self) -> None:
        # As many as a curriculum can be made of.
        if not FEWEST <= self.num_intervals <= MOST:
            raise UserError(
                f"--intervals is {self.num_intervals}; an order needs two or more, so give "
                f"{FEWEST} to {MOST}."
            )
        if not 1 <= self.num_seeds <= MOST_SEEDS:
            raise UserError(f"--num-seeds is {self.num_seeds}; give 1 to {MOST_SEEDS}.")
        if self.run.data.labels is not None:
            raise UserError(
                f"data.labels is {self.run.data.labels!r}, but nets of a difficulty run are told "
                "no class; leave it out."
            )
        if not self.run.codec.is_bounded:
            raise UserError(
                f"codec.kind is {self.run.codec.kind}, but a difficulty run measures pixels; leave "
                "it out."
            )
        if self.run.model.learn_sigma:
            raise UserError(
                "model.learn_sigma is true, but nets of a difficulty run are compared by their "
                "error in ε and trained on it alone; leave it out."
            )
        levels = self.run.process.num_levels
        if levels is not None and levels < LEVELS * self.num_intervals:
            raise UserError(
                f"--intervals is {self.num_intervals}, but the process has {levels} noise levels "
                f"and each interval takes {LEVELS} or more; give at most {levels // LEVELS}."
            )

    @property
    def edges(self) -> tuple[float, ...]:
        """Noise times t_0 = 0 … t_N = 1 between the intervals."""
        return tuple(i / self.num_intervals for i in range(self.num_intervals + 1))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the intervals, from low noise to high."""
        return tuple(f"t {a:.3g}–{b:.3g}" for a, b in itertools.pairwise(self.edges))

    @property
    def seeds(self) -> range:
        """The training seeds."""
        return range(self.num_seeds)

    @property
    def nets(self) -> tuple[Net, ...]:
        """All nets, seed by seed."""
        kinds = (None, *range(self.num_intervals))
        return tuple(Net(seed, kind) for seed in self.seeds for kind in kinds)

    def level_numbers(self, net: Net) -> range:
        """Which of the grid of N · ``LEVELS`` noise levels a net is measured at."""
        if net.interval is None:
            return range(LEVELS * self.num_intervals)
        return range(LEVELS * net.interval, LEVELS * (net.interval + 1))

    def density(self, interval: int | None) -> Window:
        """The window of an interval; those of counted levels have no level in common."""
        if interval is None:
            return Window()
        low, high = self.edges[interval : interval + 2]
        levels = self.run.process.num_levels
        if levels is None:
            return Window(low, high)
        first, last = (i * levels // self.num_intervals for i in (interval, interval + 1))
        return Window((first + 1) / levels, last / levels)

    def arm(self, interval: int | None) -> str:
        """Name of the nets of an interval, as rows have it."""
        return JOINT if interval is None else self.labels[interval]

    def config_of(self, net: Net) -> RunConfig:
        """The run of a net."""
        name = "all-levels" if net.interval is None else f"interval-{net.interval + 1:03d}"
        arm, sampler = self.arm(net.interval), self.run.sampler
        return replace(
            self.run,
            arm=arm,
            seed=net.seed,
            output=str(Path(self.folder) / "nets" / name),
            # The noise of held-out images is keyed by it.
            sampler=replace(sampler, seed=(sampler.seed + net.seed) % _SEEDS),
            curriculum=(StageConfig(arm, 1.0, self.density(net.interval)),),
        )


def make_setting(
    dataset: str,
    process: str | None,
    num_intervals: int,
    num_seeds: int,
    output: Path | None,
    overrides: Sequence[str],
) -> Setting:
    """The setting that a command line asks for.

    Args:
        dataset: its name, or a folder or zip of images.
        process: a kind of process; None: the usual one.
        num_intervals: N, as of ``Setting``.
        num_seeds: as of ``Setting``.
        output: folder; None: results/difficulty-<dataset>.
        overrides: ``--set`` words for all nets.

    Raises:
        UserError: a mistake in one of them.
    """
    for word in overrides:
        if word.strip().partition("=")[0].split(".")[0].strip() in _OWN_KEYS:
            raise UserError(
                f"--set {word}: a difficulty run makes {', '.join(_OWN_KEYS)} itself; use "
                "--intervals, --num-seeds and --output."
            )
    given: dict[str, Any] = {"arm": JOINT, "data": {"dataset": dataset}, "samples": None}
    given["curriculum"] = [{"name": JOINT, "weight": 1.0}]
    if process is not None:
        given["process"] = {"kind": process}
    content = apply_overrides(merge(load_preset(PRESET), given), overrides)
    folder = output or Path("results") / f"difficulty-{Path(dataset).stem or 'images'}"
    run = build_config(merge(content, {"output": str(folder)}), "difficulty")
    return Setting(str(folder), run, num_intervals, num_seeds)


class _SettingFile(BaseModel):
    """What a folder says of the run in it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    run: dict[str, Any]
    manifest: Name
    rest: dict[str, int]


def claim_folder(setting: Setting, manifest: str) -> None:
    """Say in the run's folder what it is of; a folder of the same run is left as it is.

    Args:
        setting: the run.
        manifest: id of its data's manifest.

    Raises:
        UserError: the folder holds another run or a study, or its description is damaged.
    """
    path = Path(setting.folder) / SETTING_FILE
    rest = {
        "num_intervals": setting.num_intervals,
        "num_seeds": setting.num_seeds,
        "version": _VERSION,
    }
    run, others = to_kept(setting.run), {"manifest": manifest, "rest": rest}
    advice = "choose another --output, or delete that folder."
    if not path.exists():
        if rows_files(path.with_name(ROWS_FILE)):
            raise UserError(f"{setting.folder} holds rows of no difficulty run; {advice}")
        write_json(path, {"run": run, **others})
        return
    known = read_json(path, _SettingFile, advice).model_dump()
    changed = differences(known.pop("run"), run) + differences(known, others)
    if changed:
        raise UserError(
            f"{setting.folder} holds another difficulty run (different: "
            f"{', '.join(changed[:4])}); {advice}"
        )
