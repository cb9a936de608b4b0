"""What a planted fault is, and how it is planted."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """One planted fault.

    Attributes:
        name: what is wrong in the mutant.
        file: path in the tree.
        old: text that stands in the file exactly once.
        new: what the mutant has in its place.
        tests: pytest targets of which one must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def plant(mutant: Mutant, tree: Path) -> None:
    """Change the file in ``tree``.

    Raises:
        ValueError: the old text does not stand there exactly once; the list is stale.
    """
    path = tree / mutant.file
    text = path.read_text(encoding="utf-8")
    count = text.count(mutant.old)
    if count != 1:
        raise ValueError(
            f"mutant {mutant.name!r} is stale: its text stands {count} times in {mutant.file}, not "
            "once; adapt its entry in tests/mutants."
        )
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
