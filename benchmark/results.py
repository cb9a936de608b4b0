"""Result rows: append-only JSON lines, the one source of every table, figure and report."""

import dataclasses
import fcntl
import json
import logging
import mmap
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import ConfigDict, TypeAdapter, ValidationError

from benchmark.statistics import mean_and_interval
from mindiffusion.errors import UserError

LOGGER = logging.getLogger(__name__)
ROWS_FILE = "rows.jsonl"
SMOKE_BELOW = 2048
MEMORISED_PIXELS = "memorised-pixels"
REALISED_SPARSITY = "realised-sparsity/"  # and where: a block, or the bottleneck
STAGE_METRICS = ("t_min", "t_max", "active_channels", "penalty_lambda")
EPS_MSE = "eps-MSE"
# What no network is needed for: the best linear denoiser, and always answering with the mean.
EPS_MSE_LINEAR, EPS_MSE_MEAN = "eps-MSE-linear", "eps-MSE-mean"
EPS_MSE_EXCESS, EPS_MSE_GAP = "eps-MSE-excess", "eps-MSE-train-gap"
SUMMARIES = ("eps-MSE/L_simple", "eps-MSE/ELBO", "eps-MSE/sigma-0.1-3")
# The factorial comes first, in the order of its arms' complexity; then C's controls, then checks.
KNOWN_ARMS: tuple[str, ...] = ("B", "S", "R", "C", "CS", "CR")
KNOWN_ARMS += ("density*", "shuffled*", "anti*", "C-flat", "A/A", "B-80%", "B-half")
BASELINE = "B"


