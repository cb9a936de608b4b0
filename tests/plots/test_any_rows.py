"""Whatever finite numbers, names and steps rows have, tables, figures and the report are made.

``ANY_ROWS`` is the number of studies that are tried; without it they are few and small.
"""

import contextlib
import math
import os
import random
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.analysis.answer import headline
from benchmark.analysis.study_analysis import StudyAnalysis, analyse
from benchmark.reporting.page import write_report
from benchmark.reporting.tables.build import study_tables, write_tables
from benchmark.reporting.tables.verdicts import exposure
from benchmark.rows.file import append_rows
from benchmark.rows.frames import to_frame
from mindiffusion.errors import UserError
from plots.build import drawn
from plots.figures import forest
from plots.names import with_names_that_fit
from plots.style import paper_style

IS_LONG = "ANY_ROWS" in os.environ
EXAMPLES, MOST = int(os.environ.get("ANY_ROWS", "1")), 9 if IS_LONG else 2
ARMS = (
    "B", "C", "density*", "C-flat", "CS", "S", "CR", "A/A", "B-80%", "mine", "mine-density*",
    r"w$\alpha_{$", "_hidden", "=cmd()", "[x](y)", "*star", "日本の腕", "שלום", "x" * 200,
    "y" * 199 + "1", "y" * 199 + "2", "", " ", "<b>", "a|b", "100%", "~x", "B ", "-density*",
)  # fmt: skip
DISTANCES = ("FD-EffNet-Lite0-64px@256", "FD-EffNet-Lite0-64px@2048", "FID@2048")
STAGES = ("t_min", "t_max", "active_channels", "penalty_lambda")
OTHERS = (
    "KD-EffNet-Lite0-64px@256", "precision@256", "eps-MSE/L_simple", "eps-MSE/ELBO",
    "corner-roughness@256", "weight-movement-encoder-on", "weight-movement-encoder-masked",
    "group-norm-mean", "group-norm-share-below-1%", "realised-sparsity/bottleneck",
    "colour-offset@256", "colour-spread@256",
    "saliency_split_half_correlation", "amplitude/hair", "FD∞-EffNet-Lite0-64px@256",
    "memorised-pixels@256", "odd $metric$ of _mine_",
)  # fmt: skip
PROFILES = (
    "eps-MSE", "eps-MSE-linear", "eps-MSE-mean", "mask-effect", "exposure", "emergence/hair",
    "emergence/" + "z" * 180, "stitched-above/FD-EffNet-Lite0-64px@256",
    "stitched-below/FD-EffNet-Lite0-64px@256",
)  # fmt: skip
EXTREMES = (
    0.0, -0.0, 5e-324, 1e-308, 1e-300, 1e-70, 1e-17, 1.0, 3.0, 1e17, 1e70, 1e150, 1e300,
    1.7976931348623157e308,
)  # fmt: skip


