"""The arms of a study file: an entry of its own fields, or a control made of another entry.

``{control: density, of: c}`` takes all fields of entry ``c`` and replaces its curriculum; and
``controls_of: [c]`` adds the standard controls of ``c``. When the stages of a paced arm begin is
found by its runs, so each run of its controls follows, by yoked pacing, its run of the same seed.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from benchmark.study.arm_catalogue import control_name
from mindiffusion.config.presets import apply_overrides, extended, merge
from mindiffusion.config.run import RunConfig, to_kept
from mindiffusion.config.yokes import unlike_leader
from mindiffusion.curriculum.controls import (
    CONTROLS,
    ControlKind,
    Stages,
    control,
    standard_controls,
)
from mindiffusion.curriculum.patience import PATIENT
from mindiffusion.curriculum.yoked import YokedPacing
from mindiffusion.errors import UserError, did_you_mean

_FOR_SLUG = (("*", "-star"), ("%", ""))


@dataclass(frozen=True)
class Entry:
    """One arm of a study file.

    Attributes:
        key: its key in the file, or its name where ``controls_of`` added it.
        content: fields of its runs, nested plain types, over the study's ``run``.
        controls: kinds of control to make of the curriculum, one after the other.
        of: key of the arm that they are controls of.
    """

    key: str
    content: Mapping[str, Any]
    controls: tuple[ControlKind, ...] = ()
    of: str = ""

    @property
    def folder(self) -> str:
        """Name of its runs' folder."""
        return slug(self.key)


def slug(name: str) -> str:
    """A folder's name for an arm: ``density*`` → ``density-star``, ``A/A`` → ``a-a``."""
    for character, text in _FOR_SLUG:
        name = name.replace(character, text)
    return re.sub(r"[^a-z0-9_.]+", "-", name.lower()).strip("-.")


class Reader(Protocol):
    """What is asked here of a kind of runs (``benchmark.study.kinds.Kind``)."""

    def fitted(self, content: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
        """Fields of a run without what is meant for other runs."""

    def placed(self, content: Mapping[str, Any], folder: Path, seed: int) -> dict[str, Any]:
        """Fields of a run with its seed and its folder."""

    def built(self, content: Mapping[str, Any], source: str) -> Any:
        """Its checked settings."""

    def has_table(self, run: Any) -> bool:
        """Whether it is known beforehand when its stages begin."""

    def controlled(self, run: Any, entry: Entry, source: str) -> Any:
        """It, with the curriculum of the entry's controls."""


def resolve_entries(
    arms: Mapping[str, Mapping[str, Any]],
    controls_of: Sequence[str],
    run: Mapping[str, Any],
    source: str,
    kind: Reader,
) -> tuple[Entry, ...]:
    """Entries in the file's order, then those of ``controls_of``.

    Args:
        arms: key → fields, as in the file.
        controls_of: keys whose standard controls are added.
        run: the study's ``run`` with all it extends.
        source: the file, named in errors.
        kind: of the runs.

    Raises:
        UserError: an unknown ``of`` or kind, or two entries that share a folder.
    """
    entries = [_entry(key, arms, source, ()) for key in arms]
    for key in controls_of:
        _check_known(key, arms, f"{source}: controls_of")
        entry = _entry(key, arms, source, ())
        whole = kind.placed(run_content(run, entry.content, kind), Path(), 0)
        config = kind.controlled(kind.built(whole, f"{source}, arm {key}"), entry, source)
        for made in standard_controls(config.curriculum, kind.has_table(config)):
            name = control_name(made, config.arm)
            content = merge(entry.content, {"arm": name})
            entries.append(Entry(name, content, (*entry.controls, made), entry.of or key))
    folders = Counter(entry.folder for entry in entries)
    for entry in entries:
        if not entry.folder or folders[entry.folder] > 1:
            raise UserError(
                f"{source}: arm {entry.key!r} maps to run folder {entry.folder!r}, which is empty "
                "or already used by another arm; choose another key."
            )
    return tuple(entries)


def run_content(
    shared: Mapping[str, Any],
    own: Mapping[str, Any],
    kind: Reader,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Fields of an arm's runs: those of all arms, its own over them, ``--set`` over both.

    A setting of ``model`` that all arms are given goes to those whose network has it.

    Args:
        shared: the study's ``run`` with all it extends.
        own: the arm's fields.
        kind: of the runs.
        overrides: ``--set`` arguments.
    """
    content = apply_overrides(merge(shared, own), overrides)
    given = shared_settings(shared, overrides) - shared_settings(own)
    return kind.fitted(content, given)


def shared_settings(shared: Mapping[str, Any], overrides: Sequence[str] = ()) -> set[str]:
    """Names of the settings of ``model`` in fields with ``--set`` over them."""
    model = apply_overrides(shared, overrides).get("model")
    return set(model) if isinstance(model, Mapping) else set()


def _check_known(key: str, arms: Mapping[str, Any], where: str) -> None:
    if key not in arms:
        raise UserError(f"{where} names {key!r}, no arm of this study.{did_you_mean(key, arms)}")


def _entry(
    key: str, arms: Mapping[str, Mapping[str, Any]], source: str, above: tuple[str, ...]
) -> Entry:
    """One entry of the file, with the entry it controls, if any, resolved first."""
    where = f"{source}, arm {key}"
    content = extended(arms[key], where)
    kind, of = content.pop("control", None), content.pop("of", None)
    if kind is None and of is None:
        return Entry(key, merge({"arm": key}, content))
    if kind not in CONTROLS or not isinstance(of, str):
        raise UserError(
            f"{where}: control is {kind!r} of {of!r}; write control: one of {', '.join(CONTROLS)}, "
            "and of: an arm of this study."
        )
    _check_known(of, arms, f"{where}: of")
    if of in above:
        raise UserError(f"{where}: of names {of!r}, which is made of this arm; name another.")
    controlled = _entry(of, arms, source, (*above, key))
    name = control_name(kind, controlled.content["arm"])
    content = merge(merge(controlled.content, {"arm": name}), content)
    return Entry(key, content, (*controlled.controls, kind), controlled.of or of)


def controlled_stages(stages: Stages, entry: Entry, seed: int, source: str) -> Stages:
    """The stages of the entry's controls, made one after the other.

    Raises:
        UserError: the curriculum has no such control.
    """
    try:
        for kind in entry.controls:
            stages = control(stages, kind, seed)
    except UserError as error:
        raise UserError(f"{source}, arm {entry.key}: {error}") from None
    return stages


def with_controls(config: RunConfig, entry: Entry, source: str) -> RunConfig:
    """The run with the curriculum of the entry's controls, shuffled by the run's seed.

    Of a paced arm it keeps the curriculum, and makes the controls when it takes over the stages.

    Raises:
        UserError: the curriculum has no such control, or may not have it.
    """
    if "flat" in entry.controls and not config.pacing.is_table:
        raise UserError(
            f"{source}, arm {entry.key}: control 'flat' of an arm whose stages begin at steps that "
            "its runs find may not exist; use 'density', 'shuffled' or 'even'."
        )
    stages = controlled_stages(config.curriculum, entry, config.seed, source)
    if not entry.controls or config.pacing.is_table:
        return replace(config, curriculum=stages)
    # Of another kind it is no leader: ``refuse_strange_yokes`` says so.
    leader = config.pacing if config.pacing.kind in PATIENT else None
    yoked = YokedPacing(of=slug(entry.of), controls=entry.controls, leader=leader)
    return replace(config, pacing=yoked)


def refuse_strange_yokes(runs: Sequence[RunConfig], source: str) -> None:
    """Refuse runs that follow none of the study's, or one that they cannot follow.

    Raises:
        UserError: such a run.
    """
    by_folder = {run.run_dir: run for run in runs}
    for run in runs:
        if run.followed_dir is None:
            continue
        where, of = f"{source}, arm {run.arm}", run.pacing.follows
        other = by_folder.get(run.followed_dir)
        if other is None:
            folders = sorted({one.run_dir.parent.name for one in runs} - {run.run_dir.parent.name})
            raise UserError(
                f"{where}: pacing.of is {of!r}, no arm of this study whose runs it could follow; "
                f"name one of {', '.join(folders)}."
            )
        if other.pacing.follows is not None:
            raise UserError(
                f"{where}: pacing.of is {of!r}, an arm that itself follows "
                f"{other.pacing.follows!r}; name that one."
            )
        if other.pacing.makes_stages:
            raise UserError(
                f"{where}: pacing.of is {of!r}, an arm whose runs make stages of their own "
                f"(pacing.kind {other.pacing.kind}), which no other run has; name another arm."
            )
        if others := unlike_leader(run, to_kept(other)):
            raise UserError(
                f"{where}: pacing.of is {of!r}, an arm with another {', '.join(others)}; follow "
                "an arm with the same."
            )
