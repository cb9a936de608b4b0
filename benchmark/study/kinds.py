"""What the runs of a study may be: one entry for each kind; a study's file names it.

Arms, controls, seeds, hypotheses and choices are the same for all kinds. A kind says how the
settings of a run are read and what must be true of the runs of one study. Who does them stands in
``benchmark/cells/``.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from benchmark.study.arm_entries import (
    Entry,
    controlled_stages,
    refuse_strange_yokes,
    shared_settings,
    slug,
    with_controls,
)
from mindiffusion.config.model import MODELS, fields_of, without_foreign
from mindiffusion.config.presets import build_config
from mindiffusion.config.run import RunConfig, check, config_hash
from mindiffusion.errors import UserError
from mindiffusion.theory.setting import TheoryRun, planned, run_hash

KindName = Literal["images", "theory"]


class Kind(ABC):
    """How the runs of a study are read; ``smoke_run`` are their fields in a quick check."""

    smoke_run: Mapping[str, Any]

    @abstractmethod
    def fitted(self, content: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
        """Fields of a run without what is meant for other runs.

        Args:
            content: the fields.
            given: names of the settings of ``model`` that all arms are given.
        """

    @abstractmethod
    def placed(self, content: Mapping[str, Any], folder: Path, seed: int) -> dict[str, Any]:
        """Fields of a run with its seed and, where it has one, its folder."""

    @abstractmethod
    def built(self, content: Mapping[str, Any], source: str) -> Any:
        """The checked settings of a run.

        Raises:
            UserError: a mistake in them.
        """

    @abstractmethod
    def has_table(self, run: Any) -> bool:
        """Whether it is known beforehand when a run's stages begin."""

    @abstractmethod
    def controlled(self, run: Any, entry: Entry, source: str) -> Any:
        """The run with the curriculum of its entry's controls."""

    @abstractmethod
    def check_runs(
        self, run: Mapping[str, Any], overrides: Sequence[str], runs: Sequence[Any], source: str
    ) -> None:
        """Refuse runs of which one cannot be done beside the others, or settings for none of them.

        Args:
            run: the file's ``run`` as written.
            overrides: ``--set`` arguments for runs.
            runs: those of all arms and seeds.
            source: the study's file.

        Raises:
            UserError: such runs.
        """


class ImageRuns(Kind):
    """Networks that denoise images: runs of ``RunConfig``."""

    smoke_run: Mapping[str, Any] = {
        "data": {"num_train": 256, "num_held_out": 32},
        "training": {
            "steps": 8,
            "epochs": None,
            "global_batch": 16,
            "milestones": ["100%"],
            "compile": "off",
        },
        "sampler": {"steps": 5, "chunk": 8},
    }

    def fitted(self, content: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
        """A setting of ``model`` goes to the arms whose network has it."""
        fields = dict(content)
        if isinstance(fields.get("model"), Mapping):
            fields["model"] = without_foreign(fields["model"], set(given))
        return fields

    def placed(self, content: Mapping[str, Any], folder: Path, seed: int) -> dict[str, Any]:
        """Each run has a folder, inside of its arm's."""
        return {**content, "output": str(folder), "samples": None, "seed": seed}

    def built(self, content: Mapping[str, Any], source: str) -> RunConfig:
        """Of ``clusters`` the curriculum is made."""
        return build_config(content, source)

    def has_table(self, run: RunConfig) -> bool:
        """Not of a paced run."""
        return run.pacing.is_table

    def controlled(self, run: RunConfig, entry: Entry, source: str) -> RunConfig:
        """A control of a paced arm follows its runs."""
        return with_controls(run, entry, source)

    def check_runs(
        self, run: Mapping[str, Any], overrides: Sequence[str], runs: Sequence[Any], source: str
    ) -> None:
        """Refuse runs that follow none, and settings that no arm's network has."""
        refuse_strange_yokes(runs, source)
        used = set().union(*(fields_of(type(one.model)) for one in runs))
        # Presets that a file extends may have settings for arms that it leaves out.
        written = {key: value for key, value in run.items() if key != "extends"}
        asked = {"--set ": shared_settings({}, overrides), "run.": shared_settings(written)}
        for where, settings in asked.items():
            for name in sorted(settings - used):
                owners = [tag for tag, kind in MODELS.items() if name in fields_of(kind)]
                raise UserError(
                    f"{where}model.{name}: no arm of {source} has a network with this key; it is a "
                    f"key of {', '.join(owners)}. Take it out, or add an arm with such a network."
                )


class TheoryRuns(Kind):
    """Networks of the two-feature theory: runs of ``TheoryRun``, all of a study at once."""

    smoke_run: Mapping[str, Any] = {
        "training": {"steps": 16, "global_batch": 16, "milestones": ["50%", "100%"]},
    }

    def fitted(self, content: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
        """A length in steps replaces none in epochs: these runs have none."""
        fields, training = dict(content), content.get("training")
        if isinstance(training, Mapping) and training.get("epochs", 0) is None:
            fields["training"] = {key: one for key, one in training.items() if key != "epochs"}
        return fields

    def placed(self, content: Mapping[str, Any], folder: Path, seed: int) -> dict[str, Any]:
        """Runs have no folders of their own: one state holds many of them."""
        return {**content, "seed": seed}

    def built(self, content: Mapping[str, Any], source: str) -> TheoryRun:
        """As they are written."""
        run: TheoryRun = check(TheoryRun, content, source)
        return run

    def has_table(self, run: TheoryRun) -> bool:
        """Their stages are a table."""
        return True

    def controlled(self, run: TheoryRun, entry: Entry, source: str) -> TheoryRun:
        """The controls are made of the table."""
        stages = controlled_stages(run.curriculum, entry, run.seed, source)
        return replace(run, curriculum=stages)

    def check_runs(
        self, run: Mapping[str, Any], overrides: Sequence[str], runs: Sequence[Any], source: str
    ) -> None:
        """Refuse a run that has no plan."""
        del run, overrides
        for one in runs:
            try:
                planned(one)
            except UserError as error:
                raise UserError(f"{source}, arm {one.arm}: {error}") from None


KINDS: dict[KindName, Kind] = {"images": ImageRuns(), "theory": TheoryRuns()}


def hash_of_run(run: RunConfig | TheoryRun) -> str:
    """Twelve hex digits over everything that can change a run's result."""
    if isinstance(run, RunConfig):
        return config_hash(run)
    return run_hash(run)


def folder_of_run(run: RunConfig | TheoryRun) -> Path:
    """The folder of an arm's runs; of a kind that has none, what it would be called."""
    return Path(run.output) if isinstance(run, RunConfig) else Path(slug(run.arm))
