"""How the report says things: what the arms are, numbers with their signs, lists, titles."""

import math
import re
from collections.abc import Sequence

from benchmark.analysis.log_ratios import BEYOND, is_beyond, percent_change

QUESTION = "Does a noise curriculum train better diffusion models?"
"""The study's question, short enough for a heading."""
QUESTION_IN_FULL = (
    "A noise curriculum (C) trains on high noise first and widens step by step to all noise "
    "levels. If that helps, is it the order, or only that other noise levels get more training? "
    "All arms of a seed share steps, data and random draws with plain training (B)."
)

_ARMS = {
    "B": "plain training",
    "S": "channel mask, no curriculum",
    "R": "group penalty, no curriculum",
    "C": "noise curriculum, high noise first",
    "CS": "curriculum and channel mask",
    "CR": "curriculum and group penalty",
    "S-silent": "as S, masked channels silenced",
    "CS-silent": "as CS, masked channels silenced",
    "CR-x10": "as CR, ten times the penalty",
    "CR-x100": "as CR, a hundred times the penalty",
    "C-snr": "as C, stages of equal log-SNR",
    "C-flat": "C’s order, uniform exposure",
    "mirror": "low noise first",
    "A/A": "B again, other random draws",
    "B-80%": "B, 80 % of the steps",
    "B-half": "B, half the width",
    "P2": "loss weight P2",
    "MinSNR-5": "loss weight Min-SNR-5",
    "EDM-lognormal": "noise levels drawn as in EDM",
    "logit-normal": "noise levels drawn logit-normally",
    "SpeeD": "noise levels and weight of SpeeD",
    "B-TTDM": "noise levels drawn by a Beta density",
}
_CONTROLS = {
    "density*": "{}’s exposure and last stage, else no order",
    "static": "{}’s exposure, no order at all",
    "shuffled*": "{}’s stages, shuffled",
    "anti*": "{}’s stages, reversed",
    "flat": "{}’s order, uniform exposure",
}
FIGURES = {
    "fid_vs_steps": "Distance by training step",
    "forest": "Effects with their intervals",
    "order_exposure": "Order against exposure",
    "denoising_profile": "Denoising error by noise level",
    "learnable": "What can be learned at each noise level",
    "stitched": "Where the final quality comes from",
    "feature_emergence": "When attributes emerge",
    "samples": "Samples by arm and step",
    "curriculum": "What each arm is trained on, and when",
    "capacity": "Capacity over training",
    "channel_births": "When channels are switched on",
    "group_norms": "Norms of the weight groups",
    "cost_vs_quality": "Cost against quality",
    "closest": "Samples beside their closest training images",
}
TABLES = {
    "verdicts": "Verdicts",
    "learning": "Speed of learning",
    "secondary": "The claims by other measures",
    "fid_vs_steps": "Distances by training step",
    "quality": "Quality: precision, recall, memorisation, attributes, stitching",
    "denoising": "Denoising error, in summary",
    "kid_and_eps_mse": "Kernel distance and mean denoising error",
    "checks": "Sampler noise, masks and norms",
    "arms": "What each arm is",
    "curriculum": "Stages of each arm",
    "capacity": "Capacity: masks, penalties, realised sparsity",
    "configuration": "Configuration",
    "training_cost": "What training takes",
    "exposure": "Exposure: how much each noise level is trained",
}
"""Titles of the study's table files; another name is its own title."""


def slug(text: str) -> str:
    """Letters and digits of a text with dashes between, for an anchor."""
    return re.sub(r"[^0-9A-Za-z]+", "-", text.replace("*", "-star")).strip("-")


def title_of(name: str, titles: dict[str, str]) -> str:
    """A title for a file's name."""
    return titles.get(name, name.replace("_", " ").capitalize())


def arm_note(arm: str) -> str:
    """What an arm is, in a few words; nothing for an arm of the user's own."""
    if arm in _ARMS:
        return _ARMS[arm]
    for suffix, text in _CONTROLS.items():
        if arm == suffix:
            return text.format("C")
        if arm.endswith(f"-{suffix}"):
            return text.format(arm.removesuffix(f"-{suffix}"))
    return ""


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
