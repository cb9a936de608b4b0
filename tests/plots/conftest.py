"""A study of synthetic rows, shaped like the real three-way benchmark."""

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmark.rows.file import append_rows
from benchmark.rows.frames import to_frame
from benchmark.rows.row import Row
from plots.style import paper_style

TOTAL = 1500
ENDS = (94, 281, 563, 938, 1500)
T_MIN = (0.8, 0.6, 0.4, 0.2, 0.001)
CHANNELS = (13, 26, 38, 51, 64)
MILESTONES = (281, 563, 975, 1240, 1500)
DISTANCE = "FD-EffNet-Lite0-64px@256"


def make_row(**changes):
    row = Row(
        study="demo",
        arm="B",
        seed=0,
        step=1500,
        total_steps=TOTAL,
        metric=DISTANCE,
        value=100.0,
        level=None,
        error=None,
        direction="lower",
        metric_version=1,
        n_generated=256,
        n_reference=4096,
        weights="ema0.995",
        sampler="ddim-eta1/chunk64",
        sampler_steps=50,
        sampling_seed=0,
        full_range=True,
        stage="",
        samples=None,
        dataset="avatars-32",
        manifest="m1",
        config_hash="c1",
        git="g1",
        versions={"torch": "2.15"},
        device="cpu",
        host="box",
        threads=1,
        train_seconds=10.0,
        time="2027-01-01T00:00:00+00:00",
    )
    return dataclasses.replace(row, **changes)


def stage_rows(arm, seed):
    staged = arm != "B"
    starts = (0, *ENDS[:-1]) if staged else (0,)
    rows = []
    for index, start in enumerate(starts):
        values = {"t_min": T_MIN[index] if staged else 0.001, "t_max": 1.0}
        values["active_channels"] = CHANNELS[index] if arm == "CS" else 64
        if arm == "CR":
            values["penalty_lambda"] = 5e-5 * 0.5 * (1 + math.cos(math.pi * index / 4))
        rows += [
            make_row(arm=arm, seed=seed, step=start, metric=name, value=float(value),
                     direction="none", n_generated=0, n_reference=0, weights="", sampler="",
                     sampler_steps=0, stage=f"stage{index + 1}",
                     full_range=index == len(starts) - 1)
            for name, value in values.items()
        ]  # fmt: skip
    return rows


def milestone_rows(arm, seed, step, spread=1.0):
    """Distance, KID and profile of one cell; the staged arms are poor until stage 5."""
    rank = ("B", "C", "CS", "CR").index(arm)
    rng = np.random.default_rng((seed, rank, step))
    full = arm == "B" or step > ENDS[3]
    late = max(0.0, (step - 700) / 800)
    fd = 520 * math.exp(-step / 700) + 90 if arm == "B" else 640 - 0.12 * step
    if arm != "B" and full:
        fd = 330 * math.exp(-2.2 * late) + 65 + 9 * rank
    fd *= 1 + 0.04 * spread * rng.standard_normal()
    cell = {"arm": arm, "seed": seed, "step": step, "full_range": full}
    strip = f"samples/{arm}-seed{seed}-{step:06d}.png"
    rows = [
        make_row(**cell, value=float(fd), samples=strip),
        make_row(**cell, metric="KD-EffNet-Lite0-64px@256", value=float(fd) / 4000, error=0.002),
    ]
    for index in range(20):
        level = (index + 0.5) / 20
        mse = 0.9 * math.exp(-4.2 * level) + 0.004
        if not full and level < 0.4:
            mse *= 1.8
        mse *= 1 + 0.02 * spread * rng.standard_normal() + 0.03 * rank * (0.5 - level)
        rows.append(make_row(**cell, metric="eps-MSE", value=float(mse), level=level,
                             error=float(mse) / 50, n_generated=0, n_reference=512,
                             sampler="", sampler_steps=0))  # fmt: skip
    return rows


def study_rows(arms=("B", "C", "CS", "CR"), seeds=(0,), milestones=MILESTONES):
    rows = []
    for arm in arms:
        for seed in seeds:
            rows += stage_rows(arm, seed)
            for step in milestones:
                rows += milestone_rows(arm, seed, step)
    return rows


