import numpy as np
import pytest
from PIL import Image

from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.rows.frames import to_frame
from benchmark.rows.metric_names import MOST_CLASSES
from plots.figures.classes import class_cells, figure
from plots.figures.samples import sample_cells
from plots.names import with_names_that_fit

pytestmark = pytest.mark.usefixtures("paper")


@pytest.fixture
def rows_of(make, tmp_path):
    """A function of an arm and its images by class: rows at the end, strips of 8."""

    def rows(arm, drawn, metrics=("FD-EffNet-Lite0-64px",), **changes):
        found = []
        for number, (name, count) in enumerate(drawn.items()):
            own = {"arm": arm, "step": 600, "total_steps": 600, "n_generated": count} | changes
            strip = f"{arm}/class-{own['step']:09d}-{number:05d}.png"
            (tmp_path / arm).mkdir(exist_ok=True)
            Image.fromarray(np.full((4, 32, 3), 10 * number, dtype=np.uint8)).save(tmp_path / strip)
            for metric in metrics:
                found.append(
                    make.row(**own, metric=f"class/{name}/{metric}@{count}", samples=strip)
                )
        return found

    return rows


def names(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def test_arms_stand_below_each_other_and_classes_side_by_side(rows_of, tmp_path):
    drawn = {"glasses": 40, "no glasses": 88}
    frame = to_frame([*rows_of("B", drawn), *rows_of("D", drawn)])
    (ax,) = figure(frame, tmp_path).axes
    # The class with the most samples first.
    assert names(ax.xaxis) == ["no glasses", "glasses"] and names(ax.yaxis) == ["B", "D"]
    shown = ax.get_images()[0].get_array()
    assert (shown[0, 0] == 10).all() and (shown[0, -1] == 0).all()
    assert "step 600" in ax.figure.texts[0].get_text()


def test_a_class_with_a_long_name_is_one_column(rows_of, tmp_path):
    long = {f"portraits with {what} and sunglasses": 20 for what in ("short hair", "a beard")}
    metrics = ("FD-EffNet-Lite0-64px", "KD-EffNet-Lite0-64px", "precision-EffNet-Lite0-64px")
    study = with_names_that_fit(StudyAnalysis(to_frame(rows_of("B", long, metrics))))
    (ax,) = figure(study.frame, tmp_path).axes
    assert len(names(ax.xaxis)) == 2
    assert all(
        name.startswith("portraits with") and "EffNet" not in name for name in names(ax.xaxis)
    )


def test_strips_of_classes_are_no_samples_of_the_arm(rows_of):
    assert sample_cells(to_frame(rows_of("B", {"a": 20}))).empty


def test_of_many_classes_the_most_drawn_are_shown(rows_of):
    drawn = {f"class {number}": 10 + number for number in range(MOST_CLASSES + 3)}
    cells = class_cells(to_frame(rows_of("B", drawn)))
    assert list(cells["class"]) == [f"class {number}" for number in range(8, 2, -1)]


def test_one_seed_is_shown(rows_of):
    frame = to_frame([*rows_of("B", {"a": 9}, seed=4), *rows_of("B", {"a": 9}, seed=2)])
    assert list(class_cells(frame)["seed"]) == [2]


def test_of_a_class_that_was_scored_twice_the_larger_set_is_shown(rows_of):
    frame = to_frame([*rows_of("B", {"a": 9}), *rows_of("B", {"a": 30})])
    assert list(class_cells(frame)["n_generated"]) == [30]


def test_networks_that_are_not_trained_to_the_end_are_not_shown(rows_of):
    assert class_cells(to_frame(rows_of("B", {"a": 9}, step=300))).empty


def test_strips_of_all_classes_together_are_of_no_class(make):
    row = make.row(step=600, total_steps=600, metric="class/a/FD@9", samples="b/samples-1.png")
    assert class_cells(to_frame([row])).empty


def test_a_study_without_classes_has_no_such_figure(make):
    assert class_cells(to_frame([make.row()])).empty
