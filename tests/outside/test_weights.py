"""Weights of a stranger: tensors within their file or one line; nothing of it runs."""

import io
import json
import pickle
import pickletools
import tracemalloc
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_file
from mindiffusion.outside import weights
from mindiffusion.outside.weights import (
    check_tensors,
    known_torchscript,
    named_tensors,
    read_tensors,
    safetensors_header,
    sha256_of_safetensors,
    tensors_of_file,
)

CONTENT = {"step": 3, "w": torch.arange(6.0).view(2, 3), "log": ["a", None, 1.5, True], "d": {1: 2}}


def saved(content):
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def with_pickle(content, pickled):
    """An archive whose pickle is another one."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        for info in old.infolist():
            is_pickle = info.filename.endswith("data.pkl")
            new.writestr(info.filename, pickled if is_pickle else old.read(info))
    return stream.getvalue()


def pickled_in(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read("archive/data.pkl")


WHOLE = saved(CONTENT)


def refused(content, *parts):
    with pytest.raises(UserError) as caught:
        read_tensors(io.BytesIO(content), "their.pt")
    message = str(caught.value)
    assert message.startswith("their.pt") and "\n" not in message and len(message) < 600
    for part in parts:
        assert part in message, message


def test_what_torch_saves_of_plain_things_is_read():
    found = read_tensors(io.BytesIO(WHOLE), "their.pt")
    assert torch.equal(found.pop("w"), CONTENT["w"])
    assert found == {name: value for name, value in CONTENT.items() if name != "w"}
    kinds = [
        torch.zeros(2, dtype=getattr(torch, name))
        for name in (
            "float16",
            "bfloat16",
            "float64",
            "int8",
            "uint8",
            "int16",
            "int32",
            "int64",
            "bool",
        )
    ]
    state = nn.Linear(2, 3).to(memory_format=torch.preserve_format).state_dict()
    read = read_tensors(io.BytesIO(saved([kinds, state, nn.Parameter(torch.ones(1))])), "x")
    assert [tensor.dtype for tensor in read[0]] == [tensor.dtype for tensor in kinds]
    assert list(read[1]) == ["weight", "bias"]


def reduce_of(function, *arguments):
    class Odd:
        def __reduce__(self):
            return function, arguments

    return pickle.dumps({"w": Odd()}, protocol=2)


def test_nothing_runs_and_nothing_is_allocated_by_a_pickle(tmp_path):
    tracemalloc.start()
    refused(with_pickle(WHOLE, reduce_of(open, str(tmp_path / "x"), "w")), "asks for")
    refused(with_pickle(WHOLE, reduce_of(bytearray, 10**10)), "bytearray, which is no tensor")
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()
    assert not list(tmp_path.iterdir())


def test_a_flood_of_operations_is_refused(monkeypatch):
    monkeypatch.setattr(weights, "MOST_OPERATIONS", 1000)
    refused(with_pickle(WHOLE, b"\x80\x02" + b"]0" * 900 + b"N."), "more than 1,000 operations")
    monkeypatch.setattr(weights, "MOST_PICKLE_BYTES", 10)
    refused(WHOLE, "bytes that are no tensors")


def test_packed_members_and_foreign_ones_are_refused():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    refused(packed.getvalue(), "'archive/data.pkl' is not torch's")
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("archive/data.pkl", pickled_in(WHOLE))
        archive.writestr("other/data.pkl", b"x")
    refused(other.getvalue(), "'other/data.pkl' is not torch's")
    refused(b"", "cannot be read")
    refused(b"PK", "cannot be read")
    refused(WHOLE + b"x", "no directory at its end")
    refused(pickle.dumps(CONTENT["step"]), "cannot be read")


def test_a_tensor_has_the_bytes_that_it_declares():
    content = saved({"w": torch.zeros(1000)})
    pickled = pickled_in(content)
    size = b"M\xe8\x03\x85"  # BININT2 1000, TUPLE1
    assert size in pickled
    refused(with_pickle(content, pickled.replace(size, b"J\x00\x00\x00\x20\x85")), "cannot be read")
    refused(saved({"w": torch.zeros(1).expand(10**4, 10**4)}), "a tensor (10000, 10000) of 4 bytes")
    sparse = torch.zeros(2, 2).to_sparse()
    refused(saved({"w": sparse}), "which is no tensor")
    refused(saved({"w": torch.zeros(3, device="meta")}), "cannot be read")


def test_a_list_in_itself_and_a_tree_of_aliases_are_walked_once():
    tree = []
    for _ in range(60):
        tree = [tree, tree]
    assert read_tensors(io.BytesIO(saved({"a": tree})), "x")
    knot = []
    knot.append(knot)
    assert read_tensors(io.BytesIO(saved({"a": knot})), "x")


def test_prefixes_of_wrapped_networks_are_left_out():
    tensor = torch.zeros(1)
    names = {"module.a.b": tensor, "_orig_mod.c": tensor, "module._orig_mod.d": tensor, "e": tensor}
    assert list(named_tensors(names, "x")) == ["a.b", "c", "d", "e"]
    for wrong in (3, [tensor], {"a": 3}, {1: tensor}, {"a": tensor, "module.a": tensor}):
        with pytest.raises(UserError, match=r"^their\.pt holds"):
            named_tensors(wrong, "their.pt")


def test_tensors_are_those_of_the_network():
    ours = {"a": torch.zeros(2, 3, device="meta"), "n": torch.zeros(2, dtype=torch.int64)}
    same = {"n": torch.ones(2, dtype=torch.int32), "a": torch.ones(2, 3, dtype=torch.float64)}
    check_tensors(same, ours, "x")
    for change, message in (
        ({"b\x1b[2J": torch.zeros(1)}, r"has the tensor 'b\\x1b\[2J'"),
        ({"a": torch.zeros(3, 2)}, "'a' is 3x2, but 2x3"),
        ({"a": torch.zeros(2, 3, dtype=torch.int64)}, "'a' is of torch.int64"),
        ({"a": torch.zeros(2, 3, dtype=torch.complex64)}, "'a' is of torch.complex64"),
        ({"n": torch.zeros(2)}, "'n' is of torch.float32"),
    ):
        with pytest.raises(UserError, match=message):
            check_tensors(same | change, ours, "x")
    with pytest.raises(UserError, match="x lacks the tensor 'a'"):
        check_tensors({"n": same["n"]}, ours, "x")


def test_files_of_both_kinds_are_read(tmp_path):
    save_file({"module.a": torch.ones(2)}, tmp_path / "a.safetensors")
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        assert list(tensors_of_file(tmp_path / name)) == ["a"]
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1])
        with pytest.raises(UserError, match=rf"{name} cannot be read"):
            tensors_of_file(tmp_path / name)


def with_header(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_a_safetensors_header_is_known_before_any_tensor(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    content = {"module.a": torch.ones(2, 3), "b": torch.zeros((), dtype=torch.int64)}
    save_file(content, path, {"who": "me"})
    header = safetensors_header(path)
    assert header.metadata == {"who": "me"}
    assert {name: (t.shape, t.dtype, t.device.type) for name, t in header.tensors.items()} == {
        "a": (torch.Size([2, 3]), torch.float32, "meta"), "b": ((), torch.int64, "meta")
    }  # fmt: skip
    digest = sha256_of_safetensors(path)
    save_file(content, path, {"who": "you", "more": "x"})
    assert sha256_of_safetensors(path) == digest
    save_file(content | {"b": torch.ones((), dtype=torch.int64)}, path)
    assert sha256_of_safetensors(path) != digest and safetensors_header(path).metadata == {}
    for name, most in (("MOST_HEADER_BYTES", 20), ("MOST_FILE_BYTES", 20), ("MOST_MEMBERS", 1)):
        with monkeypatch.context() as patch, pytest.raises(UserError, match=r"at most \d+"):
            patch.setattr(weights, name, most)
            safetensors_header(path)


def test_safetensors_that_declare_what_cannot_be_are_one_line(tmp_path):
    path, numbers = tmp_path / "a.safetensors", {"dtype": "F32", "data_offsets": [0, 0]}
    for header, message in (
        ({"a": numbers | {"shape": [0, 2**62, 2**62]}}, "'a' has sides that no tensor"),
        ({"a": numbers | {"shape": [0, 2**63]}}, "'a' has sides that no tensor"),
        ({"a": numbers | {"shape": [2**40]}}, "cannot be read"),
        ({"a": numbers | {"shape": [0], "dtype": "C64"}}, "is of C64; allowed are F64"),
        ({"a": numbers | {"shape": [0]}, "module.a": numbers | {"shape": [0]}}, "'a' twice"),
        ({"__metadata__": {"a": 3}}, "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 10**5, "cannot be read"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            safetensors_header(with_header(path, header))
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    tracemalloc.start()
    path.write_bytes((2**62).to_bytes(8, "little") + b"{")
    with pytest.raises(UserError, match=r"4,611,686,018,427,387,904 bytes of header"):
        tensors_of_file(path)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_a_link_that_nobody_named_is_not_followed(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    for ending in ("pth", "safetensors"):
        link = tmp_path / f"link.{ending}"
        link.symlink_to(tmp_path / f"a.{ending}")
        assert list(tensors_of_file(link)) == ["a"]
        with pytest.raises(UserError, match="is a link"):
            tensors_of_file(link, follow=False)


def test_a_torchscript_runs_only_if_its_bytes_are_known(tmp_path, monkeypatch):
    path = tmp_path / "script.pt"
    with weights.silent_torchscript():
        torch.jit.save(torch.jit.script(nn.ReLU()), str(path))
    known = sha256_of_file(path)
    assert known_torchscript(path, known, "x")(torch.tensor(-1.0)) == 0
    monkeypatch.setattr(torch.jit, "load", None)
    with pytest.raises(UserError, match=rf"{known}, not {'0' * 64} .*any code; get the right one"):
        known_torchscript(path, "0" * 64, "get the right one")


place = st.floats(0, 1, exclude_max=True)
edits = st.lists(st.tuples(place, st.binary(max_size=3), st.integers(0, 3)), max_size=2)


def edited(content, edits):
    for at, put, drop in edits:
        start = int(at * len(content))
        content = content[:start] + put + content[start + drop :]
    return content


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(outer=edits, inner=edits, is_inner=st.booleans())
def test_mutated_bytes_give_tensors_or_one_line(outer, inner, is_inner):
    if is_inner:
        content = with_pickle(WHOLE, edited(pickled_in(WHOLE), inner))
    else:
        content = edited(WHOLE, outer)
    try:
        read_tensors(io.BytesIO(content), "their.pt")
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 600


def test_the_operations_of_a_state_are_few(tmp_path):
    network = nn.Sequential(*[nn.Linear(2, 2) for _ in range(100)])
    operations = list(pickletools.genops(pickled_in(saved(network.state_dict()))))
    assert len(operations) < weights.MOST_OPERATIONS / 100


def test_an_archive_behind_one_of_the_old_formats_is_refused():
    """``torch.load`` would read what stands before it, which nobody has looked at."""
    old, new = io.BytesIO(), io.BytesIO()
    torch.save({"evil": torch.ones(3)}, old, _use_new_zipfile_serialization=False)
    torch.save({"good": torch.zeros(3)}, new)
    both = io.BytesIO(old.getvalue())
    with zipfile.ZipFile(new) as archive, zipfile.ZipFile(both, "a") as joined:
        for info in archive.infolist():
            joined.writestr(info.filename, archive.read(info))
    for content in (old.getvalue(), both.getvalue(), b"PK" + both.getvalue()):
        with pytest.raises(UserError, match="cannot be read"):
            read_tensors(io.BytesIO(content), "odd.pt")
