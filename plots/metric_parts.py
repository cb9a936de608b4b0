"""Rows by the parts of their metric's name, such as ``probe/LAYER/ATTRIBUTE``."""

import pandas as pd


def rows_named(frame: pd.DataFrame, pattern: str) -> pd.DataFrame:
    """Rows whose metric is as a pattern says as a whole, with a column for each named group.

    Args:
        frame: of a study's rows.
        pattern: a regular expression with named groups; a group without a match gives "".
    """
    rows = frame[frame["metric"].astype(str).str.fullmatch(pattern).astype(bool)]
    parts = rows["metric"].astype(str).str.extract(f"^{pattern}$").astype(object).fillna("")
    return rows.assign(**{str(name): parts[name].astype(str) for name in parts})
