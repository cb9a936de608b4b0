"""``benchmark data``: what images would become, shown before anything is prepared."""

import numpy as np
import pytest
from PIL import Image

from benchmark.__main__ import main
from benchmark.data.look import look_at
from benchmark.data.spectrum_slope import radial_power, spectrum_slope
from benchmark.data.told import told
from mindiffusion.data.folder import FileSource
from mindiffusion.data.mean_and_spread import image_statistics
from mindiffusion.data.prepare import plan_data, prepare
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError


def write_pictures(folder, count):
    """Pictures of two classes, each with a text beside it; they are of two sizes."""
    for number in range(count):
        inside = folder / ("cat", "dog")[number % 2]
        inside.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (20, 12 + number % 2, 3), np.uint8)
        Image.fromarray(pixels).save(inside / f"{number:03d}.png")
        (inside / f"{number:03d}.txt").write_text(f"picture {number}\nan animal\n")
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "animals", 30)


def line(lines, start):
    (found,) = (one for one in lines if one.startswith(start))
    return found


def test_a_look_says_what_the_preparation_then_does(folder, tmp_path):
    config = DataConfig(dataset=str(folder), size=8, captions="auto")
    look = look_at(config, 1000)
    data = prepare(config, tmp_path / "data", workers=1, show_progress=False)
    assert np.array_equal(look.images, data.train)
    lines = told(look)
    assert line(lines, "images:").startswith("images: 27 for training, 3 held out; 8 x 8 pixels")
    assert line(lines, "looked at:") == "looked at: all 27 training images:"
    assert f"sigma_data: {image_statistics(data.train).std:.3f};" in line(lines, "sigma_data")
    assert "12 to 13 (median" in line(lines, "pictures:") and "20 high" in line(lines, "pictures:")
    assert line(lines, "captions:").startswith("captions: from txt, 2.0 an image, 28 of 54 differ")
    assert line(lines, "duplicates:") == "duplicates: 0 are copies of others"


def test_a_sample_is_fixed_and_said_to_be_one(folder):
    config = DataConfig(dataset=str(folder), size=8, labels="folder")
    few, more = look_at(config, 6), look_at(config, 12)
    assert few.items == look_at(config, 6).items and set(few.items) < set(more.items)
    lines = told(few)
    assert "looked at: 6 of the training images, a fixed random sample" in line(lines, "looked")
    assert "2 of 2 values" in line(lines, "label folder") or "1 of 2" in line(lines, "label folder")


def test_what_cannot_be_used_is_counted_and_named_and_copies_are_counted(folder):
    (folder / "cat" / "000.png").write_bytes(b"none")
    (folder / "cat" / "002.png").write_bytes((folder / "cat" / "004.png").read_bytes())
    for name in ("000", "002", "004"):  # none of them is held out
        (folder / "cat" / f"{name}.png").rename(folder / "cat" / f"{name}x.png")
    config = DataConfig(dataset=str(folder), size=16, num_held_out=1)
    look = look_at(config, 1000)
    lines = told(look)
    wanted = "can't be used: 1 of 29 (cat/000x.png can't be decoded"
    assert wanted in line(lines, "can't") and "a preparation would stop" in line(lines, "can't")
    assert line(lines, "duplicates:") == "duplicates: 1 are copies of others"
    assert "28 are smaller than 16 and are enlarged" in line(lines, "pictures:")
    assert "left out: 30 with suffix .txt" in line(lines, "left out")


def test_the_prompt_is_of_the_first_held_out_picture_that_can_be_drawn(folder):
    config = DataConfig(dataset=str(folder), size=8, captions="auto")
    first, second, third = (file.path for file in plan_data(config, None).held_out)
    (folder / first).write_bytes(b"none")
    said = line(told(look_at(config, 4)), "  prompt:")
    assert said == f"  prompt: 'picture {int(second[4:7])}'"
    for path in (second, third):
        (folder / path).write_bytes(b"none")
    assert not any("prompt:" in one for one in told(look_at(config, 4)))


