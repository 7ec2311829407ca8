"""Reading a PyTorch state dict of the old format without PyTorch, and without running what a pickle may carry.

The format: five pickles (magic number, protocol, system, the state dict with references to storages, the storages'
order), then each storage as a 64-bit count and its raw little-endian values. A tensor is a strided view of a storage.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO  # Any: what pickle gives

import numpy as np

from edgekit.errors import ModelError
from edgekit.tensors import Array

_DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


def read_state_dict(path: Path) -> dict[str, Array]:
    """Tensor name -> array. Raises ModelError on a pickle that asks for anything but tensors."""
    with path.open("rb") as stream:
        for _ in range(3):
            _Reader(stream).load()
        reader = _Reader(stream)
        tensors = reader.load()
        for key in _Reader(stream).load():
            _fill(reader.storages[key], stream)
    return {name: tensor.array() for name, tensor in tensors.items()}


@dataclass
class _Storage:
    dtype: str
    values: Array = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements

    def array(self) -> Array:
        values = self.storage.values[self.offset :]
        strides = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values, self.shape, strides).copy()


class _Reader(pickle.Unpickler):
    """Knows tensors, storages and ordered dicts, and refuses every other name."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, *_ = pid
        return self.storages.setdefault(key, _Storage(_DTYPES[kind]))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return name
        raise ModelError(f"the state dict asks for {module}.{name}, expected tensors alone")


def _fill(storage: _Storage, stream: BinaryIO) -> None:
    (count,) = struct.unpack("<q", stream.read(8))
    dtype = np.dtype(storage.dtype)
    storage.values = np.frombuffer(stream.read(count * dtype.itemsize), dtype)
