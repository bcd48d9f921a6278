"""Archives as torch.save writes them, with pickles that torch itself would never write."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Call:
    """Pickled as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.parts = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.parts


class Numbers(NamedTuple):
    """A storage, as it is named in the pickle."""

    key: str
    size: Any
    kind: Any = torch.FloatStorage


class Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return ("storage", obj.kind, obj.key, "cpu", obj.size) if isinstance(obj, Numbers) else None


def to_tensor(numbers: Numbers, offset: Any, shape: Any, strides: Any) -> Call:
    return Call(torch._utils._rebuild_tensor_v2, numbers, offset, shape, strides, False, {})


def to_pickle(content: Any, protocol: int = 2) -> bytes:
    stream = io.BytesIO()
    Pickler(stream, protocol).dump(content)
    return stream.getvalue()


def write_archive(path: Path, pickled: Any, entries: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    """`pickled` is an object or the pickle itself; `entries` are names and contents beside it."""
    text = pickled if isinstance(pickled, bytes) else to_pickle(pickled)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", text)
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)
    return path
