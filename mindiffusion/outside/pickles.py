"""The one kind of pickle that is read: a dictionary of plain values and one kind of array.

CIFAR-10 is passed on as pickles that Python 2 wrote. A pickle is a program, so it is not run:
its opcodes are read one by one, and few of them mean anything here. They make numbers, bytes,
lists and a NumPy array of bytes; a name is never looked up and nothing is called.

Source: ``pickletools`` of Python's library names the opcodes; the files' own use of them was read.
"""

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindiffusion.errors import UserError
from mindiffusion.outside.paths import read_file
from mindiffusion.printable import printable

MOST_PICKLE_BYTES = 200_000_000
MOST_OPCODES = 1_000_000
"""A file of CIFAR-10 has 40,000."""
_ARRAY = ("numpy.core.multiarray _reconstruct", "numpy ndarray")
_DTYPE = "numpy dtype"
_ADVICE = "give the file as its authors pass it on."


class _Unfit(ValueError):
    """Why a pickle is none that is read here."""


@dataclass
class _Made:
    """What a name stands for, or would have made, as the pickle describes it."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None


class _Mark:
    """Where a sequence of values begins on the stack."""


@dataclass
class _Machine:
    """The stack and the memo of a pickle."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def since_mark(self) -> list[Any]:
        """Take what was put on the stack after the last mark."""
        for place in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[place], _Mark):
                found = self.stack[place + 1 :]
                del self.stack[place:]
                return found
        raise _Unfit("a sequence without a begin")

    def tuple_of(self, count: int) -> None:
        """Make one of the last values."""
        found = tuple(self.stack[-count:])
        if len(found) < count:
            raise _Unfit("a tuple without values")
        self.stack[-count:] = [found]

    def top(self, kind: type) -> Any:
        """The last value, which must be of a kind."""
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise _Unfit(f"no {kind.__name__} where there must be one")
        return self.stack[-1]

    def reduce(self) -> None:
        """Note what a call would be of; nothing is called."""
        arguments = self.top(tuple)
        self.stack.pop()
        made = self.top(_Made)
        self.stack[-1] = _Made(made.name, arguments)

    def build(self) -> None:
        """Note the state of what a call would have made."""
        if not self.stack:
            raise _Unfit("a state without a value")
        state = self.stack.pop()
        self.top(_Made).state = state

    def set_items(self) -> None:
        """Put pairs into the dictionary below them."""
        found = self.since_mark()
        keys, values = found[::2], found[1::2]
        if len(keys) != len(values) or not all(isinstance(key, bytes) for key in keys):
            raise _Unfit("a dictionary whose keys are not text")
        self.top(dict).update(zip(keys, values, strict=True))


