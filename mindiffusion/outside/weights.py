"""Weights of a stranger: tensors within the bytes of their file, and the known TorchScript.

``torch.load`` runs with ``weights_only=True`` alone, after the file's directory and the operations
of its pickle have been bounded: nothing in it runs, and nothing it says allocates more than it has.
Of a ``.safetensors`` file the header is bounded, and can be judged before any tensor is read.
A TorchScript runs whatever it likes, so it is opened only if its bytes are known.
"""

import contextlib
import hashlib
import io
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from mindiffusion.errors import UserError
from mindiffusion.outside.documents import shown_value
from mindiffusion.outside.paths import open_file, read_file
from mindiffusion.outside.zip_directory import open_directory
from mindiffusion.printable import printable

MOST_FILE_BYTES = 16 << 30
MOST_MEMBERS = 100_000
MOST_PICKLE_BYTES = 128 << 20
MOST_OPERATIONS = 1_000_000
"""Of a pickle: a state of 1,000 tensors takes 30,000."""
MOST_TORCHSCRIPT_BYTES = 256 << 20
MOST_HEADER_BYTES = 64 << 20
"""Of a safetensors file; one of ours may hold a mean picture of 1024 pixels."""
FOREIGN_PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before the names of tensors."""
_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_GLOBALS = frozenset(
    {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        *(f"torch {kind}Storage" for kind in _STORAGES),
    }
)
_PLAIN = (str, int, float, type(None))
_LENGTH_BYTES = 8
"""Of a safetensors file: the first, little-endian, say how many bytes the header has."""
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""What tensors of a safetensors file may be of: the kinds of number that ``_STORAGES`` has too."""


@dataclass(frozen=True)
class SafetensorsHeader:
    """What a ``.safetensors`` file says before its first tensor.

    Attributes:
        metadata: text by name, as its writer put it there.
        tensors: by name, without the prefixes of wrapped networks; on the meta device.
    """

    metadata: Mapping[str, str]
    tensors: Mapping[str, Tensor]


def read_tensors(handle: BinaryIO, source: str) -> Any:
    """What ``torch.save`` wrote of tensors, numbers, text, lists and mappings; on the CPU.

    Args:
        handle: the file, open.
        source: where it is from, for messages.

    Raises:
        UserError: not of ``torch.save``'s present format, or with anything else in it.
        OSError: it can't be read.
    """
    size = handle.seek(0, io.SEEK_END)
    if size > MOST_FILE_BYTES:
        raise UserError(
            f"{source} has {size:,} bytes; at most {MOST_FILE_BYTES:,} are read of weights."
        )
    handle.seek(0)
    try:
        if handle.read(4) != b"PK\3\4":
            # Whatever stands before an archive, torch would take for one of its old formats.
            raise ValueError("no archive at its begin")
        _check_operations(_pickle_of(handle, source))
        handle.seek(0)
        content = torch.load(handle, map_location="cpu", weights_only=True)
        _check_values(content, size)
    except (UserError, OSError):
        raise
    except Exception as error:  # torch raises whatever the operations of a bad pickle meet
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # torch's text advises to let it run
            reason = "it holds other things than tensors"
        raise UserError(
            f"{source} cannot be read: {printable(reason, 200)}; save its weights anew by "
            "torch.save as a mapping of names to tensors."
        ) from None
    return content


def _pickle_of(handle: BinaryIO, source: str) -> bytes:
    """The pickle of an archive, none of whose members is packed."""
    with open_directory(handle, source, MOST_MEMBERS) as archive:
        infos = archive.infolist()
        if not infos:
            raise ValueError("an empty archive")
        root = infos[0].filename.split("/")[0] + "/"
        for info in infos:
            is_stored = info.compress_type == zipfile.ZIP_STORED
            if not is_stored or not info.filename.startswith(root):
                raise ValueError(f"the member {shown_value(info.filename)} is not torch's")
        found = archive.getinfo(root + "data.pkl")
        if found.file_size > MOST_PICKLE_BYTES:
            raise ValueError(f"{found.file_size:,} bytes that are no tensors")
        return archive.read(found)