@dataclass(frozen=True)
class Row:
    """One measured number with everything needed to know what it is.

    ``step`` counts optimizer steps done: a milestone's row has the steps trained so far, a
    stage's row (``t_min``, ``t_max``, ``active_channels``, ``penalty_lambda``) those done when
    the stage begins. ``level`` is the noise level t / n_T in (0, 1] of a profile row, else None.
    ``error`` is the metric's own standard error where it has one. ``full_range`` is False while
    the arm has not been trained on all noise levels: such values stay out of every summary.
    ``samples`` is a PNG strip (k images side by side), relative to the study's folder.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False
    )

    study: str
    arm: str
    seed: int
    step: int
    total_steps: int
    metric: str
    value: float
    level: float | None
    error: float | None
    direction: Literal["lower", "higher", "none"]
    metric_version: int
    n_generated: int
    n_reference: int
    weights: str
    sampler: str
    sampler_steps: int
    sampling_seed: int
    full_range: bool
    stage: str
    samples: str | None
    dataset: str
    manifest: str
    config_hash: str
    git: str
    versions: dict[str, str]
    device: str
    host: str
    threads: int
    train_seconds: float
    time: str
    declared: str = "exploratory"


FIELDS = tuple(field.name for field in dataclasses.fields(Row))
# Milestones are written whole and in order, so what stands before a bad line can be relied on.
_CUT_HERE = "Delete the file from this line on and run the same command again: it measures anew."
# What a repeated measurement may change: its outcome, its clock and where it ran.
_OUTCOME = {"value", "error", "samples"}
_CLOCK_AND_HOST = {"train_seconds", "time", "device", "host", "threads", "git", "versions"}
IDENTITY = tuple(name for name in FIELDS if name not in _OUTCOME | _CLOCK_AND_HOST)
# Numbers that differ in one of these never meet in one column or on one line.
CONDITION = (
    "metric",
    "metric_version",
    "direction",
    "weights",
    "sampler",
    "sampler_steps",
    "n_generated",
    "n_reference",
)
_ADAPTER: TypeAdapter[Row] = TypeAdapter(Row)
# A line ends with the CRC-32 of what it would be without; lines of older files have none.
_CRC = re.compile(rb', "crc": "([0-9a-f]{8})"\}$')


def metric_label(base: str, n: int) -> str:
    """``base@n`` with thousands as k: 256 → ``@256``, 10000 → ``@10k``."""
    if n < 1:
        raise UserError(f"{base}: {n} images; a metric needs at least one, so give n >= 1.")
    return f"{base}@{n // 1000}k" if n % 1000 == 0 else f"{base}@{n}"


def is_smoke(n: int) -> bool:
    """Whether ``n`` images are too few for a distance that means anything (n < 2048)."""
    return n < SMOKE_BELOW


def key(row: Row) -> tuple[object, ...]:
    """What the row measures: every field but outcome, clock and host ones."""
    return tuple(getattr(row, name) for name in IDENTITY)


def encode(row: Row) -> bytes:
    """A row as its line of the file, with a checksum."""
    line = json.dumps(dataclasses.asdict(row), ensure_ascii=False).encode("utf-8")
    try:
        # As it will be read: what is written can always be read again.
        _ADAPTER.validate_json(line)
    except ValidationError as error:
        raise UserError(f"Row {row.arm}/{row.metric}: {_first_fault(error)}") from None
    return b'%s, "crc": "%08x"}\n' % (line[:-1], zlib.crc32(line))


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    field = str(fault["loc"][0]) if fault["loc"] else "the line"
    return f"{field}: {fault['msg']}; allowed are exactly the fields of benchmark.results.Row."


def _is_whole(tail: bytes) -> bool:
    """Whether a last line without a newline is a whole object (a cut one never parses)."""
    try:
        return isinstance(json.loads(tail), dict)
    except ValueError:
        return False


def _mend_tail(descriptor: int, path: Path) -> None:
    """Drop a last line that a killed writer left cut; end a whole one with its newline."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as content:
        start = content.rfind(b"\n") + 1
        tail = content[start:]
    if not tail:
        return
    if _is_whole(tail):
        os.write(descriptor, b"\n")
        return
    LOGGER.warning("%s: removed a cut last line (%d bytes), its row is lost.", path, len(tail))
    os.ftruncate(descriptor, start)


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Append all ``rows`` or none: one locked write, then fsync.

    Several processes may append to one file.

    Raises:
        UserError: a row has a value its field does not allow (nothing is written).
        OSError: the disk is full, or so; the file is as it was before.
    """
    data = b"".join(encode(row) for row in rows)
    if not data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _mend_tail(descriptor, path)
        _write_whole(descriptor, data)
    finally:
        os.close(descriptor)


def _write_whole(descriptor: int, data: bytes) -> None:
    before = os.fstat(descriptor).st_size
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except BaseException:
        os.ftruncate(descriptor, before)
        raise


def read_rows(path: Path) -> list[Row]:
    """The distinct rows of a file in file order; none if there is no file yet.

    A cut last line is skipped with a warning.

    Raises:
        UserError: another line is no row, or two lines give one key two values.
    """
    if not path.exists():
        return []
    with path.open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        lines = handle.read().split(b"\n")
    tail = lines.pop()
    if tail and _is_whole(tail):
        lines.append(tail)
    elif tail:
        LOGGER.warning("%s: ignored a cut last line (line %d).", path, len(lines) + 1)
    return _distinct(path, [_decode(path, number, line) for number, line in enumerate(lines, 1)])


def _decode(path: Path, number: int, line: bytes) -> Row:
    crc = _CRC.search(line)
    content = line if crc is None else line[: crc.start()] + b"}"
    try:
        row = _ADAPTER.validate_json(content)
    except ValidationError as error:
        raise UserError(f"{path}, line {number}: {_first_fault(error)} {_CUT_HERE}") from None
    if crc is not None and int(crc[1], 16) != zlib.crc32(content):
        raise UserError(f"{path}, line {number}: altered, its checksum does not fit. {_CUT_HERE}")
    return row


def _distinct(path: Path, rows: Iterable[Row]) -> list[Row]:
    seen: dict[tuple[object, ...], tuple[int, Row]] = {}
    for number, row in enumerate(rows, 1):
        first_number, first = seen.setdefault(key(row), (number, row))
        if (first.value, first.error) != (row.value, row.error):
            level = "" if row.level is None else f" at level {row.level:g}"
            raise UserError(
                f"{path}, lines {first_number} and {number}: two results for arm {row.arm!r}, "
                f"seed {row.seed}, step {row.step}, {row.metric}{level} "
                f"(sampling seed {row.sampling_seed}, config {row.config_hash}): "
                f"{first.value!r} (error {first.error!r}) and {row.value!r} "
                f"(error {row.error!r}). Find out which is right and delete the other line."
            )
    return [row for _, row in seen.values()]


def to_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a frame with a column per field, in an order that is free of the rows' order."""
    frame = pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=list(FIELDS))
    frame = frame.astype({"level": "float64", "error": "float64", "value": "float64"})
    return frame.sort_values(list(IDENTITY), kind="stable", ignore_index=True)


def load_study(study_dir: Path) -> pd.DataFrame:
    """The frame of ``<study_dir>/rows.jsonl``.

    Raises:
        UserError: no rows, rows of two data sets, or one cell measured twice over.
    """
    path = study_dir / ROWS_FILE
    if not path.exists():
        raise UserError(f"{path} does not exist; give a study's folder, one with a {ROWS_FILE}.")
    frame = to_frame(read_rows(path))
    if frame.empty:
        raise UserError(f"{path} has no rows yet; run the benchmark first.")
    _check_one_dataset(frame, path)
    _check_one_configuration(frame, path)
    return frame


def _check_one_dataset(frame: pd.DataFrame, path: Path) -> None:
    found = frame[["dataset", "manifest"]].drop_duplicates()
    if len(found) > 1:
        names = ", ".join(f"{row.dataset} ({row.manifest})" for row in found.itertuples())
        raise UserError(
            f"{path} has rows of {len(found)} prepared data sets: {names}; a study has one, so "
            "put the others' rows into a study of their own."
        )


def _check_one_configuration(frame: pd.DataFrame, path: Path) -> None:
    """Two rows for one cell (say of two configs) would be averaged as if they were two seeds."""
    cell = [*CONDITION, "arm", "seed", "step", "level", "sampling_seed"]
    twice = frame[frame.duplicated(cell, keep=False)]
    if not twice.empty:
        first = twice.iloc[0]
        hashes = ", ".join(sorted(set(twice["config_hash"].astype(str))))
        raise UserError(
            f"{path} has two rows for arm {first['arm']!r}, seed {first['seed']}, step "
            f"{first['step']}, {first['metric']} (configs {hashes}); keep one config per arm and "
            "give the other an arm name or a study of its own."
        )


