"""Figures of a study: rows in, matplotlib axes out; never imports torch.

Figures are drawn by Agg, whatever the environment wants of matplotlib: notebooks name a backend
that is not there in a program that they start, and matplotlib refuses to be imported then.
"""

import os

_BACKEND = os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib  # noqa: F401
finally:
    if _BACKEND is not None:
        os.environ["MPLBACKEND"] = _BACKEND
