"""What a process knows of a file of rows that others go on adding to: one reader for all who ask.

A cell asks which milestones are scored and which rows it has written already, several times each;
every line of the file is decoded once all the same.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from benchmark.rows.file import Follower
from benchmark.rows.row import Row, key

PROOF = "scored-"
"""How the metric of a row begins that proves the others of a part."""


class KnownRows:
    """What a file of rows says of its runs, read on as others add to it.

    Args:
        path: the file; there may be none yet.

    Attributes:
        scored: by arm, seed and config hash: the steps that have a proof, by the proof's name.
        made_with: by arm and seed: the config hashes and manifests of its rows.
    """

    def __init__(self, path: Path) -> None:
        self._follower = Follower(path)
        self.scored: dict[tuple[str, int, str], dict[str, set[int]]] = {}
        self.made_with: dict[tuple[str, int], set[tuple[str, str]]] = {}
        # Whole rows of the runs that are followed alone: a study's would not fit in every cell.
        self._rows: dict[tuple[str, int], dict[tuple[object, ...], Row]] = {}

    def follow(self, arm: str, seed: int) -> None:
        """Keep this run's whole rows; to be said before the file is read, or it is read again."""
        if (arm, seed) not in self._rows:
            self._rows[arm, seed] = {}
            self._follower = Follower(self._follower.path)

    def rows_of(self, arm: str, seed: int) -> Mapping[tuple[object, ...], Row]:
        """A run's rows up to now, by what they measure (``file.key``), in file order.

        Raises:
            UserError: as of :func:`benchmark.rows.file.read_rows`.
        """
        self.follow(arm, seed)
        return self.read_on()._rows[arm, seed]

    def read_on(self) -> Self:
        """Take in what was added since the last time.

        Raises:
            UserError: as of :func:`benchmark.rows.file.read_rows`.
        """
        news, is_anew = self._follower.news()
        if is_anew:
            self.scored.clear()
            self.made_with.clear()
            for rows in self._rows.values():
                rows.clear()
        for row in news:
            cell = (row.arm, row.seed)
            self.made_with.setdefault(cell, set()).add((row.config_hash, row.manifest))
            if row.metric.startswith(PROOF):
                proofs = self.scored.setdefault((*cell, row.config_hash), {})
                proofs.setdefault(row.metric, set()).add(row.step)
            if cell in self._rows:
                self._rows[cell][key(row)] = row
        return self


known_rows = functools.lru_cache(maxsize=4)(KnownRows)
"""The process's one ``KnownRows`` of a path."""
