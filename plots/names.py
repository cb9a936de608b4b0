"""Names of a study as figures can show them: short enough, in letters of the font, never as maths.

Rows may name an arm by 200 characters of any script. Figures are laid out around their names, so a
frame passes here once, before any figure is drawn of it; the tables keep the names as they are.
"""

import dataclasses
import itertools
from collections.abc import Iterable

from matplotlib.font_manager import findfont, get_font

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.metric_names import PROMPT, PROMPT_CHANGED
from benchmark.study.arm_catalogue import ending_of_control

FONT = "DejaVu Sans"
# Column of a frame → the most characters that figures have room for.
_MOST = {
    "arm": 24, "metric": 44, "weights": 40, "sampler": 40, "declared": 60, "device": 80,
}  # fmt: skip
_PROMPTS, _MOST_OF_PROMPT = (PROMPT, PROMPT_CHANGED), 170
"""Its words stand in the name of its row, and are wrapped where they are drawn."""


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters; the middle of a longer one is left out."""
    tail = most // 3
    return text if len(text) <= most else f"{text[: most - tail - 1]}…{text[-tail:]}"


def with_names_that_fit(study: StudyAnalysis) -> StudyAnalysis:
    """The study with names that can be drawn; different ones stay different.

    The control of an arm keeps its ending, so that it is known as that arm's.
    """
    frame = study.frame
    shown: dict[str, dict[str, str]] = {}
    for column, most in _MOST.items():
        names = set(frame[column].astype(str))
        # Rows without samples have no weights and no sampler; none of them is in a legend.
        is_metric = column == "metric"
        prompts = {name for name in names if is_metric and name.startswith(_PROMPTS)}
        others = {"": ""} | _shown(names - prompts - {""}, most) | _shown(prompts, _MOST_OF_PROMPT)
        texts = _arms_shown(names) if column == "arm" else others
        if any(name != text for name, text in texts.items()):
            shown[column] = texts
    if not shown:
        return study
    renamed = frame.assign(**{column: frame[column].map(texts) for column, texts in shown.items()})
    terms = study.terms.with_arms_named(shown.get("arm", {}))
    return dataclasses.replace(study, frame=renamed, terms=terms)


def _arms_shown(names: Iterable[str]) -> dict[str, str]:
    parts = {name: _split(name) for name in names}
    shown = _shown({base for base, _ in parts.values()}, _MOST["arm"])
    return {name: shown[base] + suffix for name, (base, suffix) in parts.items()}


def _split(arm: str) -> tuple[str, str]:
    suffix = ending_of_control(arm)
    return arm.removesuffix(suffix), suffix


def _shown(names: Iterable[str], most: int) -> dict[str, str]:
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(names):
        text = shortened(_in_letters_of_the_font(name), most)
        head, mark, tail = text.partition("…")
        others = (f"{head}…{number}{mark}{tail}" for number in itertools.count(2))
        found[name] = next(one for one in itertools.chain([text], others) if one not in taken)
        taken.add(found[name])
    return {name: _as_text(text) for name, text in found.items()}


def _in_letters_of_the_font(name: str) -> str:
    """A letter that the font has not becomes its code, as in tables of LaTeX."""
    if name.isascii():
        return name
    font = get_font(findfont(FONT))
    return "".join(one if font.get_char_index(ord(one)) else f"U+{ord(one):04X}" for one in name)


def _as_text(text: str) -> str:
    """What matplotlib would not read as maths, or leave out of a legend."""
    text = text.replace("$", r"\$")
    if not text.strip():
        return f'"{text}"'
    return f" {text}" if text.startswith("_") else text
