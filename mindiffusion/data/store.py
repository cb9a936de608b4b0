"""Where prepared data lives, and how runs and studies come by it."""

import os
from functools import lru_cache

from mindiffusion.data.prepare import plan_data, prepare
from mindiffusion.data.prepared import PreparedData
from mindiffusion.data.spec import DataConfig
from mindiffusion.places import data_root


def celeba_path() -> str | None:
    """CELEBA_PATH of the environment, which commands fill from ``.env``."""
    return os.environ.get("CELEBA_PATH") or None


def prepared_data(config: DataConfig, *, show_progress: bool) -> PreparedData:
    """The prepared array of a data set, made if it is not there yet."""
    return prepare(config, data_root(), celeba_path=celeba_path(), show_progress=show_progress)


def num_train_images(config: DataConfig) -> int:
    """How many images a run trains on, found without preparing them; files are listed once."""
    return num_images(config)[0]


@lru_cache(maxsize=8)
def num_images(config: DataConfig) -> tuple[int, int]:
    """How many training and held-out images a data set has, found without preparing them."""
    plan = plan_data(config, celeba_path())
    return len(plan.train), plan.num_held_out
