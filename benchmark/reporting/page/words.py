"""How the report says things: what is asked, numbers with their signs, lists."""

import math
import re
from collections.abc import Sequence

from benchmark.analysis.log_ratios import BEYOND, is_beyond, percent_change

QUESTION_IN_FULL = (
    "A noise curriculum (C) trains on high noise first and widens step by step to all noise "
    "levels. If that helps, is it the order, or only that other noise levels get more training? "
    "All arms of a seed share steps, data and random draws with plain training (B)."
)


def slug(text: str) -> str:
    """Letters and digits of a text with dashes between, for an anchor."""
    return re.sub(r"[^0-9A-Za-z]+", "-", text.replace("*", "-star")).strip("-")


def percent(change: float) -> str:
    """A change in percent with its sign: −4.5 %, +120 %."""
    digits = 0 if abs(change) >= 99.95 else 1
    text = f"{change:+.{digits}f}".replace("-", "−")
    # What rounds to zero has no sign.
    return f"{text if float(text.replace('−', '-')) else text.lstrip('+−')} %"


def percent_of(log_ratio: float) -> str:
    """A log ratio as a change in percent; a dash where there is none."""
    if math.isnan(log_ratio):
        return "–"
    return BEYOND if is_beyond(log_ratio) else percent(percent_change(log_ratio))


def p_value(p: float) -> str:
    """``p = .012``, or ``p < .001``."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")


def tied(text: str) -> str:
    """No line ends between a number and its percent sign, or around ``=`` and after ``<``."""
    return re.sub(r"\s(?=[%=])|(?<=[=<])\s", "\u00a0", text)


def counted(count: int, noun: str) -> str:
    """``1 seed``, ``1,200 seeds``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(words: Sequence[str], limit: int = 6) -> str:
    """Words with commas; of a long list the first ones and how many more."""
    more = f" and {len(words) - limit} more" if len(words) > limit else ""
    return ", ".join(words[:limit]) + more


def ranges(numbers: Sequence[int]) -> str:
    """Sorted whole numbers with runs joined: 0–3, 5."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def size_text(num_bytes: int) -> str:
    """Bytes as kB or MB."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.0f} kB"
