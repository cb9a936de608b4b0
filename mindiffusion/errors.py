"""Errors that a user can act on: one clear line, no traceback."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. The message says what came, what is allowed and what to do."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """``' Did you mean ...?'`` with the nearest allowed name, or the list of all names.

    Args:
        name: what came.
        choices: what is allowed.
    """
    allowed = sorted(choices)
    near = difflib.get_close_matches(name, allowed, n=1)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Allowed: {', '.join(allowed)}."
