import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mindiffusion
from mindiffusion.data import prepare as prepare_module
from mindiffusion.data import prepared as prepared_module
from mindiffusion.data.avatars import FIRST_HELD_OUT, AvatarSource
from mindiffusion.data.prepare import prepare
from mindiffusion.data.prepared import load_prepared
from mindiffusion.data.shard import ShardJob, shard_is_whole, write_shard
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError
from mindiffusion.files import exclusive_lock

FILES = ("train.npy", "held_out.npy", "labels.npz", "manifest.json")
SMALL = DataConfig(size=16, num_train=24, num_held_out=6)
# More than one shard a worker, so that a kill falls between shards.
LONG = DataConfig(size=8, num_train=2100, num_held_out=40)
SCRIPT = """
import sys
from pathlib import Path
from mindiffusion.data.prepare import prepare
from mindiffusion.data.spec import DataConfig
config = DataConfig(size=8, num_train=2100, num_held_out=40)
prepare(config, Path(sys.argv[1]), workers=1, show_progress=False)
print("torch" in sys.modules)
"""  # no __main__ guard, on purpose


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def start_script(root, **options):
    environment = os.environ | {"PYTHONPATH": str(Path(mindiffusion.__file__).parents[1])}
    command = [sys.executable, "-c", SCRIPT, str(root)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell that runs us in the background has SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )  # fmt: skip


def wait_for_shards(root, count, process, seconds=60):
    deadline = time.monotonic() + seconds
    while len(list(root.glob("*/parts/[!.]*.npz"))) < count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return prepare(SMALL, tmp_path_factory.mktemp("small"), workers=1, show_progress=False)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    return prepare(LONG, tmp_path_factory.mktemp("long"), workers=2, show_progress=False)


def test_prepare_gives_read_only_arrays_that_fit_the_manifest(small):
    assert small.train.shape == (24, 16, 16, 3) and small.held_out.shape == (6, 16, 16, 3)
    for array in (small.train, small.held_out):
        assert array.dtype == np.uint8 and isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0, 0, 0] = 1
    assert small.manifest["counts"] == {"train": 24, "held_out": 6}
    assert sorted(path.name for path in small.folder.iterdir()) == sorted(FILES)


def test_prepare_states_spread_and_colour_beside_the_manifest(small):
    values = small.train / 127.5 - 1
    assert small.stated is not None
    assert small.stated.std == pytest.approx(np.sqrt(values.var(0).mean()), rel=1e-12)
    assert small.stated.mean_colour == pytest.approx(list(values.mean((0, 1, 2))), abs=1e-12)
    content = json.loads((small.folder / "manifest.json").read_text())
    assert content["statistics"]["std"] == small.stated.std
    assert content["id"] == prepared_module.sha256_of_json(small.manifest)


def test_prepare_arrays_and_labels_are_those_of_each_index(small):
    source = AvatarSource(("personas",), 16)
    first = {"train": 0, "held_out": FIRST_HELD_OUT}
    for split, labels in (("train", small.train_labels), ("held_out", small.held_out_labels)):
        for row, pixels in enumerate(getattr(small, split)):
            sample = source.draw(first[split] + row)
            assert np.array_equal(pixels, sample.pixels)
            assert [labels[name][row] for name in small.label_names] == sample.codes
    assert small.train_labels["skinColor"].shape == (24,)


def test_prepare_again_draws_nothing(small, monkeypatch):
    monkeypatch.setattr(prepare_module, "draw_shards", None)
    again = prepare(SMALL, small.folder.parent)
    assert again.manifest_id == small.manifest_id


def test_prepare_flip_is_not_part_of_the_array(small, monkeypatch):
    monkeypatch.setattr(prepare_module, "draw_shards", None)
    config = DataConfig(size=16, num_train=24, num_held_out=6, horizontal_flip=False)
    assert prepare(config, small.folder.parent).folder == small.folder


