"""One measured number, and what it is that was measured."""

import dataclasses
import operator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from mindiffusion.outside.documents import MOST_NAME
from mindiffusion.outside.paths import MOST_PATH

_Text = Annotated[str, Field(max_length=MOST_NAME)]
_Place = Annotated[str, Field(max_length=MOST_PATH)]
_Count = Annotated[int, Field(ge=0, le=2**53)]
# Packages and instruments; a line of many short ones would take twenty times its size.
_Versions = Annotated[dict[str, str], Field(max_length=64)]
# A name that ends otherwise could be that of a file that is run or read as something else.
_Picture = Annotated[str, Field(max_length=1024, pattern=r"^[^/].*\.png$")]


# A study has hundreds of thousands: without slots each would take four times the memory.
@dataclass(frozen=True, slots=True)
class Row:
    """One measured number with everything needed to know what it is.

    ``step`` counts optimizer steps done: a milestone's row has the steps trained so far, a
    stage's row (``t_min``, ``t_max``, ``active_channels``, ``penalty_lambda``) those done when
    the stage begins. ``level`` is the noise time in (0, 1] of a profile row, else None.
    ``error`` is the metric's own standard error where it has one. ``full_range`` is False while
    the arm has not been trained on all noise levels: such values stay out of every summary.
    ``samples`` is a PNG strip (k images side by side), relative to the study's folder.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False
    )

    study: _Text
    arm: _Text
    seed: _Count
    step: _Count
    total_steps: _Count
    metric: _Text
    value: float
    level: float | None
    error: float | None
    direction: Literal["lower", "higher", "none"]
    metric_version: _Count
    n_generated: _Count
    n_reference: _Count
    weights: _Text
    sampler: _Text
    sampler_steps: _Count
    sampling_seed: _Count
    full_range: bool
    stage: _Text
    samples: _Picture | None
    dataset: _Place
    manifest: _Text
    config_hash: _Text
    git: _Text
    versions: _Versions
    device: _Text
    host: _Text
    threads: _Count
    train_seconds: float
    time: _Text
    declared: _Text = "exploratory"


FIELDS = tuple(field.name for field in dataclasses.fields(Row))
# What a repeated measurement may change: its outcome, its clock and where it ran.
_OUTCOME = {"value", "error", "samples"}
_CLOCK_AND_HOST = {"train_seconds", "time", "device", "host", "threads", "git", "versions"}
# Nor is it another measurement when the plan it was declared in has been written anew since.
IDENTITY = tuple(name for name in FIELDS if name not in _OUTCOME | _CLOCK_AND_HOST | {"declared"})

_values_of = operator.attrgetter(*FIELDS)
_identity_of = operator.attrgetter(*IDENTITY)


def fields_of(row: Row) -> dict[str, Any]:
    """A row's values by the names of its fields."""
    return dict(zip(FIELDS, _values_of(row), strict=True))


def key(row: Row) -> tuple[object, ...]:
    """What the row measures: every field but outcome, clock, host and declaration."""
    return _identity_of(row)
