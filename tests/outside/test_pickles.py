"""Pickles of plain values are read without being run."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from python2_pickle import python2_pickle

from mindiffusion.errors import UserError
from mindiffusion.outside.pickles import read_plain_pickle

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 12)
CONTENT = {b"a": 300, b"b": b"x" * 300, b"c": [1, 2, -3], b"d": [b"x", b"y"], b"e": ARRAY}


def test_reads_what_python_itself_reads(tmp_path):
    path = tmp_path / "batch"
    path.write_bytes(python2_pickle(CONTENT))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's names of then
        known = pickle.loads(path.read_bytes(), encoding="bytes")
    found = read_plain_pickle(path)
    assert list(found) == list(known) == list(CONTENT)
    np.testing.assert_array_equal(found.pop(b"e"), known.pop(b"e"))
    assert found == known


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


MANY = pickle.PROTO + b"\x02" + (pickle.NONE + pickle.EMPTY_LIST) * 500_001
DEEP = pickle.EMPTY_TUPLE + (pickle.BINPUT + b"\0" + pickle.BINGET + b"\0" + pickle.TUPLE2) * 60


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "pickle exhausted"),
        (python2_pickle(CONTENT)[:-5], "no pickle of plain values"),
        (python2_pickle(CONTENT) + b"x", "more than one value"),
        (pickle.dumps({b"a": Evil()}, 2), "the opcode"),
        (b"cos\nsystem\n(S'touch touched'\ntR.", "the opcode STRING"),
        (pickle.dumps([1], 2), "no dict where there must be one"),
        (python2_pickle({b"a": b"x"}).replace(b"U\x01a", b"K\x01"), "keys are not text"),
        (b"\x80\x02}(" + DEEP + b"K\x01u.", "keys are not text"),
        (b"\x80\x02}(U\x01a" + DEEP + b"u.", "neither a number"),
        (MANY, "more than 1,000,000 opcodes"),
        (b"\x80\x02r\xff\xff\xff\xff.", "no object"),
        (b"\x80\x02T\xff\xff\xff\x7f.", "no pickle of plain values"),
        (b"\x80\x02h\x05.", "a reference to nothing"),
        (b"\x80\x02u.", "a sequence without a begin"),
        (b"\x80\x02b.", "a state without a value"),
        (python2_pickle({b"a": ARRAY}).replace(b"u1", b"u2"), "an array of something else"),
        (python2_pickle({b"a": ARRAY}).replace(b"K\x02K\x0c", b"K\x03K\x0c"), "an array of some"),
        (python2_pickle({b"a": ARRAY}).replace(b"ndarray", b"matrix_"), "a call of numpy.core"),
        (b"\x80\x02}U\x01acos\nsystem\nU\x01x\x85Rs.", "a call of os system"),
    ],
)
def test_refuses_all_else_in_one_line(content, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_plain_pickle(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert not (tmp_path / "touched").exists()


def test_any_damage_is_read_or_told_in_one_line(tmp_path):
    whole, path, told = python2_pickle(CONTENT), tmp_path / "batch", 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            content[place] = rng.integers(0, 256)
        path.write_bytes(content[: len(whole) if seed % 4 else int(rng.integers(len(whole)))])
        try:
            assert isinstance(read_plain_pickle(path), dict)
        except UserError as error:
            told += 1
            assert "\n" not in str(error) and len(str(error)) < 600
    assert 100 < told < 400
