"""What a study claims before it runs: hypotheses, each about one contrast of its arms.

A contrast is a weighted sum of arms whose weights add up to 0, written as ``C - B`` or
``(CS - C) - (S - B)``. The usual hypotheses are those of docs/PREREG.md; they hold for every study
whose file declares no others.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from benchmark.study.measure import PrimaryMetric, ScaleName
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.outside.documents import Name, shown_value
from mindiffusion.printable import is_printable

Expected = Literal["better", "worse", "equal"]
Weights = tuple[tuple[str, float], ...]
"""Arms in the order of the contrast, each with its weight."""
_LONGEST_CONTRAST = 2000
"""In a file."""
_LONGEST_RENAMED = 100_000
"""With any names that figures may give to so many arms."""
MINUS = "\N{MINUS SIGN}"
_SIGNS = {"+": 1.0, "-": -1.0, MINUS: -1.0}
# A name in quotes; a parenthesis; a sign or a name; or what is none of these.
_TOKEN = re.compile(r'"(?P<quoted>[^"]+)"|(?P<parenthesis>[()])|(?P<word>[^\s()"]+)|(?P<wrong>\S)')
_HOW = 'write arms with " - " or " + " between them, such as C - B or (CS - C) - (S - B)'


OF_OWN_METRIC = ("metric", "scale", "smallest_effect")
"""Fields of a hypothesis that say what it is judged by."""
_AT_STUDY = {"scale": "endpoint.scale", "smallest_effect": "smallest_effect"}


class _Token(NamedTuple):
    """A word of a contrast: an arm's name, a sign or a parenthesis."""

    text: str
    is_arm: bool


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Hypothesis:
    """One claim that was made before the study ran.

    Attributes:
        name: its short name, such as H1; of its own within the study.
        contrast: arms with signs between them, such as ``C - B``; names and signs stand apart, and
            a name with spaces or parentheses stands in double quotes.
        expected: what is claimed of the contrast, by the endpoint's metric: better, worse, or equal
            within the smallest effect.
        title: a few words for tables and figures; the name if empty. What is expected stands beside
            it, but for a title whose claim is the usual one, better.
        question: what is asked, a sentence.
        at_least: how large the effect is claimed to be, above 0: on the ratio scale a share of the
            metric, else in its unit; None: larger than the smallest effect.
        metric: by which it is judged, as of ``PrimaryMetric``; empty: by the study's endpoint.
        scale: of that metric; None: ratio.
        smallest_effect: of that metric; None: on the ratio scale that of the study.
    """

    name: Annotated[Name, Field(min_length=1)]
    contrast: str
    expected: Expected = "better"
    title: Name = ""
    question: Name = ""
    at_least: Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)] | None = None
    metric: Name = ""
    scale: ScaleName | None = None
    smallest_effect: Annotated[float, Field(allow_inf_nan=False)] | None = None

    def __post_init__(self) -> None:
        """Refuse a contrast that cannot be read or compares nothing, and a size of no effect.

        Refuses a scale and a smallest effect of no metric too: the endpoint has its own.
        """
        for name in OF_OWN_METRIC:
            if not self.metric and getattr(self, name):
                raise UserError(
                    f"hypothesis {shown_value(self.name)} has {name}, but no metric of its own; "
                    f"name its metric, or give the study's {_AT_STUDY[name]} instead."
                )
        if self.at_least is not None and self.expected == "equal":
            raise UserError(
                f"hypothesis {shown_value(self.name)} expects equal arms and an effect of at least "
                f"{self.at_least:g}; take at_least out, or expect better or worse."
            )
        try:
            contrast_weights(self.contrast)
        except ValueError as fault:
            shown = shown_value(self.contrast)
            raise UserError(
                f"hypothesis {shown_value(self.name)}: the contrast {shown} {fault}; {_HOW}."
            ) from None

    @property
    def measure(self) -> PrimaryMetric | None:
        """The metric of its own, on its scale; None: it is judged by the study's endpoint."""
        return PrimaryMetric(self.metric, self.scale or "ratio") if self.metric else None

    @property
    def weights(self) -> Weights:
        """(arm, weight) pairs of the contrast, of sum 0."""
        return contrast_weights(self.contrast)

    @property
    def shown_contrast(self) -> str:
        """The contrast as tables show it, with true minus signs: ``(CS − C) − (S − B)``.

        Two arms are shown without the parentheses and names that cancel: ``C − B``.
        """
        first, *others = sorted(self.weights, key=lambda pair: -pair[1])
        if first[1] == 1 and len(others) == 1:
            return f"{first[0]} {MINUS} {others[0][0]}"
        return _joined(
            token._replace(text=MINUS) if token == _Token("-", False) else token
            for token in _tokens(self.contrast)
        )

    def renamed(self, names: Mapping[str, str]) -> "Hypothesis":
        """The same hypothesis about arms of other names: new one by old one; others stay.

        A file's limit on the length of a contrast does not hold for it.
        """
        if all(names.get(arm, arm) == arm for arm, _ in self.weights):
            return self
        contrast = _joined(
            token._replace(text=_quoted(names.get(token.text, token.text)))
            if token.is_arm
            else token
            for token in _tokens(self.contrast)
        )
        return replace(self, contrast=contrast)


