"""The classes of a data set: what the values of one label are called, and how often each is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.printable import printable

FEWEST_CLASSES, MOST_CLASSES = 2, 2**15
"""Of files that say what they show. One class says nothing; labels are kept as 16-bit numbers."""
_SHOWN = 80
"""Characters of a class's name in a message."""


def check_count(count: int, label: str, place: object) -> None:
    """Refuse files of too few or too many classes.

    Args:
        count: how many there are.
        label: as ``data.labels`` names it.
        place: where the files are, for the message.

    Raises:
        UserError: they have.
    """
    if not FEWEST_CLASSES <= count <= MOST_CLASSES:
        raise UserError(
            f"data.labels is {label}, but {place} has {count} class(es); allowed are "
            f"{FEWEST_CLASSES} to {MOST_CLASSES}: bring images of others, or leave labels out."
        )


def check_filled(names: Sequence[str], trained: Iterable[int], place: object) -> None:
    """Refuse a class of files that no training image shows.

    Args:
        names: of the classes.
        trained: the classes of all training images.
        place: where the files are, for the message.

    Raises:
        UserError: there is one; it is named.
    """
    seen = set(trained)
    empty = [name for number, name in enumerate(names) if number not in seen]
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise UserError(
            f"{place}: class {printable(empty[0], _SHOWN)!r}{more} has no training image; give it "
            "images (a tenth may be held out), take it away, or raise data.num_train."
        )


@dataclass(frozen=True)
class Classes:
    """One label of a data set. Class k is its value ``names[k]``.

    Attributes:
        label: its name, as ``data.labels`` gives it.
        names: of its values.
        counts: training images of each; 0 for a value that none of them shows.
    """

    label: str
    names: tuple[str, ...]
    counts: tuple[int, ...]

    @property
    def shown(self) -> tuple[int, ...]:
        """The classes that training images show, rising: only these can be drawn."""
        return tuple(number for number, count in enumerate(self.counts) if count)

    def number_of(self, wanted: str) -> int:
        """The class of a name or, where no class is called so, of a number written out.

        Raises:
            UserError: there is none, or no training image shows it.
        """
        if wanted in self.names:
            number = self.names.index(wanted)
        elif wanted.isdecimal() and int(wanted) < len(self.names):
            number = int(wanted)
        else:
            raise UserError(
                f"class {wanted!r}: {self.label} has the classes 0 to {len(self.names) - 1}, by "
                f"name or number.{did_you_mean(wanted, self.names)}"
            )
        if not self.counts[number]:
            raise UserError(
                f"class {wanted!r}: no training image shows {self.label} {self.names[number]!r}, "
                "so the network has not learned it; give another class."
            )
        return number