def _check_operations(content: bytes) -> None:
    """Refuse a pickle that would do anything but put tensors into mappings."""
    for number, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if number > MOST_OPERATIONS:
            raise ValueError(f"more than {MOST_OPERATIONS:,} operations")
        if operation.name == "GLOBAL" and argument not in _GLOBALS:
            raise ValueError(f"it asks for {printable(argument, 80)}, which is no tensor")


def _check_values(content: Any, most: int) -> None:
    """Refuse other values than tensors and plain ones, and tensors of more bytes than the file."""
    waiting, seen, storages = [content], {id(content)}, {}
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            storages[value.untyped_storage().data_ptr()] = _bytes_behind(value)
        elif isinstance(value, Mapping | list | tuple):
            members = [*value, *value.values()] if isinstance(value, Mapping) else list(value)
            new = [member for member in members if id(member) not in seen]
            seen.update(map(id, new))
            waiting += new
        elif not isinstance(value, _PLAIN):
            raise ValueError(f"a {type(value).__name__}, which is no tensor")
    if sum(storages.values()) > most:
        raise ValueError("tensors of more bytes than the file")


def _bytes_behind(tensor: Tensor) -> int:
    """Bytes of the memory behind a tensor, which is to be of its own size."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise ValueError("a tensor that is not dense")
    storage = tensor.untyped_storage().nbytes()
    if tensor.nbytes > storage:
        raise ValueError(f"a tensor {tuple(tensor.shape)} of {storage} bytes")
    return storage


def named_tensors(content: object, source: str) -> dict[str, Tensor]:
    """A state dict as names to tensors, without the prefixes of wrapped networks.

    Raises:
        UserError: something else, or a name twice.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{source} holds {shown_value(content)} where names of tensors should be.")
    found: dict[str, Tensor] = {}
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UserError(f"{source} holds {shown_value(name)}, which names no tensor.")
        own = _without_prefixes(name)
        if own in found:
            raise UserError(f"{source} holds the tensor {shown_value(own)} twice.")
        found[own] = tensor
    return found


