"""Inputs that are text: rows, indices, runs, studies, lists, variables."""

import json
import lzma
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import mutate

from benchmark.__main__ import main
from benchmark.rows.file import read_rows
from benchmark.rows.lines import lines_of
from benchmark.rows.row import Row, fields_of
from benchmark.study.study import load_study
from mindiffusion.errors import guarded
from mindiffusion.files import sha256_of_json
from mindiffusion.outside.documents import read_yaml

REPOSITORY = Path(__file__).resolve().parents[2]
Action = Callable[[], int]


@cache
def demo_rows() -> list[dict[str, Any]]:
    """A few rows of each kind of the committed demo."""
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for row in map(fields_of, read_rows(REPOSITORY / "docs/demo/rows.jsonl")):
        kept.setdefault((row["arm"], row["metric"].split("@")[0]), row | {"samples": None})
    return list(kept.values())[:40]


@cache
def demo_index() -> dict[str, object]:
    """The committed demo's index."""
    index: dict[str, object] = json.loads((REPOSITORY / "docs/demo/study.json").read_text())
    return index


def command(*words: object) -> Action:
    """A command of the program."""
    return lambda: main([str(word) for word in words])


def write_study(rng: random.Random, folder: Path) -> None:
    """A study's folder whose rows and index are a stranger's."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = rng.sample(demo_rows(), rng.randint(1, 12))
    if rng.random() < 0.3:
        rows[0] = rows[0] | {"samples": rng.choice(("b/x.png", "../../private/secret.png", "x.py"))}
    elif rng.random() < 0.7:
        written = [json.loads(line) for _, line in lines_of([Row(**row) for row in rows])]
        rows = [{k: v for k, v in one.items() if k != "crc"} for one in written]
        if rng.random() < 0.3:
            _change_shared(rng, rows)
    lines = [
        mutate.as_json(rng, mutate.document(rng, row) if rng.random() < 0.2 else row)
        for row in rows
    ]
    content = rng.choice((b"\n", b"\r\n")).join(lines) + b"\n"
    if rng.random() < 0.7:
        (folder / "rows.jsonl").write_bytes(content)
    else:
        packed = lzma.compress(content, preset=0)
        packed = mutate.content_bytes(rng, packed) if rng.random() < 0.5 else packed
        (folder / "rows.jsonl.xz").write_bytes(packed)
    if rng.random() < 0.7:
        index = mutate.document(rng, demo_index())
        (folder / "study.json").write_bytes(mutate.as_json(rng, index))


def _change_shared(rng: random.Random, lines: list[dict[str, Any]]) -> None:
    """Change a shared line, and its id with it, which the lines that took from it name."""
    number = rng.choice([k for k, line in enumerate(lines) if "id" in line])
    old = lines[number].pop("id")
    fields = {k: v for k, v in lines[number].items() if k != "format"}
    fields[rng.choice(("of", "level", "step", "arm"))] = rng.choice(([old], [0.5], [], "C", None))
    new = sha256_of_json(fields)[:12]
    lines[number] = {"format": lines[number]["format"], "id": new} | fields
    for line in lines:
        line |= (
            {"of": [new if one == old else one for one in line["of"]]} if "id" not in line else {}
        )


def add_links(rng: random.Random, folder: Path) -> None:
    """Now and then a link that leads out, where a file or folder of ours would be."""
    if rng.random() < 0.1:
        names = (
            "tables",
            "figures",
            "b",
            "b/seed0",
            "out",
            "b/seed0/.lock",
            "b/seed0/metrics.jsonl",
        )
        link = folder / rng.choice(names)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(rng.choice(("../../private", "../../private/secret.png", "/dev/zero")))


def rows(rng: random.Random) -> Action:
    """Rows are joined, and now and then made into tables."""
    write_study(rng, Path("theirs"))
    add_links(rng, Path("theirs"))
    if rng.random() < 0.02:
        return command("tables", "theirs")
    return command("merge", "theirs", "--output", "out")


def index(rng: random.Random) -> Action:
    """Indices are looked at and packed."""
    write_study(rng, Path("theirs"))
    add_links(rng, Path("theirs"))
    if rng.random() < 0.5:
        return command("status", "theirs")
    return command("pack", "theirs", "packed")


def run_folder(rng: random.Random) -> Action:
    """A run's folder: its config, its log, its seals."""
    folder = Path("theirs/b/seed0")
    folder.mkdir(parents=True)
    config = {
        "config": {"arm": "B", "seed": 0, "training": {"global_batch": 8}},
        "plan": {"total_steps": 200, "milestones": [100, 200]},
    }
    entry = {"step": 40, "stage": "low", "loss": 0.25, "images_per_second": 80.0}
    for name, content in {
        "config.json": config,
        "metrics.jsonl": entry,
        "ckpt-000000050.json": {},
    }.items():
        (folder / name).write_bytes(mutate.as_json(rng, mutate.document(rng, content)) + b"\n")
    (folder / "cell.log").write_bytes(mutate.content_bytes(rng, b"error: it failed\n"))
    (folder / ".lock").touch()
    add_links(rng, Path("theirs"))
    return command("status", "theirs")


@cache
def studies() -> list[dict[str, object]]:
    """The project's own study files."""
    folder = REPOSITORY / "benchmark/study/protocols"
    return [read_yaml(path) for path in sorted(folder.glob("*.yaml"))]


def study_file(rng: random.Random) -> Action:
    """A study's YAML is resolved, as a dry run does before it times anything."""
    content = mutate.document(rng, rng.choice(studies()), changes=3)
    text = json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
    Path("mine.yaml").write_bytes(mutate.content_bytes(rng, text) if rng.random() < 0.3 else text)

    def resolve() -> int:
        load_study("mine.yaml")
        return 0

    return lambda: guarded(resolve)