class Planter:
    """Rows of a study of at most so many arms and seeds, drawn from one random number."""

    def __init__(self, number, make_row, most=MOST):
        self.rng, self.make_row, self.most = random.Random(number), make_row, most
        self.kind = self.rng.choice(("usual", "wide", "extreme", "equal", "zero"))

    def value(self):
        rng = self.rng
        if self.kind == "equal" or rng.random() < 0.05:
            return 7.0
        if self.kind == "zero":
            return rng.choice((0.0, 0.0, 1.0, -1.0))
        if self.kind == "extreme":
            return rng.choice(EXTREMES) * rng.choice((1, 1, 1, -1))
        spread = 300 if self.kind == "wide" else 2
        return math.exp(rng.gauss(0, spread) if abs(spread) < 3 else rng.uniform(-600, 600))

    def positive(self):
        return abs(self.value()) or 1.0

    def study(self):
        rng = self.rng
        self.levels = [k / 20 for k in range(1, 21)] if rng.random() < 0.3 else [0.1, 0.5, 1.0]
        arms = rng.sample(ARMS, rng.choice((1, 2, 3, 5, 9)[: self.most]))
        arms = ["B", *arms] if rng.random() < 0.7 and "B" not in arms else arms
        count = rng.choice((1, 2, 3, 9)[: self.most])
        seeds = rng.sample((0, 1, 2, 3, 4, 5, 6, 7, 8, 2**53), count)
        total = rng.choice((0, 1, 1500, 1500, 640_000, 2**53))
        steps = sorted({0, total, total // 2, total // 3} if rng.random() < 0.8 else {total})
        metrics = rng.sample(OTHERS, rng.randrange(len(OTHERS)))
        metrics += rng.sample(PROFILES, rng.randrange(len(PROFILES)))
        metrics += rng.sample(DISTANCES, rng.randrange(1, 3))
        found = []
        for arm in arms:
            own_total = total // 2 if rng.random() < 0.1 else total
            for seed in seeds:
                if rng.random() < 0.1:
                    continue
                for step in steps:
                    if rng.random() < 0.9:
                        found += self.milestone(arm, seed, min(step, own_total), own_total, metrics)
                found += self.stages(arm, seed, own_total)
        return {row_key(row): row for row in found}.values()

    def milestone(self, arm, seed, step, total, metrics):
        rng, seconds = self.rng, self.value()
        cell = {"arm": arm, "seed": seed, "step": step, "total_steps": total,
                "full_range": rng.random() < 0.8, "train_seconds": seconds}  # fmt: skip
        for metric in metrics:
            if metric in PROFILES:
                for level in self.levels:
                    yield self.make_row(**cell, metric=metric, value=self.value(), level=level)
            else:
                value = self.positive() if metric in DISTANCES else self.value()
                error = self.value() if rng.random() < 0.3 else None
                count = int(metric.rpartition("@")[2] or 0) if "@" in metric else 0
                yield self.make_row(
                    **cell, metric=metric, value=value, error=error, n_generated=count
                )

    def stages(self, arm, seed, total):
        rng = self.rng
        for index, step in enumerate(sorted({0, total // 4, total // 2})[: rng.randrange(4)]):
            for metric in rng.sample(STAGES, rng.randrange(5)):
                value = self.value() if rng.random() < 0.3 else rng.random()
                yield self.make_row(
                    arm=arm, seed=seed, step=step, total_steps=total, metric=metric, value=value,
                    direction="none", n_generated=0, stage=f"stage{index + 1}",
                )  # fmt: skip


def row_key(row):
    return row.arm, row.seed, row.step, row.metric, row.level


def make_all(folder):
    """Tables, report and answer, and every figure that the rows suffice for, laid out."""
    study = analyse(folder)
    built = study_tables(study)
    write_tables(built, folder)
    write_report(study, built, folder)
    headline(study)
    with paper_style():
        for name, figure in drawn(study):
            assert max(figure.get_size_inches()) < 120, name
            try:
                figure.draw_without_rendering()
            except Warning as warning:
                raise AssertionError(f"{name}: {warning}") from None


@contextlib.contextmanager
def warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # matplotlib's own dealings with a newer pyparsing.
        theirs = "matplotlib|pyparsing"
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=theirs)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return (tmp_path_factory.mktemp("any") for _ in iter(int, 1))


@settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=not IS_LONG)
@given(number=st.integers(0, 2**32))
def test_any_finite_rows_make_tables_figures_and_a_report(number, folders, generators):
    folder = next(folders)
    append_rows(folder / "rows.jsonl", list(Planter(number, generators.row).study()))
    with warnings_as_errors(), contextlib.suppress(UserError):
        make_all(folder)


def draw_forest(frame):
    forest.figure(with_names_that_fit(StudyAnalysis(frame))).draw_without_rendering()


@pytest.mark.usefixtures("paper")
@pytest.mark.parametrize(
    ("number", "make"),
    # Exposures below 0; names as wide as the page.
    [(124576495, exposure), (3332716663, draw_forest)],
)
def test_studies_that_once_failed_are_made(number, make, generators):
    frame = to_frame(Planter(number, generators.row, most=9).study())
    with warnings_as_errors():
        make(frame)
