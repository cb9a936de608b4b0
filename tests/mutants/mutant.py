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


def planted(mutant: Mutant, tree: Path) -> str:
    """The text of the mutant's file in ``tree``, with the fault.

    Raises:
        ValueError: the old text does not stand there exactly once; the list is stale.
        SyntaxError: with the fault, the file is no code.
        OSError: there is no such file.
    """
    text = (tree / mutant.file).read_text(encoding="utf-8")
    count = text.count(mutant.old)
    if count != 1:
        raise ValueError(
            f"mutant {mutant.name!r} is stale: its text stands {count} times in {mutant.file}, not "
            "once; adapt its entry in tests/mutants."
        )
    changed = text.replace(mutant.old, mutant.new)
    compile(changed, mutant.file, "exec")
    return changed


def plant(mutant: Mutant, tree: Path) -> None:
    """Change the file in ``tree``; errors as for ``planted``."""
    (tree / mutant.file).write_text(planted(mutant, tree), encoding="utf-8")


def why_stale(mutant: Mutant, tree: Path) -> str:
    """Why an entry does not fit ``tree``; empty if it does."""
    try:
        planted(mutant, tree)
        for target in mutant.tests:
            path, _, name = target.partition("::")
            if f"def {name}" not in (tree / path).read_text(encoding="utf-8"):
                return f"mutant {mutant.name!r} is stale: there is no {target}."
    except (SyntaxError, OSError) as error:
        return f"mutant {mutant.name!r}: {error}"
    except ValueError as error:
        return str(error)
    if mutant.new == mutant.old:
        return f"mutant {mutant.name!r} changes nothing."
    return "" if mutant.tests else f"mutant {mutant.name!r} names no tests."
