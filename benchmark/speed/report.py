"""A measured table: plain rows for JSON, aligned columns for people, the machine named."""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmark.rows.provenance import git_revision, now, versions
from benchmark.rows.text_table import text_table
from benchmark.speed.timing import Measurement, paired_ratio, spread
from mindiffusion.config.run import RunConfig
from mindiffusion.files import write_json
from mindiffusion.machine import available_cores
from mindiffusion.runtime import Runtime

Row = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """What one part of ``benchmark speed`` gives.

    Attributes:
        part: its name.
        setting: what was measured, by name.
        columns: title of each column shown → key of the rows.
        rows: plain types; a value of several keys is a spread.
        notes: lines below the table.
        machine: where.
        made: when, and with which code.
    """

    part: str
    setting: dict[str, Any]
    columns: dict[str, str]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=lambda: machine())
    made: dict[str, Any] = field(
        default_factory=lambda: {"time": now(), "git": git_revision(), **versions()}
    )

    def write(self, path: Path) -> None:
        """Keep the report as JSON."""
        write_json(path, asdict(self))

    def text(self) -> str:
        """The report as people read it."""
        facts = [_facts("machine", self.machine), _facts("setting", self.setting)]
        return "\n".join([*facts, "", *text_table(self.rows, self.columns), "", *self.notes])


def machine() -> dict[str, Any]:
    """This machine: processor, cores, bf16, GPU, and how busy it was over the last minute."""
    import torch

    from mindiffusion.runtime import supports_bf16

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {
        "cpu": _cpu_model(),
        "cores": available_cores(),
        "cpu_bf16": "in hardware" if supports_bf16("cpu") else "emulated",
        "gpu": gpu,
        "load": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def run_setting(config: RunConfig, runtime: Runtime, repeats: int) -> dict[str, Any]:
    """The facts about a measured run that its numbers depend on."""
    return {
        "network": config.model.words,
        "side": config.data.size,
        "global_batch": config.training.global_batch,
        "device": runtime.device,
        "threads": runtime.threads,
        "ours": f"{runtime.precision}, {'compiled' if runtime.compile else 'eager'}",
        "repeats": repeats,
    }


def measured_row(measured: Measurement, bases: Mapping[str, Measurement]) -> Row:
    """A row: the rate's spread, and its paired ratio to each of ``bases`` by their short name."""
    row: Row = {
        "row": measured.name,
        "images_per_second": asdict(spread(measured.images_per_second)),
        "repeats": list(measured.images_per_second),
        "first_seconds": measured.first_seconds,
    }
    for name, base in bases.items():
        ratio = paired_ratio(measured.images_per_second, base.images_per_second)
        row[f"over_{name}"] = asdict(ratio)
    return row


def _facts(title: str, facts: Mapping[str, Any]) -> str:
    return f"{title}: " + ", ".join(f"{key} {value}" for key, value in facts.items())
