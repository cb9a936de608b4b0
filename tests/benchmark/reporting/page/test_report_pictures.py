import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from benchmark.reporting.page import pictures
from benchmark.reporting.page.pictures import figures_of, gallery, strip_rows
from benchmark.rows.frames import load_rows, to_frame


@pytest.fixture(scope="module")
def frame(study_dir):
    return load_rows(study_dir)


def content(uri, kind="png"):
    assert uri.startswith(f"data:image/{kind};base64,")
    return base64.b64decode(uri.partition(",")[2])


def test_figures_come_in_the_captions_order_then_by_name(study_dir):
    found = figures_of(
        study_dir,
        {"forest": ("Trees", "A forest."), "fid_vs_steps": ("Steps", "Up."), "none": ("No", "No.")},
    )
    assert list(found) == ["forest", "fid_vs_steps", "own"]
    forest = found["forest"]
    assert (forest.width, forest.height, forest.caption) == (600, 200, "A forest.")
    assert (forest.title, found["own"].title, found["own"].caption) == ("Trees", "Own", "")
    assert dataclasses.replace(forest, width=2040).is_wide and not forest.is_wide


def test_figures_are_embedded_pixel_for_pixel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    (tmp_path / "figures").mkdir()
    Image.fromarray(pixels).save(tmp_path / "figures" / "own.png")
    uri = figures_of(tmp_path, {})["own"].uri
    with Image.open(io.BytesIO(content(uri, "webp"))) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), pixels)


def test_figures_that_are_no_png_are_left_out(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "bad.png").write_text("no picture")
    assert figures_of(tmp_path, {}) == {}


def test_every_strip_stands_where_its_row_says(frame, study_dir):
    found = gallery(frame, study_dir)
    assert found.steps == (200, 600, 1000)
    rows = strip_rows(frame).set_index(["arm", "seed", "step"])["samples"]
    for row in found.arms:
        for slot in row.slots:
            name = rows[row.arm, slot.seed, slot.step]
            assert content(slot.uri) == (study_dir / name).read_bytes()
    hollow = {(row.arm, slot.step) for row in found.arms for slot in row.slots
              if not slot.full_range}  # fmt: skip
    assert hollow == {("C", 200), ("CS", 200)}


def test_a_shorter_arm_keeps_its_newest_strip_to_the_end(frame, study_dir):
    found = gallery(frame, study_dir)
    short = next(row for row in found.arms if row.arm == "B-80%")
    places = [(slot.step, slot.first, slot.last) for slot in short.slots if slot.seed == 0]
    # Sampled at 160, 480 and 800: the newest at 200, 600 and 1000.
    assert places == [(160, 0, 0), (480, 1, 1), (800, 2, 2)]
    alone = gallery(frame[~((frame["arm"] == "C") & (frame["step"] == 600))], study_dir)
    gap = next(row for row in alone.arms if row.arm == "C")
    assert [(s.step, s.first, s.last) for s in gap.slots if s.seed == 0] == [
        (200, 0, 1),
        (1000, 2, 2),
    ]


def test_seeds_beyond_the_budget_stay_in_the_folder(frame, study_dir, monkeypatch):
    assert gallery(frame, study_dir).seeds == (0, 1)
    monkeypatch.setattr(pictures, "STRIP_BUDGET", 1)
    found = gallery(frame, study_dir)
    assert (found.seeds, found.left_out) == ((0,), (1,))
    assert {slot.seed for row in found.arms for slot in row.slots} == {0}


def test_missing_and_foreign_files_are_named_never_read(planted, tmp_path):
    study, outside = tmp_path / "study", tmp_path / "outside.png"
    (study / "strips").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(outside)
    Image.new("RGB", (8, 8)).save(study / "strips" / "there.png")
    names = {200: "strips/there.png", 600: "strips/gone.png", 1000: "../outside.png"}
    rows = [
        dataclasses.replace(row, samples=names[row.step]) if row.samples else row
        for row in planted(("B",), [0])
    ]
    found = gallery(to_frame(rows), study)
    assert found.missing == ("../outside.png", "strips/gone.png")
    assert [slot.step for slot in found.arms[0].slots] == [200]


def test_strips_that_are_links_damaged_or_no_png_are_missing(planted, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "private.png")
    study = tmp_path / "study"
    (study / "strips").mkdir(parents=True)
    (study / "strips" / "link.png").symlink_to("../../private.png")
    Image.new("RGB", (8, 8)).save(study / "strips" / "jpeg.png", format="JPEG")
    cut = (tmp_path / "private.png").read_bytes()[:-9]
    (study / "strips" / "cut.png").write_bytes(cut)
    Image.new("RGB", (8, 8)).save(study / "strips" / "there.png")
    names = dict(zip((200, 600, 1000), ("link", "jpeg", "cut"), strict=True))
    rows = [
        dataclasses.replace(row, samples=f"strips/{names[row.step]}.png") if row.samples else row
        for row in planted(("B",), [0])
    ]
    assert gallery(to_frame(rows), study) is None
    kept = [
        dataclasses.replace(row, samples="strips/there.png") if row.step == 200 and row.samples
        else row for row in rows
    ]  # fmt: skip
    assert gallery(to_frame(kept), study).missing == ("strips/cut.png", "strips/jpeg.png")


def test_strips_beyond_what_is_looked_at_are_missing(frame, study_dir, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_STRIP_BYTES", 1000)
    found = gallery(frame, study_dir)
    assert found is None or found.missing


def test_figures_that_lead_out_are_left_out(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "private.png")
    study = tmp_path / "study"
    (study / "figures").mkdir(parents=True)
    (study / "figures" / "link.png").symlink_to("../../private.png")
    assert figures_of(study, {}) == {}


def test_without_strips_there_is_no_gallery(planted, tmp_path):
    rows = planted(("B",), [0])
    assert gallery(to_frame(rows), tmp_path) is None
    assert gallery(to_frame([dataclasses.replace(r, samples=None) for r in rows]), tmp_path) is None


def test_pictures_of_memorised_pixels_are_no_strips(frame):
    memorised = frame.head(1).assign(metric="memorised-pixels@512", samples="x.png")
    assert strip_rows(memorised).empty
