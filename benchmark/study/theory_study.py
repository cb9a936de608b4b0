"""A study of the two-feature theory, resolved."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.study.sweeps import Sweep
from benchmark.study.terms import USUAL, Terms
from mindiffusion.theory.setting import TheoryEvaluation, TheoryRun


@dataclass(frozen=True)
class TheoryStudy:
    """A resolved study of the two-feature theory; its fields are as of ``study.Study``."""

    name: str
    folder: Path
    runs: tuple[TheoryRun, ...]
    evaluation: TheoryEvaluation
    terms: Terms = USUAL
    sweeps: tuple[Sweep, ...] = ()
    about: tuple[str, ...] = ()

    @property
    def scoring(self) -> dict[str, Any]:
        """How milestones are scored, as plain types."""
        return asdict(self.evaluation)
