"""Where prepared data and caches lie: in the working folder, or where variables say."""

import os
from pathlib import Path

DATA = "MINDIFFUSION_DATA"
CACHE = "MINDIFFUSION_CACHE"


def data_root() -> Path:
    """Folder of all prepared data sets."""
    return _place(DATA, "data")


def cache_root() -> Path:
    """Folder of features, weights and all else that is computed or fetched once."""
    return _place(CACHE, ".cache")


def _place(variable: str, usual: str) -> Path:
    # A home that nobody has stays as it is written, and is named when it can't be used.
    return Path(os.path.expanduser(os.environ.get(variable) or usual))  # noqa: PTH111
