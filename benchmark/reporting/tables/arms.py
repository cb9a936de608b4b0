"""What each arm is and how it was trained: networks, noise, capacity, loss, every setting.

Curricula come from rows; what configs say comes from the study's index.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmark.analysis.exposure import stage_exposure
from benchmark.reporting.tables.as_text import Table
from benchmark.reporting.tables.milestones import MISSING, short
from benchmark.rows.frames import LARGEST, arm_order, curriculum_frame
from benchmark.rows.metric_names import EXPOSURE
from benchmark.study.arm_names import BASELINE
from benchmark.study.index import NETWORKS
from mindiffusion.printable import printable

_STAGE = ["arm", "seed", "stage", "from_step"]
_WHERE = (
    "device",
    "threads",
    "timeout_seconds",
    "checkpoint_every",
    "keep_scored",
    "log_every",
    "milestones",
)
"""Settings of a run that say where or how often, not what."""
_OF_STITCHING = ("finisher", "stitch_levels")
_TRAINED_BY = ("data", "model", "process", "pacing", "training", "noise_stream")
_GROUPS = {
    "Configuration of training": _TRAINED_BY,
    "Configuration of sampling and scoring": ("sampler", "evaluation"),
}

_PARTS = [part for group in _GROUPS.values() for part in group]
_MOST_OF_NAME, _MOST_OF_VALUE = 200, 400
"""Characters of a setting's name and of its value."""


def arms(frame: pd.DataFrame, index: Mapping[str, Any]) -> tuple[list[Table], pd.DataFrame]:
    """One line an arm: its network, what is trained when, and what is minimised.

    Args:
        frame: the frame of a study's rows.
        index: the study's index, or an empty one: what it would say stays open.
    """
    stages = curriculum_frame(frame).merge(_weighted(frame), on=_STAGE, how="left")
    lines = [
        _arm_line(arm, stages[stages["arm"] == arm], index)
        for arm in arm_order(frame)
        if arm in set(stages["arm"])
    ]
    if not lines:
        return [], pd.DataFrame()
    numbers = pd.DataFrame(lines)
    caption = (
        f"{_origin(frame)}. Stage by stage from left to right; noise time 1 is pure noise. "
        "Arms of a seed share initial weights, data order and noise, but for arms with other draws."
        " Active channels are those of the place where a mask acts; places differ in their number."
    )
    body = tuple(tuple(map(str, line.values())) for line in lines)
    return [Table("The arms", caption, tuple(numbers.columns), body)], numbers


def _weighted(frame: pd.DataFrame) -> pd.DataFrame:
    """Stages of which the noise levels between the two ends are not drawn alike."""
    bins = stage_exposure(frame)
    bins = bins[bins[EXPOSURE] > 0]
    # The bins at the ends may hold a part of a window.
    inner = bins[bins.duplicated(_STAGE) & bins.duplicated(_STAGE, keep="last")]
    spread = inner.groupby(_STAGE)[EXPOSURE].agg(["min", "max"])
    unlike = spread[spread["max"] > 1.05 * spread["min"]]
    return unlike.assign(weighted=" weighted")[["weighted"]].reset_index()


def _origin(frame: pd.DataFrame) -> str:
    return f"{frame['study'].iloc[0]} on {frame['dataset'].iloc[0]}"


def _arm_line(arm: str, stages: pd.DataFrame, index: Mapping[str, Any]) -> dict[str, Any]:
    entry = part_of(index, "arms", arm)
    first = stages[stages["seed"] == stages["seed"].min()]
    windows = [
        f"{short(one.t_min)}–{short(one.t_max)}{one.weighted}"
        for one in first.fillna({"weighted": ""}).itertuples()
    ]
    same = stages.groupby("seed")[["t_min", "t_max"]].agg(tuple).drop_duplicates()
    noise = " → ".join(windows) if len(same) == 1 else f"{len(windows)} stages, other by seed"
    return {
        "arm": arm,
        "network": network_of(arm, index),
        "parameters": entry.get("parameters", MISSING),
        "steps": int(first["to_step"].max()),
        "noise time by stage": noise if len(set(windows)) > 1 else windows[0],
        "active channels": sequence(first["active_channels"]),
        "loss": _loss(first["penalty_lambda"], entry),
    }


