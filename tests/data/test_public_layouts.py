"""COCO, FFHQ and ImageNet on small files of their real layout."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmark.evaluation.milestone.milestone import Milestone
from benchmark.evaluation.milestone.score import score_milestone
from benchmark.evaluation.milestone.yardstick import make_yardstick
from benchmark.study.study import EvaluationConfig, Study
from mindiffusion.config.plan import resolve_plan
from mindiffusion.data.prepare import plan_data, prepare
from mindiffusion.data.public_layouts import layout_of
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError
from mindiffusion.training import checkpoint
from mindiffusion.training.loop import Hooks
from mindiffusion.training.ranks import Ranks
from mindiffusion.training.run_folder import run


def config_of(place, **more):
    return DataConfig(**{"dataset": str(place), "size": 8, "crop": "adm"} | more)


def plan_of(place, **more):
    return plan_data(config_of(place, **more), None)


def refused(place, **more):
    with pytest.raises(UserError) as caught:
        plan_of(place, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(folder, names, mode="RGB", kind="JPEG"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 15, 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / name, format=kind)
    return [f"{folder.name}/{name}" for name in names]


# -- COCO ------------------------------------------------------------------------------------------


def annotate(place, folder, names, each=5):
    """``captions_<folder>.json`` with the fields that COCO's own has, annotations in disorder."""
    images = [
        {"license": 3, "file_name": name, "coco_url": "http://…", "height": 12, "width": 15,
         "date_captured": "2013-11-14 11:18:45", "flickr_url": "http://…", "id": int(name[-10:-4])}
        for name in names
    ]  # fmt: skip
    annotations = [
        {"image_id": image["id"], "id": turn, "caption": f"Caption {turn} of {image['id']}. \n"}
        for turn in range(each)
        for image in images
    ]
    content = {"info": {"year": 2017}, "licenses": [], "images": images, "annotations": annotations}
    (place / "annotations").mkdir(exist_ok=True)
    (place / "annotations" / f"captions_{folder}.json").write_text(json.dumps(content))
    return content


@pytest.fixture
def coco(tmp_path):
    place = tmp_path / "coco"
    for folder, count, start in (("train2017", 12, 9), ("val2017", 5, 139)):
        names = [f"{number:012d}.jpg" for number in range(start, start + count)]
        write(place / folder, names)
        annotate(place, folder, names)
    write(place / "train2017", ["000000000009.jpg"], "L")  # some of its pictures are grey
    write(place / "test2017", ["000000000001.jpg"])
    return place


def test_coco_has_its_own_split_and_five_captions_a_picture(coco, tmp_path):
    assert layout_of(str(coco)) == "coco"
    config = config_of(coco, captions="auto", num_held_out=4)
    data = prepare(config, tmp_path / "data", workers=1, show_progress=False)
    assert (len(data.train), len(data.held_out)) == (12, 4)
    captions = data.captions
    assert captions.source == "annotations" and len(captions.texts) == 12 * 5 + 4 * 5
    plan = plan_of(coco, captions="annotations", num_held_out=4)
    for image, item in enumerate(plan.train):
        number = int(item.path[-10:-4])
        assert item.path.startswith("train2017/")
        texts = [captions.texts[one] for one in captions.train.of(image)]
        assert texts == [f"Caption {turn} of {number}." for turn in range(5)]
    assert all(item.path.startswith("val2017/") for item in plan.held_out)
    prompts = [captions.texts[number] for number in captions.prompts]
    assert prompts == [f"Caption 0 of {int(one.path[-10:-4])}." for one in plan.held_out]
    assert data.manifest["dataset"] == "coco2017" and data.manifest["pictures"]["grey"] == 1
    assert "1 images in other folders are not used" in plan.notes


def test_coco_without_captions_or_without_validation_is_read_too(coco):
    plain = plan_of(coco)
    assert plain.captioner is None and len(plain.held_out) == 5
    for file in (coco / "val2017").iterdir():
        file.unlink()
    (coco / "annotations" / "captions_val2017.json").unlink()
    plan = plan_of(coco, captions="auto")
    assert (len(plan.train), len(plan.held_out)) == (11, 1)
    assert plan.held_out[0].path in plan.captioner.texts