def arm_order(frame: pd.DataFrame) -> list[str]:
    """The frame's arms: factorial, controls of C, checks (``KNOWN_ARMS``), the others by name."""
    arms = set(frame["arm"].astype(str))
    return [arm for arm in KNOWN_ARMS if arm in arms] + sorted(arms.difference(KNOWN_ARMS))


def distance_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the primary distance: FID where there is one, else FD by another feature net."""
    fid = frame[frame["metric"].str.startswith("FID@")]
    return frame[frame["metric"].str.startswith("FD-")] if fid.empty else fid


def limit_name(metric: str) -> str:
    """Name of a distance extrapolated to infinitely many images: ``FID@10k`` → ``FID∞@10k``."""
    return re.sub(r"(FI?D)(?=[@-])", r"\1∞", metric, count=1)


def kernel_distance_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the kernel distance: KID, and KD by any other feature net."""
    return frame[frame["metric"].str.startswith(("KID@", "KD-"))]


def split_conditions(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """The frame cut by metric (with its n), version, weights and sampler, in that order."""
    return [part for _, part in frame.groupby(list(CONDITION), sort=True)]


def mean_over_levels(frame: pd.DataFrame) -> pd.DataFrame:
    """Profile rows of one condition averaged over the noise levels, a row per measurement.

    Raises:
        UserError: measurements that do not cover the same levels (their means differ in kind).
    """
    by = ["arm", "seed", "step", "sampling_seed"]
    levels = {tuple(sorted(column)) for _, column in frame.groupby(by)["level"]}
    if len(levels) > 1:
        raise UserError(
            f"{frame['metric'].iloc[0]}: {len(levels)} different sets of noise levels in one "
            "study; a mean over levels needs the same ones everywhere, so measure them again."
        )
    mean = frame.groupby(by)["value"].mean().rename("value").reset_index()
    one_each = frame.drop_duplicates(by).drop(columns="value")
    return one_each.merge(mean, on=by).assign(error=float("nan"))


def log_ratio_to_baseline(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with log(value / B's value) of the same measurement; those without B drop out.

    B's own rows stay, at 0. The rows' own errors are of another kind and are dropped.
    """
    pair = [*CONDITION, "seed", "sampling_seed", "step", "level"]
    baseline = frame[frame["arm"] == BASELINE][[*pair, "value"]]
    joined = frame.merge(baseline.rename(columns={"value": "baseline"}), on=pair)
    ratio = np.log(joined["value"] / joined["baseline"])
    return joined.assign(value=ratio, error=float("nan")).drop(columns="baseline")


def over_seeds(frame: pd.DataFrame, by: Sequence[str] = ("arm", "step")) -> pd.DataFrame:
    """Mean and 95 % Student-t interval over training seeds, a row per ``by`` group.

    Sampling seeds are averaged within their training seed first: their spread is another one.

    Returns:
        Columns ``by``, ``mean``, ``half_width`` (NaN for one seed), ``seeds`` (their number),
        ``full_range`` (True only if every seed's is) and ``error`` (the metric's own standard
        error where the mean is of one measurement, else NaN).
    """
    per_seed = frame.groupby([*by, "seed"], sort=True).agg(
        value=("value", "mean"),
        full_range=("full_range", "all"),
        error=("error", "first"),
        measurements=("value", "size"),
    )
    rows: list[tuple[object, ...]] = []
    for group, part in per_seed.groupby(list(by), sort=True):
        summary = mean_and_interval(part["value"].to_numpy())
        half = float("nan") if summary.half_width is None else summary.half_width
        error = part["error"].iloc[0] if part["measurements"].sum() == 1 else float("nan")
        full = bool(part["full_range"].all())
        rows.append((*group, summary.mean, half, summary.n, full, float(error)))
    return pd.DataFrame(rows, columns=[*by, "mean", "half_width", "seeds", "full_range", "error"])


def curriculum_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per arm, seed and stage: from_step, to_step, t_min, t_max, capacity and penalty.

    ``to_step`` is the next stage's ``from_step``; the last stage ends at ``total_steps``.
    """
    rows = frame[frame["metric"].isin(STAGE_METRICS)]
    stages = rows.pivot_table(
        index=["arm", "seed", "step", "stage", "total_steps"], columns="metric", values="value"
    )
    stages = stages.reindex(columns=list(STAGE_METRICS)).reset_index()
    stages = stages.rename(columns={"step": "from_step"}).rename_axis(columns=None)
    following = stages.groupby(["arm", "seed"])["from_step"].shift(-1)
    stages["to_step"] = following.fillna(stages["total_steps"]).astype("int64")
    columns = ["arm", "seed", "stage", "from_step", "to_step", *STAGE_METRICS]
    return stages[columns]
