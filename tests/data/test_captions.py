"""Captions in prepared data: of avatars, photos, files; what they are, and what is refused."""

import json
import zipfile

import numpy as np
import pytest

from mindiffusion.data import caption_file, file_captions, listing
from mindiffusion.data.caption_file import captions_table, clean, read_captions, write_captions
from mindiffusion.data.caption_grammar import PHRASINGS, holds, parse
from mindiffusion.data.prepare import plan_data, prepare
from mindiffusion.data.prepared import load_prepared
from mindiffusion.data.record import config_key
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError
from mindiffusion.outside.zips import open_zip

NUMBER = 20


def prepared(config, tmp_path):
    return prepare(config, tmp_path / "data", workers=1, show_progress=False)


def config_of(place, captions="auto", **more):
    return DataConfig(dataset=str(place), size=8, captions=captions, **more)


def zip_of(folder):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.fixture
def pictures(tmp_path, write_images):
    """20 pictures, half of them in a folder inside."""
    folder = tmp_path / "pictures"
    write_images(folder, NUMBER // 2, (12, 12))
    write_images(folder / "more", NUMBER // 2, (12, 13))
    return folder


def paths_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))


def write_texts(folder, ending="\n"):
    for number, path in enumerate(paths_in(folder)):
        text = f"picture  {number}\nthe same{ending}"
        (folder / path).with_suffix(".txt").write_text(text)


