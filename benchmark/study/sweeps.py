"""Sweeps: the arms of a study once more with other values of one setting, one at a time.

A study's file has ``sweeps: {data.alpha2: [0.25, 0.5, 1]}``. The value that the arms have anyway is
a point too. Arms with another one are called after it, such as ``C alpha2=0.25``. They are compared
with each other alone, never with the arms in the middle: of these alone are the study's claims.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, with_config

from benchmark.study.arm_entries import Entry, Reader, run_content
from mindiffusion.config.presets import apply_overrides, merge
from mindiffusion.errors import UserError
from mindiffusion.outside.documents import shown_value

_Number = Annotated[int | float, Field(gt=0, le=1e12, allow_inf_nan=False)]
SweepValues = Annotated[tuple[_Number, ...], Field(min_length=2, max_length=50)]
"""What a setting is swept over: numbers above 0, for exponents are of their logarithms."""
_STRICT = ConfigDict(extra="forbid", strict=True)


@with_config(_STRICT)
@dataclass(frozen=True)
class SweepPoint:
    """One value of a sweep.

    Attributes:
        value: of the setting.
        arms: by the arm's name in the middle, its name here.
        made: those of these arms in the middle that were made anew for this value.
    """

    value: float
    arms: dict[str, str]
    made: tuple[str, ...]


@with_config(_STRICT)
@dataclass(frozen=True)
class Sweep:
    """One setting with its points, in the order of their values."""

    setting: str
    points: tuple[SweepPoint, ...]


def swept(
    entries: Sequence[Entry],
    sweeps: Mapping[str, Sequence[float]],
    run: Mapping[str, Any],
    overrides: Sequence[str],
    source: str,
    kind: Reader,
) -> tuple[tuple[Entry, ...], tuple[Sweep, ...]]:
    """The entries with those of all sweeps behind them, and which of them are which points.

    Args:
        entries: the study's arms.
        sweeps: dotted setting → values.
        run: the study's ``run`` with all it extends.
        overrides: ``--set`` arguments for runs.
        source: the file's part, named in errors.
        kind: of the runs.

    Raises:
        UserError: a setting that runs have not, or a value that stands twice.
    """
    whole, made = list(entries), []
    for setting, values in sweeps.items():
        if len(set(values)) < len(values):
            raise UserError(f"{source}: {setting} has a value twice; give each once.")
        middle = {
            entry.key: _value_of(setting, entry, run, overrides, source, kind) for entry in entries
        }
        points = []
        for value in sorted(values):
            own = [
                (entry, entry if middle[entry.key] == value else _entry_at(entry, setting, value))
                for entry in entries
            ]
            whole += [there for entry, there in own if there is not entry]
            names = {str(e.content["arm"]): str(there.content["arm"]) for e, there in own}
            anew = tuple(name for name, there in names.items() if name != there)
            points.append(SweepPoint(float(value), names, anew))
        made.append(Sweep(setting, tuple(points)))
    return tuple(whole), tuple(made)


def _entry_at(entry: Entry, setting: str, value: float) -> Entry:
    """The entry with another value, under a name of its own."""
    said = f"{setting.rpartition('.')[2]}={value:g}"
    content = apply_overrides(entry.content, [f"{setting}={value!r}"])
    content = merge(content, {"arm": f"{entry.content['arm']} {said}"})
    return Entry(f"{entry.key} {said}", content, entry.controls, entry.of)


def _value_of(
    setting: str,
    entry: Entry,
    run: Mapping[str, Any],
    overrides: Sequence[str],
    source: str,
    kind: Reader,
) -> Any:
    """What an arm has for a setting anyway."""
    content = kind.placed(run_content(run, entry.content, kind, overrides), Path(), 0)
    found: Any = asdict(kind.built(content, f"{source}, arm {entry.key}"))
    for name in setting.split("."):
        if not isinstance(found, Mapping) or name not in found:
            raise UserError(
                f"{source}: {shown_value(setting)} is no setting of arm {entry.key}; write it as "
                "--set takes it, such as training.steps."
            )
        found = found[name]
    return found
