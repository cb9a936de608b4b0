import numpy as np
import pytest
from PIL import Image

from benchmark.rows.frames import to_frame
from mindiffusion.errors import UserError
from plots.figures.samples import sample_cells
from plots.figures.stages import figure, stage_cells

pytestmark = pytest.mark.usefixtures("paper")
STARTS = (0, 300, 900)


@pytest.fixture
def rows_of(make, tmp_path):
    """A function of an arm and its units by stage: rows of three stages, with strips of 8."""

    def rows(arm, units, starts=STARTS, **changes):
        found = []
        for number, (start, count) in enumerate(zip(starts, units, strict=True)):
            name = f"{arm}-{start}.png"
            pixels = np.full((4, 32, 3), 40 * number, dtype=np.uint8)
            pixels[:, :4] = 255  # the noisiest image
            Image.fromarray(pixels).save(tmp_path / name)
            own = {"arm": arm, "step": start, "stage": f"s{number}", "sampler": ""} | changes
            found += [
                make.row(**own, metric="t_median", value=0.9 - 0.1 * number, samples=name),
                make.row(**own, metric="active_channels", value=float(count)),
            ]
        return found

    return rows


def texts(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def test_the_arm_whose_units_grow_is_shown_with_its_share_on(rows_of, tmp_path):
    whole = rows_of("C", (64, 64, 64))
    plain = rows_of("B", (64,), STARTS[:1])
    frame = to_frame([*plain, *whole, *rows_of("CS", (16, 32, 64))])
    cells = stage_cells(frame)
    assert set(cells["arm"]) == {"CS"} and list(cells["step"]) == list(STARTS)
    assert list(cells["share_on"]) == [0.25, 0.5, 1.0]
    pictures, bars = figure(frame, tmp_path).axes
    assert texts(pictures.xaxis) == ["from step\n0", "from step\n300", "from step\n900"]
    assert texts(bars.xaxis) == ["25%", "50%", "100%"]
    assert [bar.get_width() / 0.96 for bar in bars.containers[0]] == pytest.approx([0.25, 0.5, 1])
    assert "arm CS" in pictures.figure.texts[0].get_text()


def test_a_network_that_is_always_whole_has_no_bars(rows_of, tmp_path):
    frame = to_frame([*rows_of("B", (64,), STARTS[:1]), *rows_of("C", (64, 64, 64))])
    assert set(stage_cells(frame)["arm"]) == {"C"}
    (pictures,) = figure(frame, tmp_path).axes
    (image,) = pictures.get_images()
    shown, (right, bottom) = image.get_array(), image.get_extent()[1:3]
    scale = shown.shape[1] / right
    # The noisiest image stands first in each stage; 4 x 2 images of 4 pixels, 3 pixels between.
    firsts = [shown[0, int(left * scale)] for left in (0, 19, 38)]
    others = [shown[-1, int((left + 15) * scale)] for left in (0, 19, 38)]
    np.testing.assert_array_equal(firsts, np.full((3, 3), 255))
    np.testing.assert_array_equal(np.array(others)[:, 0], [0, 40, 80])
    assert bottom == 8


def test_first_seed_alone_is_shown(rows_of):
    both = [*rows_of("C", (64,) * 3, seed=5), *rows_of("C", (64,) * 3, seed=3)]
    assert list(stage_cells(to_frame(both))["seed"]) == [3, 3, 3]


def test_pictures_of_stages_are_no_samples(rows_of):
    assert sample_cells(to_frame(rows_of("C", (64, 64, 64)))).empty


@pytest.mark.parametrize("arms", [{}, {"B": (64,)}])
def test_a_study_without_stages_has_no_such_figure(rows_of, make, arms):
    rows = [row for arm, units in arms.items() for row in rows_of(arm, units, STARTS[:1])]
    assert stage_cells(to_frame([make.row(), *rows])).empty


def test_strips_of_two_sizes_are_refused(rows_of, tmp_path):
    frame = to_frame(rows_of("C", (64, 64, 64)))
    Image.new("RGB", (8, 8)).save(tmp_path / "C-300.png")
    with pytest.raises(UserError, match="pictures of the stages of C differ in size"):
        figure(frame, tmp_path)