def test_prepare_bytes_do_not_depend_on_workers_or_place(long, tmp_path):
    other = prepare(LONG, tmp_path / "elsewhere", workers=1, show_progress=False)
    assert contents(other.folder) == contents(long.folder)
    assert other.manifest_id == long.manifest_id
    text = json.dumps(other.manifest)
    assert str(tmp_path) not in text and "elsewhere" not in text


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_prepare_goes_on_after_a_kill_to_the_same_bytes(stop, long, tmp_path):
    process = start_script(tmp_path)
    wait_for_shards(tmp_path, 2, process)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=20)
    assert process.returncode != 0
    assert errors.count("Traceback") <= (stop == signal.SIGINT)  # the main script's own, at most
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert not (folder / "manifest.json").exists()
    with pytest.raises(UserError, match="no whole prepared data set"):
        load_prepared(folder)
    done = {path: path.stat().st_mtime_ns for path in folder.glob("parts/[!.]*.npz")}
    assert 2 <= len(done) < 6
    kept = []
    original = prepare_module.draw_shards

    def watch(source, jobs, workers, on_done):
        kept.extend(path for path in done if path not in {job.path for job in jobs})
        return original(source, jobs, workers, on_done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_module, "draw_shards", watch)
        again = prepare(LONG, tmp_path, workers=2, show_progress=False)
    assert set(kept) == set(done)
    assert contents(again.folder) == contents(long.folder)
    assert not (folder / "parts").exists()