def test_coco_whose_captions_do_not_fit_is_refused(coco):
    path = coco / "annotations" / "captions_train2017.json"
    content = json.loads(path.read_text())
    for change, said in (
        ({"annotations": content["annotations"][:-1]}, None),
        ({"annotations": content["annotations"][:10]},
         "2 of 12 pictures have no caption in annotations/captions_train2017.json (first: train"),
        ({"annotations": [*content["annotations"], {"image_id": 777, "caption": "x"}]},
         "1 caption(s) of annotations/captions_train2017.json belong to no picture (first: "
         "train2017/id 777)"),
        ({"images": content["images"] * 2}, "names an image's id twice"),
        ({"annotations": [{"image_id": 9}]}, "annotations.0.caption is missing"),
        ({"annotations": [{"image_id": "9", "caption": "x"}]}, "annotations.0.image_id is '9'"),
    ):  # fmt: skip
        path.write_text(json.dumps(content | change))
        if said is None:
            assert len(plan_of(coco, captions="auto").captioner.texts) == 17
        else:
            assert said in refused(coco, captions="auto")
    path.write_text('{"images": [')
    assert "is no whole JSON document" in refused(coco, captions="auto")
    path.unlink()
    assert "lacks annotations/captions_train2017.json" in refused(coco, captions="auto")
    write(coco / "train2014", ["COCO_train2014_000000000009.jpg"])
    assert "holds train2014, train2017; give a folder of one" in refused(coco)


# -- FFHQ ------------------------------------------------------------------------------------------


def test_ffhq_is_split_by_its_numbers(tmp_path):
    place = tmp_path / "ffhq"
    for folder in ("images1024x1024", "thumbnails128x128"):
        for thousand in (0, 1, 60):
            names = [f"{1000 * thousand + number:05d}.png" for number in range(3)]
            write(place / folder / f"{thousand * 1000:05d}", names, kind="PNG")
    (place / "ffhq-dataset-v2.json").write_text("{}")
    (place / "LICENSE.txt").write_text("x")
    assert layout_of(str(place)) == "ffhq"
    plan = plan_of(place)
    assert [item.path for item in plan.train][:4] == [
        *(f"images1024x1024/00000/0000{n}.png" for n in range(3)),
        "images1024x1024/01000/01000.png",
    ]
    assert len(plan.train) == 6
    assert {item.path[:21] for item in plan.held_out} == {"images1024x1024/60000"}
    assert any("9 images in other folders" in note for note in plan.notes)
    assert plan.source.draw(plan.train[0]).pixels.shape == (8, 8, 3)
    for file in (place / "images1024x1024").rglob("*.png"):
        file.unlink()
    assert plan_of(place).train[0].path == "thumbnails128x128/00000/00000.png"
    # The first thousands alone, as many take them: a tenth is held out.
    few = plan_of(place / "thumbnails128x128" / "00000")
    assert (len(few.train), len(few.held_out)) == (2, 1)
    (place / "thumbnails128x128" / "face.png").write_bytes(b"")
    assert "has no number for a name" in refused(place)


# -- ImageNet --------------------------------------------------------------------------------------

SYNSETS = ("n01440764", "n01443537", "n02105855")


@pytest.fixture
def imagenet(tmp_path):
    place = tmp_path / "imagenet"
    for number, synset in enumerate(SYNSETS):
        write(place / "train" / synset, [f"{synset}_{turn}.JPEG" for turn in range(4 + number)])
        write(
            place / "val" / synset, [f"ILSVRC2012_val_{number * 3 + n:08d}.JPEG" for n in range(3)]
        )
    # As in the real one: a PNG that is called JPEG, and pictures of four colours.
    write(place / "train" / SYNSETS[2], [f"{SYNSETS[2]}_2933.JPEG"], kind="PNG")
    write(place / "train" / SYNSETS[0], [f"{SYNSETS[0]}_9.JPEG"], mode="CMYK")
    return place


