import dataclasses

import pytest
from pydantic import ValidationError

from mindiffusion.data.spec import DataConfig, is_path
from mindiffusion.errors import UserError


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("dataset", "celebas", "Did you mean 'celeba'?"),
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
        {"size": "32"},
        {"size": 0},
        {"num_train": 0},
        {"num_held_out": True},
        {"horizontal_flip": 1},
        {"colour": "red"},
        {"dataset": "avatars", "crop": "center140"},
    ],
)
def test_config_wrong_field_is_refused(fields):
    with pytest.raises(ValidationError):
        DataConfig(**fields)


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DataConfig().size = 64


def test_is_path_takes_separators_and_what_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "celeba").mkdir()
    assert is_path("mine") and is_path("not/there.zip")
    assert not is_path("celeba") and not is_path("other")
    assert DataConfig(dataset="mine").dataset == "mine"
