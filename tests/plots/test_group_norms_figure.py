import dataclasses

import pytest

from benchmark.rows.frames import to_frame
from plots.figures.group_norms import figure, norm_rows

pytestmark = pytest.mark.usefixtures("paper")


def norms(make, seeds=(0,)):
    return [
        make.row(arm=arm, seed=seed, step=step, metric=metric, value=value * (1 + seed / 10))
        for arm in ("CR", "R")
        for seed in seeds
        for step in (750, 1500)
        for metric, value in (("group-norm-mean", 0.7), ("group-norm-share-below-1%", 0.02))
    ]


def test_panels_show_the_mean_norm_and_the_share_in_percent(make):
    upper, lower = figure(to_frame(norms(make))).axes
    for ax, value in ((upper, 0.7), (lower, 2.0)):
        assert [line.get_label() for line in ax.get_lines()] == ["R", "CR"]
        assert all(line.get_ydata() == pytest.approx([value, value]) for line in ax.get_lines())
        assert ax.get_ylim()[0] == 0


def test_averages_come_before_raw_weights(make):
    rows = norms(make)
    rows += [dataclasses.replace(row, weights="raw") for row in rows]
    assert set(norm_rows(to_frame(rows))["weights"]) == {"ema0.995"}


def test_note_says_how_many_seeds(make):
    assert "n=1 seed" in figure(to_frame(norms(make))).get_supxlabel()
    assert "n=3 seeds" in figure(to_frame(norms(make, seeds=(0, 1, 2)))).get_supxlabel()
