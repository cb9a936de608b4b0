"""Where the numbers come from: data, code, machines, settings, files, and how to make it anew."""

import json
from pathlib import Path

import pandas as pd

from benchmark.reporting.page.words import counted, listed, ranges, size_text
from benchmark.reporting.tables.as_text import Table, written
from benchmark.rows.file import ROWS_FILE, rows_files
from benchmark.rows.frames import arm_order
from mindiffusion.files import sha256_of_file


def facts(frame: pd.DataFrame, study_dir: Path) -> list[tuple[str, str]]:
    """Term and text, in the order of a methods section."""
    files = "; ".join(
        f"{one.name}, {size_text(one.stat().st_size)}, SHA-256 {sha256_of_file(one)}"
        for one in rows_files(study_dir / ROWS_FILE)
    )
    runs = frame.groupby(["arm", "seed"])["train_seconds"].max()
    times = sorted(frame["time"])
    seeds = ranges([int(seed) for seed in frame["seed"].unique()])
    return [
        ("study", _distinct(frame, "study")),
        ("declared", _distinct(frame, "declared")),
        ("data", f"{_distinct(frame, 'dataset')}, manifest {_distinct(frame, 'manifest')}"),
        ("arms and seeds", f"{listed(arm_order(frame), 99)}; seeds {seeds}"),
        ("rows", f"{len(frame):,} in {files}"),
        ("code", f"git {_distinct(frame, 'git')}"),
        ("versions", _versions(frame)),
        ("device", _distinct(frame, "device")),
        ("host", f"{_distinct(frame, 'host')}; threads {_distinct(frame, 'threads')}"),
        (
            "training",
            f"{counted(len(runs), 'run')}, {written(runs.sum() / 3600, '.1f')} hours in all",
        ),
        ("measured", f"{times[0]} to {times[-1]}"),
    ]


def _distinct(frame: pd.DataFrame, column: str) -> str:
    return listed(sorted(set(frame[column].astype(str))), 12)


def _versions(frame: pd.DataFrame) -> str:
    """Package and version, every version there is of each."""
    found: dict[str, set[str]] = {}
    for text in {json.dumps(versions, sort_keys=True) for versions in frame["versions"]}:
        for name, version in json.loads(text).items():
            found.setdefault(name, set()).add(version)
    return ", ".join(f"{name} {' | '.join(sorted(found[name]))}" for name in sorted(found))


def config_table(frame: pd.DataFrame) -> Table:
    """Which configurations each arm had, with its seeds, steps and training time."""
    body = []
    for arm in arm_order(frame):
        rows = frame[frame["arm"] == arm]
        minutes = rows.groupby("seed")["train_seconds"].max().mean() / 60
        seeds = ranges([int(seed) for seed in rows["seed"].unique()])
        hashes = rows.sort_values("seed", kind="stable")["config_hash"].drop_duplicates()
        steps = f"{rows['total_steps'].max():,}"
        body.append((arm, seeds, steps, written(minutes, ".1f"), " ".join(hashes)))
    header = ("arm", "seeds", "steps", "minutes of training a run", "config hashes, by seed")
    caption = "A hash covers everything in a run's settings that can change a result."
    return Table("Configurations", caption, header, tuple(body))
