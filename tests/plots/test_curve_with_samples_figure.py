import numpy as np
import pytest
from PIL import Image

from benchmark.rows.frames import to_frame
from plots.figures.curve_with_samples import curve_cells, figure

pytestmark = pytest.mark.usefixtures("paper")
ARMS = ("B", "S", "C", "CS", "CR")


@pytest.fixture
def rows_of(make, tmp_path):
    """A function of a metric: five arms with strips at two milestones, in ``tmp_path``."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "strip.png")

    def rows(**of_metric):
        return [
            make.row(arm=arm, step=step, total_steps=200, value=30.0 + number,
                     samples="strip.png", full_range=step == 200 or arm == "B", **of_metric)
            for number, arm in enumerate(ARMS)
            for step in (100, 200)
        ]  # fmt: skip

    return rows


def test_curve_and_samples_are_of_the_arms_that_answer_the_question(rows_of, tmp_path):
    frame = to_frame(rows_of())
    assert set(curve_cells(frame)["arm"]) == {"B", "C", "CS"}
    top, bottom = figure(frame, tmp_path).axes
    legend = [text.get_text() for text in top.get_legend().get_texts()]
    assert legend == ["B", "C", "CS"]
    assert [text.get_text() for text in bottom.get_yticklabels()] == ["B", "C", "CS"]
    assert [text.get_text() for text in bottom.get_xticklabels()] == ["step 100†", "step 200"]
    notes = "".join(text.get_text() for text in top.figure.texts)
    assert "hollow" in notes and "lower is better" in notes


def test_a_study_with_distances_at_the_end_alone_has_no_such_figure(rows_of):
    assert curve_cells(to_frame([row for row in rows_of() if row.step == 200])).empty
    assert curve_cells(to_frame(rows_of(metric="eps-MSE"))).empty
