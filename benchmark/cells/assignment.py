"""What a process of a study is told: one document that holds all it needs.

The command that a person gives resolves the study once. Each cell and each job gets the result as a
file, so it does what was asked for even if the study's YAML is edited while it waits or runs.
Never imports torch.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticSerializationError

from benchmark.cells.tasks import Task, graph_of
from benchmark.study.study import Study
from mindiffusion.data.record import Record
from mindiffusion.errors import UserError
from mindiffusion.files import write_text
from mindiffusion.outside.documents import MOST_TEXT_BYTES, parse_json
from mindiffusion.outside.paths import read_file

_ADVICE = "give the study's command again, which writes it anew."


class Assignment(BaseModel):
    """The document.

    Attributes:
        study: the study, resolved, with all its runs: its fingerprint is computed from all.
        data: the prepared data that must be used.
        tasks: what is to be done; of a cell that process is, one cell's alone.
        side_by_side: cells that run on this machine at once, the reader among them; None: the
            reader is a job, which starts a process for each of its cells.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    study: Study
    data: tuple[Record, ...]
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    side_by_side: Annotated[int, Field(ge=1, le=100_000)] | None = None

    @model_validator(mode="after")
    def _of_the_study(self) -> "Assignment":
        known = graph_of(self.study)
        for task in self.tasks:
            if task not in known:
                raise ValueError(f"the study has no task {str(task)!r}")
        if self.side_by_side is not None and len({task.cell for task in self.tasks}) > 1:
            raise ValueError("a cell's process has tasks of one cell only")
        return self


def write_assignment(path: Path, assignment: Assignment) -> None:
    """Write the document, atomically, in place of an older one.

    Raises:
        UserError: a text that no JSON can hold, or more than is read of such a file.
    """
    try:
        text = assignment.model_dump_json() + "\n"
    except PydanticSerializationError:
        raise UserError(
            f"a name or a path of study {assignment.study.name!a} is not UTF-8; rename it."
        ) from None
    if len(text.encode()) > MOST_TEXT_BYTES:
        raise UserError(
            f"study {assignment.study.name} is too large: resolved, it has more than "
            f"{MOST_TEXT_BYTES:,} bytes. Give it fewer arms, seeds or milestones."
        )
    write_text(path, text)


def read_assignment(path: Path) -> Assignment:
    """The document, checked.

    Raises:
        UserError: it is damaged, or of another version of this program.
        OSError: there is none, or it can't be read.
    """
    return parse_json(read_file(path, MOST_TEXT_BYTES), Assignment, str(path), _ADVICE)
