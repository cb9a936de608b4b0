import zipfile

import pytest

from mindiffusion.data.celeba import locate, plan_celeba
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError

CONFIG = DataConfig(dataset="celeba", num_held_out=2)


@pytest.fixture
def celeba(tmp_path, write_images):
    """The parent of img_align_celeba: 30 images, 20 train, 6 validation, 4 test."""
    names = write_images(tmp_path / "celeba" / "img_align_celeba", 30, (20, 16))
    parts = [0] * 20 + [1] * 6 + [2] * 4
    lines = [f"{name} {part}" for name, part in zip(names, parts, strict=True)]
    (tmp_path / "celeba" / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "celeba"


def zip_images(celeba):
    with zipfile.ZipFile(celeba / "img_align_celeba.zip", "w") as archive:
        for file in sorted((celeba / "img_align_celeba").iterdir()):
            archive.write(file, f"img_align_celeba/{file.name}")
    return celeba / "img_align_celeba.zip"


def names_of(files):
    return [file.name for file in files]


def test_plan_follows_the_partition(celeba):
    plan = plan_celeba(CONFIG, str(celeba))
    assert names_of(plan.train) == [f"{number:06d}.png" for number in range(1, 21)]
    assert names_of(plan.held_out) == ["000021.png", "000022.png"]


def test_plan_is_the_same_for_folder_parent_and_zip(celeba):
    plans = [
        plan_celeba(CONFIG, str(path))
        for path in (celeba, celeba / "img_align_celeba", zip_images(celeba))
    ]
    for plan in plans[1:]:
        assert names_of(plan.train) == names_of(plans[0].train)
        assert names_of(plan.held_out) == names_of(plans[0].held_out)
        assert plan.description == plans[0].description
    first = [plan.source.draw(plan.train[0]).digest for plan in plans]
    assert len(set(first)) == 1


def test_plan_without_partition_splits_by_name_hash(celeba):
    (celeba / "list_eval_partition.txt").unlink()
    plan = plan_celeba(CONFIG, str(celeba))
    assert len(plan.train) == 28 and len(plan.held_out) == 2
    assert not set(names_of(plan.train)) & set(names_of(plan.held_out))
    assert plan.description["split"].startswith("held-out: smallest SHA-256")


def test_plan_reads_attributes(celeba):
    rows = [f"{number:06d}.png {-1 if number % 2 else 1:2d} 1" for number in range(1, 31)]
    text = "\n".join(["30", "Eyeglasses Smiling", *rows])
    (celeba / "list_attr_celeba.txt").write_text(text)
    plan = plan_celeba(CONFIG, str(celeba))
    assert plan.label_names == {"Eyeglasses": ["no", "yes"], "Smiling": ["no", "yes"]}
    assert [file.codes for file in plan.train[:3]] == [(0, 1), (1, 1), (0, 1)]
    assert plan.source.draw(plan.train[1]).codes == (1, 1)


def as_csv(celeba):
    """The lists as Kaggle has them."""
    path = celeba / "list_eval_partition.txt"
    lines = [line.replace(" ", ",") for line in path.read_text().splitlines()]
    path.with_suffix(".csv").write_text("\n".join(["image_id,partition", *lines]) + "\n")
    path.unlink()
    rows = [f"{number:06d}.png,{-1 if number % 2 else 1},1" for number in range(1, 31)]
    text = "\n".join(["image_id,Eyeglasses,Smiling", *rows])
    (celeba / "list_attr_celeba.csv").write_text(text)


def test_plan_reads_kaggles_lists_to_the_same_end(celeba):
    before = plan_celeba(CONFIG, str(celeba))
    as_csv(celeba)
    plan = plan_celeba(CONFIG, str(celeba))
    assert names_of(plan.train) == names_of(before.train)
    assert names_of(plan.held_out) == names_of(before.held_out)
    assert plan.description == before.description
    assert plan.label_names == {"Eyeglasses": ["no", "yes"], "Smiling": ["no", "yes"]}
    assert [file.codes for file in plan.train[:3]] == [(0, 1), (1, 1), (0, 1)]
    assert "lists read: list_eval_partition.csv, list_attr_celeba.csv" in plan.notes


@pytest.mark.parametrize("name", ["list_eval_partition.txt", "list_attr_celeba.csv"])
def test_a_list_that_is_not_utf8_is_one_line(celeba, name):
    (celeba / name).write_bytes(b"000001.png 0\n# caf\xe9\n")
    with pytest.raises(UserError, match=rf"{name}, line 2: byte 0xe9 is not UTF-8; save"):
        plan_celeba(CONFIG, str(celeba))


@pytest.mark.parametrize("names", ["", "A A", "A \x1b[2J"])
def test_attributes_without_names_of_their_own_are_refused(celeba, names):
    (celeba / "list_attr_celeba.txt").write_text(f"30\n{names}\n000001.png 1 1\n")
    with pytest.raises(UserError, match="must name its attributes once each"):
        plan_celeba(CONFIG, str(celeba))


def test_plan_says_which_listed_images_are_missing(celeba):
    for number in (7, 9):
        (celeba / "img_align_celeba" / f"{number:06d}.png").unlink()
    with pytest.raises(UserError, match=r"names 2 images that are not in .*first: 000007\.png"):
        plan_celeba(CONFIG, str(celeba))


def test_plan_says_which_images_are_not_listed(celeba):
    source = celeba / "img_align_celeba" / "000001.png"
    (celeba / "img_align_celeba" / "stray.png").write_bytes(source.read_bytes())
    with pytest.raises(UserError, match=r"holds 1 images that are not in .*first: stray\.png"):
        plan_celeba(CONFIG, str(celeba))


def test_plan_refuses_a_broken_partition_line(celeba):
    path = celeba / "list_eval_partition.txt"
    path.write_text(path.read_text().replace("000003.png 0", "000003.png train"))
    with pytest.raises(UserError, match=r"line 3 is '000003\.png train'; expected a name and"):
        plan_celeba(CONFIG, str(celeba))


@pytest.mark.parametrize("value", [None, ""])
def test_locate_says_that_the_path_is_unset(value):
    with pytest.raises(UserError, match=r"CELEBA_PATH is not set: set CELEBA_PATH in \.env"):
        locate(value)


def test_locate_refuses_missing_empty_and_imageless_folders(tmp_path):
    with pytest.raises(UserError, match="which does not exist"):
        locate(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="an empty folder"):
        locate(str(tmp_path))
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(UserError, match="holds no images"):
        locate(str(tmp_path))


def test_locate_never_searches_stray_folders(tmp_path, write_images):
    write_images(tmp_path / "holiday", 3, (20, 16))
    with pytest.raises(UserError, match="holds no images"):
        locate(str(tmp_path))