def test_imagenet_has_a_class_for_each_synset(imagenet, tmp_path):
    assert layout_of(str(imagenet)) == "imagenet"
    config = config_of(imagenet, labels="class", num_held_out=6)
    data = prepare(config, tmp_path / "data", workers=1, show_progress=False)
    assert data.classes("class").names == SYNSETS
    assert data.classes("class").counts == (5, 5, 7) and len(data.held_out) == 6
    plan = plan_of(imagenet)
    for item in (*plan.train, *plan.held_out):
        assert SYNSETS[item.codes[0]] == item.path.split("/")[1]


def test_flat_validation_of_imagenet_has_no_classes(imagenet):
    for file in (imagenet / "val").rglob("*.JPEG"):
        file.rename(imagenet / "val" / file.name)
    plan = plan_of(imagenet)
    assert plan.label_names == {} and len(plan.held_out) == 9
    assert "lie in no class folders; sort them into val/nXXXXXXXX" in refused(
        imagenet, labels="class"
    )


def test_a_class_of_imagenet_without_training_images_is_refused(imagenet):
    (imagenet / "val" / "n09999999").mkdir()
    file = next((imagenet / "val" / SYNSETS[0]).iterdir())
    file.rename(imagenet / "val" / "n09999999" / file.name)
    assert "lie in no class folders" in refused(imagenet, labels="class")
    assert "data.captions is auto, which" in refused(imagenet, captions="auto")


def test_other_folders_are_of_no_layout(tmp_path, write_images):
    write_images(tmp_path / "train" / "cat", 2, (12, 12))
    assert layout_of(str(tmp_path)) is None
    for name in ("avatars", "nowhere", "~nobody/x", "x" * 5000):
        assert layout_of(name) is None


# -- the whole road --------------------------------------------------------------------------------

SIZES = "patch_size: 8, depth: 2, num_heads: 2"
UVIT = (
    f"model={{network: uvit, embed_dim: 16, {SIZES}, "
    "text: {width: 8, max_tokens: 6, vocabulary: 32, layers: 1}}"
)
DIT = f"model={{network: dit, hidden_size: 16, {SIZES}, num_classes: 3}}"
ROADS = {
    "coco": ("captions: annotations", UVIT, "prompt/0/Caption 0 of 1"),
    "imagenet": ("labels: class", DIT, "FD-EffNet-Lite0-64px@8"),
}


@pytest.mark.parametrize("layout", ROADS)
def test_a_network_is_trained_on_a_layout_drawn_from_and_scored(
    layout, request, workdir, tiny_config
):
    told, model, metric = ROADS[layout]
    place = request.getfixturevalue(layout)
    spec = f"data={{dataset: {place}, size: 32, crop: adm, num_held_out: 4, {told}}}"
    words = (spec, model, "training.steps=3", "training.milestones=[3]", "sampler.steps=2")
    config = tiny_config("b", *words, "training.label_drop=0.5", output=workdir / "road" / "b")
    data = prepare(config.data, workdir / "own", workers=1, show_progress=False)
    run(config, data.training_for(config.data.labels), Ranks(), lambda trainer: Hooks())
    evaluation = EvaluationConfig(
        num_generated=8, num_reference=8, feature_nets=("effnet-lite0-64",), profile_images=2,
        profile_levels=2, strip=2, metrics=("fd", "profile"),
    )  # fmt: skip
    study = Study("road", workdir / "road", (config,), evaluation)
    content = checkpoint.load(checkpoint.weights_path(config.run_dir, 3))
    plan = resolve_plan(config, len(data.train))
    milestone = Milestone(study, config, plan, data.manifest_id, content, config.run_dir)
    rows = score_milestone(milestone, make_yardstick(evaluation, data, "cpu"))
    found = {row.metric: row for row in rows}
    assert any(name.startswith(metric) for name in found)
    assert np.isfinite(found["FD-EffNet-Lite0-64px@8"].value)
    assert (study.folder / found["FD-EffNet-Lite0-64px@8"].samples).exists()
    assert {row.dataset for row in rows} == {str(place)}
