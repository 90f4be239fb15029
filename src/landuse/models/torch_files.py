"""What ``torch.save`` wrote, whoever did it: tensors and plain values. Nothing named in the file is imported or called.

A pickle is a program. ``torch.load(weights_only=True)`` lets it call some functions of torch and of Python only, but
with any arguments: a hundred bytes make a ``bytearray`` of all the memory there is. Here, the few instructions and
names that saved tensors need are listed, behind each name stands a function of this module, and the rest is refused.
Bytes are counted before memory is taken: no tensor is larger than the file.
"""

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import torch
from torch import Tensor

from landuse.files import open_regular

_MAX_PICKLE = 4_000_000  # bytes; the names and shapes of 1000 tensors take 200,000
_MAX_DIMENSIONS = 16
_CHUNK = 1 << 20
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # at the head of files older than torch 1.6
_OPCODES = (
    b"\x80", b".", b"(", b"N", b"\x88", b"\x89", b"K", b"M", b"J", b"\x8a", b"G", b"X", b"U", b"T",  # plain values
    b"]", b"a", b"e", b"}", b"s", b"u", b")", b"t", b"\x85", b"\x86", b"\x87",  # lists, dicts, tuples
    b"q", b"r", b"h", b"j", b"0",  # remember and recall
    b"c", b"R", b"b", b"Q",  # a name, a call, an attribute, a storage
)  # fmt: skip
_DTYPES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


class ForbiddenError(ValueError):
    """The file asks for more than tensors and plain values."""