def portrait(index, blur):
    """A 32 x 32 face of discs on a two-colour ground, dissolved in noise by ``blur``."""
    rng = np.random.default_rng((7, index))
    y, x = np.mgrid[:32, :32] / 31.0
    ground, skin, hair, shirt = rng.uniform(60, 230, (4, 3))
    image = ground + 30 * y[..., None]
    image = np.where(((x - 0.5) ** 2 + (y - 1.1) ** 2 < 0.16)[..., None], shirt, image)
    image = np.where(((x - 0.5) ** 2 + (y - 0.42) ** 2 < 0.10)[..., None], hair, image)
    image = np.where(((x - 0.5) ** 2 * 1.3 + (y - 0.5) ** 2 < 0.06)[..., None], skin, image)
    for eye in (0.4, 0.6):
        image = np.where(((x - eye) ** 2 + (y - 0.47) ** 2 < 0.0016)[..., None], 20, image)
    noise = rng.normal(128, 70, image.shape)
    return np.clip((1 - blur) * image + blur * noise, 0, 255).astype(np.uint8)


def write_strips(folder, rows):
    for row in rows:
        if row.samples:
            blur = 0.85 if not row.full_range else max(0.05, 0.7 - row.step / 2000)
            strip = np.concatenate([portrait(k, blur) for k in range(10)], axis=1)
            path = folder / row.samples
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(strip).save(path)


def write_study(folder: Path, rows) -> Path:
    append_rows(folder / "rows.jsonl", rows)
    write_strips(folder, rows)
    return folder


# Planted log ratios to B at the last step: exposure helps, order adds a little to it.
EFFECTS = {
    "B": 0.0, "S": 0.004, "C": -0.075, "CS": -0.115, "CR": -0.06, "density*": -0.055,
    "C-flat": -0.012, "A/A": 0.0, "B-80%": 0.06,
}  # fmt: skip
STAGED = ("C", "CS", "CR", "C-flat")
WIDE_MILESTONES = (281, 750, 1080, 1290, 1500)
SHORTER, FINAL = {"B-80%": 0.8}, "FD-EffNet-Lite0-64px@2048"


def wide_rows(arms=tuple(EFFECTS), seeds=range(8)):
    """A study of many arms and seeds with planted effects, and every kind of row."""
    rows = []
    for arm in arms:
        for seed in seeds:
            rows += [*wide_stages(arm, seed), *exposure_rows(arm, seed)]
            for step in WIDE_MILESTONES:
                rows += wide_milestone(arm, seed, round(step * SHORTER.get(arm, 1.0)))
    return rows


def unsampled(**changes):
    kind = {"direction": "none", "n_generated": 0, "weights": "", "sampler": "", "sampler_steps": 0}
    return make_row(**kind | changes)


def own_total(arm):
    return round(TOTAL * SHORTER.get(arm, 1.0))


def wide_stages(arm, seed):
    """Window, channels and penalty by stage, as the rows of a run have them."""
    starts = (0, *ENDS[:-1]) if arm in (*STAGED, "S") else (0,)
    rows = []
    for index, start in enumerate(starts):
        values = {"t_min": T_MIN[index] if arm in STAGED else 0.001, "t_max": 1.0}
        values["active_channels"] = CHANNELS[index] if arm in ("S", "CS") else 64
        if arm == "CR":
            values["penalty_lambda"] = 5e-5 * 0.5 * (1 + math.cos(math.pi * index / 4))
        if arm in ("S", "CS") and index:
            values["saliency_split_half_correlation"] = 0.3 + 0.1 * index + 0.02 * seed
        rows += [
            unsampled(arm=arm, seed=seed, step=start, metric=name, value=float(value),
                      n_reference=0, stage=f"stage{index + 1}", total_steps=own_total(arm))
            for name, value in values.items()
        ]  # fmt: skip
    return rows


