"""How often verdicts are wrong, and whether anything but a claim's own arms can move them.

A study of eight arms is drawn many times with a known effect, and spoilt in one way or another.
VERDICT_DRAWS=2000 gives the rates of docs/statistics.md.
"""

import dataclasses
import math
import os

import numpy as np
import pytest
from made_up_row import ROW

from benchmark.analysis.scales import USUAL_SCALE
from benchmark.analysis.statistics import paired, verdict
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame

DRAWS = int(os.environ.get("VERDICT_DRAWS", "4"))
SEEDS = 8
EFFECT = math.log(0.94)
OTHERS = ("density*", "A/A", "CR", "R", "S", "CS")
SPREADS = {
    "all arms alike": {},
    "other arms three times": dict.fromkeys(OTHERS, 3.0),
    "own arms three times": {"B": 3.0, "C": 3.0},
    "baseline alone twice": {"B": 2.0},
    "one arm ten times": {"CR": 10.0},
    "other arms a tenth": dict.fromkeys(OTHERS, 0.1),
}


def drawn(rng, effect, spreads):
    """Log distances by arm: seeds share a block, arms scatter around it."""
    block = 4 + 0.1 * rng.normal(size=SEEDS)
    logs = {
        arm: block + 0.02 * spreads.get(arm, 1.0) * rng.normal(size=SEEDS)
        for arm in ("B", "C", *OTHERS)
    }
    logs["C"] = logs["C"] + effect
    return logs


def rows_of(logs):
    return [
        dataclasses.replace(ROW, arm=arm, seed=seed, value=math.exp(value))
        for arm, values in logs.items()
        for seed, value in enumerate(values)
    ]


def claim(rows, key="C-B"):
    return next(finding for finding in StudyAnalysis(to_frame(rows)).findings if finding.key == key)


@pytest.mark.parametrize("pattern", SPREADS)
@pytest.mark.parametrize("effect", [0.0, EFFECT])
def test_interval_covers_and_finds_as_the_paired_test_of_the_two_arms_alone(pattern, effect):
    """By every pattern of spreads the verdict is that of the claim's own two arms."""
    rng = np.random.default_rng(abs(hash_of(pattern)) + (effect != 0))
    covered, wrong, found, alone = 0, 0, 0, 0
    for _ in range(DRAWS):
        logs = drawn(rng, effect, SPREADS[pattern])
        finding, contrast = claim(rows_of(logs)), paired(logs["C"] - logs["B"])
        assert (finding.low, finding.high) == pytest.approx((contrast.low, contrast.high))
        covered += finding.low <= effect <= finding.high
        wrong += finding.verdict in (("supported", "refuted") if effect == 0 else ("refuted",))
        found += finding.verdict == "supported"
        alone += verdict(contrast, USUAL_SCALE.margin, -1) == "supported"
    print(
        f"{pattern}, effect {effect:.3f}: covered {covered / DRAWS:.3f}, wrong "
        f"{wrong / DRAWS:.4f}, supported {found / DRAWS:.3f}, paired alone {alone / DRAWS:.3f}"
    )
    # Five standard deviations of so many draws.
    assert abs(covered / DRAWS - 0.95) < 5 * math.sqrt(0.05 * 0.95 / DRAWS)
    assert wrong / DRAWS < 0.03 + 5 * math.sqrt(0.03 * 0.97 / DRAWS)
    # Holm over two hypotheses may ask for a little more than the two arms alone.
    assert found >= 0.9 * alone


def hash_of(text):
    """The same number in every process, as ``hash`` is not."""
    return sum(index * ord(letter) for index, letter in enumerate(text, 1))


def spoilt_rows(kind, logs):
    rows = rows_of(logs)
    if kind == "outlier in another arm":
        return [
            dataclasses.replace(row, value=9 * row.value)
            if (row.arm, row.seed) == ("CR", 0)
            else row
            for row in rows
        ]
    if kind == "cells of other arms missing":
        return [row for row in rows if row.arm not in OTHERS or row.seed % 3]
    if kind == "one cell scored again with more images":
        more = [
            dataclasses.replace(row, metric="FD-Net@4096", n_generated=4096, value=row.value / 2)
            for row in rows
            if (row.arm, row.seed) == ("B", 0)
        ]
        return rows + more
    assert kind == "rows in another order"
    return rows[::-1]


@pytest.mark.parametrize(
    "kind",
    [
        "outlier in another arm",
        "cells of other arms missing",
        "one cell scored again with more images",
        "rows in another order",
    ],
)
def test_what_a_claim_is_not_about_moves_nothing(kind):
    rng = np.random.default_rng(hash_of(kind))
    for _ in range(max(2, DRAWS // 10)):
        logs = drawn(rng, EFFECT, {})
        before, after = claim(rows_of(logs)), claim(spoilt_rows(kind, logs))
        assert (after.estimate, after.low, after.high, after.p) == pytest.approx(
            (before.estimate, before.low, before.high, before.p), rel=1e-12
        )
        assert (after.verdict, after.seeds) == (before.verdict, before.seeds)


def test_swapped_labels_turn_every_verdict_round():
    rng = np.random.default_rng(1)
    opposite = {"supported": "refuted", "refuted": "supported"}
    for _ in range(max(2, DRAWS // 10)):
        logs = drawn(rng, EFFECT * 2, {})
        swapped = {**logs, "B": logs["C"], "C": logs["B"]}
        before, after = claim(rows_of(logs)), claim(rows_of(swapped))
        assert after.estimate == pytest.approx(-before.estimate)
        assert after.verdict == opposite[before.verdict]
