"""Inputs that are bytes: arrays, prepared folders, weights, pictures, zips of them."""

import hashlib
import io
import json
import random
import shutil
import zipfile
import zlib
from functools import cache
from pathlib import Path

import mutate
import numpy as np
import torch
from documents import Action
from PIL import Image

from benchmark.evaluation.images.image_source import open_images
from mindiffusion.config.presets import build_config, load_preset, merge
from mindiffusion.data.folder import FileSource, ImageFile
from mindiffusion.data.prepare import prepare
from mindiffusion.data.prepared import load_prepared
from mindiffusion.data.record import open_record, read_record, record_path
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError, guarded
from mindiffusion.files import sha256_of_json
from mindiffusion.outside.pictures import BadImage
from mindiffusion.sampling import model_of
from mindiffusion.training import checkpoint
from mindiffusion.training.loop import Hooks
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.run_folder import run

DATA = {"dataset": "avatars", "num_train": 24, "num_held_out": 4}
TINY = {
    "samples": None, "data": DATA,
    "model": {"n_feat": 8, "probe_batches": 1, "probe_batch_size": 2},
    "training": {
        "epochs": None, "steps": 24, "global_batch": 4, "milestones": [24], "device": "cpu",
        "precision": "fp32", "compile": "off", "threads": 1,
    },
}  # fmt: skip
_TYPES = ("|u1", "<f4", "<f8", "|O", ">i2", "<U5", [("a", "<i4")], "|V8")
_SHAPES = (
    (),
    (0,),
    (3, 4, 4, 3),
    (3, 4, 4),
    (2, 4, 4, 1),
    (10**6, 10**6, 64, 3),
    (2**62, 4),
    (-1, 4, 4, 3),
)


def make_sources(folder: Path) -> None:
    """A prepared data set and a run of one milestone, as the program writes them."""
    data = prepare(DataConfig(**DATA), folder / "data", workers=1, show_progress=False)
    if not (folder / "prepared").exists():
        shutil.copytree(data.folder, folder / "prepared")
        content = merge(load_preset("celeba_cs_32"), TINY | {"output": str(folder / "run")})
        run(build_config(content, "tiny"), data.training, Ranks(), lambda t: Hooks())
    _sources.append(folder)


_sources: list[Path] = []


def _npy(rng: random.Random) -> bytes:
    good, others = np.zeros((3, 4, 4, 3), np.uint8), (np.ones((2, 8, 8, 3)), np.zeros(0, np.uint8))
    array = good if rng.random() < 0.7 else rng.choice(others)
    buffer = io.BytesIO()
    np.save(buffer, array)
    if rng.random() < 0.2:
        header = {"descr": rng.choice(_TYPES), "fortran_order": rng.choice((True, False, 3)),
                  "shape": rng.choice(_SHAPES)}  # fmt: skip
        text = repr(mutate.document(rng, header, 1)).encode("utf-8", "surrogatepass")
        text = text[: rng.choice((20, 10_000))] + b"\n"
        buffer = io.BytesIO(
            b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + bytes(150)
        )
    return mutate.content_bytes(rng, buffer.getvalue())


