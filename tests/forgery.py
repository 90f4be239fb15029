"""Files as an attacker would make them."""

import io
import os
import pickle
import resource
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch


class Call:
    """Unpickled, it is what the function gives."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Any, Any]:
        return self._call


class Storage:
    """A reference to the bytes data/<key>, with a length of one's choice."""

    def __init__(self, key: str, numel: int, kind: Any = torch.FloatStorage) -> None:
        self.reference = ("storage", kind, key, "cpu", numel)


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.reference if isinstance(obj, Storage) else None


def run_code(marker: Path) -> Call:
    """Unpickled by who trusts it, it creates the file."""
    return Call(os.system, f"touch {marker}")


def tensor(storage: Storage, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> Call:
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())


def pickled(content: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, 2).dump(content)
    return file.getvalue()


def torch_zip(
    path: Path,
    content: Any,
    storages: Mapping[str, bytes] | None = None,
    method: int = zipfile.ZIP_STORED,
    more: Iterable[tuple[str, bytes]] = (),
) -> Path:
    """As torch.save writes it, but with any pickle."""
    entries = [("archive/data.pkl", content if isinstance(content, bytes) else pickled(content))]
    entries += [(f"archive/data/{key}", data) for key, data in (storages or {}).items()]
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in (*entries, *more):
            archive.writestr(name, data)
    return path


def peak_mb() -> float:
    """The most memory that this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def encrypt(path: Path) -> None:
    """Set the mark of an encrypted entry on every entry."""
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(signature, at + 4)
    path.write_bytes(content)
