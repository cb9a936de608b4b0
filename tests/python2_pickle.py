"""Writes CIFAR-10's files as Python 2 pickled them, opcode by opcode."""

import pickle
import struct

import numpy as np


def _value(value):
    if isinstance(value, bytes):
        short = len(value) < 256
        head = pickle.SHORT_BINSTRING if short else pickle.BINSTRING
        return head + (bytes([len(value)]) if short else struct.pack("<i", len(value))) + value
    if isinstance(value, int):
        if 0 <= value < 256:
            return pickle.BININT1 + bytes([value])
        return pickle.BININT + struct.pack("<i", value)
    if isinstance(value, list):
        return pickle.EMPTY_LIST + pickle.MARK + b"".join(map(_value, value)) + pickle.APPENDS
    return _array(value)


def _array(array):
    """What cPickle of Python 2 makes of a uint8 array."""
    start = pickle.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n"
    start += pickle.GLOBAL + b"numpy\nndarray\n" + _value(0) + pickle.TUPLE1 + _value(b"b")
    start += pickle.TUPLE3 + pickle.REDUCE
    kind = pickle.GLOBAL + b"numpy\ndtype\n" + _value(b"u1") + _value(0) + _value(1)
    kind += pickle.TUPLE3 + pickle.REDUCE + pickle.MARK + _value(3) + _value(b"|")
    kind += pickle.NONE * 3 + _value(-1) * 2 + _value(0) + pickle.TUPLE + pickle.BUILD
    shape = pickle.MARK + b"".join(map(_value, array.shape)) + pickle.TUPLE
    state = pickle.MARK + _value(1) + shape + kind + pickle.NEWFALSE + _value(array.tobytes())
    return start + state + pickle.TUPLE + pickle.BUILD


def python2_pickle(content):
    """A dictionary of bytes → int, bytes, lists of them, uint8 arrays, in protocol 2."""
    items = b"".join(_value(key) + _value(value) for key, value in content.items())
    start = pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + pickle.BINPUT + b"\x01"
    return start + pickle.MARK + items + pickle.SETITEMS + pickle.STOP


def write_cifar(folder, rows=12, classes=3):
    """A folder as CIFAR-10's, of few images; image k of a file has class k modulo ``classes``."""
    folder.mkdir(parents=True)
    names = [b"plane", b"car", b"bird", b"cat"][:classes]
    (folder / "batches.meta").write_bytes(python2_pickle({b"label_names": names}))
    for number, file in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        pixels = np.random.default_rng(number).integers(0, 256, (rows, 3072), dtype=np.uint8)
        content = {
            b"batch_label": file.encode(),
            b"labels": [row % classes for row in range(rows)],
            b"data": pixels,
            b"filenames": [b"%d.png" % row for row in range(rows)],
        }
        (folder / file).write_bytes(python2_pickle(content))
    return folder
