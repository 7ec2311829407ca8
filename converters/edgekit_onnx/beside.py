"""The file beside an `.onnx` file that holds its weights where one protocol buffer cannot: written, named, copied."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from edgekit.files import atomic
from edgekit.tensors import Array
from edgekit_onnx.outside import tensors

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

SUFFIX = ".data"
_LOCATION = "location"
_STEP = 1 << 16  # where tensors begin, so that every system can map them: Windows' step is the largest


def data_beside(path: Path) -> Path:
    """The name of the file that holds the weights of `path`."""
    return path.with_name(f"{path.name}{SUFFIX}")


@dataclass(frozen=True)
class DataFile:
    """Takes the values of one tensor after the other."""

    name: str
    stream: IO[bytes]

    def add(self, tensor: TensorProto, values: Array | bytes) -> None:
        """Write the values of a tensor, which names their place from then on."""
        self.stream.write(bytes(-self.stream.tell() % _STEP))
        start = self.stream.tell()
        self.stream.write(values if isinstance(values, bytes) else np.ascontiguousarray(values).data)
        _place(tensor, self.name, start, self.stream.tell() - start)


@contextmanager
def data_file(path: Path) -> Iterator[DataFile]:
    """Write `path`, whole or not at all. Raises OutputError."""
    with atomic(path) as temporary, temporary.open("wb") as stream:
        yield DataFile(path.name, stream)


def _place(tensor: TensorProto, name: str, offset: int, length: int) -> None:
    """Say that a tensor's bytes are in another file."""
    from onnx import TensorProto

    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    for key, value in ((_LOCATION, name), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    tensor.data_location = TensorProto.EXTERNAL


def copy_pair(model: ModelProto, path: Path, output: Path, temporary: Path) -> Path | None:
    """Copy the file `path`, which `model` was read from, to `temporary`, which will be `output`.

    A file beside it is copied to the one beside `output`, and returned. Raises OutputError.
    """
    import onnx

    data = data_beside(path)
    if not data.exists():
        shutil.copyfile(path, temporary)
        return None
    copy = data_beside(output)
    with atomic(copy) as unfinished:
        shutil.copyfile(data, unfinished)
    for tensor in tensors(model, path):
        for entry in tensor.external_data:
            entry.value = copy.name if entry.key == _LOCATION else entry.value
    onnx.save(model, str(temporary))
    return copy
