import dataclasses
import hashlib
import importlib.metadata
import io
import itertools
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from mindiffusion.config.presets import build_config, load_preset, merge
from mindiffusion.data import photos
from mindiffusion.data.photos import LEAST_CONTRAST, PHOTOS, SHRINKS, plan_photos
from mindiffusion.data.prepare import prepare
from mindiffusion.data.spec import DataConfig
from mindiffusion.data.summary import summary
from mindiffusion.errors import UserError

CONFIG = DataConfig(dataset="photos", num_held_out=1000)
FIRST = ["retina left 1/1 y488 x464", "flower left 1/4 y16 x24", "china left 1/1 y152 x168"]
DIGEST = "ead6f6cd4fdf9301"


@pytest.fixture(scope="module")
def plan():
    return plan_photos(CONFIG)


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def contrast(pixels):
    """Root mean square distance from the mean colour, in grey levels."""
    return np.sqrt(pixels.astype(float).var(axis=(0, 1)).mean())


def groups(patches):
    """(photograph, scale) → its patches."""
    found = {}
    for patch in patches:
        found.setdefault((patch.photo, patch.shrink), []).append(patch)
    return found


@pytest.mark.parametrize("width", [90, 91, 97])
def test_halves_have_no_pixel_in_common_at_any_scale(width):
    """A left half of black and a right one of white stay so: nothing is mixed over the border."""
    pixels = np.zeros((66, width, 3), dtype=np.uint8)
    pixels[:, width // 2 :] = 255
    halves = photos._halves(png(pixels))
    assert set(halves) == set(itertools.product(("left", "right"), SHRINKS))
    for (side, shrink), half in halves.items():
        length = width // 2 if side == "left" else width - width // 2
        assert half.shape == (66 // shrink, length // shrink, 3)
        assert (half == (0 if side == "left" else 255)).all()


def test_reduced_pixels_are_means_of_whole_blocks():
    pixels = np.random.default_rng(0).integers(0, 256, (13, 30, 3), dtype=np.uint8)
    for (side, shrink), half in photos._halves(png(pixels)).items():
        whole = pixels[:, :15] if side == "left" else pixels[:, 15:]
        rows, columns = 13 // shrink, 15 // shrink
        blocks = whole[: rows * shrink, : columns * shrink].reshape(
            rows, shrink, columns, shrink, 3
        )
        assert np.abs(half - blocks.mean(axis=(1, 3))).max() <= 0.5 + 1e-9


def test_patches_to_learn_from_are_of_left_halves_and_the_others_of_right_ones(plan):
    assert {patch.side for patch in plan.train} == {"left"}
    assert {patch.side for patch in plan.held_out} == {"right"}
    for patch in [*plan.train, *plan.held_out]:
        height, width = photos._halves_of(patch.photo)[patch.side, patch.shrink].shape[:2]
        assert 0 <= patch.top <= height - 32 and 0 <= patch.left <= width - 32


def test_held_out_patches_have_no_pixel_in_common(plan):
    assert len(set(plan.held_out)) == len(plan.held_out)
    for patches in groups(plan.held_out).values():
        for one, other in itertools.combinations(patches, 2):
            assert abs(one.top - other.top) >= 32 or abs(one.left - other.left) >= 32


def test_flat_patches_are_left_out_and_no_others():
    """Of a photograph that no cap cuts: the patches are those with contrast, by brute force."""
    number = [photo.name for photo in PHOTOS].index("flower")
    plan = plan_photos(CONFIG)
    for patches, side, stride in ((plan.train, "left", 8), (plan.held_out, "right", 32)):
        half = photos._halves_of(number)[side, 2]
        taken = {(p.top, p.left) for p in patches if (p.photo, p.shrink) == (number, 2)}
        grid = itertools.product(
            range(0, half.shape[0] - 31, stride), range(0, half.shape[1] - 31, stride)
        )
        found = {at: contrast(half[at[0] : at[0] + 32, at[1] : at[1] + 32]) for at in grid}
        assert taken == {at for at, value in found.items() if value >= LEAST_CONTRAST}
        assert 0 < len(taken) < len(found)


def test_contrast_is_exact_at_the_threshold_and_blind_to_the_colour():
    checks = np.indices((32, 64)).sum(axis=0) % 2
    for step, places in ((LEAST_CONTRAST - 1, 0), (LEAST_CONTRAST, 2)):
        # Deviations of ±step about (100, 20, 240): their root mean square is the step.
        pixels = np.array([100, 20, 240]) + step * (2 * checks[:, :, None] - 1)
        assert len(list(photos._contrasty(pixels.astype(np.uint8), 32, 32))) == places


def test_a_large_photograph_counts_for_no_more_than_half_of_512_pixels_square(plan):
    """At full size a 512 × 256 half has 128 disjoint patches, and 16 times as many overlapping."""
    names = [photo.name for photo in PHOTOS]
    for patches, most in ((plan.train, 2048), (plan.held_out, 128)):
        counts = {key: len(some) for key, some in groups(patches).items()}
        for (_, shrink), count in counts.items():
            assert count <= most // shrink**2
        names = [photo.name for photo in PHOTOS]
        for name in ("retina", "hubble_deep_field"):
            assert [counts[names.index(name), s] for s in SHRINKS] == [
                most // s**2 for s in SHRINKS
            ]
        shares = np.bincount([patch.photo for patch in patches], minlength=len(PHOTOS))
        assert (shares / len(patches)).max() < 0.12 and (shares / len(patches)).min() > 0.04


@pytest.mark.parametrize("count", [512, 2048, 8192])
def test_first_patches_are_a_fair_mix(plan, count):
    """By photograph and scale, within what chance allows; χ² of 35 groups stays below 70."""
    shares = Counter((patch.photo, patch.shrink) for patch in plan.train)
    found = Counter((patch.photo, patch.shrink) for patch in plan.train[:count])
    expected = {key: value * count / len(plan.train) for key, value in shares.items()}
    assert sum((found[key] - value) ** 2 / value for key, value in expected.items()) < 70


def test_both_sides_have_the_photographs_in_like_shares(plan):
    shares = [
        np.bincount([patch.photo for patch in patches], minlength=len(PHOTOS)) / len(patches)
        for patches in (plan.train, plan_photos(DataConfig(dataset="photos")).held_out)
    ]
    assert np.abs(shares[0] - shares[1]).max() < 0.03


def test_fewer_to_learn_from_are_the_first_ones(plan):
    few = plan_photos(dataclasses.replace(CONFIG, num_train=100))
    assert few.train == plan.train[:100] and few.held_out == plan.held_out


def test_a_patch_is_cut_where_it_says_and_labelled_by_its_photograph(plan):
    assert plan.label_names == {"picture": [photo.name for photo in PHOTOS]}
    for patch in [*plan.train[:40], *plan.held_out[:40]]:
        sample = plan.source.draw(patch)
        assert sample.codes == (patch.photo,) and sample.pixels.shape == (32, 32, 3)
        half = photos._halves_of(patch.photo)[patch.side, patch.shrink]
        assert np.array_equal(sample.pixels, half[patch.top :, patch.left :][:32, :32])
        assert plan.source.name_of(patch).startswith(f"{PHOTOS[patch.photo].name} {patch.side} 1/")


def test_no_patch_is_there_twice_not_even_mirrored(plan):
    train = {plan.source.draw(patch).pixels.tobytes() for patch in plan.train}
    assert len(train) == len(plan.train)
    for patch in plan.held_out:
        pixels = plan.source.draw(patch).pixels
        assert pixels.tobytes() not in train and pixels[:, ::-1].tobytes() not in train


def test_patches_are_those_they_were():
    """Another recipe must show in the manifest: the folder's name is made of its description."""
    plan = plan_photos(CONFIG)
    assert [patch.name for patch in plan.train[:3]] == FIRST
    lossless = [p for p in plan.train[:400] if PHOTOS[p.photo].file.endswith("png")]
    digest = hashlib.sha256()
    for patch in lossless:
        digest.update(plan.source.draw(patch).pixels.tobytes())
    assert digest.hexdigest()[:16] == DIGEST


def test_bytes_depend_on_no_number_of_workers(tmp_path):
    config = DataConfig(dataset="photos", size=64, num_train=600, num_held_out=90)
    one, two = (
        prepare(config, tmp_path / str(workers), workers, show_progress=False) for workers in (1, 2)
    )
    for name in ("train.npy", "held_out.npy", "labels.npz", "manifest.json"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
    assert one.train.shape == (600, 64, 64, 3) and len(one.held_out) == 90
    assert one.manifest["duplicates"]["within_train"] == 0


def test_manifest_tells_sources_licences_files_and_versions(tmp_path):
    config = DataConfig(dataset="photos", size=16, num_train=8, num_held_out=2)
    manifest = prepare(config, tmp_path, 1, show_progress=False).manifest
    assert set(manifest["photographs"]) == {photo.name for photo in PHOTOS}
    for photo in PHOTOS:
        told = manifest["photographs"][photo.name]
        folder = photos.FOLDERS[photo.package]
        path = importlib.metadata.distribution(photo.package).locate_file(folder) / photo.file
        assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert told["license"] in ("CC0 1.0", "public domain", "CC BY 2.0")
        assert told["author"] and told["url"].startswith("http")
    for package in ("scikit-image", "scikit-learn", "pillow"):
        assert manifest["versions"][package] == importlib.metadata.version(package)
    assert "site-packages" not in json.dumps(manifest) and str(tmp_path) not in json.dumps(manifest)


def test_readme_credits_whoever_asks_for_it(repository):
    credits = (repository / "README.md").read_text().partition("## Credits")[2]
    for photo in PHOTOS:
        if photo.license.startswith("CC BY"):
            assert photo.author in credits and photo.license in credits
            assert photo.name in credits


def test_more_held_out_patches_than_there_are_gives_all_and_a_line():
    plan = plan_photos(DataConfig(dataset="photos", num_train=10**6))
    assert plan.num_held_out == len(plan.held_out) < 2048
    lines = summary(plan, {"counts": {}})
    assert lines == [
        f"photos: 1000000 patches of left halves were asked for; there are {len(plan.train)}, "
        "all are taken",
        f"photos: 2048 patches of right halves were asked for; there are {len(plan.held_out)}, "
        "all are taken",
    ]


def test_a_size_beyond_the_photographs_is_refused():
    with pytest.raises(UserError, match=r"photos of 1024 pixels: .* give a smaller data\.size"):
        plan_photos(DataConfig(dataset="photos", size=1024))


@pytest.mark.parametrize("missing", ["scikit-image", "scikit-learn"])
def test_without_the_extra_one_line_says_what_to_install(missing, monkeypatch):
    found = importlib.metadata.distribution

    def distribution(name):
        if name == missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    with pytest.raises(UserError) as caught:
        plan_photos(CONFIG)
    assert str(caught.value) == (
        f"dataset photos needs the package {missing}, which is not installed; "
        "run: pip install '.[photos]'"
    )


def test_a_package_without_its_pictures_is_named(monkeypatch):
    monkeypatch.setitem(photos.FOLDERS, "scikit-learn", "sklearn/nowhere")
    with pytest.raises(UserError) as caught:
        plan_photos(CONFIG)
    assert str(caught.value) == (
        "china.jpg of the package scikit-learn can't be read (No such file or directory); "
        "run: pip install --force-reinstall scikit-learn"
    )


def test_the_preset_holds_out_no_more_than_there_is():
    ours = build_config(merge(load_preset("runs/photos_32"), load_preset("arms/b")), "photos")
    assert ours.data.dataset == "photos" and ours.data.num_train is None
    assert ours.data.num_held_out <= len(plan_photos(ours.data).held_out)


def test_a_crop_is_refused():
    with pytest.raises(ValidationError, match="photos are cut square"):
        DataConfig(dataset="photos", crop="center140")


def test_a_source_can_be_sent_to_a_worker_without_pydantic_or_the_packages(run_cli, tmp_path):
    code = (
        "import sys, mindiffusion.data.photos as photos\n"
        "source = photos.PhotoSource(32)\n"
        "assert source.draw(photos.Patch(1, 'left', 2, 0, 8)).pixels.shape == (32, 32, 3)\n"
        "print({'pydantic', 'skimage', 'sklearn'} & set(sys.modules))"
    )
    done = run_cli(["-c", code], tmp_path)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr
