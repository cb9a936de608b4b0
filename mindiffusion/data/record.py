"""Which prepared data set a config stands for: what opens it where its source is not.

``root/config-<key>.json`` names the folder that was last prepared, or found to fit, for a config.
The key is of what the config says, so it is the same on every machine.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mindiffusion.data.prepared import PreparedData, is_whole, load_prepared
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_json, write_json
from mindiffusion.outside.documents import read_json

_NOT_OF_THE_ARRAY = ("horizontal_flip",)
_Count = Annotated[int, Field(ge=1, le=2**31)]


class Record(BaseModel):
    """A config and the prepared data set that it stands for.

    Attributes:
        config: what of a ``DataConfig`` shapes the arrays.
        folder: name of the prepared folder, in the folder of all of them.
        manifest: id of its manifest.
        num_train: its training images.
        num_held_out: its held-out images.
        num_classes: classes of its label, where the config names one.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    config: dict[str, Any]
    # As preparation names folders: no path, so that none leads out.
    folder: Annotated[str, Field(max_length=400, pattern=r"^[A-Za-z0-9._-]+-[0-9a-f]{10}$")]
    manifest: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    num_train: _Count
    num_held_out: _Count
    num_classes: _Count | None = None

    @property
    def key(self) -> str:
        """``config_key`` of the config."""
        return _key(self.config)


def config_key(config: DataConfig) -> str:
    """16 hex digits that are equal for two configs of one array, wherever they are read."""
    return _key(_shaping(config))


def _shaping(config: DataConfig) -> dict[str, Any]:
    """The fields that shape the arrays; a path may have bytes that no JSON can hold."""
    fields = asdict(config) | {
        "dataset": config.dataset.encode("unicode_escape").decode("ascii"),
        "extra_formats": list(config.extra_formats),
    }
    for younger in ("labels", "captions"):  # records are older than these fields
        if fields[younger] is None:
            del fields[younger]
    return {name: value for name, value in fields.items() if name not in _NOT_OF_THE_ARRAY}


def _key(shaping: dict[str, Any]) -> str:
    return sha256_of_json(shaping)[:16]


def record_of(config: DataConfig, data: PreparedData) -> Record:
    """The record of a config's prepared data set."""
    return Record(
        config=_shaping(config),
        folder=data.folder.name,
        manifest=data.manifest_id,
        num_train=len(data.train),
        num_held_out=len(data.held_out),
        num_classes=None if config.labels is None else len(data.classes(config.labels).names),
    )


def record_path(config: DataConfig, root: Path) -> Path:
    """Where a config's record is."""
    return root / f"config-{config_key(config)}.json"


def write_record(config: DataConfig, data: PreparedData) -> None:
    """Keep beside a prepared folder that this config stands for it; the newest record stands.

    Nothing is written where nothing changes, or into a folder that others prepare for us.
    """
    path, record = record_path(config, data.folder.parent), record_of(config, data)
    try:
        is_known = _read(path) == record
    except (OSError, UserError):
        is_known = False
    if not is_known and os.access(path.parent, os.W_OK):
        write_json(path, record.model_dump())


def read_record(config: DataConfig, root: Path) -> Record | None:
    """What a config stands for; None where nothing was prepared for it.

    Args:
        config: the data set.
        root: folder of all prepared data sets.

    Raises:
        UserError: the record is damaged, of another config, or of a folder that is not there.
    """
    path = record_path(config, root)
    try:
        record = _read(path)
    except FileNotFoundError:
        return None
    if record.config != _shaping(config):
        raise UserError(f"{path} is of another config than its name says; delete it.")
    if not is_whole(root / record.folder):
        raise UserError(f"{path} names {root / record.folder}, which holds no whole data set.")
    return record


def _read(path: Path) -> Record:
    return read_json(path, Record, "delete that file.")


def open_record(record: Record, root: Path) -> PreparedData:
    """Open the prepared data set of a record.

    Args:
        record: names it.
        root: folder of all prepared data sets.

    Raises:
        UserError: it is not whole, or another one than was recorded.
    """
    data = load_prepared(root / record.folder)
    if data.manifest_id != record.manifest:
        raise UserError(
            f"{data.folder} is data {data.manifest_id}, and was {record.manifest} when it was "
            "prepared; bring the folder that it was, or prepare it again from its source."
        )
    return data
