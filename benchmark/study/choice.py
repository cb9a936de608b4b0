"""Which cells of a study are run: arms and seeds by name. The study itself stays what it is."""

import re
from typing import Any

from benchmark.study.kinds import folder_of_run
from benchmark.study.study import AnyStudy
from mindiffusion.errors import UserError, did_you_mean


def choose_runs(study: AnyStudy, arms: str | None, seeds: str | None) -> tuple[Any, ...]:
    """The study's runs of the chosen arms and seeds, in the study's order.

    Args:
        study: the study.
        arms: names between commas, as in tables ("density*") or as folders ("density-star"); None:
            all.
        seeds: numbers and ranges between commas, such as "0,2-4"; None: all.

    Raises:
        UserError: an arm or a seed that the study does not have.
    """
    of_arm = (
        None if arms is None else {_arm_named(study, name) for name in words_of(arms, "--arms")}
    )
    of_seed = None if seeds is None else _seeds_named(study, seeds)
    return tuple(
        run
        for run in study.runs
        if (of_arm is None or run.arm in of_arm) and (of_seed is None or run.seed in of_seed)
    )


def words_of(text: str, option: str) -> list[str]:
    """The words between the commas of an option's value, without spaces around them.

    Raises:
        UserError: an empty one.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UserError(f"{option} {text!r}: write names between commas, such as {option} a,b.")
    return words


def _arm_named(study: AnyStudy, name: str) -> str:
    by_name = {run.arm: run.arm for run in study.runs}
    by_folder = {folder_of_run(run).name: run.arm for run in study.runs}
    known = by_folder | by_name
    if name not in known:
        raise UserError(f"--arms: {study.name} has no arm {name!r}.{did_you_mean(name, by_name)}")
    return known[name]


def _seeds_named(study: AnyStudy, text: str) -> set[int]:
    known = sorted({run.seed for run in study.runs})
    chosen: set[int] = set()
    is_known = True
    for word in words_of(text, "--seeds"):
        found = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?", word)
        if found is None:
            raise UserError(f"--seeds {text!r}: write numbers and ranges, such as 0,2-4.")
        first, last = int(found[1]), int(found[2] or found[1])
        inside = {seed for seed in known if first <= seed <= last}
        is_known = is_known and 0 < last - first + 1 == len(inside)
        chosen |= inside
    if not is_known:
        raise UserError(
            f"--seeds {text!r}: {study.name} has the seeds {', '.join(map(str, known))}; "
            "give other ones to the study with --set seeds=[…]."
        )
    return chosen
