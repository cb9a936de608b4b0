"""Where prepared data lives, and how runs and studies come by it.

A source is listed once a process, by a command that a person gives; the processes of a study are
handed what their parent has opened. Where there is no source, what was prepared last stands in.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from mindiffusion.data.prepare import plan_data, prepare_plan
from mindiffusion.data.prepared import PreparedData, is_whole
from mindiffusion.data.record import (
    Record,
    config_key,
    open_record,
    read_record,
    record_of,
)
from mindiffusion.data.source import Plan, SourceAbsent
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError
from mindiffusion.places import data_root
from mindiffusion.printable import printable

_Source = tuple[str, str, str | None, str]
"""Where this process looks for what."""
_plans: dict[_Source, Plan] = {}
"""Listed to be counted, kept until they are prepared."""
_Counts = tuple[int, int, int | None]
"""Training images, held-out images, and classes of the label that networks are told."""
_counts: dict[_Source, _Counts] = {}
_handed: dict[str, Record] = {}
"""By the config's key: what a parent has handed to this process."""


def celeba_path() -> str | None:
    """CELEBA_PATH of the environment, which commands fill from ``.env``."""
    return os.environ.get("CELEBA_PATH") or None


def _source(config: DataConfig) -> _Source:
    return str(Path.cwd()), str(data_root()), celeba_path(), config_key(config)


def hand_over(data: Mapping[DataConfig, PreparedData]) -> tuple[Record, ...]:
    """What makes a child use these very arrays, and list no source: see ``take_over``."""
    records = [record_of(config, one) for config, one in data.items()]
    # Two configs of one array have one record.
    return tuple({record.key: record for record in records}.values())


def take_over(records: Iterable[Record]) -> None:
    """Take what a parent hands over."""
    for record in records:
        _handed[record.key] = record


def prepared_data(config: DataConfig, *, show_progress: bool) -> PreparedData:
    """The prepared array of a data set, made if it is not there yet.

    Its source is looked at, so that an array made of what has changed since is not used; where
    there is none, the array that was last prepared for this config is, and a line says so.

    Args:
        config: the data set.
        show_progress: on stderr, and what is to be known of the data.

    Raises:
        UserError: nothing to prepare and nothing prepared, or another array than was handed over.
        OSError: a source that can't be read, and nothing prepared.
    """
    handed = _handed.get(config_key(config))
    if handed is None:
        data = _newest(config, show_progress)
    else:
        data = _very(handed, config, show_progress)
    _counts[_source(config)] = _counts_of(record_of(config, data))
    return data


def _very(handed: Record, config: DataConfig, show_progress: bool) -> PreparedData:
    """The array that was handed over; made here on a machine that does not share the parent's."""
    if is_whole(data_root() / handed.folder):
        return open_record(handed, data_root())
    data = _newest(config, show_progress)
    if data.manifest_id != handed.manifest:
        raise UserError(
            f"the study was started on data {handed.manifest}, and here they are "
            f"{data.manifest_id}; bring {handed.folder} into {data_root()}, or the files that it "
            "was prepared from."
        )
    return data


def _newest(config: DataConfig, show_progress: bool) -> PreparedData:
    try:
        plan = _plans.pop(_source(config), None) or plan_data(config, celeba_path())
    except (SourceAbsent, PermissionError) as absent:
        record = _stand_in(config, absent)
        if show_progress:
            _say_stand_in(record, absent)
        return open_record(record, data_root())
    return prepare_plan(plan, config, data_root(), show_progress=show_progress)


def _stand_in(config: DataConfig, absent: SourceAbsent | OSError) -> Record:
    """What was last prepared for a config whose source can't be read.

    Raises:
        UserError: nothing, or nothing that can be used.
        OSError: nothing; the source's own.
    """
    try:
        record = read_record(config, data_root())
    except UserError as fault:
        raise UserError(f"{absent} Nor can prepared data stand in: {fault}") from None
    if record is None:
        raise absent
    return record


def _say_stand_in(record: Record, absent: SourceAbsent | OSError) -> None:
    reason = absent.reason if isinstance(absent, SourceAbsent) else str(absent)
    line = (
        f"{reason}; taking {data_root() / record.folder}, which was prepared before: "
        f"{record.num_train} training and {record.num_held_out} held-out images, "
        f"data {record.manifest}."
    )
    print(printable(line), file=sys.stderr)


def num_train_images(config: DataConfig) -> int:
    """How many images a run trains on, found without preparing them; files are listed once."""
    return num_images(config)[0]


def num_images(config: DataConfig) -> tuple[int, int]:
    """How many training and held-out images a data set has, found without preparing them.

    Raises:
        UserError: nothing to count.
        OSError: likewise.
    """
    return _known(config)[:2]


def num_classes(config: DataConfig) -> int | None:
    """How many classes the label has that networks are told; None: they are told nothing.

    Raises:
        UserError: nothing to count, or no such label.
        OSError: likewise.
    """
    return None if config.labels is None else _known(config)[2]


def _known(config: DataConfig) -> _Counts:
    handed = _handed.get(config_key(config))
    if handed is not None:
        return _counts_of(handed)
    source = _source(config)
    if source not in _counts:
        _counts[source] = _counted(config, source)
    return _counts[source]


def _counts_of(record: Record) -> _Counts:
    return record.num_train, record.num_held_out, record.num_classes


def _counted(config: DataConfig, source: _Source) -> _Counts:
    try:
        plan = plan_data(config, celeba_path())
    except (SourceAbsent, PermissionError) as absent:
        return _counts_of(_stand_in(config, absent))
    _plans[source] = plan
    classes = None if config.labels is None else len(plan.label_names[config.labels])
    return len(plan.train), plan.num_held_out, classes