def _without_prefixes(name: str) -> str:
    while name.startswith(FOREIGN_PREFIXES):
        name = name[name.index(".") + 1 :]
    return name


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Refuse tensors that are not those of a network, before it is built or filled.

    Args:
        found: by name, what a file holds.
        expected: what the network has; may be on the meta device.
        source: where ``found`` is from, for messages.

    Raises:
        UserError: another name, shape or kind of number.
    """
    for name in [*expected, *found]:
        if name not in found or name not in expected:
            side = "lacks" if name in expected else "has"
            raise UserError(
                f"{source} {side} the tensor {shown_value(name)}, unlike the network of its "
                "config; it is of another network."
            )
        ours, theirs = expected[name], found[name]
        if ours.shape != theirs.shape:
            raise UserError(
                f"{source}: the tensor {shown_value(name)} is {_sizes(theirs)}, but "
                f"{_sizes(ours)} in the network of its config; it is of another network."
            )
        if theirs.is_complex() or ours.is_floating_point() != theirs.is_floating_point():
            raise UserError(
                f"{source}: the tensor {shown_value(name)} is of {theirs.dtype}, but of "
                f"{ours.dtype} in the network of its config; it is of another network."
            )


def _sizes(tensor: Tensor) -> str:
    return printable("x".join(map(str, tensor.shape)) or "a number", 80)


def tensors_of_file(path: Path, *, follow: bool = True) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, or of what ``torch.save`` wrote of a state dict.

    Args:
        path: the file.
        follow: whether ``path`` may be a link, because a person named it.

    Raises:
        UserError: neither, cut, or with a header or a file larger than any of a network.
        OSError: there is none, or it can't be read.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        _header_bytes(path, follow)
        with _safetensors_trouble(path):
            return named_tensors(load_file(path), str(path))
    with open_file(path, follow=follow) as handle:
        return named_tensors(read_tensors(handle, str(path)), str(path))


def safetensors_header(path: Path) -> SafetensorsHeader:
    """The header of a ``.safetensors`` file; of its tensors none is read.

    Args:
        path: the file, which a person named.

    Raises:
        UserError: no such file, cut, larger than any of a network, or a tensor of other numbers
            than networks have.
        OSError: there is none, or it can't be read.
    """
    from safetensors import safe_open

    _header_bytes(path, follow=True)
    # The library sees to it that the tensors' bytes are those of their shapes, and all there.
    with _safetensors_trouble(path), safe_open(path, framework="pt") as file:
        names = list(file.keys())
        if len(names) > MOST_MEMBERS:
            raise UserError(f"{path} holds {len(names):,} tensors; at most {MOST_MEMBERS:,}.")
        found = {name: _on_meta(path, name, file.get_slice(name)) for name in names}
        metadata = dict(file.metadata() or {})
    return SafetensorsHeader(metadata, named_tensors(found, str(path)))


def _on_meta(path: Path, name: str, declared: Any) -> Tensor:
    """A tensor as a safetensors header declares it."""
    kind, shape = str(declared.get_dtype()), declared.get_shape()
    if kind not in _DTYPES:
        raise UserError(
            f"{path}: the tensor {shown_value(name)} is of {printable(kind, 40)}; allowed are "
            f"{', '.join(_DTYPES)}."
        )
    try:
        return torch.empty(shape, dtype=_DTYPES[kind], device="meta")
    except (RuntimeError, TypeError, OverflowError):  # beside a side of 0 others may be anything
        raise UserError(
            f"{path}: the tensor {shown_value(name)} has sides that no tensor can have."
        ) from None


def sha256_of_safetensors(path: Path) -> str:
    """Hex SHA-256 of what stands behind a ``.safetensors`` file's header, read in blocks.

    Raises:
        UserError: as ``safetensors_header``.
        OSError: there is no file, or it can't be read.
    """
    start = _header_bytes(path, follow=True)
    with open_file(path, follow=True) as handle:
        handle.seek(start)
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _header_bytes(path: Path, follow: bool) -> int:
    """Where the tensors of a safetensors file begin; its sizes are bounded.

    Raises:
        UserError: no file, or larger than any of a network.
        OSError: there is none, or it can't be read.
    """
    with open_file(path, follow=follow) as handle:
        header = int.from_bytes(handle.read(_LENGTH_BYTES), "little")
        size = handle.seek(0, io.SEEK_END)
    for what, found, most in (
        ("bytes", size, MOST_FILE_BYTES),
        ("bytes of header", header, MOST_HEADER_BYTES),
    ):
        if found > most:
            raise UserError(
                f"{path} has {found:,} {what}; at most {most:,} are read of weights. Give a "
                "whole .safetensors file."
            )
    if size < _LENGTH_BYTES + header:
        raise UserError(f"{path} cannot be read: it is cut, or is no .safetensors file.")
    return _LENGTH_BYTES + header


@contextlib.contextmanager
def _safetensors_trouble(path: Path) -> Iterator[None]:
    """What the library finds wrong with a file, as one line."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise UserError(f"{path} cannot be read: {printable(error, 200)}") from None


def installed_tensors(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file that came with an installed package, of any of torch's formats."""
    found: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return found


@contextlib.contextmanager
def silent_torchscript() -> Iterator[None]:
    """Silence: torch has deprecated TorchScript, but some weights are in no other form."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=".*torch.jit", category=category)
        yield


def known_torchscript(path: Path, sha256: str, advice: str) -> Any:
    """A TorchScript whose bytes are known, on the CPU.

    Args:
        path: the file, which a person named.
        sha256: hex, of its bytes.
        advice: ends the message: where to get the right one.

    Raises:
        UserError: other bytes.
        OSError: there is none, or it can't be read.
    """
    # In memory: what runs is what was hashed, whoever writes to the file meanwhile.
    content = read_file(path, MOST_TORCHSCRIPT_BYTES, follow=True)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(
            f"{path} has the SHA-256 {found}, not {sha256} of the one file that is opened, for a "
            f"TorchScript can run any code; {advice}."
        )
    with silent_torchscript():
        return torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