@pytest.mark.parametrize("victim", ["train.npy", "labels.npz", "manifest.json"])
def test_prepare_stopped_while_assembling_goes_on_to_the_same_bytes(
    victim, small, tmp_path, monkeypatch
):
    """Stop before each of the renames and before the manifest, then run again."""

    def stop(*_):
        raise KeyboardInterrupt

    original = os.replace

    def replace(source, target):
        # atomic_write's renames into parts/ go on; those into the final folder stop at the victim.
        final = Path(target).parent.name != "parts"
        return stop() if final and Path(target).name == victim else original(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            prepare(SMALL, tmp_path, workers=1, show_progress=False)
    again = prepare(SMALL, tmp_path, workers=1, show_progress=False)
    assert contents(again.folder) == contents(small.folder)


def test_prepare_of_two_processes_at_once_draws_once(long, tmp_path):
    processes = [start_script(tmp_path) for _ in range(2)]
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert output.strip() == "False"  # torch was never imported
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert contents(folder) == contents(long.folder)


def test_prepare_says_once_that_it_waits_for_another_process(small, tmp_path, capsys, monkeypatch):
    lock = tmp_path / f".{small.folder.name}.lock"
    held = exclusive_lock(lock)
    held.__enter__()
    naps = []

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            held.__exit__(None, None, None)

    monkeypatch.setattr(time, "sleep", sleep)
    prepare(SMALL, tmp_path, workers=1)
    expected = f"Another process is preparing {small.folder.name}; waiting for it."
    assert capsys.readouterr().err.count(expected) == 1 and len(naps) == 3


def test_shard_cut_or_short_is_not_whole(tmp_path):
    job = ShardJob(tmp_path / "a.npz", range(4))
    assert not shard_is_whole(job)
    assert write_shard(AvatarSource(("personas",), 8), job) == []
    assert shard_is_whole(job)
    assert not shard_is_whole(ShardJob(job.path, range(5)))
    whole = job.path.read_bytes()
    for cut in (0, len(whole) // 2, len(whole) - 1):
        job.path.write_bytes(whole[:cut])
        assert not shard_is_whole(job)
    # Pixels; the flag "encrypted" and the packing method of the last entry.
    entry = whole.rindex(b"PK\1\2")
    for offset in (400, entry + 8, entry + 10):
        flipped = bytearray(whole)
        flipped[offset] ^= 1
        job.path.write_bytes(flipped)
        assert not shard_is_whole(job)


def test_prepare_draws_a_cut_shard_again(long, tmp_path):
    process = start_script(tmp_path)
    wait_for_shards(tmp_path, 2, process)
    process.kill()
    process.communicate()
    shard = min(tmp_path.glob("*/parts/[!.]*.npz"))
    shard.write_bytes(shard.read_bytes()[:-100])
    again = prepare(LONG, tmp_path, workers=2, show_progress=False)
    assert contents(again.folder) == contents(long.folder)


def test_prepare_replaces_held_out_duplicates_by_later_indices(tmp_path, monkeypatch):
    """Held-out candidates 0.. overlap train 0..23: only later ones may be kept."""
    original = prepare_module.plan_avatars

    def overlapping(config):
        plan = original(config)
        return prepare_module.Plan(**{**vars(plan), "held_out": range(20, 2**20)})

    monkeypatch.setattr(prepare_module, "plan_avatars", overlapping)
    prepared = prepare(SMALL, tmp_path, workers=1, show_progress=False)
    source = AvatarSource(("personas",), 16)
    expected = np.stack([source.draw(index).pixels for index in range(24, 30)])
    assert np.array_equal(prepared.held_out, expected)
    assert prepared.manifest["duplicates"] == {
        "within_train": 0, "held_out_in_train": 4, "replaced": True
    }  # fmt: skip


def test_prepare_folder_counts_duplicates_and_keeps_them(image_folder, tmp_path):
    config = DataConfig(dataset=str(image_folder), size=8)
    held_out = prepare_module.plan_folder(config).held_out
    train = prepare_module.plan_folder(config).train
    (image_folder / train[0].path).write_bytes((image_folder / held_out[0].path).read_bytes())
    prepared = prepare(config, tmp_path / "root", workers=1, show_progress=False)
    assert prepared.manifest["duplicates"]["held_out_in_train"] == 1
    assert prepared.manifest["counts"] == {"train": 18, "held_out": 2}
    assert prepared.train_labels == {} and prepared.label_names == {}


def test_prepare_follows_changes_of_the_folder(image_folder, tmp_path):
    config = DataConfig(dataset=str(image_folder), size=8)
    before = prepare(config, tmp_path / "root", workers=1, show_progress=False)
    Image.new("RGB", (40, 40), "red").save(image_folder / "000005.png")
    after = prepare(config, tmp_path / "root", workers=1, show_progress=False)
    assert after.folder != before.folder and after.manifest_id != before.manifest_id


def test_prepare_names_and_counts_all_bad_images(image_folder, tmp_path):
    Image.new("CMYK", (178, 218)).save(image_folder / "000004.png", format="JPEG")
    (image_folder / "000002.png").write_bytes(b"no image")
    Image.new("RGB", (100, 100)).save(image_folder / "000009.png")
    (image_folder / "000011.png").unlink()
    (image_folder / "000011.png").symlink_to("nowhere")
    config = DataConfig(dataset=str(image_folder), crop="center140", size=8)
    root = tmp_path / "root"
    with pytest.raises(UserError) as caught:
        prepare(config, root, workers=2, show_progress=False)
    message = str(caught.value)
    assert message.startswith("4 of 20 images in ") and "\n" not in message
    assert (
        "000002.png can't be decoded (no whole JPEG, PNG, WEBP, BMP); mend or remove it; 0"
        in message
    )
    assert f"{root / 'refused-faces.txt'} names all with their reasons: mend, convert" in message
    assert (root / "refused-faces.txt").read_text().splitlines() == [
        "000002.png\tcan't be decoded (no whole JPEG, PNG, WEBP, BMP); mend or remove it",
        "000004.png\thas mode CMYK; convert it to 8-bit RGB first",
        "000009.png\thas 100x100 pixels, smaller than crop center140",
        "000011.png\tcan't be read (No such file or directory)",
    ]
    assert not any(path.is_dir() for path in root.iterdir())
    for number in (2, 4, 9, 11):
        (image_folder / f"{number:06d}.png").unlink()
    assert prepare(config, root, workers=1, show_progress=False).manifest["num_files"] == 16
    assert not (root / "refused-faces.txt").exists()


def odd_ones(folder):
    """A grey, a palette, an opaque RGBA picture and one on its side, in place of four others."""
    tags = Image.Exif()
    tags[0x0112] = 6
    for name, mode, options in (
        ("000001.png", "L", {}), ("000002.png", "P", {}), ("000003.png", "RGBA", {}),
        ("000004.png", "RGB", {"exif": tags}),
    ):  # fmt: skip
        image = Image.open(folder / name).convert(mode)
        image.save(folder / name, **options)
    (folder / "notes.txt").write_text("x")


def test_prepare_of_files_ends_with_a_summary_also_when_they_are_there(
    image_folder, tmp_path, capsys
):
    odd_ones(image_folder)
    config = DataConfig(dataset=str(image_folder), size=8)
    expected = (
        "faces: 20 of 20 images taken, 18 for training and 2 held out\n"
        "faces: 1 turned upright by EXIF; 1 converted from grey; 1 converted from a palette; 1 had "
        "an opaque alpha channel, dropped\n"
        "faces: 0 training images are copies of others, 0 held-out ones of training images\n"
        "faces: left out: 1 with suffix .txt (notes.txt)\n"
    )
    for _ in range(2):
        data = prepare(config, tmp_path / "root", workers=1)
        assert capsys.readouterr().err.endswith(expected)
    counted = {"turned": 1, "grey": 1, "palette": 1, "alpha": 1, "lossy": 0}
    assert data.manifest["pictures"] == counted
    assert data.manifest["reading"].startswith("upright by EXIF")


def test_prepare_stray_files_make_no_other_data(image_folder, tmp_path):
    config = DataConfig(dataset=str(image_folder), size=8)
    before = prepare(config, tmp_path / "root", workers=1, show_progress=False)
    (image_folder / "notes.txt").write_text("x")
    after = prepare(config, tmp_path / "other", workers=1, show_progress=False)
    assert after.manifest_id == before.manifest_id


def test_prepare_counts_of_oddities_outlast_an_interruption(image_folder, tmp_path, monkeypatch):
    odd_ones(image_folder)
    config = DataConfig(dataset=str(image_folder), size=8)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(prepare_module, "write_array", interrupt)
        prepare(config, tmp_path, workers=1, show_progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(
            prepare_module, "draw_shards", lambda source, jobs, *words: (jobs and 1 / 0) or []
        )
        data = prepare(config, tmp_path, workers=1, show_progress=False)
    assert data.manifest["pictures"]["turned"] == 1


def interrupt(*_args, **_options):
    raise KeyboardInterrupt


def test_prepare_manifests_of_drawn_images_know_nothing_of_files(small):
    assert not {"pictures", "reading"} & set(small.manifest)


def test_prepare_path_that_is_not_there(tmp_path):
    config = DataConfig(dataset=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="nowhere', and no folder or zip of that name is here"):
        prepare(config, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def full_disk(*_args, **_options):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_prepare_full_disk_says_how_much_is_needed_and_goes_on(small, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "write_array", full_disk)
        with pytest.raises(UserError, match=r"no space left in .*: 30 images need about 46080 b"):
            prepare(SMALL, tmp_path, workers=1, show_progress=False)
    assert not list(tmp_path.glob("*/manifest.json"))
    again = prepare(SMALL, tmp_path, workers=1, show_progress=False)
    assert contents(again.folder) == contents(small.folder)


def test_prepare_full_disk_in_a_worker_reaches_the_user(tmp_path):
    """A worker's OSError comes back through the pipe: here its folder can't be made."""
    (tmp_path / "blocked").write_text("a file, not a folder")
    job = ShardJob(tmp_path / "blocked" / "a.npz", range(2))
    with pytest.raises(OSError) as caught:
        prepare_module.draw_shards(AvatarSource(("personas",), 8), [job], 1, lambda _: None)
    assert caught.value.errno in (errno.EEXIST, errno.ENOTDIR)


def test_load_prepared_refuses_cut_and_foreign_files(small, tmp_path):
    for name, content in contents(small.folder).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "train.npy").write_bytes((small.folder / "train.npy").read_bytes()[:-1])
    with pytest.raises(UserError, match=r"train\.npy has 18559 bytes, its manifest says 18560"):
        load_prepared(tmp_path)
    (tmp_path / "train.npy").unlink()
    with pytest.raises(UserError, match=r"train\.npy has no bytes"):
        load_prepared(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="not a manifest"):
        load_prepared(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_load_prepared_names_the_file_in_which_any_bit_is_flipped(name, small, tmp_path):
    for file, content in contents(small.folder).items():
        (tmp_path / file).write_bytes(content)
    whole = (tmp_path / name).read_bytes()
    for offset in range(0, len(whole), 1 + len(whole) // 60):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << offset % 8
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{name}\b.*delete that folder"):
            load_prepared(tmp_path)


def test_manifest_id_depends_on_content_alone(small):
    assert prepared_module.sha256_of_json(small.manifest)[:12] == small.manifest_id
    assert len(small.manifest_id) == 12