def read_torch_file(path: Path) -> Any:
    """The content of a file of ``torch.save``, on the CPU; checksums are compared where the file has them.

    Raises:
        OSError: it cannot be opened, or is no regular file.
        ForbiddenError: it holds other objects than tensors, or is made to mislead.
        Exception: it is damaged; of what kind depends on where.
    """
    with open_regular(path) as file:
        is_zip = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        return _read_zip(file) if is_zip else _read_old(file)


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if len(entries) != len(archive.infolist()) or any(_is_odd(entry) for entry in entries.values()):
            raise ForbiddenError("it has entries that torch.save does not write: compressed, encrypted or twice")
        if sum(entry.file_size for entry in entries.values()) > file.seek(0, 2):
            raise ForbiddenError("its entries claim more bytes than it has")
        roots = [name.partition("/")[0] for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ForbiddenError("it is not one that torch.save wrote, but another kind of zip archive")
        order = f"{roots[0]}/byteorder"
        if order in entries and archive.read(order) != b"little":
            raise ForbiddenError("it is of a big-endian machine")

        def fill(key: str, buffer: memoryview) -> None:
            entry = entries[f"{roots[0]}/data/{key}"]
            if entry.file_size != len(buffer):
                raise ValueError(f"storage {key} has {entry.file_size} bytes instead of {len(buffer)}")
            with archive.open(entry) as source:
                _fill(source, buffer)
                source.read()  # to the end, where the checksum is compared

        if entries[f"{roots[0]}/data.pkl"].file_size > _MAX_PICKLE:
            raise ForbiddenError(f"its index has more than {_MAX_PICKLE:,} bytes")
        return _Reader(BytesIO(archive.read(f"{roots[0]}/data.pkl")), _Storages(file.seek(0, 2), fill)).read_all()


def _is_odd(entry: zipfile.ZipInfo) -> bool:
    return bool(
        entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1
    )


def _read_old(file: BinaryIO) -> Any:
    """Five pickles, the fourth of which is the content, and then the bytes of each storage."""
    head, size = BytesIO(file.read(_MAX_PICKLE)), file.seek(0, 2)
    storages = _Storages(size)
    magic, protocol, system, content, keys = (_Reader(head, storages).read_all() for _ in range(5))
    if (magic, protocol) != (_MAGIC, _PROTOCOL) or system.get("little_endian") is not True:
        raise ForbiddenError("it is not one that torch.save wrote")
    file.seek(head.tell())
    if sorted(keys) != sorted(storages.by_key):
        raise ValueError("its list of storages is not of those in use")
    for key in keys:
        storage = storages.by_key[key]
        if struct.unpack("<q", file.read(8))[0] != storage.numel():
            raise ValueError(f"storage {key} is of another size")
        _fill(file, _bytes_of(storage))
    return content


def _bytes_of(storage: Tensor) -> memoryview:
    return memoryview(storage.view(torch.uint8).numpy())  # type: ignore[arg-type]


def _fill(source: Any, buffer: memoryview) -> None:
    done = 0
    while done < len(buffer):
        chunk = source.read(min(_CHUNK, len(buffer) - done))
        if not chunk:
            raise ValueError("it ends too early")
        buffer[done : done + len(chunk)] = chunk
        done += len(chunk)


class _Storages:
    """Flat tensors by key, of no more bytes together than the file has."""

    def __init__(self, size: int, fill: Callable[[str, memoryview], None] | None = None) -> None:
        self.by_key: dict[str, Tensor] = {}
        self._left, self._fill_one = size, fill

    def get(self, kind: Any, key: Any, numel: Any) -> Tensor:
        if not isinstance(kind, torch.dtype) or not isinstance(key, str) or type(numel) is not int:
            raise ForbiddenError("it has a storage of an unknown kind")
        if key not in self.by_key:
            num_bytes = numel * kind.itemsize
            if not 0 <= num_bytes <= self._left:
                raise ForbiddenError("its tensors claim more bytes than it has")
            self._left -= num_bytes
            self.by_key[key] = torch.empty(numel, dtype=kind)
            if self._fill_one is not None and numel:
                self._fill_one(key, _bytes_of(self.by_key[key]))
        storage = self.by_key[key]
        if (storage.dtype, storage.numel()) != (kind, numel):
            raise ForbiddenError(f"it uses storage {key} in two ways")
        return storage


# Python's own in Python: that in C cannot be narrowed, and takes memory by numbers in the file.
_Pickle: Any = pickle.__dict__["_Unpickler"]


class _Reader(_Pickle):  # type: ignore[misc]
    """Runs the listed instructions, and of those that act on an object only such on plain containers."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {code[0]: _Pickle.dispatch[code[0]] for code in _OPCODES}

    def __init__(self, file: BytesIO, storages: _Storages) -> None:
        super().__init__(file, encoding="utf-8")
        self._storages = storages

    def read_all(self) -> Any:
        try:
            return self.load()
        except KeyError as error:
            raise ForbiddenError("it has instructions that saved tensors do not need") from error

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) not in _NAMES:
            raise ForbiddenError(f"it asks for {module}.{name}")
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage" or any(pid[5:]):
            raise ForbiddenError("it has a storage of an unknown kind")
        return _Flat(self._storages.get(pid[1], pid[2], pid[4]))

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _set_items(self) -> None:
        self._update(self.pop_mark())

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict):
            raise ForbiddenError("it fills something else than a dict")
        target.update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def _set_attributes(self) -> None:
        """The only ones in use: torch's version numbers, which a state dict carries as an attribute."""
        state = self.stack.pop()
        if type(self.stack[-1]) is not OrderedDict or not isinstance(state, dict):
            raise ForbiddenError("it sets attributes of something else than a state dict")
        self.stack[-1].__dict__["_metadata"] = _version_numbers(state.get("_metadata"))

    dispatch |= {b"s"[0]: _set_item, b"u"[0]: _set_items, b"b"[0]: _set_attributes}


class _Flat:
    """A storage between the instruction that fetches it and the one that gives it a shape."""

    __slots__ = ("values",)

    def __init__(self, values: Tensor) -> None:
        self.values = values


def _version_numbers(given: Any) -> OrderedDict[str, dict[str, int]]:
    found: OrderedDict[str, dict[str, int]] = OrderedDict()
    for name, entry in given.items() if isinstance(given, dict) else ():
        if isinstance(name, str) and isinstance(entry, dict) and type(entry.get("version")) is int:
            found[name] = {"version": entry["version"]}
    return found


def _ordered_dict(*pairs: Any) -> OrderedDict[Any, Any]:
    """Files of Python 2 give the pairs as an argument. They are moved, for copies of one list could fill any memory."""
    result: OrderedDict[Any, Any] = OrderedDict()
    if pairs:
        if not isinstance(pairs[0], list) or not all(isinstance(pair, list | tuple) for pair in pairs[0]):
            raise ForbiddenError("it has a dict of an unknown kind")
        result.update((_key(key), value) for key, value in pairs[0])
        pairs[0].clear()
    return result


def _key(key: Any) -> Any:
    """Not tuples: nested ones take endless time to hash."""
    if type(key) not in (str, int):
        raise ForbiddenError("it fills a dict by other keys than names and numbers")
    return key


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """``torch._utils._rebuild_tensor_v2``, within the storage."""
    if not isinstance(storage, _Flat) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise ForbiddenError("it has a tensor of an unknown kind")
    numbers = (offset, *size[: _MAX_DIMENSIONS + 1], *stride[: _MAX_DIMENSIONS + 1])
    if not len(size) == len(stride) <= _MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in numbers):
        raise ForbiddenError("it has a tensor of an impossible shape")
    numel = 1
    for length in size:
        numel *= length
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if numel and (numel > storage.values.numel() or last >= storage.values.numel()):
        raise ForbiddenError("it has a tensor that is larger than its storage")
    return storage.values.as_strided(size, stride, offset) if numel else storage.values.new_empty(size)


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ForbiddenError("it has a parameter that is no tensor")
    return data


class _Function:
    """Calls a function; nothing can be set on it, unlike on the function itself."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


_NAMES = {
    ("collections", "OrderedDict"): _Function(_ordered_dict),
    ("torch._utils", "_rebuild_tensor"): _Function(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): _Function(_parameter),
}