def _push(make: Callable[[Any], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, argument: machine.stack.append(make(argument))


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, argument: machine.tuple_of(count)


def _get(machine: _Machine, place: int) -> None:
    if place not in machine.memo:
        raise _Unfit("a reference to nothing")
    machine.stack.append(machine.memo[place])


def _put(machine: _Machine, place: int) -> None:
    machine.memo[place] = machine.top(object)


def _set_one(machine: _Machine, argument: None) -> None:
    machine.stack[-2:-2] = [_Mark()]
    machine.set_items()


def _append(machine: _Machine, argument: None) -> None:
    value = machine.top(object)
    machine.stack.pop()
    machine.top(list).append(value)


def _extend(machine: _Machine, argument: None) -> None:
    found = machine.since_mark()
    machine.top(list).extend(found)


def _latin(argument: str) -> bytes:
    """What Python 2 calls text is bytes; ``pickletools`` shows them as Latin-1."""
    return argument.encode("latin-1")


_MEANINGS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda machine, argument: None,
    "MARK": _push(lambda argument: _Mark()),
    "NONE": _push(lambda argument: None),
    "NEWTRUE": _push(lambda argument: True),
    "NEWFALSE": _push(lambda argument: False),
    **{name: _push(int) for name in ("BININT", "BININT1", "BININT2")},
    **{name: _push(_latin) for name in ("BINSTRING", "SHORT_BINSTRING")},
    "EMPTY_DICT": _push(lambda argument: {}),
    "EMPTY_LIST": _push(lambda argument: []),
    "EMPTY_TUPLE": _push(lambda argument: ()),
    **{name: _put for name in ("BINPUT", "LONG_BINPUT")},
    **{name: _get for name in ("BINGET", "LONG_BINGET")},
    "TUPLE": lambda machine, argument: machine.stack.append(tuple(machine.since_mark())),
    **{f"TUPLE{count}": _tuple_of(count) for count in (1, 2, 3)},
    "APPEND": _append,
    "APPENDS": _extend,
    "SETITEM": _set_one,
    "SETITEMS": lambda machine, argument: machine.set_items(),
    "GLOBAL": _push(_Made),
    "REDUCE": lambda machine, argument: machine.reduce(),
    "BUILD": lambda machine, argument: machine.build(),
}
"""What an opcode does; any other is refused."""


def read_plain_pickle(path: Path) -> dict[bytes, Any]:
    """A dictionary of a pickle's plain values: numbers, bytes, lists of them, arrays of bytes.

    Args:
        path: the file.

    Returns:
        Key → int, bytes, list, tuple, None, bool, or an array of uint8.

    Raises:
        UserError: too large, damaged, or with anything else in it.
        OSError: it can't be read.
    """
    content = read_file(path, MOST_PICKLE_BYTES, follow=True)
    try:
        found = _read(content)
    except (ValueError, IndexError, UnicodeError, OverflowError) as error:
        raise UserError(
            f"{path} is no pickle of plain values ({printable(error, 120)}), and no other is read, "
            f"for a pickle may be any program; {_ADVICE}"
        ) from None
    return found


def _read(content: bytes) -> dict[bytes, Any]:
    machine = _Machine()
    for number, (opcode, argument, place) in enumerate(pickletools.genops(content)):
        if opcode.name == "STOP":
            if len(machine.stack) != 1 or place is None or place + 1 != len(content):
                raise _Unfit("more than one value")
            return {key: _plain(value) for key, value in machine.top(dict).items()}
        if opcode.name not in _MEANINGS:
            raise _Unfit(f"the opcode {opcode.name}")
        if number >= MOST_OPCODES:
            raise _Unfit(f"more than {MOST_OPCODES:,} opcodes")
        _MEANINGS[opcode.name](machine, argument)
    raise _Unfit("no end")


def _plain(value: Any) -> Any:
    """A value of the dictionary, its array made; lists hold bytes and integers alone."""
    if isinstance(value, _Made):
        return _array(value)
    if isinstance(value, list) and all(isinstance(one, bytes | int) for one in value):
        return value
    if value is None or isinstance(value, bytes | int):
        return value
    raise _Unfit("a value that is neither a number, text, a list of these nor an array")


def _array(made: _Made) -> NDArray[np.uint8]:
    """The array that NumPy would make of a state (version, shape, dtype, order, bytes)."""
    called, given, state = made.name, made.arguments, made.state
    is_array = called == _ARRAY[0] and bool(given) and isinstance(given[0], _Made)
    if not is_array or given[0].name != _ARRAY[1]:
        raise _Unfit(f"a call of {printable(called, 60)}")
    match state:
        case (int(), tuple(shape), _Made(name=str(name)) as kind, False, bytes(content)):
            is_bytes = name == _DTYPE and kind.arguments[:1] == (b"u1",)
            sides = [side for side in shape if type(side) is int and 0 <= side < 2**31]
            if is_bytes and len(sides) == len(shape) <= 4 and math.prod(sides) == len(content):
                return np.frombuffer(content, np.uint8).reshape(sides)
    raise _Unfit("an array of something else than as many bytes as its shape says")
