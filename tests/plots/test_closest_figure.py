import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from benchmark.rows.frames import to_frame
from mindiffusion.errors import UserError
from plots.figures.closest import closest, closest_cells, figure
from plots.figures.samples import ENLARGE, sample_cells

pytestmark = pytest.mark.usefixtures("paper")


@pytest.fixture
def rows(tmp_path, make):
    """Rows of two arms and milestones, with pictures of 3 pairs of 8 x 8 images."""
    found = []
    for number, arm in enumerate(("C", "B")):
        for step in (750, 1500):
            name = f"{arm}-{step}.png"
            pixels = np.full((16, 24, 3), 40 * number + step // 50, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name)
            found.append(
                make.row(arm=arm, step=step, metric="memorised-pixels@256", value=0.031 + number,
                         error=0.01, samples=name)
            )  # fmt: skip
    return found


def test_last_milestone_has_a_picture_an_arm_in_the_order_of_arms(rows, tmp_path):
    cells = closest_cells(to_frame(rows))
    assert sorted(cells["arm"]) == ["B", "C"] and set(cells["step"]) == {1500}
    ax = closest(cells, tmp_path, Figure().subplots())
    canvas = np.asarray(ax.get_images()[0].get_array())[::ENLARGE, ::ENLARGE]
    assert canvas.shape == (35, 24, 3)
    assert (canvas[:16] == 70).all() and (canvas[19:] == 30).all() and (canvas[16:19] == 255).all()
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["B\n103.1%", "C\n3.1%"]


def test_figure_says_what_is_above_and_below(rows, tmp_path):
    note = figure(to_frame(rows), tmp_path).get_supxlabel().replace("\n", " ")
    assert "below: that image or its mirror" in note and "n = 256" in note and "step 1,500" in note


def test_pictures_of_pairs_are_no_strips_of_samples(rows):
    assert sample_cells(to_frame(rows)).empty


def test_missing_picture_is_named(rows, tmp_path):
    (tmp_path / "B-1500.png").unlink()
    with pytest.raises(UserError, match=r"B-1500\.png"):
        figure(to_frame(rows), tmp_path)
