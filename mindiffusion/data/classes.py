"""The classes of a data set: what the values of one label are called, and how often each is."""

from dataclasses import dataclass

from mindiffusion.errors import UserError, did_you_mean

MOST_CLASSES = 2**15
"""Labels are kept as 16-bit numbers."""


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
