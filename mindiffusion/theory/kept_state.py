"""The state of a simulation in a file: how it is written, and what is believed of one."""

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write
from mindiffusion.outside.documents import first_fault
from mindiffusion.outside.paths import open_file
from mindiffusion.outside.weights import check_tensors, named_tensors, read_tensors
from mindiffusion.theory.setting import TheoryRun, run_hash

FORMAT = 1
_AVERAGES = ("exp_avg", "exp_avg_sq")


class KeptState(BaseModel):
    """What a state says beside its tensors.

    Attributes:
        format: version of the file.
        runs: hash of every run of the simulation, in order.
        step: steps trained.
        places: which of these runs are on the stack, rising.
    """

    model_config = ConfigDict(strict=True)

    format: Literal[1]
    runs: list[str]
    step: Annotated[int, Field(ge=0, le=2**53)]
    places: Annotated[list[int], Field(min_length=1)]


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state, atomically."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    with atomic_write(path) as handle:
        handle.write(buffer.getbuffer())


def load_state(path: Path) -> Any:
    """What a file holds of plain types and tensors; nothing of it is believed yet.

    Raises:
        UserError: it is damaged, or no such file of torch's.
        OSError: there is none, or it can't be read.
    """
    with open_file(path) as handle:
        return read_tensors(handle, f"state {path}")


def checked_state(state: Any, runs: Sequence[TheoryRun], source: str) -> KeptState:
    """What a state says, if it is of these runs.

    Raises:
        UserError: it is none of ours, or of other runs.
    """
    if not isinstance(state, dict):
        raise UserError(f"{source} is no state of a simulation; delete it to start anew.")
    try:
        kept = KeptState.model_validate(state)
    except ValidationError as error:
        raise UserError(f"{source}: {first_fault(error)}; delete it to start anew.") from None
    if kept.runs != [run_hash(run) for run in runs]:
        raise UserError(
            f"{source} is of other runs or settings than these; delete it to start anew, or go on "
            "with the settings that it was made with."
        )
    is_rising = all(a < b for a, b in itertools.pairwise(kept.places))
    if not is_rising or kept.places[0] < 0 or kept.places[-1] >= len(runs):
        raise UserError(f"{source} names runs that there are not; delete it to start anew.")
    return kept


def checked_tensors(
    state: Mapping[str, Any], part: str, expected: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """The tensors of a part of a state, if they have the expected names, sizes and types.

    Raises:
        UserError: they have not.
    """
    found = named_tensors(state.get(part), f"{source} ({part})")
    check_tensors(found, expected, f"{source} ({part})")
    return found


def expected_averages(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adam's averages of weights and its count of steps, as a state names them."""
    of_weights = {f"{n}.{key}": part for n, part in weights.items() for key in _AVERAGES}
    return of_weights | {f"{name}.step": torch.zeros(()) for name in weights}