def write_metadata(folder, key="text"):
    for inside in (folder, folder / "more"):
        lines = [
            json.dumps({"file_name": path.name, key: f"a picture, {inside.name} {path.stem}"})
            for path in sorted(inside.glob("*.png"))
        ]
        (inside / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def write_list(folder, said=lambda number: f"number {number}"):
    labels = [[path, said(number)] for number, path in enumerate(paths_in(folder))]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


def test_avatars_captions_are_true_and_prompts_are_held_out(tmp_path):
    config = DataConfig(size=8, num_train=24, num_held_out=6, captions="auto")
    data = prepared(config, tmp_path)
    captions, names = data.captions, data.label_names
    assert captions.source == "attributes" and len(captions.train) == 24
    assert len(captions.prompts) == len(captions.held_out) == 6
    for labels, own in (
        (data.train_labels, captions.train),
        (data.held_out_labels, captions.held_out),
    ):
        for image in range(len(own)):
            values = {label: names[label][labels[label][image]] for label in names}
            for text in (captions.texts[number] for number in own.of(image)):
                assert all(holds(statement, values) for statement in parse(text).statements)
                assert not PHRASINGS[parse(text).phrasing].is_held_out
    for image, number in enumerate(captions.prompts):
        values = {label: names[label][data.held_out_labels[label][image]] for label in names}
        prompt = parse(captions.texts[number])
        assert PHRASINGS[prompt.phrasing].is_held_out
        assert all(holds(statement, values) for statement in prompt.statements)
    assert not set(captions.learned) & {captions.texts[number] for number in captions.prompts}
    assert captions.train.numbers.max() == captions.num_learned - 1
    training = data.training_for(None)
    assert training.captions is captions and training.labels is None


def test_data_without_captions_keep_their_name_and_their_key(tmp_path):
    told = DataConfig(size=8, num_train=12, num_held_out=2, captions="attributes")
    plain = DataConfig(size=8, num_train=12, num_held_out=2)
    with_captions, without = prepared(told, tmp_path), prepared(plain, tmp_path)
    assert with_captions.folder != without.folder
    assert without.captions is None and "captions" not in without.manifest
    assert np.array_equal(with_captions.train, without.train)
    assert config_key(DataConfig()) == "30285b64acc4af52" != config_key(DataConfig(captions="auto"))
    # "auto" finds the same captions, so it finds the same array.
    found = prepared(DataConfig(size=8, num_train=12, num_held_out=2, captions="auto"), tmp_path)
    assert found.folder == with_captions.folder


def test_photos_are_told_by_the_names_of_their_pictures():
    pytest.importorskip("skimage")
    plan = plan_data(DataConfig(dataset="photos", size=32, captions="auto"), None)
    item = next(one for one in plan.train if one.name.startswith("hubble"))
    assert "a photograph of hubble deep field" in plan.captioner.captions(item, [7])
    prompt = plan.captioner.prompt(item, [7])
    assert prompt not in plan.captioner.captions(item, [7]) and "hubble deep field" in prompt


@pytest.mark.parametrize("source", ["txt", "metadata.jsonl", "dataset.json"])
def test_files_say_what_pictures_show(pictures, tmp_path, source):
    {"txt": write_texts, "metadata.jsonl": write_metadata, "dataset.json": write_list}[source](
        pictures
    )
    plan = plan_data(config_of(pictures), None)
    for place in (pictures, zip_of(pictures)):
        same = plan_data(config_of(place, source), None)
        assert same.captioner == plan.captioner and not any("left out" in n for n in same.notes)
    data = prepared(config_of(pictures), tmp_path)
    assert data.captions.source == source
    assert data.manifest["captions"]["texts"] == len(data.captions.texts)
    paths = paths_in(pictures)
    said = {
        "txt": lambda path: [f"picture {paths.index(path)}", "the same"],
        "metadata.jsonl": lambda path: [
            f"a picture, {'more' if '/' in path else 'pictures'} {path[-10:-4]}"
        ],
        "dataset.json": lambda path: [f"number {paths.index(path)}"],
    }[source]
    for item, image in zip(plan.train, range(len(data.train)), strict=True):
        texts = [data.captions.texts[number] for number in data.captions.train.of(image)]
        assert texts == said(item.path)
    first = data.captions.texts[data.captions.prompts[0]]
    assert first == said(plan.held_out[0].path)[0]


def test_a_zip_is_opened_once_for_all_its_texts(pictures, monkeypatch):
    write_texts(pictures)
    opened = []
    monkeypatch.setattr(listing, "open_zip", lambda place: opened.append(place) or open_zip(place))
    plan = plan_data(config_of(zip_of(pictures), "txt"), None)
    # Once more than for the names of its files.
    assert len(plan.captioner.texts) == NUMBER and len(opened) == 2


def test_a_changed_caption_makes_other_data(pictures, tmp_path):
    write_texts(pictures)
    before = prepared(config_of(pictures), tmp_path).folder
    (pictures / "000001.txt").write_text("another")
    assert prepared(config_of(pictures), tmp_path).folder != before


def test_several_captions_stand_in_lists_and_doubles_count_once(pictures):
    write_list(pictures, lambda number: ["one", "two ", " one", f"{number}"])
    captioner = plan_data(config_of(pictures), None).captioner
    assert captioner.texts["000001.png"] == ("one", "two", "0")


def refused(pictures, captions="auto"):
    with pytest.raises(UserError) as caught:
        plan_data(config_of(pictures, captions), None)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


def test_two_sources_of_captions_are_refused_unless_one_is_named(pictures):
    write_texts(pictures)
    write_list(pictures)
    said = refused(pictures)
    assert "txt (20 file(s)) and dataset.json (1 file(s))" in said
    assert said.endswith("data.captions=txt or data.captions=dataset.json.")
    assert plan_data(config_of(pictures, "txt"), None).captioner.source == "txt"


def test_a_list_of_classes_is_no_source_of_captions(pictures):
    write_list(pictures, lambda number: number % 3)
    write_texts(pictures)
    assert plan_data(config_of(pictures), None).captioner.source == "txt"
    assert "has no captions there" in refused(pictures, "dataset.json")


OTHERS = {
    "metadata.jsonl": '{"file_name": "000001.png", "label": 3}\n',
    "dataset.json": '{"name": "somebody\'s", "labels": {"cat": 1}}',
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_others_are_no_second_source_and_are_said_to_be_left_out(pictures, name):
    write_texts(pictures)
    (pictures / name).write_text(OTHERS[name])
    plan = plan_data(config_of(pictures), None)
    assert plan.captioner.source == "txt" and any(name in note for note in plan.notes)


@pytest.mark.parametrize("captions", ["auto", "dataset.json"])
def test_a_list_is_read_and_parsed_once(pictures, monkeypatch, captions):
    write_list(pictures)
    parsed, parse_json = [], file_captions.parse_json
    monkeypatch.setattr(
        file_captions, "parse_json", lambda *given: parsed.append(given) or parse_json(*given)
    )
    plan_data(config_of(pictures, captions), None)
    assert len(parsed) == 1


def test_lines_end_where_text_files_end_them_and_nowhere_else(pictures):
    write_texts(pictures)
    (pictures / "000001.txt").write_bytes("one\x0bline\x1cof\u2028text\rtwo\r\n\nthree".encode())
    texts = plan_data(config_of(pictures), None).captioner.texts["000001.png"]
    assert texts == ("one line of text", "two", "three")


@pytest.mark.parametrize("write", [write_texts, write_metadata, write_list])
def test_captions_without_pictures_and_the_reverse_are_counted_and_named(pictures, write):
    write(pictures)
    (pictures / "000003.png").unlink()
    (pictures / "000002.png").unlink()
    said = refused(pictures)
    assert "2 caption(s)" in said and "000002" in said
    write(pictures)
    for file in pictures.glob("*.txt"):
        if not file.with_suffix(".png").exists():
            file.unlink()
    first = pictures / "more" / "000001.png"
    for name in ("first.png", "second.png"):
        (first.parent / name).write_bytes(first.read_bytes())
    said = refused(pictures)
    assert "2 of 20 pictures have no caption" in said and "more/first.png" in said


BAD = {
    "broken json": (lambda f: (f / "dataset.json").write_text('{"labels": [["000001.png",'),
                    "is no whole JSON document"),
    "broken line": (lambda f: (f / "metadata.jsonl").write_text('{"file_name": "a.png", "text"\n'),
                    "metadata.jsonl, line 1: is no whole JSON document"),
    "line without text": (lambda f: (f / "metadata.jsonl").write_text('{"file_name": "a.png"}\n'),
                          'has neither "text" nor "caption"'),
    "number as text": (
        lambda f: (f / "metadata.jsonl").write_text('{"file_name": "a.png", "text": 3}\n'),
        "metadata.jsonl, line 1: text."),
    "number in a list": (
        lambda f: (f / "dataset.json").write_text('{"labels": [["a.png", "a"], ["b.png", 3]]}'),
        "dataset.json: labels.1.1."),
    "not utf-8": (lambda f: (f / "000001.txt").write_bytes(b"caf\xe9"), "0xe9) is not UTF-8"),
    "control characters": (lambda f: (write_texts(f), (f / "000001.txt").write_text("a\x1b[2J"))[0],
                           "has characters that can't be shown"),
    "too long": (lambda f: (write_texts(f), (f / "000001.txt").write_text("x" * 2001))[0],
                 "has 2,001 characters; allowed are 2,000"),
    "nothing at all": (lambda f: None, "has no captions; they may stand in"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_bad_captions_are_one_line(pictures, fault):
    spoil, said = BAD[fault]
    spoil(pictures)
    assert said in refused(pictures)


def test_two_pictures_with_one_text_file_are_refused(pictures):
    write_texts(pictures)
    (pictures / "000001.jpg").write_bytes((pictures / "000001.png").read_bytes())
    assert "would have one text file" in refused(pictures)


def test_sources_without_captions_and_labels_beside_captions_are_refused(pictures):
    with pytest.raises(UserError, match=r"data\.captions is txt, which avatars"):
        plan_data(DataConfig(captions="txt"), None)
    for wrong, said in ({"captions": "text"}, "unknown source of captions 'text'"), (
        {"captions": "auto", "labels": "hair"}, "networks are told one of them",
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            DataConfig(**wrong)


# -- the file --------------------------------------------------------------------------------------


@pytest.fixture
def table():
    train, held_out = [["a", "b"], ["b"], ["ü", "a"]], [["c"], ["a"]]
    return captions_table("txt", train, held_out, ["d", "a"])


def test_texts_are_numbered_by_the_order_of_training_images(table):
    assert table.texts == ("a", "b", "ü", "c", "d") and table.num_learned == 3
    assert table.train.numbers.tolist() == [0, 1, 1, 2, 0]
    assert table.held_out.numbers.tolist() == [3, 0] and table.prompts.tolist() == [4, 0]


def test_a_file_of_captions_is_read_as_it_was_written(table, tmp_path):
    path = tmp_path / "captions.npz"
    write_captions(path, table)
    found = read(path)
    assert (found.texts, found.num_learned) == (table.texts, table.num_learned)
    for mine, its in ((found.train, table.train), (found.held_out, table.held_out)):
        assert np.array_equal(mine.starts, its.starts)
        assert np.array_equal(mine.numbers, its.numbers)


def read(path, train=3, held_out=2):
    counts = {"train": train, "held_out": held_out}
    return read_captions(path, "txt", counts, path.stat().st_size, "make it again.")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("text", np.frombuffer(b"ab\xff\xbccd", np.uint8)),
        ("text", np.frombuffer(b"ab\xc3\xbcaa", np.uint8)),
        ("ends", np.array([1, 2, 9, 5, 6])),
        ("train/counts", np.array([2, 0, 3], np.int32)),
        ("train/numbers", np.array([0, 1, 1, 2, 5], np.int32)),
        ("prompts", np.array([4], np.int32)),
    ],
)
def test_a_file_of_captions_that_is_none_is_refused(table, tmp_path, member, value):
    path = tmp_path / "captions.npz"
    write_captions(path, table)
    arrays = dict(np.load(path)) | {member: value}
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=r"holds no captions of .*make it again"):
        read(path)
    write_captions(path, table)
    with pytest.raises(UserError, match="holds no captions"):
        read(path, train=4)


def test_a_damaged_file_of_captions_is_refused_with_the_data(tmp_path):
    data = prepared(DataConfig(size=8, num_train=4, num_held_out=2, captions="auto"), tmp_path)
    path = data.folder / "captions.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="is damaged: wrong SHA-256"):
        load_prepared(data.folder)


def test_captions_are_cleaned_to_one_form():
    assert clean("  a\u0308 man \n with\ta hat\n") == "\u00e4 man with a hat"
    assert caption_file.fault_of("") == "is empty"