def _short_enough(hypotheses: tuple[Hypothesis, ...]) -> tuple[Hypothesis, ...]:
    for one in hypotheses:
        if len(one.contrast) > _LONGEST_CONTRAST:
            raise UserError(
                f"the contrast of hypothesis {shown_value(one.name)} has {len(one.contrast)} "
                f"characters; write at most {_LONGEST_CONTRAST}."
            )
    return hypotheses


Hypotheses = Annotated[tuple[Hypothesis, ...], Field(max_length=100), AfterValidator(_short_enough)]
"""Those of a file."""


def contrast_weights(text: str) -> Weights:
    """The weights of a contrast, arms in the order in which it names them.

    Raises:
        ValueError: what is wrong, as the end of a sentence about the contrast.
    """
    if len(text) > _LONGEST_RENAMED or not is_printable(text):
        raise ValueError(f"has over {_LONGEST_RENAMED} characters, or some that cannot be shown")
    weights: dict[str, float] = {}
    # The sign before each parenthesis that is open, all those outside it included.
    outer, sign, wants_arm = [1.0], 1.0, True
    for token in _tokens(text):
        opens = token == _Token("(", False)
        if (token.is_arm or opens) != wants_arm:
            what = "an arm" if wants_arm else "a sign"
            raise ValueError(f"has {shown_value(token.text)} where {what} must stand")
        if token.is_arm:
            weights[token.text] = weights.get(token.text, 0.0) + outer[-1] * sign
            wants_arm = False
        elif opens:
            outer.append(outer[-1] * sign)
            sign = 1.0
        elif token.text == ")":
            if len(outer) == 1:
                raise ValueError("closes a parenthesis that is not open")
            outer.pop()
        else:
            sign, wants_arm = _SIGNS[token.text], True
    if wants_arm or len(outer) > 1:
        raise ValueError("ends too early")
    kept = tuple((arm, weight) for arm, weight in weights.items() if weight)
    if not kept or sum(weight for _, weight in kept) != 0:
        raise ValueError("does not weigh arms against each other: its weights must add up to 0")
    return kept


def _tokens(text: str) -> list[_Token]:
    found = list(_TOKEN.finditer(text))
    for match in found:
        if match["wrong"]:
            raise ValueError(f"has a {match['wrong']} without its partner")
    return [
        _Token(match["quoted"], True)
        if match["quoted"]
        else _Token(match[0], not match["parenthesis"] and match[0] not in _SIGNS)
        for match in found
    ]


def _quoted(name: str) -> str:
    # A name with double quotes cannot be written; one that is like it is an arm of no study.
    return '"' + name.replace('"', "'") + '"'


def _joined(tokens: Iterable[_Token]) -> str:
    """The tokens with spaces between, but for those inside of parentheses."""
    text, glue = "", ""
    for token in tokens:
        text += ("" if token == _Token(")", False) else glue) + token.text
        glue = "" if token == _Token("(", False) else " "
    return text


def check_hypotheses(hypotheses: Sequence[Hypothesis], arms: Collection[str], source: str) -> None:
    """Refuse hypotheses that a study of these arms cannot answer.

    Args:
        hypotheses: those that the study declares.
        arms: names of the study's arms.
        source: the study's file, named in messages.

    Raises:
        UserError: two of one name, or one about an arm that the study does not have.
    """
    names = [hypothesis.name for hypothesis in hypotheses]
    for hypothesis in hypotheses:
        if names.count(hypothesis.name) > 1:
            raise UserError(
                f"{source}: two hypotheses are called {shown_value(hypothesis.name)}; give each a "
                "name of its own."
            )
        for arm, _ in hypothesis.weights:
            if arm not in arms:
                raise UserError(
                    f"{source}: hypothesis {shown_value(hypothesis.name)} is about "
                    f"{shown_value(arm)}, no arm of this study.{did_you_mean(arm, arms)}"
                )


USUAL_HYPOTHESES = (
    Hypothesis(
        "H1", "C - density*", title="Early order",
        question="Does going from high to low noise help, beyond training each noise level as much "
        "and ending alike?",
    ),
    Hypothesis(
        "H2", "C - B", title="Benefit",
        question="Does the noise curriculum beat plain training?",
    ),
    Hypothesis(
        "H3", "(CS - C) - (S - B)", title="Joint",
        question="Does the channel mask help more with the noise curriculum than without it?",
    ),
)  # fmt: skip
"""Those of docs/PREREG.md. They are judged where a study has their arms."""
