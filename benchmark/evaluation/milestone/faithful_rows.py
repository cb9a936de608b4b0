"""Rows of whether generated portraits show what their prompts say, also with one word changed.

Prompts are the held-out ones; image k shows prompt k modulo their number. For a flip, one word of
each prompt is changed and all images are drawn again from the same noise: the changed word must
hold, and whatever else is read in the picture must stay. Beside each share stand what chance gives
and what real portraits have that are read by the same classifier.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.attributes.caption_changes import (
    Change,
    ChangedPortraits,
    changed_portraits,
    drawn_change,
)
from benchmark.evaluation.attributes.faithfulness import (
    Judged,
    judged,
    judged_features,
    same_readings,
    share_of,
    values_read,
)
from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.yardstick import Yardstick
from benchmark.rows.keeper import INSTRUMENT
from benchmark.rows.metric_names import (
    COARSE,
    FAITHFUL,
    FAITHFUL_CHANCE,
    FAITHFUL_REAL,
    FINE,
    FLIP,
    FLIP_AMPLITUDE,
    FLIP_CHANCE,
    FLIP_KEPT,
    FLIP_KEPT_CHANCE,
    FLIP_KEPT_REAL,
    FLIP_REAL,
    metric_label,
)
from benchmark.rows.row import Row
from mindiffusion.data.avatars import avatar_styles, label_names, values_of
from mindiffusion.data.caption_grammar import Caption, Statement, parse
from mindiffusion.data.spec import DataConfig

_PORTRAITS = 512
"""Real portraits of which one option is changed."""
Values = Sequence[dict[str, str]]
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Judge:
    """What prompts say, and who reads whether it holds.

    Attributes:
        yardstick: has the classifier and the held-out portraits.
        styles: of the portraits.
        features: what can be judged.
        prompts: one of each held-out portrait.
        changes: of each prompt; None where no word of it can be changed.
        portraits: real portraits with one change each.
        coarse: the half of the features whose changes move a portrait most.
        fine: the other half.
    """

    yardstick: Yardstick
    styles: tuple[str, ...]
    features: tuple[str, ...]
    prompts: tuple[Caption, ...]
    changes: tuple[Change | None, ...]
    portraits: ChangedPortraits
    coarse: tuple[str, ...]
    fine: tuple[str, ...]

    def read(self, images: NDArray[np.uint8]) -> Values:
        """What the attributes of images (N, H, W, 3) uint8 most probably are."""
        classifier = self.yardstick.classifier
        return values_read(classifier.read_uint8(images), classifier.attributes, self.styles)

    @property
    def fingerprint(self) -> str:
        """Of the classifier."""
        return self.yardstick.classifier.fingerprint

    def others(self, of_pictures: Sequence[_T]) -> list[_T]:
        """What belongs to another picture, in the place of each; of the same style, by and large.

        Portraits take the styles in turn.
        """
        by = len(self.styles)
        return [*of_pictures[by:], *of_pictures[:by]]

    def by_prompt(self, found: Judged, pictures: Sequence[int]) -> Judged:
        """Statements with their prompt in the place of their picture: several may share one.

        Args:
            found: about the pictures by their places in ``pictures``.
            pictures: numbers of images.
        """
        return found._replace(image=np.array(pictures)[found.image] % len(self.prompts))

    def said(self, count: int) -> list[tuple[Statement, ...]]:
        """What the prompts of the first ``count`` images state."""
        return [self.prompts[k % len(self.prompts)].statements for k in range(count)]

    @property
    def changed_prompts(self) -> list[str]:
        """The prompts with one word changed, where one can be."""
        return [
            (prompt if change is None else prompt.restated(*change.statement)).text
            for prompt, change in zip(self.prompts, self.changes, strict=True)
        ]

    def changes_of(self, count: int) -> dict[int, Change]:
        """Images among the first ``count``, and what their changed prompts say differently."""
        found = ((k, self.changes[k % len(self.prompts)]) for k in range(count))
        return {k: change for k, change in found if change is not None}

    @functools.cached_property
    def real(self) -> tuple[Judged, Judged, Judged]:
        """What holds of real portraits: the same for all milestones.

        Prompts of the held-out ones; changed words, and what stays, of those that were changed.
        """
        held_out = self.read(np.array(self.yardstick.data.held_out))
        one, two = self.read(self.portraits.before), self.read(self.portraits.after)
        words, options = _words_and_options(self.portraits.changes)
        return (
            judged(self.said(len(held_out)), held_out, self.features),
            judged(words, two, self.features),
            same_readings(one, two, options),
        )


@functools.lru_cache(maxsize=2)
def judge_of(yardstick: Yardstick, spec: DataConfig) -> Judge:
    """The judge of a data set's portraits; also draws the real ones it is held against.

    Raises:
        UserError: the classifier can judge nothing that captions say.
    """
    styles, data = avatar_styles(spec), yardstick.data
    assert data.captions is not None
    features = judged_features(yardstick.classifier.attributes, styles)
    prompts = tuple(parse(data.captions.texts[k]) for k in data.captions.prompts.tolist())
    columns = [data.held_out_labels[name].tolist() for name in label_names(styles)]
    values = [values_of(codes, styles) for codes in zip(*columns, strict=True)]
    changes = tuple(
        drawn_change(prompt.statements, own, index, features)
        for index, (prompt, own) in enumerate(zip(prompts, values, strict=True))
    )
    portraits = changed_portraits(styles, spec.size, _PORTRAITS, frozenset(features))
    sizes = portraits.amplitudes
    order = sorted(sizes, key=lambda name: (-sizes[name], name))
    half = -(-len(order) // 2)
    coarse, fine = tuple(order[:half]), tuple(order[half:])
    return Judge(yardstick, styles, features, prompts, changes, portraits, coarse, fine)


def faithful_rows(
    milestone: Milestone, yardstick: Yardstick, images: NDArray[np.uint8], common: dict[str, Any]
) -> Iterator[Row]:
    """Share of the prompts' statements that hold in images (N, H, W, 3) uint8.

    By feature, for the coarse and the fine half of them, and for all. Chance is the same share of
    the statements of another image's prompt.
    """
    judge, n = judge_of(yardstick, milestone.config.data), len(images)
    values, said = judge.read(images), judge.said(n)
    shares = _Shares(milestone, judge, common, n)
    for name, which, direction in (
        (FAITHFUL, said, "higher"),
        (FAITHFUL_CHANCE, judge.others(said), "none"),
    ):
        found = judge.by_prompt(judged(which, values, judge.features), range(n))
        yield from shares.parts(name, found, direction)


def flip_rows(
    milestone: Milestone,
    yardstick: Yardstick,
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    common: dict[str, Any],
) -> Iterator[Row]:
    """What one changed word of the prompts changes, and what it leaves.

    Args:
        milestone: the milestone.
        yardstick: has the classifier.
        before: (N, H, W, 3) uint8, the first images.
        after: the same of the same noise, with the changed prompts.
        common: fields of the rows.
    """
    judge, n = judge_of(yardstick, milestone.config.data), len(before)
    changes = judge.changes_of(n)
    pictures = list(changes)
    one, two = judge.read(before[pictures]), judge.read(after[pictures])
    words, options = _words_and_options(list(changes.values()))
    shares = _Shares(milestone, judge, common, n)
    others = judge.others(one)
    for name, values, direction in (
        (FLIP, two, "higher"),
        (FLIP_CHANCE, others, "none"),
    ):
        found = judge.by_prompt(judged(words, values, judge.features), pictures)
        yield from shares.parts(name, found, direction)
    for name, values in ((FLIP_KEPT, two), (FLIP_KEPT_CHANCE, others)):
        found = judge.by_prompt(same_readings(one, values, options), pictures)
        yield from shares.whole(name, found)


def real_rows(milestone: Milestone, yardstick: Yardstick) -> Iterator[Row]:
    """What the classifier makes of real portraits, and how much a change of each feature moves one.

    Statements are judged in the held-out portraits, flips in portraits that are in no data set.
    """
    judge = judge_of(yardstick, milestone.config.data)
    statements, flips, kept = judge.real
    shares = _Shares(milestone, judge, {})
    yield from shares.parts(FAITHFUL_REAL, statements)
    yield from shares.parts(FLIP_REAL, flips)
    yield from shares.whole(FLIP_KEPT_REAL, kept)
    for feature, value in judge.portraits.amplitudes.items():
        count = len(flips.of([feature]).held)
        yield milestone.row(f"{FLIP_AMPLITUDE}/{feature}", value, n_reference=count)


def _words_and_options(
    changes: Sequence[Change],
) -> tuple[list[tuple[Statement]], list[str]]:
    """The changed word of each picture, and the option that is to differ."""
    return [(one.statement,) for one in changes], [one.attribute for one in changes]


@dataclass(frozen=True, eq=False)
class _Shares:
    """Makes rows of shares.

    Attributes:
        milestone: whose rows they are.
        judge: who judged.
        common: fields of the rows.
        generated: images that are judged; None: real ones are.
    """

    milestone: Milestone
    judge: Judge
    common: dict[str, Any]
    generated: int | None = None

    def parts(self, name: str, found: Judged, direction: str = "none") -> Iterator[Row]:
        """Shares of all statements, of those about coarse and fine features, and of each one."""
        judge = self.judge
        parts: dict[str, Sequence[str]] = {"": judge.features}
        parts |= {f"/{COARSE}": judge.coarse, f"/{FINE}": judge.fine}
        parts |= {f"/{feature}": (feature,) for feature in judge.features}
        for ending, features in parts.items():
            yield from self.whole(f"{name}{ending}", found.of(features), direction)

    def whole(self, name: str, found: Judged, direction: str = "none") -> Iterator[Row]:
        """One share; no row where fewer than two pictures have a statement."""
        share, versions = share_of(found), self.milestone.versions
        if share is not None:
            fields = self.common | {"direction": direction, "error": share.standard_error}
            fields |= {"n_reference": share.pictures}
            fields |= {"versions": versions | {INSTRUMENT: self.judge.fingerprint}}
            label = name if self.generated is None else metric_label(name, self.generated)
            yield self.milestone.row(label, share.value, **fields)