def _zip(rng: random.Random, members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(
        buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    ) as one:
        for name, content in members:
            one.writestr(name, content)
    return mutate.content_bytes(rng, buffer.getvalue(), 3)


def _look(path: str) -> Action:
    """Open images and decode them all, as ``evaluate`` does before any net."""

    def look() -> int:
        for _ in open_images(Path(path)).batches(8):
            pass
        return 0

    return lambda: guarded(look)


def arrays(rng: random.Random) -> Action:
    """An array of images, alone or in an archive."""
    if rng.random() < 0.5:
        Path("x.npy").write_bytes(_npy(rng))
        return _look("x.npy")
    names = ("arr_0.npy", "labels.npy", "../x.npy", "a\x1b.npy", "arr_0.npy")
    members = [(rng.choice(names), _npy(rng)) for _ in range(rng.randint(0, 3))]
    Path("x.npz").write_bytes(_zip(rng, members))
    return _look("x.npz")


def prepared(rng: random.Random) -> Action:
    """A prepared folder whose manifest is sealed again after it was changed."""
    folder = Path("data")
    shutil.copytree(_sources[0] / "prepared", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["id"]
    for name in ("train.npy", "held_out.npy", "labels.npz"):
        if rng.random() < 0.4:
            content = _npy(rng) if rng.random() < 0.3 else (folder / name).read_bytes()
            (folder / name).write_bytes(mutate.content_bytes(rng, content, 2))
            manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            manifest["file_bytes"][name] = (folder / name).stat().st_size
    changed = mutate.document(rng, manifest) if rng.random() < 0.7 else manifest
    if isinstance(changed, dict):
        try:
            changed["id"] = sha256_of_json(changed)
        except ValueError:
            changed["id"] = "0"
    (folder / "manifest.json").write_bytes(mutate.as_json(rng, changed))

    def load() -> int:
        data = load_prepared(folder)
        return int(data.train.sum() < 0)

    return lambda: guarded(load)


def records(rng: random.Random) -> Action:
    """The record of what a config stands for, which opens prepared data without their source."""
    root, config = Path("data"), DataConfig(**DATA)
    shutil.copytree(_sources[0] / "data", root)
    path = record_path(config, root)
    record = json.loads(path.read_text())
    changed = mutate.document(rng, record) if rng.random() < 0.9 else record
    text = mutate.as_json(rng, changed)
    path.write_bytes(mutate.content_bytes(rng, text) if rng.random() < 0.3 else text)

    def look() -> int:
        found = read_record(config, root)
        return 0 if found is None else int(open_record(found, root).train.sum() < 0)

    return lambda: guarded(look)


@cache
def _milestone() -> bytes:
    return next((_sources[0] / "run").rglob("weights-*.pt")).read_bytes()


def _odd_weights(rng: random.Random) -> bytes:
    content = torch.load(io.BytesIO(_milestone()), weights_only=True)
    if rng.random() < 0.7:
        plain = {key: value for key, value in content.items() if key != "weights"}
        changed = mutate.document(rng, plain)
        changed = changed if isinstance(changed, dict) else {"config": changed}
        content = changed | ({"weights": content["weights"]} if rng.random() < 0.9 else {})
    if rng.random() < 0.4 and isinstance(content.get("weights"), dict):
        own = content["weights"][rng.choice(list(content["weights"]))]
        name = rng.choice(list(own))
        own[name] = rng.choice(
            (torch.zeros(3), torch.zeros(1).expand(10**9), None, own[name].double())
        )
        own[rng.choice(("module.", "x\x1b", "")) + name] = own.pop(name)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def weights(rng: random.Random) -> Action:
    """A milestone's weights, sealed again after they were changed, are loaded to be sampled."""
    try:
        content = _odd_weights(rng) if rng.random() < 0.5 else _milestone()
    except (ValueError, OverflowError, RecursionError):  # torch itself does not write such
        content = _milestone()
    content = mutate.content_bytes(rng, content) if rng.random() < 0.4 else content
    path = Path("weights-000000024.pt")
    path.write_bytes(content)
    seal: object = {"format": 2, "step": 24, "sha256": hashlib.sha256(content).hexdigest()}
    seal = mutate.document(rng, seal) if rng.random() < 0.2 else seal
    path.with_suffix(".json").write_bytes(mutate.as_json(rng, seal))

    def load() -> int:
        model_of(checkpoint.load(path), "raw", torch.device("cpu"))
        return 0

    return lambda: guarded(load)


def _chunk(kind: bytes, content: bytes) -> bytes:
    size, check = len(content).to_bytes(4, "big"), zlib.crc32(kind + content).to_bytes(4, "big")
    return size + kind + content + check


def _huge_png(rng: random.Random) -> bytes:
    """A PNG that declares more than it holds."""
    width, height = (rng.choice((1, 5000, 60_000, 2**31 - 1)) for _ in range(2))
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    kind = bytes((rng.choice((1, 8, 16)), rng.choice((0, 2, 3, 4, 6)), 0, 0, rng.choice((0, 1))))
    body = _chunk(b"IDAT", zlib.compress(bytes(rng.choice((10, 10**6)))))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header + kind) + body + _chunk(b"IEND", b"")


def _picture(rng: random.Random) -> bytes:
    """A picture of any format, mode and size, with or without damage; half of them are fine."""
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (rng.randrange(256), 9, 9)).save(buffer, "PNG")
        return buffer.getvalue()
    if rng.random() < 0.1:
        return _huge_png(rng)
    if rng.random() < 0.05:
        return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(secret) run\n"
    kind = rng.choice(("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "ICO"))
    mode = rng.choice(("RGB", "RGB", "RGB", "L", "P", "RGBA", "LA", "1", "CMYK", "I;16"))
    side = rng.choice(((8, 8), (1, 1), (40, 3)))
    noise = np.frombuffer(rng.randbytes(side[0] * side[1] * 3), np.uint8)
    image = Image.fromarray(noise.reshape(*side, 3)).convert("L" if mode == "I;16" else mode)
    image = image.convert("I;16") if mode == "I;16" else image
    buffer = io.BytesIO()
    try:
        extra = {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}
        image.save(buffer, kind, **(extra if kind == "JPEG" and rng.random() < 0.5 else {}))
    except (OSError, ValueError, KeyError):
        image.convert("RGB").save(buffer, "PNG")
    return mutate.content_bytes(rng, buffer.getvalue(), rng.choice((0, 0, 2)))


def _file_names(rng: random.Random) -> list[str]:
    odd = (
        "a.png",
        "b.JPG",
        "c.webp",
        "d.bmp",
        "e.gif",
        "f.txt",
        "g\x1b[2J.png",
        "é😀.png",
        "=h.png",
    )
    return rng.sample(odd, rng.randint(1, 5)) if rng.random() < 0.7 else ["a.png", "b.JPG"]


def pictures(rng: random.Random) -> Action:
    """A folder of pictures is opened to be scored."""
    folder = Path("pictures")
    folder.mkdir()
    for name in _file_names(rng):
        (folder / name).write_bytes(_picture(rng))
    return _look("pictures")


def training(rng: random.Random) -> Action:
    """One picture is drawn as preparation draws it: it is whole, or bad for a reason."""
    Path("x.png").write_bytes(_picture(rng))

    def draw() -> int:
        try:
            FileSource(str(Path().resolve()), "squash", 8).draw(ImageFile("x.png"))
        except BadImage as error:
            raise UserError(str(error)) from None
        return 0

    return lambda: guarded(draw)


def zips(rng: random.Random) -> Action:
    """A zip of pictures is opened to be scored."""
    names = _file_names(rng)
    if rng.random() < 0.5:
        names.append(rng.choice(("../x.png", "/x.png", "a.png", "in/a.png", "x.zip", "x\\y.png")))
    Path("x.zip").write_bytes(_zip(rng, [(name, _picture(rng)) for name in names]))
    return _look("x.zip")


def celeba(rng: random.Random) -> Action:
    """The lists beside CelebA's pictures."""
    from mindiffusion.data.celeba import plan_celeba

    folder = Path("img_align_celeba")
    folder.mkdir()
    for number in range(1, 5):
        (folder / f"{number:06d}.jpg").touch()
    split = b"".join(b"%06d.jpg %d\n" % (number, number % 2) for number in range(1, 5))
    labels = b"4\nBald Male\n" + b"".join(b"%06d.jpg 1 -1\n" % number for number in range(1, 5))
    for name, content in {"list_eval_partition": split, "list_attr_celeba": labels}.items():
        if rng.random() < 0.5:
            Path(f"{name}.txt").write_bytes(mutate.content_bytes(rng, content))
        else:
            Path(f"{name}.csv").write_bytes(mutate.content_bytes(rng, content.replace(b" ", b",")))

    def plan() -> int:
        plan_celeba(DataConfig(dataset="celeba", num_held_out=1), ".")
        return 0

    return lambda: guarded(plan)
