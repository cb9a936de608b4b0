"""The figure of difficulty: ranks, and what cannot be ranked."""

import numpy as np
import pytest

from plots.figures.difficulty import Order, correlations, figure, rank_map, ranks_of
from plots.style import new_figure, paper_style


def orders(count=4):
    return [
        Order("up", np.arange(float(count)), -1.0, (-1.0, -0.8)),
        Order("unknown", np.full(count, np.nan), float("nan"), None),
        Order("half", np.append(np.full(count - 1, np.inf), 1.0), 0.5, None),
    ]


@pytest.mark.parametrize(
    ("values", "ranks"),
    [
        ([3, 2, 1], [1, 2, 3]),
        ([np.inf, 2, np.inf], [1.5, 3, 1.5]),
        ([1, np.nan, 2], [2, np.nan, 1]),
    ],
)
def test_ranks_begin_with_the_hardest(values, ranks):
    assert ranks_of(np.array(values, dtype=float)) == pytest.approx(ranks, nan_ok=True)


def test_cells_have_their_ranks_and_unknown_ones_are_empty():
    ax = new_figure(4, 3).subplots()
    rank_map(orders(3), ["a", "b", "c"], ax)
    assert [text.get_text() for text in ax.texts] == ["3", "2", "1", "1.5", "1.5", "3"]
    assert [label.get_text() for label in ax.get_yticklabels()][1] == "unknown  2"


def test_correlations_are_points_with_their_intervals():
    ax = new_figure(4, 3).subplots()
    correlations(orders(), ax)
    points = [line.get_xydata().tolist() for line in ax.lines]
    assert [[-1.0, 0.0], [-0.8, 0.0]] in points and [[-1.0, 0.0]] in points
    assert [[0.5, 2.0]] in points
    assert not any(y == 1.0 for line in points[:-1] for _, y in line)


@pytest.mark.parametrize("count", [2, 10, 40])
def test_figure_of_few_and_of_many_intervals(count):
    draw = np.random.default_rng(0)
    excess = draw.uniform(-2, 3, size=(count, 5))
    excess[0] = np.nan
    with paper_style():
        drawn = figure(
            np.array([1.0, 2, 4, 8, 16]), excess, [f"{i}–{i + 1}" for i in range(count)],
            orders(count), np.eye(3), ["a note"],
        )  # fmt: skip
        drawn.canvas.draw()
    first, *_ = drawn.get_axes()
    low, high = first.get_ylim()
    assert -0.6 < low < 0 and 1 < high < 1.6