def exposure_rows(arm, seed):
    """The density of each stage over 20 bins of noise time, relative to uniform."""
    windows = [(0, 0.0)]
    if arm in STAGED:
        windows = list(zip((0, *ENDS[:-1]), (0.8, 0.6, 0.4, 0.2, 0.0), strict=True))
    if arm == "density*":
        windows = [(0, None), (ENDS[3], 0.0)]
    rows = []
    for index, (start, low) in enumerate(windows):
        edges = np.arange(1, 21) / 20
        if low is None:
            density = np.clip(edges * 20 // 4, 0, 4) / 2
        else:
            density = (edges > low + 1e-9) / (1 - low)
        rows += [
            unsampled(arm=arm, seed=seed, step=start, metric="exposure", value=float(value),
                      level=float(edge), n_reference=0, stage=f"stage{index + 1}",
                      total_steps=own_total(arm))
            for edge, value in zip(edges, density / density.mean(), strict=True)
        ]  # fmt: skip
    return rows


def wide_milestone(arm, seed, step):
    """Distance, profile, mask and norms; the primary distance has two sampling seeds."""
    place, total = list(EFFECTS).index(arm), own_total(arm)
    rng = np.random.default_rng((seed, place, step))
    block = 0.04 * np.random.default_rng(seed).standard_normal()
    full = arm not in STAGED or step > ENDS[3]
    young = 2.2 * math.exp(-step / total * 3.2) + (0.0 if full else 0.9)
    log = math.log(60) + young + block + EFFECTS[arm] + 0.018 * rng.standard_normal()
    cell = {"arm": arm, "seed": seed, "step": step, "full_range": full, "total_steps": total,
            "train_seconds": 0.2 * step * (1.04 if arm == "CS" else 1.0)}  # fmt: skip
    rows = [make_row(**cell, metric="FD-EffNet-Lite0-64px@512", n_generated=512,
                     value=1.1 * math.exp(log))]  # fmt: skip
    if step == total:
        rows += [
            make_row(**cell, metric=FINAL, n_generated=2048, sampling_seed=k,
                     value=math.exp(log + 0.004 * rng.standard_normal()))
            for k in (0, 1)
        ]  # fmt: skip
    if step in (WIDE_MILESTONES[1], total):
        rows += wide_profile(cell, arm, rng)
    return rows


def wide_profile(cell, arm, rng):
    rows = []
    for index in range(10):
        level = (index + 0.5) / 10
        mse = (0.9 * math.exp(-4.2 * level) + 0.004) * math.exp(EFFECTS[arm] * (1 - level))
        mse *= 1 + 0.01 * rng.standard_normal()
        rows.append(unsampled(**cell, metric="eps-MSE", value=float(mse), level=level,
                              n_reference=512, weights="ema0.995", direction="lower"))  # fmt: skip
        if arm in ("S", "CS"):
            effect = 0.0 if cell["full_range"] and arm == "CS" else 0.04 * mse * (1 - level)
            rows.append(unsampled(**cell, metric="mask-effect", value=float(effect), level=level,
                                  n_reference=512, weights="ema0.995"))  # fmt: skip
    progress, weights = cell["step"] / TOTAL, {"weights": "ema0.995", "n_reference": 0}
    if arm in ("S", "CS"):
        for name, scale in (("encoder-on", 0.2), ("encoder-masked", 0.18), ("up0-on", 0.25)):
            if "masked" in name and progress == 1:
                continue
            value = scale * progress + 0.004 * rng.standard_normal()
            rows.append(unsampled(**cell, metric=f"weight-movement-{name}", value=value, **weights))
    if arm == "CR":
        norms = {"mean": 0.8 - 0.1 * progress, "share-below-1%": 0.02 * progress}
        rows += [
            unsampled(**cell, metric=f"group-norm-{name}", value=value, **weights)
            for name, value in norms.items()
        ]
    return rows


@pytest.fixture(scope="session")
def wide():
    """The frame of a study of nine arms and eight seeds."""
    return to_frame(wide_rows())


@pytest.fixture
def study(tmp_path):
    return write_study(tmp_path / "demo", study_rows())


@pytest.fixture(scope="session")
def generators():
    """The generators, for tests that need another study."""
    return SimpleNamespace(row=make_row, rows=study_rows, write=write_study)


@pytest.fixture
def make(generators):
    return generators


@pytest.fixture
def paper():
    with paper_style():
        yield
