"""A study of eight seeds with planted effects, its strips and figures, and its report."""

import dataclasses
import math

import numpy as np
import pytest
from PIL import Image
from remade import report_of

from benchmark.rows.file import append_rows
from benchmark.rows.row import Row

EVIL = 'x<b>&"%/*'
"""An arm's name with everything that HTML, CSS selectors and LaTeX take for their own."""
# Planted log ratios to B at the last step: exposure explains what C gains.
EFFECTS = {
    "B": 0.0, "C": -0.12, "density*": -0.12, "S": 0.0, "CS": -0.2, "A/A": 0.0, "B-80%": 0.08,
    EVIL: 0.0,
}  # fmt: skip
STEPS, TOTAL, TOTAL_80 = (200, 600, 1000), 1000, 800
DRAWN_SEEDS = (0, 1)
CURVE, FINAL = "FD-EffNet-Lite0-64px@512", "FD-EffNet-Lite0-64px@2048"
ROW = Row(
    study="planted", arm="B", seed=0, step=1000, total_steps=TOTAL, metric=CURVE, value=1.0,
    level=None, error=None, direction="lower", metric_version=1, n_generated=512,
    n_reference=4096, weights="ema0.999", sampler="ddim-eta1", sampler_steps=50, sampling_seed=0,
    full_range=True, stage="", samples=None, dataset="avatars", manifest="m1", config_hash="c1",
    git="g1", versions={"torch": "2.15"}, device="cpu, fp32", host="box", threads=1,
    train_seconds=60.0, time="2027-01-01T00:00:00+00:00",
)  # fmt: skip
NO_SAMPLES = {"n_generated": 0, "n_reference": 64, "sampler": "", "sampler_steps": 0}


def make_row(**changes):
    return dataclasses.replace(ROW, **changes)


def strip_name(arm, seed, step):
    """Says nothing of arm and step, for the page must read them from the rows."""
    place = list(EFFECTS).index(arm)
    return f"strips/{(place * 7919 + seed * 104_729 + step * 31) % 1_000_003}.png"


def planted_rows(arms=tuple(EFFECTS), seeds=range(8), final=FINAL):
    return [row for arm in arms for seed in seeds for row in run_rows(arm, seed, final)]


def run_rows(arm, seed, final):
    total = TOTAL_80 if arm == "B-80%" else TOTAL
    rng = np.random.default_rng((seed, list(EFFECTS).index(arm)))
    end = math.log(60) + EFFECTS[arm] + 0.05 * np.random.default_rng(seed).standard_normal()
    end += 0.01 * rng.standard_normal()
    staged, run = arm in ("C", "CS"), {"arm": arm, "seed": seed, "total_steps": total}
    run["config_hash"] = f"c{list(EFFECTS).index(arm)}{seed}"
    rows = stage_rows(run, staged)
    for step in (round(share * total / TOTAL) for share in STEPS):
        cell = {**run, "step": step, "full_range": not staged or step > 500}
        log = end + 1.5 * (1 - step / total)
        strip = strip_name(arm, seed, step) if seed in DRAWN_SEEDS else None
        rows.append(make_row(**cell, value=math.exp(log), samples=strip))
        rows += profile_rows(cell, arm)
    rows += [
        make_row(**run, step=total, metric=final, n_generated=int(final.rpartition("@")[2]),
                 sampling_seed=k, value=math.exp(end + 0.002 * k))
        for k in (0, 1)
    ]  # fmt: skip
    return rows


def stage_rows(run, staged):
    starts = ((0, 0.5), (500, 0.001)) if staged else ((0, 0.001),)
    kind = {**NO_SAMPLES, "direction": "none", "weights": "", "n_reference": 0}
    return [
        make_row(**run, **kind, step=start, metric=name, value=value, stage=f"stage{index}")
        for index, (start, t_min) in enumerate(starts)
        for name, value in (("t_min", t_min), ("t_max", 1.0), ("active_channels", 64.0))
    ]


def profile_rows(cell, arm):
    """What the masked arms' manipulation check needs: 5 % at the first milestone."""
    if arm not in ("S", "CS"):
        return []
    effect = 0.005 if cell["step"] < 500 else 0.0
    kind = {**NO_SAMPLES, "direction": "none", "metric": "mask-effect", "value": effect}
    return [
        make_row(**cell, **changes, level=level)
        for level in (0.25, 0.75)
        for changes in ({**NO_SAMPLES, "metric": "eps-MSE", "value": 0.1}, kind)
    ]


def write_strips(folder, rows):
    """A strip of one colour for each, so that a test sees which one is shown."""
    (folder / "strips").mkdir(parents=True)
    for number, name in enumerate(sorted({row.samples for row in rows if row.samples})):
        colour = (number % 256, number // 256, 90)
        Image.new("RGB", (32, 8), colour).save(folder / name)


def write_figures(folder):
    (folder / "figures").mkdir(parents=True)
    for name, size in (("fid_vs_steps", (300, 200)), ("forest", (600, 200)), ("own", (9, 9))):
        Image.new("RGB", size, "white").save(folder / "figures" / f"{name}.png")


@pytest.fixture(scope="session")
def planted():
    """A function: arms, seeds, name of the last distance → rows with planted effects."""
    return planted_rows


@pytest.fixture(scope="session")
def study_dir(tmp_path_factory):
    """The planted study with strips and three figures."""
    folder = tmp_path_factory.mktemp("planted")
    rows = planted_rows()
    append_rows(folder / "rows.jsonl", rows)
    write_strips(folder, rows)
    write_figures(folder)
    return folder


@pytest.fixture(scope="session")
def report(study_dir):
    """The planted study's report."""
    return report_of(study_dir)