def test_a_spectrum_without_a_slope_is_said_to_have_none(tmp_path):
    for number in range(4):
        Image.new("RGB", (16, 16), "red").save(tmp_path / f"{number}.png")
    for size, said in ((8, "too few frequencies for a slope"), (16, "no power at some")):
        lines = told(look_at(DataConfig(dataset=str(tmp_path), size=size), 3))
        assert said in line(lines, "spectrum:") and "nan" not in line(lines, "spectrum:")


def test_the_command_prints_and_writes_a_contact_sheet(folder, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    options = ["--images", "10", "--output", str(sheet), "--set", "data.size=8"]
    assert main(["data", str(folder), *options]) == 0
    out = capsys.readouterr().out
    assert out.startswith("animals: ") and f"contact sheet: {sheet}" in out
    with Image.open(sheet) as image:
        assert image.size == (8 * 8, 2 * 8)
    assert main(["data", "demo", "--images", "2", "--set", "data.size=8"]) == 0
    assert "8 x 8 pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "no folder or zip of that name is here"),
        (["avatars", "--images", "1"], "--images is 1; give 2 to 20,000"),
        (["avatars", "--set", "model.n_feat=4"], "settings of data only"),
        (["avatars", "--set", "data.sizes=4"], "sizes"),
        (
            ["avatars", "--set", "data.captions=txt"],
            "which avatars of style personas does not have",
        ),
    ],
)
def test_mistakes_are_one_line(arguments, said, capsys):
    assert main(["data", *arguments]) == UserError.exit_code
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_images_none_or_one_of_which_can_be_used_are_refused(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(b"none")
    config = DataConfig(dataset=str(tmp_path), size=8)
    with pytest.raises(UserError, match=r"none of 3 images can be used, .* two or more; .*\.png"):
        look_at(config, 10)
    Image.new("RGB", (9, 9)).save(tmp_path / plan_data(config, None).train[0].path)
    with pytest.raises(UserError, match=r"one of 3 images can be used, .* two or more; .*\.png"):
        look_at(config, 10)


def test_a_source_of_one_training_image_is_refused(tmp_path):
    for number in range(2):
        Image.new("RGB", (9, 9)).save(tmp_path / f"{number}.png")
    with pytest.raises(UserError, match=r"has 1 training image; a look takes two or more"):
        look_at(DataConfig(dataset=str(tmp_path), size=8), 10)


def test_each_picture_is_decoded_once(folder, monkeypatch):
    decoded, picture = [], FileSource.picture
    monkeypatch.setattr(
        FileSource, "picture", lambda self, item: decoded.append(item) or picture(self, item)
    )
    look = look_at(DataConfig(dataset=str(folder), size=8), 5)
    assert decoded == look.items and len(look.sizes) == len(look.samples) == 5


def test_the_slope_of_a_known_spectrum_is_found():
    """White noise is flat; noise whose amplitude falls as 1/f has a power that falls as 1/f²."""
    rng = np.random.default_rng(0)
    white = rng.normal(size=(200, 32, 32, 3))
    cycles = np.fft.fftfreq(32, 1 / 32)
    frequency = np.maximum(np.hypot(cycles[:, None], cycles[None, :]), 1)[None, :, :, None]
    pink = np.fft.ifft2(np.fft.fft2(white, axes=(1, 2)) / frequency, axes=(1, 2)).real
    for noise, slope in ((white, 0.0), (pink, -2.0)):
        images = np.clip(128 + 30 * noise / noise.std(), 0, 255).astype(np.uint8)
        assert abs(spectrum_slope(images) - slope) < 0.1
    assert len(radial_power(images)) == 16


def test_images_that_are_alike_have_no_slope():
    assert np.isnan(spectrum_slope(np.full((4, 16, 16, 3), 7, np.uint8)))
    assert np.isnan(spectrum_slope(np.zeros((4, 4, 4, 3), np.uint8)))
