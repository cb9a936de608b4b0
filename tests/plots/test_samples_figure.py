import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import plots.figures.samples
from benchmark.rows.frames import to_frame
from mindiffusion.errors import UserError
from plots.figures.samples import (
    ENLARGE,
    GAP,
    figure,
    missing_strips,
    page_cells,
    read_picture,
    read_strip,
    rows_per_cell,
    sample_cells,
    samples,
    tile,
)

pytestmark = pytest.mark.usefixtures("paper")


def images(count, size=8):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_read_strip_inverts_laying_side_by_side(tmp_path):
    originals = images(5)
    Image.fromarray(np.concatenate(list(originals), axis=1)).save(tmp_path / "strip.png")
    assert np.array_equal(read_strip(tmp_path, "strip.png"), originals)


def test_read_strip_refuses_what_is_no_strip(tmp_path):
    Image.new("RGB", (17, 8)).save(tmp_path / "odd.png")
    (tmp_path / "text.png").write_text("no image")
    for name, message in (
        ("odd.png", "17x8"),
        ("text.png", "can't be decoded"),
        ("gone.png", "No such"),
    ):
        with pytest.raises(UserError, match=message):
            read_strip(tmp_path, name)


def test_strips_outside_the_study_are_missing_and_never_read(tmp_path, make):
    study = tmp_path / "study"
    study.mkdir()
    Image.new("RGB", (64, 8)).save(tmp_path / "private.png")
    (study / "link.png").symlink_to("../private.png")
    Image.new("RGB", (64, 8)).save(study / "own.png")
    Image.new("RGBA", (64, 8)).save(study / "transparent.png")
    names = ["../private.png", "link.png", str(tmp_path / "private.png"), "transparent.png"]
    cells = to_frame([make.row(samples=name) for name in [*names, "own.png"]])
    assert missing_strips(cells, study) == [study / name for name in names]
    for name in names:
        with pytest.raises(UserError, match="so restore it"):
            read_picture(study, name)


def test_pictures_that_are_too_large_together_are_not_drawn(study, make, monkeypatch):
    monkeypatch.setattr(plots.figures.samples, "MOST_DRAWN", 100_000)
    with pytest.raises(UserError, match="at most 100,000 pixels are drawn"):
        figure(to_frame(make.rows()), study)
    monkeypatch.setattr(plots.figures.samples, "MOST_DRAWN", 500_000)
    ax = samples(sample_cells(to_frame(make.rows())), study, Figure().subplots())
    # 265 x 652 pixels, each enlarged as far as fits.
    assert np.asarray(ax.get_images()[0].get_array()).shape[:2] == (265, 652)


def test_tile_lays_the_first_eight_out_in_two_rows_of_four():
    originals = images(10)
    picture = tile(originals, 2)
    assert picture.shape == (16, 32, 3)
    for index in range(8):
        row, column = divmod(index, 4)
        place = picture[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        assert np.array_equal(place, originals[index])


def test_tile_leaves_missing_images_white():
    picture = tile(images(3), 2)
    assert (picture[8:] == 255).all()
    assert (picture[:8, 24:] == 255).all()


def test_picture_has_each_strip_in_its_place(study, make):
    cells = sample_cells(to_frame(make.rows()))
    ax = Figure().subplots()
    assert samples(cells, study, ax) is ax
    canvas = np.asarray(ax.get_images()[0].get_array())[::ENLARGE, ::ENLARGE]
    for row, arm in enumerate(("B", "C", "CS", "CR")):
        for column, step in enumerate((281, 563, 975, 1240, 1500)):
            top, left = row * (64 + GAP), column * (128 + GAP)
            expected = tile(read_strip(study, f"samples/{arm}-seed0-{step:06d}.png"), 2)
            assert np.array_equal(canvas[top : top + 64, left : left + 128], expected)
    # Three staged arms are hollow at two milestones.
    assert len(ax.patches) == 6


def test_axes_name_arms_and_steps_and_mark_hollow_columns(study, make):
    result = figure(to_frame(make.rows()), study)
    (ax,) = result.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["B", "C", "CS", "CR"]
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "step 281†", "step 563†", "step 975", "step 1,240", "step 1,500",
    ]  # fmt: skip
    note = result.get_supxlabel()
    assert "same sampling noise in each column" in note
    assert "(C, CS, CR): not all noise levels trained yet" in note.replace("\n", " ")


def test_cells_come_from_one_seed_and_one_kind_of_weights(make):
    rows = make.rows(arms=("B",), seeds=(3, 1), milestones=(1500,))
    rows += [dataclasses.replace(row, weights="raw") for row in rows if row.samples]
    cells = sample_cells(to_frame(rows))
    assert cells[["seed", "weights"]].to_numpy().tolist() == [[1, "ema0.995"]]


def test_many_milestones_and_arms_still_fit_a_page(make):
    arms = [f"x{k}" for k in range(8)]
    cells = [
        make.row(arm=arm, step=step, samples=f"{arm}-{step}.png", total_steps=1500)
        for arm in arms for step in range(150, 1501, 150)
    ]  # fmt: skip
    cells += [make.row(arm="B-80%", step=step, total_steps=1200, samples=f"short-{step}.png")
              for step in (111, 1200)]  # fmt: skip
    page = page_cells(to_frame(cells))
    assert sorted(set(page["step"])) == [150, 450, 750, 1200, 1500]
    short = page[page["arm"] == "B-80%"]
    assert short[["step", "samples"]].to_numpy().tolist() == [[1500, "short-1200.png"]]
    assert rows_per_cell(len(arms)) == 1 and rows_per_cell(4) == 2


def test_strips_of_unlike_image_sizes_are_an_error(study, make):
    Image.new("RGB", (160, 16)).save(study / "samples/C-seed0-000281.png")
    with pytest.raises(UserError, match="another size"):
        figure(to_frame(make.rows()), study)