def part_of(entry: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """A part of a part of an index's entry; empty where an older version wrote none."""
    part: Any = entry
    for name in names:
        part = part.get(name) if isinstance(part, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def number_of(part: Mapping[str, Any], name: str, otherwise: float = math.nan) -> float:
    """A number of a part; NaN where it is none."""
    value = part.get(name, otherwise)
    return float(value) if isinstance(value, int | float) and abs(value) < LARGEST else math.nan


def network_of(arm: str, index: Mapping[str, Any]) -> str:
    """An arm's network in its own words, then the process: "NaiveUnet, n_feat 16, edm".

    The network's bare name where an older version wrote the index.
    """
    entry = part_of(index, "arms", arm)
    bare = part_of(entry, "config", "model").get("network")
    return text_of(part_of(index, NETWORKS, arm).get("words", bare)) + _reading(entry)


def _reading(entry: Mapping[str, Any]) -> str:
    """The process and how the network's answer is read, where not as usual: configs leave that."""
    process = part_of(entry, "config", "process")
    found = [process.get(name) for name in ("kind", "parameterization")]
    return "".join(f", {text_of(each)}" for each in found if each is not None)


def sequence(values: pd.Series) -> str:
    """Values stage by stage: "13 → 26 → 64", one number where they are all alike."""
    texts = [short(value) for value in values] or [MISSING]
    return " → ".join(texts) if len(set(texts)) > 1 else texts[0]


def _loss(penalties: pd.Series, entry: Mapping[str, Any]) -> str:
    weight = part_of(entry, "config", "process", "loss_weight")
    text = "ε-MSE"
    if weight:
        text += " weighted by " + ", ".join(
            printable(one, _MOST_OF_NAME) for one in weight.values()
        )
    if penalties.gt(0).any():
        text += f" + λ group norms, λ {sequence(penalties)}"
    return text


def configuration(
    frame: pd.DataFrame, index: Mapping[str, Any]
) -> tuple[list[Table], pd.DataFrame]:
    """Every setting with its value, and which arms have another.

    Args:
        frame: the frame of a study's rows.
        index: the study's index; without one there is no table.
    """
    entries = {arm: one for arm, one in index.get("arms", {}).items() if arm in set(frame["arm"])}
    if not entries:
        return [], pd.DataFrame()
    scoring = part_of(index, "evaluation")
    settings = {arm: _settings(one, scoring) for arm, one in entries.items()}
    usual = settings.get(BASELINE, next(iter(settings.values())))
    lines = [_setting_line(key, usual, settings) for key in _keys(settings)]
    numbers = pd.DataFrame(lines, columns=["setting", "value", "other arms"])
    tables = [
        Table(
            title,
            f"{_origin(frame)}; {_seeds(frame)}. The value is {BASELINE}'s where arms differ.",
            ("setting", "value", "other arms"),
            tuple(line for line in lines if line[0].split(".")[0] in groups),
        )
        for title, groups in _GROUPS.items()
    ]
    return tables, numbers


def _seeds(frame: pd.DataFrame) -> str:
    seeds = sorted(set(frame["seed"]))
    return f"training seeds {', '.join(map(str, seeds))}"


def _settings(entry: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, str]:
    """Dotted names of all settings of an arm with their values as text, in the config's order."""
    stitched = "stitched" in evaluation.get("metrics", ())
    used = {k: v for k, v in evaluation.items() if stitched or k not in _OF_STITCHING}
    content = dict(part_of(entry, "config")) | {"evaluation": used}
    for part, name in (("data", "num_train"), ("model", "parameters")):
        known = {name: entry[name]} if name in entry else {}
        content[part] = dict(part_of(content, part)) | known
    known_parts = {part: content[part] for part in _PARTS if part in content}
    return {key: text for key, text in _flat(known_parts) if key.split(".")[-1] not in _WHERE}


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in content.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((printable(prefix + key, _MOST_OF_NAME), text_of(value)))
    return found


def text_of(value: Any) -> str:
    """A value of an index as a cell of a table, of bounded length."""
    if value is None:
        return MISSING
    if isinstance(value, list):
        return ", ".join(text_of(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else printable(value, _MOST_OF_VALUE)


def _keys(settings: Mapping[str, Mapping[str, str]]) -> list[str]:
    """All settings of all arms, those of the same part together."""
    keys = list(dict.fromkeys(key for one in settings.values() for key in one))
    return sorted(keys, key=lambda key: _PARTS.index(key.split(".")[0]))


def _setting_line(
    key: str, usual: Mapping[str, str], settings: Mapping[str, Mapping[str, str]]
) -> tuple[str, str, str]:
    value = usual.get(key, MISSING)
    others: dict[str, list[str]] = {}
    for arm, one in settings.items():
        if one.get(key, MISSING) != value:
            others.setdefault(one.get(key, MISSING), []).append(arm)
    return key, value, "; ".join(f"{', '.join(arms)}: {text}" for text, arms in others.items())
