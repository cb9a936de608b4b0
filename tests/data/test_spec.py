import dataclasses

import pytest
from pydantic import ValidationError

from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("dataset", "celebas", "'celeba'? For a folder of that name write './celebas'"),
        ("dataset", "celebb", "Did you mean 'celeba'?"),
        ("dataset", "avatar", "Did you mean 'avatars'?"),
        ("dataset", "CELEBA", "Did you mean 'celeba'?"),
        ("crop", "center187", "Did you mean 'center178'?"),
        ("style", "persona", "Did you mean 'personas'?"),
    ],
)
def test_config_unknown_name_suggests_the_near_one(field, value, hint):
    with pytest.raises(ValidationError) as caught:
        DataConfig(**{field: value})
    (error,) = caught.value.errors()
    assert error["loc"] == (field,)
    cause = error["ctx"]["error"]
    assert isinstance(cause, UserError)
    assert repr(value) in str(cause) and hint in str(cause)


@pytest.mark.parametrize(
    "fields",
    [
        {"dataset": ""},
        {"size": "32"},
        {"size": 0},
        {"num_train": 0},
        {"num_held_out": True},
        {"horizontal_flip": 1},
        {"colour": "red"},
        {"dataset": "avatars", "crop": "center140"},
        {"extra_formats": ("gif",)},
        {"dataset": "celeba", "extra_formats": ("gif",)},
        {"dataset": "./faces", "extra_formats": ("eps",)},
        {"dataset": "./faces", "extra_formats": "gif"},
    ],
)
def test_config_wrong_field_is_refused(fields):
    with pytest.raises(ValidationError):
        DataConfig(**fields)


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DataConfig().size = 64


@pytest.mark.parametrize(
    "dataset", ["small", "faces", "celeba_hq", "./celebb", "celeba.zip", "not/there.zip"]
)
def test_config_takes_any_other_name_as_a_path_without_looking(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert DataConfig(dataset=dataset).dataset == dataset


def test_config_refuses_a_misspelt_name_even_where_such_a_folder_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "celebb").mkdir()
    with pytest.raises(ValidationError):
        DataConfig(dataset="celebb")


def test_config_takes_other_formats_for_own_folders_in_any_order():
    one, other = (
        DataConfig(dataset="./faces", extra_formats=names)
        for names in (("tiff", "gif"), ("gif", "tiff"))
    )
    assert one == other and one.extra_formats == ("gif", "tiff")
