import numpy as np
import pytest
from PIL import Image

from benchmark.rows.frames import to_frame
from plots.figures.classes import MOST_CLASSES, class_cells, figure
from plots.figures.samples import sample_cells

pytestmark = pytest.mark.usefixtures("paper")


@pytest.fixture
def rows_of(make, tmp_path):
    """A function of an arm and its images by class: rows of two milestones, strips of 8."""

    def rows(arm, drawn, **changes):
        found = []
        for number, (name, count) in enumerate(drawn.items()):
            for step in (300, 600):
                strip = f"{arm}-{number}-{step}.png"
                pixels = np.full((4, 32, 3), 10 * number + step // 100, dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / strip)
                own = {"arm": arm, "step": step, "total_steps": 600, "n_generated": count} | changes
                metric = f"class/{name}/FD-EffNet-Lite0-64px@{count}"
                found.append(make.row(**own, metric=metric, samples=strip))
        return found

    return rows


def test_arms_stand_below_each_other_and_classes_side_by_side(rows_of, tmp_path):
    drawn = {"glasses": 40, "no glasses": 88}
    frame = to_frame([*rows_of("B", drawn), *rows_of("D", drawn)])
    (ax,) = figure(frame, tmp_path).axes
    # The class with the most samples first, of the last milestone alone.
    assert [text.get_text() for text in ax.get_xticklabels()] == ["no glasses", "glasses"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["B", "D"]
    shown = ax.get_images()[0].get_array()
    assert (shown[0, 0] == 16).all() and (shown[0, -1] == 6).all()
    note = ax.figure.texts[0].get_text()
    assert "step 600" in note


def test_strips_of_classes_are_no_samples_of_the_arm(rows_of):
    assert sample_cells(to_frame(rows_of("B", {"a": 20}))).empty


def test_of_many_classes_the_most_drawn_are_shown(rows_of):
    drawn = {f"class {number}": 10 + number for number in range(MOST_CLASSES + 3)}
    cells = class_cells(to_frame(rows_of("B", drawn)))
    assert list(cells["class"]) == [f"class {number}" for number in range(8, 2, -1)]


def test_one_seed_is_shown(rows_of):
    frame = to_frame([*rows_of("B", {"a": 9}, seed=4), *rows_of("B", {"a": 9}, seed=2)])
    assert list(class_cells(frame)["seed"]) == [2]


def test_a_study_without_classes_has_no_such_figure(make):
    assert class_cells(to_frame([make.row()])).empty
